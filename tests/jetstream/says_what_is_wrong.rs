//! What keeps events from being read is said with the address and what to do, and reading begins once it is mended.
#![allow(deprecated)]

use std::time::Duration;

use crate::jetstream_support::{
    NatsVersion, ask, client, consumer, numbers, on_both_servers, publish, ready, server, set_up, settings, started,
    until,
};
use harness::servers::{Nats, NatsOptions};
use task_engine::config::{Assignment, ConsumerMode};
use task_engine::ports::Disposition;
use testkit::nats::user;

on_both_servers! {
    a_missing_stream_is_waited_for
    a_server_without_jetstream_is_named
    a_missing_permission_is_named_without_the_password
    a_consumer_with_another_ack_policy_is_refused_and_one_with_another_window_used
    a_consumer_through_which_events_would_be_lost_is_refused
    a_deleted_consumer_is_made_again
    a_frozen_server_is_noticed_and_reading_goes_on_when_it_thaws
}

fn a_missing_stream_is_waited_for(version: NatsVersion) {
    let server = server(version);
    let settings = settings(&server, Assignment::Queue);
    let taking = started(&settings, 1);
    taking.until_waiting(&[&server.addr(), "stream STREAM does not exist: run task-engine setup --config FILE"]);
    set_up(&settings, false).expect("setup");
    taking.until_ready();
    publish(&client(&server), "events", "s", 0..3);
    assert_eq!(numbers(&taking.take_many(3)), [0, 1, 2]);
    taking.stop();
}

fn a_server_without_jetstream_is_named(version: NatsVersion) {
    let server = Nats::start(&NatsOptions { version, ..NatsOptions::default() }).expect("nats-server starts");
    let mut settings = settings(&server, Assignment::Queue);
    let taking = started(&settings, 1);
    taking.until_waiting(&[&server.addr(), "JetStream is not enabled"]);
    let why = set_up(&settings, false).expect_err("no JetStream");
    assert!(why.contains("JetStream is not enabled") && why.contains(&server.addr()), "{why}");
    settings.consumer.mode = ConsumerMode::Core;
    let (lines, is_usable) = set_up(&settings, false).expect("core NATS needs none");
    assert!(is_usable && lines[0].contains("local file"), "{lines:?}");
    taking.stop();
}

fn a_missing_permission_is_named_without_the_password(version: NatsVersion) {
    let users = r#"authorization { users: [
        { user: admin, password: admin },
        { user: engine, password: s3cret, permissions: { publish: { deny: "$JS.API.CONSUMER.>" } } } ] }"#;
    let server =
        Nats::start(&NatsOptions { version, jetstream: true, config: users.to_owned(), ..NatsOptions::default() });
    let server = server.expect("nats-server starts");
    let mut settings = settings(&server, Assignment::Queue);
    settings.nats.auth = user("admin", "admin");
    set_up(&settings, false).expect("setup");
    settings.nats.auth = user("engine", "s3cret");
    let taking = started(&settings, 1);
    let said = taking.until_waiting(&[&server.addr(), "$JS.API.CONSUMER", "must be allowed"]);
    assert!(!said.contains("s3cret"), "{said}");
    taking.stop();
}

fn a_consumer_with_another_ack_policy_is_refused_and_one_with_another_window_used(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let make = |name: &str, policy: &str| {
        let body = format!(
            r#"{{"stream_name":"STREAM","config":{{"durable_name":"{name}","ack_policy":"{policy}","deliver_policy":"all","filter_subject":"events","max_ack_pending":7}}}}"#
        );
        assert!(ask(&client, &format!("$JS.API.CONSUMER.DURABLE.CREATE.STREAM.{name}"), body)["error"].is_null());
    };
    let named = |name: &str| {
        let mut settings = settings.clone();
        settings.consumer.durable = name.to_owned();
        settings
    };
    make("wrong", "all");
    let taking = started(&named("wrong"), 1);
    taking.until_waiting(&[&server.addr(), "consumer wrong", "ack policy is all", "explicit is needed"]);
    taking.stop();
    make("narrow", "explicit");
    publish(&client, "events", "s", 0..30);
    let taking = started(&named("narrow"), 1);
    let mut all = Vec::new();
    while all.len() < 30 {
        let events = taking.take_many(1);
        assert!(events.len() <= 7);
        taking.settle(&events, Disposition::Ack);
        all.extend(numbers(&events));
    }
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    assert_eq!(consumer(&client, "narrow")["config"]["max_ack_pending"], 7);
    taking.stop();
}

fn a_consumer_through_which_events_would_be_lost_is_refused(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let create = |name: &str, policy: &str, more: &str| {
        let body = format!(
            r#"{{"stream_name":"STREAM","config":{{"durable_name":"{name}","ack_policy":"{policy}","deliver_policy":"all"{more}}}}}"#
        );
        let answer = ask(&client, &format!("$JS.API.CONSUMER.DURABLE.CREATE.STREAM.{name}"), body);
        assert!(answer["error"].is_null(), "{answer}");
    };
    let named = |name: &str, assignment| {
        let mut settings = settings.clone();
        (settings.consumer.assignment, settings.consumer.durable) = (assignment, name.to_owned());
        settings
    };
    let with = r#"{"name":"STREAM","subjects":["events","events.*","other"],"storage":"file","max_age":259200000000000,"duplicate_window":120000000000}"#;
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", with)["error"].is_null());
    create("elsewhere", "explicit", r#","filter_subject":"other""#);
    create("hollow", "explicit", r#","headers_only":true"#);
    create("shared-1", "explicit", "");
    for (name, assignment, words) in [
        ("elsewhere", Assignment::Queue, "it is for other, and events is needed"),
        ("hollow", Assignment::Queue, "headers_only"),
        ("shared", Assignment::Partitioned, "it is for all subjects, and events.1 is needed"),
    ] {
        let taking = started(&named(name, assignment), 1);
        taking.until_waiting(&[&server.addr(), name, "cannot be used", words]);
        taking.stop();
        let (lines, is_usable) = set_up(&named(name, assignment), false).expect("a run");
        assert!(!is_usable && lines.iter().any(|line| line.contains(words)), "{lines:?}");
    }
    // No filter in a queue is the whole stream: more than is needed, and all that is needed.
    create("whole", "explicit", "");
    let taking = started(&named("whole", Assignment::Queue), 1);
    publish(&client, "events", "s", 0..3);
    assert_eq!(numbers(&taking.take_many(3)), [0, 1, 2]);
    taking.stop();
}

fn a_deleted_consumer_is_made_again(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let taking = started(&settings, 1);
    publish(&client, "events", "s", 0..1);
    let mut events = taking.take_many(1);
    assert_eq!(ask(&client, "$JS.API.CONSUMER.DELETE.STREAM.engine", "")["success"], true);
    until("it is there again", || consumer(&client, "engine")["error"].is_null());
    publish(&client, "events", "s", 1..2);
    events.extend(taking.take_many(1));
    assert_eq!(numbers(&events), [0, 1], "what is in hand is delivered again, and is no second event");
    taking.settle(&events, Disposition::Ack);
    until("the new one knows that all is done", || {
        let info = consumer(&client, "engine");
        info["num_ack_pending"] == 0 && info["num_pending"] == 0
    });
    taking.stop();
}

fn a_frozen_server_is_noticed_and_reading_goes_on_when_it_thaws(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    (settings.nats.ping_interval, settings.nats.timeout) = (Duration::from_millis(100), Duration::from_millis(500));
    let client = client(&server);
    let taking = started(&settings, 1);
    publish(&client, "events", "s", 0..3);
    let events = taking.take_many(3);
    server.stop().expect("frozen");
    taking.until_waiting(&["does not answer"]);
    taking.settle(&events, Disposition::Ack);
    server.cont().expect("thawed");
    taking.until_ready();
    publish(&client, "events", "s", 3..6);
    let mut all = numbers(&events);
    until("the new ones", || {
        let events = taking.take();
        taking.settle(&events, Disposition::Ack);
        all.extend(numbers(&events));
        all.contains(&5)
    });
    until("all is acknowledged", || consumer(&client, "engine")["num_ack_pending"] == 0);
    taking.stop();
}
