//! Consumers that earlier engines made for partitions: refused with the command that changes them, changed only when
//! told and while nobody reads them, and nothing unsettled is lost by it.

use task_engine::config::{Assignment, Config};
use task_engine::ports::Disposition;

use crate::jetstream_support::{
    NatsVersion, PATIENCE, ask, client, consumer, numbers, on_both_servers, publish, server, set_up, set_up_with,
    settings, started, until,
};

on_both_servers! {
    a_consumer_of_the_old_policy_is_refused_and_changed_without_a_loss
    one_that_is_read_is_left_alone
}

/// A server with a stream, and partition 1's consumer as earlier engines made it.
fn old(version: NatsVersion) -> (harness::servers::Nats, Config, nats::Connection) {
    let server = server(version);
    let settings = settings(&server, Assignment::Partitioned);
    let client = client(&server);
    let stream = r#"{"name":"STREAM","subjects":["events.*"],"storage":"file","max_age":259200000000000,"duplicate_window":120000000000}"#;
    assert!(ask(&client, "$JS.API.STREAM.CREATE.STREAM", stream)["error"].is_null());
    let made = r#"{"stream_name":"STREAM","config":{"durable_name":"engine-1","ack_policy":"all","deliver_policy":"all","ack_wait":2000000000,"max_ack_pending":250,"filter_subject":"events.1"}}"#;
    assert!(ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.engine-1", made)["error"].is_null());
    (server, settings, client)
}

fn a_consumer_of_the_old_policy_is_refused_and_changed_without_a_loss(version: NatsVersion) {
    let (server, settings, client) = old(version);
    publish(&client, "events.2", "other", 900..903);
    publish(&client, "events.1", "s", 0..30);
    // As an earlier engine that was stopped: twenty delivered, five of them settled.
    let inbox = client.new_inbox();
    let pull = client.subscribe(&inbox).expect("a subscription");
    client.publish_request("$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1", &inbox, r#"{"batch":20}"#).expect("asked");
    let taken: Vec<_> = (0..20).map(|_| pull.next_timeout(PATIENCE).expect("an event")).collect();
    client.publish(taken[4].reply.as_deref().expect("a reply"), "+ACK").expect("written");
    until("five are settled", || consumer(&client, "engine-1")["num_ack_pending"] == 15);

    let words = "run task-engine setup --config FILE --change";
    let taking = started(&settings, 1);
    taking.until_waiting(&[&server.addr(), "consumer engine-1", "ack policy is all", words]);
    taking.stop();
    let (lines, is_usable) = set_up(&settings, false).expect("a run");
    assert!(!is_usable && lines.iter().any(|line| line.contains(words)), "{lines:?}");
    assert_eq!(consumer(&client, "engine-1")["config"]["ack_policy"], "all", "nothing is changed unless told");

    let (lines, is_usable) = set_up_with(&settings, true, true).expect("a dry run");
    let would = lines.iter().find(|line| line.starts_with("would change consumer engine-1")).expect("it says so");
    assert!(is_usable && would.contains("from sequence 9;") && would.contains("15 delivered"), "{would}");
    assert_eq!(consumer(&client, "engine-1")["config"]["ack_policy"], "all");
    let (lines, is_usable) = set_up_with(&settings, false, true).expect("a run");
    assert!(is_usable && lines.contains(&would.replace("would change", "changed")), "{lines:?}");
    let config = consumer(&client, "engine-1")["config"].clone();
    assert_eq!((&config["ack_policy"], &config["opt_start_seq"]), (&"explicit".into(), &9.into()));
    let (lines, is_usable) = set_up_with(&settings, false, true).expect("a second run");
    assert!(is_usable && lines.iter().all(|line| line.contains("exist")), "{lines:?}");

    let taking = started(&settings, 1);
    let events = taking.take_many(28);
    let of_one: Vec<u64> = numbers(&events).into_iter().filter(|number| *number < 900).collect();
    assert_eq!(of_one, (5..30).collect::<Vec<_>>(), "what was unsettled, and what was new, in order");
    taking.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    taking.stop();
}

fn one_that_is_read_is_left_alone(version: NatsVersion) {
    let (_server, settings, client) = old(version);
    let inbox = client.new_inbox();
    let _pull = client.subscribe(&inbox).expect("a subscription");
    let body = r#"{"batch":20,"expires":600000000000}"#;
    client.publish_request("$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1", &inbox, body).expect("asked");
    until("it is read", || consumer(&client, "engine-1")["num_waiting"] == 1);
    let (lines, is_usable) = set_up_with(&settings, false, true).expect("a run");
    assert!(!is_usable && lines.iter().any(|line| line.contains("engine-1 is being read: stop all")), "{lines:?}");
    assert_eq!(consumer(&client, "engine-1")["config"]["ack_policy"], "all");
}
