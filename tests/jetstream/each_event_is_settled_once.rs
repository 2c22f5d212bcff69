//! With JetStream each event is read once, also when it was published before the start, and acknowledged once it is
//! settled; instances of an assignment `queue` share the events.
#![allow(deprecated)]

use crate::jetstream_support::{
    NatsVersion, PARTITIONS, Taking, ask, client, consumer, event, numbers, on_both_servers, publish, ready, started,
    started_with_lanes, until,
};
use task_engine::config::Assignment;
use task_engine::ports::{Disposition, Health};

fn nothing_is_pending(client: &nats::Connection, name: &str, last: u64) {
    until("all is acknowledged", || {
        let info = consumer(client, name);
        info["num_ack_pending"] == 0 && info["num_pending"] == 0 && info["ack_floor"]["stream_seq"] == last
    });
    assert_eq!(consumer(client, name)["num_redelivered"], 0);
}

on_both_servers! {
    what_was_published_before_the_start_is_read_and_acknowledged
    partitions_are_acknowledged_one_by_one
    two_instances_of_a_queue_share_the_events
    no_more_are_out_than_the_window_allows
    an_event_larger_than_a_pull_stops_no_other
    a_full_lane_stops_the_pulls_and_nothing_is_lost
    a_stop_ends_when_the_lane_has_taken_the_rest
}

fn what_was_published_before_the_start_is_read_and_acknowledged(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    publish(&client, "events", "s", 0..50);
    let taking = started(&settings, 2);
    taking.until_ready();
    publish(&client, "events", "s", 50..100);
    let events = taking.take_many(100);
    assert_eq!(numbers(&events), (0..100).collect::<Vec<_>>());
    let origin = taking.origin(events[9].1);
    assert_eq!((origin.subject.as_str(), origin.stream_sequence, origin.deliveries), ("events", Some(10), 1));
    assert!(origin.published_unix_nanos.is_some_and(|nanos| nanos > 1_600_000_000_000_000_000));
    taking.settle(&events, Disposition::Ack);
    nothing_is_pending(&client, "engine", 100);
    assert!(taking.take().is_empty());
    taking.stop();
    assert_eq!(taking.intake.counts().read(), 100);
}

fn partitions_are_acknowledged_one_by_one(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let taking = started(&settings, 2);
    taking.until_ready();
    for round in 0..5 {
        for partition in 0..4 {
            publish(&client, &format!("events.{partition}"), "s", round * 4 + partition..round * 4 + partition + 1);
        }
    }
    let mut events = taking.take_many(20);
    assert!(events.iter().all(|event| u64::from(event.1.reader) == event.0 % 2), "each on its partition's shard");
    let origin = taking.origin(events[0].1);
    assert_eq!(origin.subject, format!("events.{}", events[0].0 % 4));
    events.sort_by_key(|event| std::cmp::Reverse(event.0));
    let first_of_2 = events.iter().position(|event| event.0 == 2).expect("it was published");
    let first_of_2 = events.remove(first_of_2);
    taking.settle(&events, Disposition::Ack);
    for (partition, last) in [(0, 17), (1, 18), (3, 20)] {
        nothing_is_pending(&client, &format!("engine-{partition}"), last);
    }
    assert_eq!(consumer(&client, "engine-2")["num_ack_pending"], 1, "only its first is not settled");
    taking.settle(&[first_of_2], Disposition::Ack);
    nothing_is_pending(&client, "engine-2", 19);
    taking.stop();
}

fn two_instances_of_a_queue_share_the_events(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let instances = [started(&settings, 1), started(&settings, 2)];
    instances.iter().for_each(Taking::until_ready);
    let (mut published, mut seen) = (0, [Vec::new(), Vec::new()]);
    until("both have some", || {
        publish(&client, "events", "s", published..published + 20);
        published += 20;
        for (instance, seen) in instances.iter().zip(&mut seen) {
            let events = instance.take();
            instance.settle(&events, Disposition::Ack);
            seen.extend(numbers(&events));
        }
        seen.iter().all(|seen| seen.len() > 20)
    });
    until("all have come", || {
        for (instance, seen) in instances.iter().zip(&mut seen) {
            let events = instance.take();
            instance.settle(&events, Disposition::Ack);
            seen.extend(numbers(&events));
        }
        seen[0].len() + seen[1].len() == published as usize
    });
    nothing_is_pending(&client, "engine", published);
    let mut all: Vec<_> = seen.concat();
    all.sort_unstable();
    assert_eq!(all, (0..published).collect::<Vec<_>>());
    instances.iter().for_each(Taking::stop);
}

fn no_more_are_out_than_the_window_allows(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    settings.consumer.max_ack_pending = 10;
    let client = client(&server);
    publish(&client, "events", "s", 0..100);
    let taking = started(&settings, 1);
    let mut all = Vec::new();
    while all.len() < 100 {
        let events = taking.take_many(1);
        assert!(events.len() <= 10, "{}", events.len());
        assert!(consumer(&client, "engine")["num_ack_pending"].as_u64().is_some_and(|out| out <= 20));
        taking.settle(&events, Disposition::Ack);
        all.extend(numbers(&events));
    }
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    nothing_is_pending(&client, "engine", 100);
    taking.stop();
}

fn an_event_larger_than_a_pull_stops_no_other(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let body = r#"{"stream_name":"STREAM","config":{"durable_name":"small","ack_policy":"explicit","deliver_policy":"all","filter_subject":"events","max_bytes":1000}}"#;
    assert!(ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.small", body)["error"].is_null());
    settings.consumer.durable = "small".to_owned();
    publish(&client, "events", "s", 0..3);
    let large = [event("s", 3), vec![0x32, 0x80, 0x20], vec![b'x'; 0x20 << 7]].concat();
    assert_eq!(ask(&client, "events", large)["seq"], 4);
    publish(&client, "events", "s", 4..8);
    let taking = started(&settings, 1);
    let events = taking.take_many(8);
    assert_eq!(numbers(&events), (0..8).collect::<Vec<_>>());
    taking.settle(&events, Disposition::Ack);
    nothing_is_pending(&client, "small", 8);
    taking.stop();
}

fn a_full_lane_stops_the_pulls_and_nothing_is_lost(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    publish(&client, "events", "s", 0..2000);
    let taking = Taking::with_lanes(&settings, PARTITIONS, 1, 8);
    until("the lane is full", || taking.lanes[0].len() == 8);
    until("the source says that it is ready", || taking.intake.health() == Health::Ready);
    let mut all = Vec::new();
    while all.len() < 2000 {
        let events = taking.take_many(1);
        taking.settle(&events, Disposition::Ack);
        all.extend(numbers(&events));
    }
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    nothing_is_pending(&client, "engine", 2000);
    taking.stop();
}

fn a_stop_ends_when_the_lane_has_taken_the_rest(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let taking = started_with_lanes(&settings, 1, 4);
    publish(&client, "events", "s", 0..20);
    until("the lane is full", || taking.lanes[0].len() == 4);
    let took = std::thread::scope(|scope| {
        let stop = scope.spawn(|| {
            let began = std::time::Instant::now();
            taking.source.stop();
            began.elapsed()
        });
        until("nothing is pulled any more", || consumer(&client, "engine")["num_waiting"] == 0);
        consumer(&client, "engine");
        // None of them is settled: acks are still to come when the rest is handed in.
        let events = taking.take_many(20);
        assert_eq!(numbers(&events), (0..20).collect::<Vec<_>>());
        stop.join().expect("it stops")
    });
    assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    taking.source.finish();
}
