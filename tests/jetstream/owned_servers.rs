//! Partitions that have owners, and a server that hangs or is killed.

#![allow(deprecated)]

use std::time::{Duration, Instant};

use task_engine::edge::nats::jetstream::generations::Outcome;
use task_engine::model::ownership::{Break, Generation, Settled, ShardOrder, ShardWord};
use task_engine::ports::Disposition;

use crate::jetstream_support::{ACK_WAIT, NatsVersion, consumer, numbers, on_both_servers, publish, started, until};
use crate::owned_partitions::{P, closed, floor, generations, open, order, owned, told_to_leave};

on_both_servers! {
    a_server_that_hangs_is_told_before_the_connection_is_given_up
    a_close_that_a_hung_server_does_not_answer_says_what_is_settled_here
    a_killed_server_costs_nothing_and_keeps_the_order
}

fn a_close_that_a_hung_server_does_not_answer_says_what_is_settled_here(version: NatsVersion) {
    let (server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..11);
    let events = taking.take_many(10);
    server.stop().expect("it hangs");
    let began = Instant::now();
    order(&taking, ShardOrder::Close { partition: P });
    told_to_leave(&taking);
    taking.settle(&events[..7], Disposition::Ack);
    taking.settle(&events[7..], Disposition::Nak);
    assert_eq!(closed(&taking), (floor(7), false));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.cont().expect("it goes on");
    taking.stop();
}

fn a_server_that_hangs_is_told_before_the_connection_is_given_up(version: NatsVersion) {
    let (server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..6);
    let events = taking.take_many(5);
    server.stop().expect("it hangs");
    let began = Instant::now();
    let mut word = taking.word();
    while matches!(word, ShardWord::Waits { .. }) {
        word = taking.word();
    }
    assert_eq!(word, ShardWord::Broken { partition: P, settled: floor(0), why: Break::Silence });
    assert!(began.elapsed() < ACK_WAIT * 2, "{:?}", began.elapsed());
    server.cont().expect("it goes on");
    taking.settle(&events[..2], Disposition::Ack);
    let mut generations = generations(&settings);
    until("it answers", || matches!(generations.create(&[(P, Generation(1), 1)])[..], [Outcome::Done(_)]));
    generations.delete(&[(P, Generation(0))]);
    open(&taking, 1, floor(0));
    taking.settle(&events[2..], Disposition::Ack);
    until("what was settled is acknowledged when it comes again", || {
        let info = consumer(&client, "engine-1-g1");
        info["num_ack_pending"] == 0 && info["delivered"]["consumer_seq"] == 5
    });
    assert!(taking.take().is_empty(), "nothing was handed in twice");
    taking.stop();
}

fn a_killed_server_costs_nothing_and_keeps_the_order(version: NatsVersion) {
    let (server, settings, client) = owned(version);
    let taking = started(&settings, 1);
    open(&taking, 0, Settled::default());
    publish(&client, "events.1", "s", 1..101);
    let mut events = taking.take_many(100);
    taking.settle(&events[..40], Disposition::Ack);
    taking.settle(&events[50..60], Disposition::Ack);
    server.kill9();
    server.restart().expect("it comes back");
    let mut generation = 0;
    let mut generations = generations(&settings);
    let client = crate::jetstream_support::client(&server);
    publish(&client, "events.1", "s", 101..121);
    let mut all = Vec::new();
    until("all that is new comes", || {
        if let Some(ShardWord::Broken { settled, .. }) = taking.try_word() {
            generation += 1;
            let (old, new) = (Generation(generation - 1), Generation(generation));
            assert!(matches!(generations.create(&[(P, new, settled.floor + 1)])[..], [Outcome::Done(_)]));
            generations.delete(&[(P, old)]);
            order(&taking, ShardOrder::Open { partition: P, generation: new, settled });
        }
        all.extend(taking.take());
        all.len() >= 20
    });
    assert_eq!(numbers(&all), (101..121).collect::<Vec<_>>());
    let half = [&events.split_off(40)[..10], &all].concat();
    taking.settle(&half, Disposition::Ack);
    taking.settle(&taking.take(), Disposition::Ack);
    taking.stop();
}
