//! Promises: a gateway of which most addresses are dead is connected to within seconds, and at once the next time; a
//! kernel that accepts for a process that hangs does not win; no address is waited for past the deadline of the whole.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use glommio::LocalExecutorBuilder;
use glommio::timer::Timer;
use harness::gateways::{Gateway, GatewayOptions as ServerOptions, Log};
use task_engine::edge::gateway::{GatewayOptions, Gateways};
use task_engine::edge::resolve::Resolver;
use task_engine::model::ids::{GatewayIx, StreamNo};
use task_engine::ports::mailbox::LocalFacts;
use task_engine::ports::{Endpoint, Protocol};
use task_engine::push::facts::{Input, StreamEnd, StreamFact};

use crate::gateway_support::{dead_address, endpoint};
use crate::silent::Silent;

fn good() -> (Arc<Log>, Gateway, Endpoint) {
    let log = Log::shared();
    let gateway = Gateway::start(ServerOptions::new("gw", log.clone())).expect("a gateway");
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: gateway.port(), secure: false };
    (log, gateway, endpoint)
}

/// Opens streams to these endpoints, one after the other, on one shard; how each went and how long it took.
fn open(endpoints: Vec<Endpoint>, times: u32) -> Vec<(Result<(), String>, Duration)> {
    let executor = LocalExecutorBuilder::default().io_memory(64 * 1024).make().expect("an executor");
    executor.run(async move {
        let facts = LocalFacts::default();
        let mut gateways = Gateways::new(facts.clone(), Resolver::start().expect("threads"), GatewayOptions::default());
        let mut results = Vec::new();
        for number in 0..times {
            let began = Instant::now();
            gateways.open(GatewayIx(0), StreamNo(number), endpoints.clone(), Protocol::Stream);
            let result = first_word(&facts, StreamNo(number)).await;
            results.push((result, began.elapsed()));
            gateways.cut(GatewayIx(0), StreamNo(number));
        }
        results
    })
}

async fn first_word(facts: &LocalFacts, stream: StreamNo) -> Result<(), String> {
    let told = async {
        loop {
            let mut taken = Vec::new();
            facts.take_all(&mut taken);
            for input in taken {
                match input {
                    Input::Stream { stream: of, fact: StreamFact::Opened, .. } if of == stream => return Ok(()),
                    Input::Stream { stream: of, fact: StreamFact::Closed(StreamEnd::NotOpened(why)), .. }
                        if of == stream =>
                    {
                        return Err(why);
                    }
                    _ => {}
                }
            }
            Timer::new(Duration::from_millis(5)).await;
        }
    };
    let late = async {
        Timer::new(Duration::from_secs(30)).await;
        Err("nothing was told within 30 s".to_owned())
    };
    future::or(told, late).await
}

#[test]
fn ten_dead_addresses_before_the_good_one_cost_seconds_once() {
    let (_log, _gateway, good) = good();
    let dead = (0..10).map(|_| Silent::new()).collect::<Vec<_>>();
    let endpoints = dead.iter().map(|dead| endpoint(dead.address)).chain([good]).collect();
    let opened = open(endpoints, 2);
    assert!(opened.iter().all(|(result, _)| result.is_ok()), "{opened:?}");
    assert!(opened[0].1 < Duration::from_secs(5), "{:?}", opened[0].1);
    assert!(opened[1].1 < Duration::from_millis(500), "the one that worked is remembered: {:?}", opened[1].1);
}

#[test]
fn an_address_that_is_accepted_for_a_process_that_hangs_does_not_win() {
    let hung = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (_log, _gateway, good) = good();
    let opened = open(vec![endpoint(hung.local_addr().expect("an address")), good], 1);
    assert_eq!(opened[0].0, Ok(()));
    assert!(opened[0].1 < Duration::from_secs(2), "{:?}", opened[0].1);
}

#[test]
fn refused_addresses_cost_nothing_and_a_name_that_is_none_holds_up_nobody() {
    let refused = |_| endpoint(dead_address());
    let (_log, _gateway, good) = good();
    let nobody = Endpoint { host: "no such host.invalid".into(), port: 1, secure: false };
    let endpoints = [nobody].into_iter().chain((0..15).map(refused)).chain([good]).collect();
    let opened = open(endpoints, 1);
    assert_eq!(opened[0].0, Ok(()));
    assert!(opened[0].1 < Duration::from_secs(2), "{:?}", opened[0].1);
}

#[test]
fn when_all_are_dead_the_whole_has_one_deadline_and_says_what_each_did() {
    let dead = (0..16).map(|_| Silent::new()).collect::<Vec<_>>();
    let opened = open(dead.iter().map(|dead| endpoint(dead.address)).collect(), 1);
    let why = opened[0].0.clone().expect_err("nobody answers");
    assert!(
        why.contains(&dead[0].address.to_string()) && (why.contains("timed out") || why.contains("took over")),
        "{why}"
    );
    assert!(opened[0].1 < Duration::from_secs(10), "{:?}", opened[0].1);
}
