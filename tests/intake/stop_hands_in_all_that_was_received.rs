//! A clean stop in the middle of a stream of events loses none: each goes to the instance that stays or to this one.
#![allow(deprecated)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::intake_support::{Seen, Server, event, started, started_with_lanes, until};
use task_engine::ports::intake::DropReason;

#[test]
fn instances_come_and_go_under_load_and_nothing_is_lost() {
    let server = Server::start(&[]);
    let stays = started_with_lanes(&server.settings(), 1, 1 << 21);
    stays.until_ready();
    let enough = Arc::new(AtomicBool::new(false));
    let publisher = thread::spawn({
        let (client, enough) = (server.client(), enough.clone());
        move || {
            let mut number = 0;
            while !enough.load(Ordering::Relaxed) {
                for _ in 0..200 {
                    client.publish("events", event("s", number)).expect("published");
                    number += 1;
                }
                client.flush().expect("flushed");
            }
            number
        }
    });
    let mut handed_in = 0;
    for _ in 0..5 {
        let goes = started(&server.settings(), 2);
        let mut seen = Seen::default();
        until("it has its share", || {
            seen.take(&goes);
            seen.events > 500
        });
        goes.source.stop();
        seen.take(&goes);
        assert_eq!(goes.intake.counts().read(), seen.events, "what was read was handed in");
        handed_in += seen.events;
    }
    enough.store(true, Ordering::Relaxed);
    let published = publisher.join().expect("a publisher that ends");
    let mut seen = Seen::default();
    until("the rest is taken", || {
        seen.take(&stays);
        seen.events + handed_in >= published
    });
    stays.source.stop();
    seen.take(&stays);
    assert_eq!(seen.events + handed_in, published);
}

#[test]
fn a_stop_with_a_paused_shard_ends_in_time_and_counts_the_rest() {
    let server = Server::start(&[]);
    let taking = started_with_lanes(&server.settings(), 1, 100);
    taking.until_ready();
    let client = server.client();
    (0..1000).for_each(|number| client.publish("events", event("s", number)).expect("published"));
    client.flush().expect("flushed");
    until("the lane is full", || taking.lanes[0].len() == 100);
    let started = std::time::Instant::now();
    taking.source.stop();
    assert!(started.elapsed() < std::time::Duration::from_secs(8), "{:?}", started.elapsed());
    let counts = taking.intake.counts();
    assert_eq!((counts.read(), counts.taken(), counts.dropped(DropReason::Stopping)), (1000, 100, 900));
}
