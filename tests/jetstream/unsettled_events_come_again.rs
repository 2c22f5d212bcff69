//! An event that is not settled comes again: to a successor in order, after a kill of the server, soon when it is given
//! back; and not while its work is reported, nor when it was terminated.
#![allow(deprecated)]

use std::time::{Duration, Instant};

use crate::jetstream_support::{
    ACK_WAIT, NatsVersion, client, consumer, numbers, on_both_servers, publish, ready, started, until,
};
use task_engine::config::Assignment;
use task_engine::ports::Disposition;

on_both_servers! {
    a_successor_gets_what_a_crash_left_in_order_and_then_the_new
    a_clean_stop_leaves_nothing_to_wait_for
    in_a_queue_another_instance_gets_what_a_crash_left
    what_is_in_work_is_not_delivered_again
    a_full_window_in_work_is_not_delivered_again
    what_another_took_comes_again_and_then_all_is_acknowledged
    what_is_given_back_comes_soon_and_what_is_terminated_never
    given_back_partitions_keep_their_order
    a_killed_server_loses_nothing_and_keeps_the_order
}

fn a_successor_gets_what_a_crash_left_in_order_and_then_the_new(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.1", "s", 0..20);
    let events = first.take_many(20);
    first.settle(&events[..5], Disposition::Ack);
    until("five are acknowledged", || consumer(&client, "engine-1")["ack_floor"]["stream_seq"] == 5);
    // Without a stop and a finish nothing is given back, as in a crash.
    drop(first);
    until("it is gone", || consumer(&client, "engine-1")["num_waiting"] == 0);
    publish(&client, "events.1", "s", 20..30);
    publish(&client, "events.2", "s", 100..101);
    let second = started(&settings, 2);
    let untouched = second.take_many(1);
    assert_eq!(numbers(&untouched), [100], "other partitions need not wait");
    let events = second.take_many(25);
    assert_eq!(numbers(&events), (5..30).collect::<Vec<_>>());
    assert_eq!(second.origin(events[0].1).deliveries, 2);
    assert_eq!(second.origin(events[24].1).deliveries, 1);
    second.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    second.stop();
}

fn a_clean_stop_leaves_nothing_to_wait_for(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.1", "s", 0..200);
    let mut events = first.take_many(1);
    first.source.stop();
    events.extend(first.take());
    first.settle(&events, Disposition::Ack);
    first.source.finish();
    publish(&client, "events.1", "s", 200..201);
    let info = consumer(&client, "engine-1");
    assert_eq!(
        (&info["num_ack_pending"], info["ack_floor"]["stream_seq"].as_u64()),
        (&0.into(), Some(events.len() as u64))
    );
    let second = started(&settings, 1);
    let started = Instant::now();
    let rest = second.take_many(201 - events.len());
    assert!(started.elapsed() < ACK_WAIT, "{:?}", started.elapsed());
    assert_eq!([numbers(&events), numbers(&rest)].concat(), (0..=200).collect::<Vec<_>>());
    second.stop();
}

fn in_a_queue_another_instance_gets_what_a_crash_left(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events", "s", 0..10);
    first.take_many(10);
    drop(first);
    let second = started(&settings, 1);
    let events = second.take_many(10);
    let mut all = numbers(&events);
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    second.stop();
}

fn what_is_in_work_is_not_delivered_again(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let (slow, other) = (started(&settings, 1), started(&settings, 1));
    slow.until_ready();
    other.until_ready();
    publish(&client, "events", "s", 0..10);
    let mut events = Vec::new();
    let mut others = Vec::new();
    until("both have them", || {
        events.extend(slow.take());
        others.extend(other.take());
        events.len() + others.len() == 10
    });
    let until_then = Instant::now() + ACK_WAIT * 3;
    until("three ack_wait pass", || {
        assert!(slow.take().is_empty() && other.take().is_empty(), "delivered again");
        Instant::now() > until_then
    });
    assert_eq!(consumer(&client, "engine")["num_redelivered"], 0);
    slow.settle(&events, Disposition::Ack);
    other.settle(&others, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine")["num_ack_pending"] == 0);
    slow.stop();
    other.stop();
}

fn a_full_window_in_work_is_not_delivered_again(version: NatsVersion) {
    const EVENTS: u64 = 65_536;
    let (server, mut settings) = ready(version, Assignment::Queue);
    let config = &mut settings.consumer;
    (config.durable, config.max_ack_pending) = ("wide".to_owned(), EVENTS as u32);
    let client = client(&server);
    publish(&client, "events", "s", 0..EVENTS);
    let taking = started(&settings, 1);
    let events = taking.take_many(EVENTS as usize);
    assert_eq!(numbers(&events), (0..EVENTS).collect::<Vec<_>>());
    let until_then = Instant::now() + ACK_WAIT * 3;
    until("three ack_wait pass", || {
        assert!(taking.take().is_empty(), "delivered again");
        Instant::now() > until_then
    });
    assert_eq!(consumer(&client, "wide")["num_redelivered"], 0);
    taking.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "wide")["num_ack_pending"] == 0);
    taking.stop();
}

/// Its acks are over later deliveries than those of what was behind it.
fn what_another_took_comes_again_and_then_all_is_acknowledged(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let taking = started(&settings, 1);
    publish(&client, "events.1", "s", 0..1);
    let mut events = taking.take_many(1);
    taking.settle(&events, Disposition::Ack);
    until("one is acknowledged", || consumer(&client, "engine-1")["ack_floor"]["stream_seq"] == 1);
    let inbox = client.new_inbox();
    let foreign = client.subscribe(&inbox).expect("a subscription");
    client.publish_request("$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1", &inbox, r#"{"batch":1}"#).expect("asked");
    publish(&client, "events.1", "s", 1..10);
    let taken = foreign.next_timeout(ACK_WAIT).expect("one of them goes to whoever asks");
    events = taking.take_many(9);
    let number = taken.data[1].into();
    assert_eq!(events.iter().filter(|event| event.0 == number).count(), 1, "it came again");
    let before: Vec<_> = events.iter().copied().filter(|event| event.0 <= number).collect();
    let behind: Vec<_> = events.iter().copied().filter(|event| event.0 > number).collect();
    taking.settle(&before, Disposition::Ack);
    until("up to it", || consumer(&client, "engine-1")["ack_floor"]["stream_seq"] == number + 1);
    taking.settle(&behind, Disposition::Ack);
    until("all is acknowledged", || {
        let again = taking.take();
        taking.settle(&again, Disposition::Ack);
        consumer(&client, "engine-1")["num_ack_pending"] == 0
    });
    taking.stop();
}

fn what_is_given_back_comes_soon_and_what_is_terminated_never(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    // Long, so that it is not what brings them again. The consumer has its own.
    settings.consumer.ack_wait = Duration::from_secs(3600);
    settings.consumer.durable = "patient".to_owned();
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events", "s", 0..6);
    let events = first.take_many(6);
    first.settle(&events[..2], Disposition::Term);
    first.source.stop();
    first.settle(&events[2..4], Disposition::Nak);
    // 4 and 5 never got a word of the engine.
    first.source.finish();
    let second = started(&settings, 1);
    let mut again = numbers(&second.take_many(4));
    again.sort_unstable();
    assert_eq!(again, [2, 3, 4, 5]);
    assert_eq!(consumer(&client, "patient")["ack_floor"]["stream_seq"], 2);
    second.stop();
}

fn given_back_partitions_keep_their_order(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.3", "s", 0..10);
    let events = first.take_many(10);
    first.settle(&events[..3], Disposition::Ack);
    first.source.stop();
    first.settle(&events[5..8], Disposition::Nak);
    first.settle(&events[8..], Disposition::Term);
    first.source.finish();
    assert_eq!(consumer(&client, "engine-3")["ack_floor"]["stream_seq"], 3);
    publish(&client, "events.3", "s", 10..15);
    let second = started(&settings, 1);
    // What was terminated does not come again, also behind what was given back.
    assert_eq!(numbers(&second.take_many(10)), (3..8).chain(10..15).collect::<Vec<_>>());
    second.stop();
}

fn a_killed_server_loses_nothing_and_keeps_the_order(version: NatsVersion) {
    for assignment in [Assignment::Queue, Assignment::Partitioned] {
        let (server, settings) = ready(version, assignment);
        let subject = if assignment == Assignment::Queue { "events" } else { "events.2" };
        let taking = started(&settings, 1);
        taking.until_ready();
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        for round in 0..3 {
            publish(&client(&server), subject, "s", round * 100..round * 100 + 100);
            until("some of the round", || {
                open.extend(taking.take());
                seen.len() + open.len() >= (round * 100 + 50) as usize
            });
            let rest = open.split_off(open.len() / 2);
            taking.settle(&open, Disposition::Ack);
            seen.extend(numbers(&std::mem::replace(&mut open, rest)));
            server.kill9();
            taking.until_waiting(&["check"]);
            server.restart().expect("it comes back");
            taking.until_ready();
        }
        let client = client(&server);
        let name = if assignment == Assignment::Queue { "engine" } else { "engine-2" };
        until("all is acknowledged", || {
            open.extend(taking.take());
            taking.settle(&open, Disposition::Ack);
            seen.extend(numbers(&std::mem::take(&mut open)));
            let info = consumer(&client, name);
            info["num_ack_pending"] == 0 && info["num_pending"] == 0
        });
        let mut firsts = Vec::new();
        seen.iter().for_each(|number| {
            if !firsts.contains(number) {
                firsts.push(*number);
            }
        });
        if assignment == Assignment::Queue {
            firsts.sort_unstable();
        }
        assert_eq!(firsts, (0..300).collect::<Vec<_>>(), "{assignment:?}");
        taking.stop();
    }
}
