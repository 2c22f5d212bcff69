//! Gateways that speak TLS only and want a certificate of ours: each protocol goes over it, the permit holds, a gateway that is
//! refused is told with what to check, and a plain one stays plain unless all must speak TLS.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::gateway_support::pb::{PushBatchRequest, PushBatchResponse, PushRequest, PushResponse};
use crate::gateway_support::*;
use glommio::timer::Timer;
use harness::servers::{Authority, CertificateFiles, TlsDoor};
use prost::Message;
use task_engine::config::{TlsConfig, TlsMode};
use task_engine::edge::gateway::GatewayOptions;
use task_engine::model::ids::StreamNo;
use task_engine::ports::permit::{Permit, boottime};
use task_engine::ports::{Endpoint, Protocol};
use task_engine::push::facts::StreamEnd;
use testkit::tls::{authority, certificate, none, ours};

/// A gateway behind TLS, and how it is reached.
struct World {
    gateway: Gateway,
    authority: Authority,
    door: TlsDoor,
    options: GatewayOptions,
}

impl World {
    fn start() -> Self {
        let authority = authority();
        let theirs = certificate(&authority, &["localhost", "127.0.0.1"]);
        Self::with(authority, &theirs)
    }

    fn with(authority: Authority, theirs: &CertificateFiles) -> Self {
        let gateway = Gateway::start(Manner::Answers);
        let mine = certificate(&authority, &["task-engine"]);
        let door = TlsDoor::before(gateway.address.port(), &authority, theirs).expect("a door");
        let options = with(ours(&authority, &mine));
        Self { gateway, authority, door, options }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { secure: true, ..endpoint(self.door.address()) }
    }
}

fn with(tls: TlsConfig) -> GatewayOptions {
    GatewayOptions { tls: tls.into(), ..GatewayOptions::default() }
}

#[test]
fn each_push_of_a_stream_is_answered_and_the_end_drains_them() {
    let world = World::start();
    on_a_shard_with(world.options.clone(), async |mut shard| {
        shard.five_thousand_pushes(world.endpoint()).await;
    });
    assert_eq!(world.gateway.seen.recipients.load(Ordering::SeqCst), 5000);
    assert_eq!(world.gateway.seen.half_closes.load(Ordering::SeqCst), 1);
}

#[test]
fn batches_and_calls_go_over_tls() {
    let world = World::start();
    on_a_shard_with(world.options.clone(), async |mut shard| {
        shard.open(1, vec![world.endpoint()], Protocol::Batch);
        shard.opened(1).await;
        for batch_id in 1..=3 {
            let to_usernames = (0..1000).map(|i| format!("user-{i}")).collect();
            let push = PushRequest { to_usernames, message: Some(message(batch_id, 1 << 20)) };
            let batch = PushBatchRequest { batch_id: batch_id as u64, pushes: vec![push] };
            shard.gateways.send(G, StreamNo(1), frame(&batch));
        }
        let got = shard.answers(1, 3).await;
        let ids = frames(&got.answers).into_iter().map(|frame| PushBatchResponse::decode(frame).unwrap().batch_id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
        shard.open(2, vec![world.endpoint()], Protocol::Unary);
        shard.opened(2).await;
        for call in 0..64_u32 {
            let to_usernames = vec![format!("u{call}")];
            let request = PushRequest { to_usernames, message: Some(message(i64::from(call), 20_000)) };
            shard.gateways.call(G, StreamNo(2), call, frame(&request));
        }
        shard.gateways.finish(G, StreamNo(2));
        let rest = shard.rest(2).await;
        assert_eq!((rest.end, rest.calls.len()), (Some(StreamEnd::Finished), 64));
        for (call, answer) in rest.calls {
            assert_eq!(PushResponse::decode(answer.unwrap()).unwrap().msg_id, i64::from(call));
        }
    });
    assert_eq!(world.gateway.seen.content_bytes.load(Ordering::SeqCst), (3 << 20) + 64 * 20_000);
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn nothing_is_written_without_a_permit_and_nothing_when_it_is_cut_then() {
    let world = World::start();
    let permit = Arc::new(Permit::not_given());
    permit.set(boottime().0 + HOUR);
    let options = GatewayOptions { permit: permit.clone(), ..world.options.clone() };
    let seen = || world.gateway.seen.recipients.load(Ordering::SeqCst);
    on_a_shard_with(options, async |mut shard| {
        shard.open(1, vec![world.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        for round in 0..3 {
            permit.set(boottime().0 + 1_000_000);
            Timer::new(Duration::from_millis(2)).await;
            let before = seen();
            for msg_id in 0..100 {
                shard.gateways.send(G, StreamNo(1), single(1000 * round + msg_id, 2_000));
            }
            Timer::new(Duration::from_millis(200)).await;
            assert_eq!(seen(), before, "round {round}");
            permit.set(boottime().0 + HOUR);
            let rest = shard.answers(1, 100).await;
            assert_eq!(msg_ids(&rest.answers), (0..100).map(|at| 1000 * round + at).collect::<Vec<_>>());
        }
        permit.set(boottime().0 + 1_000_000);
        Timer::new(Duration::from_millis(2)).await;
        (0..100).for_each(|msg_id| shard.gateways.send(G, StreamNo(1), single(msg_id, 2_000)));
        Timer::new(Duration::from_millis(50)).await;
        shard.gateways.cut(G, StreamNo(1));
        Timer::new(Duration::from_millis(200)).await;
    });
    assert_eq!(seen(), 300);
}

/// What is said when this gateway is not opened.
fn refused(options: GatewayOptions, at: Endpoint) -> String {
    let mut said = String::new();
    on_a_shard_with(options, async |mut shard| {
        shard.open(1, vec![at], Protocol::Stream);
        let Some(StreamEnd::NotOpened(words)) = shard.rest(1).await.end else { panic!("opened") };
        said = words;
    });
    said
}

#[test]
fn what_is_wrong_is_told_with_the_key_and_what_to_do() {
    let world = World::start();
    let other = authority();
    let of_other = certificate(&other, &["task-engine"]);
    let tls = TlsConfig::clone(&world.options.tls.now());
    for (tls, part) in [
        (TlsConfig { ca: other.ca(), ..tls.clone() }, "signed by no CA that is trusted here; set gateway.tls.ca"),
        (TlsConfig { ca: world.authority.ca(), ..none() }, "set gateway.tls.cert and gateway.tls.key"),
        (TlsConfig { cert: of_other.cert, key: of_other.key, ..tls.clone() }, "check gateway.tls.cert: is it signed"),
        (TlsConfig { server_name: "gw.example".into(), ..tls.clone() }, "is not for gw.example, it is for"),
        (TlsConfig { ca: "/no/such/ca.pem".into(), ..tls.clone() }, "gateway.tls.ca: /no/such/ca.pem: cannot be read"),
    ] {
        let said = refused(with(tls), world.endpoint());
        assert!(said.contains(part) && said.starts_with(&world.door.address().to_string()), "{part}: {said}");
    }
    let expired = world.authority.expired(&["127.0.0.1"]).expect("a certificate");
    let world = World::with(world.authority, &expired);
    let said = refused(world.options.clone(), world.endpoint());
    assert!(said.contains("the server's certificate has expired (2021-01-01"), "{said}");
    // A plain one that is said to speak TLS.
    let quick = GatewayOptions { connect_timeout: Duration::from_millis(500), ..world.options.clone() };
    let said = refused(quick, Endpoint { secure: true, ..world.gateway.endpoint() });
    assert!(
        said.contains("what the peer sends is not TLS") || said.contains("cut off") || said.contains("in time"),
        "{said}"
    );
}

#[test]
fn a_plain_gateway_stays_plain_unless_all_must_speak_tls() {
    let world = World::start();
    on_a_shard_with(world.options.clone(), async |mut shard| {
        shard.open(1, vec![world.gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        assert_eq!(msg_ids(&shard.answers(1, 1).await.answers), [1]);
    });
    let required = with(TlsConfig { mode: TlsMode::Required, ..TlsConfig::clone(&world.options.tls.now()) });
    refused(required.clone(), world.gateway.endpoint());
    on_a_shard_with(required, async |mut shard| {
        shard.open(1, vec![endpoint(world.door.address())], Protocol::Stream);
        shard.opened(1).await;
    });
}

#[test]
fn the_next_connect_goes_on_once_what_was_wrong_is_mended() {
    let world = World::start();
    let other = authority();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::copy(other.ca(), &ca).expect("copied");
    let options = with(TlsConfig { ca: ca.clone(), ..TlsConfig::clone(&world.options.tls.now()) });
    on_a_shard_with(options, async |mut shard| {
        shard.open(1, vec![world.endpoint()], Protocol::Stream);
        assert!(matches!(shard.rest(1).await.end, Some(StreamEnd::NotOpened(_))));
        fs::copy(world.authority.ca(), &ca).expect("copied");
        shard.open(2, vec![world.endpoint()], Protocol::Stream);
        shard.opened(2).await;
    });
}
