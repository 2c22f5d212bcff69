//! Publishers that know no partitions, and publish each event twice: each comes once to the shard of its session, in order; also
//! when the stream is full for a while, is purged, the server is killed, the partitioner dies, or there are two of them.
#![allow(deprecated)]

use std::collections::BTreeMap;

use crate::jetstream_support::{NatsVersion, ask, client, on_both_servers, set_up, started, until};
use crate::partitioner_support::{
    assert_moved, bound, moving, publish_twice, ready, stored, stored_count, take_and_settle, until_all_moved,
};
use task_engine::ports::intake::Moves;

on_both_servers! {
    each_event_comes_once_and_in_order
    a_full_stream_is_waited_for
    a_purge_stops_nothing
    what_the_input_stream_dropped_is_counted
    a_partitioner_that_dies_leaves_nothing_behind
    what_a_dead_one_stored_is_found_when_the_stream_has_forgotten_its_ids
    a_stop_gives_back_what_is_not_moved
    a_killed_server_stores_each_event_once
    who_writes_partitions_himself_is_seen
}

const SESSIONS: u64 = 17;

fn each_event_comes_once_and_in_order(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    publish_twice(&client, SESSIONS, 0..500);
    let taking = started(&settings, 2);
    publish_twice(&client, SESSIONS, 500..2000);
    let events = take_and_settle(&taking, 2000);
    let mut last = BTreeMap::new();
    for (reader, number) in events {
        let before = last.insert(number % SESSIONS, (reader, number));
        assert!(before.is_none_or(|(one, before)| one == reader && before < number), "{before:?} {number}");
    }
    until_all_moved(&client);
    assert_eq!(taking.take().len(), 0, "no copy came");
    assert_moved(&client, SESSIONS, 0..2000);
    until("all is counted", || (taking.moves(Moves::Moved), taking.moves(Moves::Copies)) == (2000, 2000));
    let others = [Moves::Refused, Moves::Letters, Moves::Gap, Moves::Foreign].map(|number| taking.moves(number));
    assert_eq!((others, taking.intake.counts().partitioner().waiting()), ([0; 4], 0));
    let first = &stored(&client)[0];
    assert!(first.headers.contains("\r\nTask-Engine-In: 1\r\n"), "{:?}", first.headers);
    taking.stop();
}

fn a_full_stream_is_waited_for(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    bound(&client, 100);
    let taking = started(&settings, 1);
    publish_twice(&client, SESSIONS, 0..600);
    taking.until_waiting(&["stream STREAM takes no events", "wait in STREAM_IN", "maximum messages"]);
    // Longer than ack_wait: what waits is reported as in work.
    std::thread::park_timeout(crate::jetstream_support::ACK_WAIT * 2);
    for room in [101, 150, 300] {
        bound(&client, room);
        until("it is full again", || stored_count(&client) == room as u64);
    }
    bound(&client, -1);
    take_and_settle(&taking, 600);
    until_all_moved(&client);
    taking.until_ready();
    assert_moved(&client, SESSIONS, 0..600);
    assert!(taking.moves(Moves::Refused) > 0 && taking.letters.lock().expect("no panic").is_empty());
    taking.stop();
}

fn a_purge_stops_nothing(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    publish_twice(&client, SESSIONS, 0..300);
    until_all_moved(&client);
    ask(&client, "$JS.API.STREAM.PURGE.STREAM", "");
    publish_twice(&client, SESSIONS, 300..600);
    until_all_moved(&client);
    assert_moved(&client, SESSIONS, 300..600);
    assert_eq!((taking.moves(Moves::Moved), taking.moves(Moves::Foreign)), (600, 0));
    taking.stop();
}

fn what_the_input_stream_dropped_is_counted(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    bound(&client, 10);
    let taking = started(&settings, 1);
    publish_twice(&client, SESSIONS, 0..1000);
    until("it holds as many as it may", || {
        let info = ask(&client, "$JS.API.CONSUMER.INFO.STREAM_IN.engine-in", "");
        info["num_ack_pending"] == settings.consumer.max_ack_pending
    });
    // Those that it does not have yet are 1,001 to 2,000.
    ask(&client, "$JS.API.STREAM.PURGE.STREAM_IN", r#"{"keep":400}"#);
    bound(&client, -1);
    until_all_moved(&client);
    // For each of those that were moved before the stream was full it has one more.
    let [gap, moved, copies] = [Moves::Gap, Moves::Moved, Moves::Copies].map(|number| taking.moves(number));
    assert!((560..=600).contains(&gap) && gap + moved + copies == 2000, "{gap} {moved} {copies}");
    taking.stop();
}

fn a_partitioner_that_dies_leaves_nothing_behind(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    for round in 0..3 {
        let taking = started(&settings, 1);
        publish_twice(&client, SESSIONS, round * 1000..round * 1000 + 1000);
        until("it is at work", || stored_count(&client) > round * 1000 + 100);
        // Without a stop nothing is given back and no answer waited for, as in a crash.
        drop(taking);
    }
    let taking = started(&settings, 1);
    until_all_moved(&client);
    assert_moved(&client, SESSIONS, 0..3000);
    taking.stop();
}

fn what_a_dead_one_stored_is_found_when_the_stream_has_forgotten_its_ids(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let mut config = ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone();
    config["duplicate_window"] = 100_000_000_u64.into();
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", config.to_string())["error"].is_null());
    for round in 0..5 {
        let taking = started(&settings, 1);
        publish_twice(&client, SESSIONS, round * 1000..round * 1000 + 1000);
        until("it is at work", || stored_count(&client) > round * 1000 + 100);
        drop(taking);
        let info = ask(&client, "$JS.API.CONSUMER.INFO.STREAM_IN.engine-in", "");
        println!("round {round}: {} are out", info["num_ack_pending"]);
    }
    let taking = started(&settings, 1);
    until_all_moved(&client);
    assert_moved(&client, SESSIONS, 0..5000);
    taking.stop();
}

fn a_stop_gives_back_what_is_not_moved(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    bound(&client, 50);
    let first = started(&settings, 1);
    publish_twice(&client, SESSIONS, 0..400);
    first.until_waiting(&["takes no events"]);
    first.stop();
    bound(&client, -1);
    let second = started(&settings, 1);
    publish_twice(&client, SESSIONS, 400..500);
    until_all_moved(&client);
    assert_moved(&client, SESSIONS, 0..500);
    second.stop();
}

fn a_killed_server_stores_each_event_once(version: NatsVersion) {
    let (server, settings) = ready(version);
    let taking = started(&settings, 1);
    for round in 0..3 {
        let client = client(&server);
        publish_twice(&client, SESSIONS, round * 1000..round * 1000 + 1000);
        until("it is at work", || stored_count(&client) > round * 1000 + 100);
        server.kill9();
        taking.until_waiting(&["check"]);
        server.restart().expect("it comes back");
        taking.until_ready();
    }
    let client = client(&server);
    until_all_moved(&client);
    assert_moved(&client, SESSIONS, 0..3000);
    taking.stop();
}

fn who_writes_partitions_himself_is_seen(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    publish_twice(&client, SESSIONS, 0..10);
    until_all_moved(&client);
    let answer = ask(&client, "events.1", crate::jetstream_support::event("x", 1));
    assert_eq!(answer["stream"], "STREAM", "{answer}");
    publish_twice(&client, SESSIONS, 10..20);
    until("the foreign message is seen", || taking.moves(Moves::Foreign) == 1);
    // Setup on what is there says nothing new.
    let (lines, is_usable) = set_up(&moving(&server), false).expect("setup");
    assert!(is_usable && lines.iter().any(|line| line.contains("who writes events.<partition> itself")), "{lines:?}");
    taking.stop();
}
