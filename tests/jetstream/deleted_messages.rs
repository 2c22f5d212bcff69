//! Partitions: what somebody deletes, or what expires, is no ack of what stands before it; what a crash left comes again
//! in stream order, also from the middle; what a broker gives up is said.

use task_engine::config::Assignment;
use task_engine::ports::Disposition;

use crate::jetstream_support::{
    NatsVersion, ask, client, consumer, numbers, on_both_servers, publish, ready, started, until,
};

on_both_servers! {
    the_deletion_of_a_delivered_message_takes_nothing_along
    a_purge_takes_only_what_it_purged
    what_is_unsettled_in_the_middle_comes_again_in_order_and_first
    what_is_given_up_by_the_broker_is_counted
}

fn the_deletion_of_a_delivered_message_takes_nothing_along(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.1", "s", 0..100);
    first.take_many(100);
    drop(first);
    until("it is gone", || consumer(&client, "engine-1")["num_waiting"] == 0);
    let deleted = ask(&client, "$JS.API.STREAM.MSG.DELETE.STREAM", r#"{"seq":100}"#);
    assert_eq!(deleted["success"], true, "{deleted}");
    publish(&client, "events.1", "s", 100..103);
    let second = started(&settings, 1);
    let events = second.take_many(102);
    assert_eq!(numbers(&events), (0..99).chain(100..103).collect::<Vec<_>>());
    second.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    second.stop();
}

fn a_purge_takes_only_what_it_purged(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.1", "s", 0..100);
    let events = first.take_many(100);
    first.settle(&events[70..75], Disposition::Ack);
    until("five are acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 95);
    drop(first);
    until("it is gone", || consumer(&client, "engine-1")["num_waiting"] == 0);
    // As the expiry of the older half.
    assert_eq!(ask(&client, "$JS.API.STREAM.PURGE.STREAM", r#"{"seq":51}"#)["success"], true);
    // And one in the middle of what is left.
    assert_eq!(ask(&client, "$JS.API.STREAM.MSG.DELETE.STREAM", r#"{"seq":91}"#)["success"], true);
    let second = started(&settings, 1);
    let want: Vec<u64> = (50..100).filter(|number| !(70..75).contains(number) && *number != 90).collect();
    assert_eq!(numbers(&second.take_many(want.len())), want);
    second.stop();
}

fn what_is_unsettled_in_the_middle_comes_again_in_order_and_first(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let first = started(&settings, 1);
    publish(&client, "events.1", "s", 0..30);
    let old = first.take_many(30);
    // The later ones come when the earlier ones are half as old as they may be, so that these are reported in between.
    let began = std::time::Instant::now();
    until("the first ones were reported once", || began.elapsed() > crate::jetstream_support::ACK_WAIT * 3 / 5);
    publish(&client, "events.1", "s", 30..60);
    let young = first.take_many(30);
    let holes = [3, 4, 17, 29];
    let settled: Vec<_> = old.iter().filter(|event| !holes.contains(&event.0)).copied().collect();
    first.settle(&settled, Disposition::Ack);
    first.settle(&young[10..], Disposition::Ack);
    until("most is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 14);
    drop(first);
    until("it is gone", || consumer(&client, "engine-1")["num_waiting"] == 0);
    publish(&client, "events.1", "s", 60..70);
    let second = started(&settings, 1);
    let want: Vec<u64> = holes.into_iter().chain(30..40).chain(60..70).collect();
    assert_eq!(numbers(&second.take_many(want.len())), want, "only what is unsettled, in order, and then the new");
    second.stop();
}

fn what_is_given_up_by_the_broker_is_counted(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let narrow = r#"{"stream_name":"STREAM","config":{"durable_name":"engine","ack_policy":"explicit","deliver_policy":"all","ack_wait":500000000,"max_deliver":1,"filter_subject":"events"}}"#;
    assert_eq!(ask(&client, "$JS.API.CONSUMER.DELETE.STREAM.engine", "")["success"], true);
    let made = ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.engine", narrow);
    assert!(made["error"].is_null(), "{made}");
    publish(&client, "events", "s", 0..3);
    // Somebody takes them and is never heard of again.
    let inbox = client.new_inbox();
    let foreign = client.subscribe(&inbox).expect("a subscription");
    client.publish_request("$JS.API.CONSUMER.MSG.NEXT.STREAM.engine", &inbox, r#"{"batch":3}"#).expect("asked");
    (0..3).for_each(|_| drop(foreign.next_timeout(crate::jetstream_support::PATIENCE).expect("one of them")));
    let taking = started(&settings, 1);
    until("each is counted", || taking.intake.counts().given_up() == 3);
    publish(&client, "events", "s", 3..5);
    assert_eq!(numbers(&taking.take_many(2)), [3, 4], "the others go on");
    taking.stop();
}
