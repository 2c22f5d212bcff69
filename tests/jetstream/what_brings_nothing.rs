//! A stream or consumer that brings no event, although all of it answers, is said; and reading goes on once it is mended.
#![allow(deprecated)]

use serde_json::json;
use task_engine::config::Assignment;
use task_engine::ports::Disposition;

use crate::jetstream_support::{
    NatsVersion, ask, client, consumer, numbers, on_both_servers, publish, ready, server, settings, started, until,
};

on_both_servers! {
    a_stream_of_another_subject_is_refused_and_no_consumer_made
    a_subject_that_is_taken_out_of_the_stream_is_noticed
}

fn stream(client: &nats::Connection, call: &str, subjects: &[&str]) {
    let config = json!({"name": "STREAM", "subjects": subjects, "storage": "file", "max_age": 259_200_000_000_000u64,
        "duplicate_window": 120_000_000_000u64});
    let answer = ask(client, &format!("$JS.API.STREAM.{call}.STREAM"), config.to_string());
    assert!(answer["error"].is_null(), "{answer}");
}

fn a_stream_of_another_subject_is_refused_and_no_consumer_made(version: NatsVersion) {
    for (assignment, has, needed, durable) in [
        (Assignment::Queue, "other", "events", "engine"),
        // A part's subject in a stream made for a queue.
        (Assignment::Partitioned, "events", "events.0", "engine-0"),
    ] {
        let server = server(version);
        let client = client(&server);
        stream(&client, "CREATE", &[has]);
        let taking = started(&settings(&server, assignment), 1);
        let words = format!("stream STREAM takes {has}, and {needed} is needed");
        taking.until_waiting(&[&server.addr(), &words, "add the subject to the stream"]);
        assert_eq!(consumer(&client, durable)["error"]["err_code"], 10_014, "none is made");
        stream(&client, "UPDATE", &[has, if needed == "events" { needed } else { "events.*" }]);
        taking.until_ready();
        publish(&client, needed, "s", 0..3);
        assert_eq!(numbers(&taking.take_many(3)), [0, 1, 2]);
        taking.stop();
    }
}

fn a_subject_that_is_taken_out_of_the_stream_is_noticed(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    let client = client(&server);
    let taking = started(&settings, 1);
    taking.until_ready();
    publish(&client, "events", "s", 0..2);
    let events = taking.take_many(2);
    stream(&client, "UPDATE", &["other"]);
    taking.until_waiting(&[&server.addr(), "stream STREAM takes other, and events is needed"]);
    taking.settle(&events, Disposition::Ack);
    until("what was out is acknowledged all the same", || consumer(&client, "engine")["num_ack_pending"] == 0);
    stream(&client, "UPDATE", &["events"]);
    taking.until_ready();
    publish(&client, "events", "s", 2..4);
    assert_eq!(numbers(&taking.take_many(2)), [2, 3]);
    taking.stop();
}

#[test]
fn a_filter_that_is_changed_is_noticed() {
    let (server, settings) = ready(NatsVersion::Current, Assignment::Queue);
    let client = client(&server);
    stream(&client, "UPDATE", &["events", "other"]);
    let taking = started(&settings, 1);
    taking.until_ready();
    let filter = |filter: &str| {
        let mut config = consumer(&client, "engine")["config"].clone();
        config["filter_subject"] = filter.into();
        let body = json!({"stream_name": "STREAM", "config": config}).to_string();
        let answer = ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.engine", body);
        assert!(answer["error"].is_null(), "{answer}");
    };
    filter("other");
    taking.until_waiting(&[&server.addr(), "consumer engine", "it is for other, and events is needed"]);
    filter("events");
    taking.until_ready();
    publish(&client, "events", "s", 0..2);
    assert_eq!(numbers(&taking.take_many(2)), [0, 1]);
    taking.stop();
}

#[test]
fn a_consumer_that_is_paused_is_noticed() {
    let (server, settings) = ready(NatsVersion::Current, Assignment::Queue);
    let client = client(&server);
    let taking = started(&settings, 1);
    taking.until_ready();
    let pause =
        |until: &str| ask(&client, "$JS.API.CONSUMER.PAUSE.STREAM.engine", json!({"pause_until": until}).to_string());
    assert_eq!(pause("2126-01-01T00:00:00Z")["paused"], true);
    taking.until_waiting(&[&server.addr(), "consumer engine of stream STREAM is paused", "nats consumer resume"]);
    assert_eq!(pause("2020-01-01T00:00:00Z")["paused"], false);
    taking.until_ready();
    publish(&client, "events", "s", 0..2);
    assert_eq!(numbers(&taking.take_many(2)), [0, 1]);
    taking.stop();
}
