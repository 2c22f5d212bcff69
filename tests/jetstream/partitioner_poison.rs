//! An event that cannot be moved stops no other: it is a dead letter with its reason, or goes without the headers that are too
//! much; what a publisher writes into headers means nothing to the servers that the event is moved to.
#![allow(deprecated)]

use nats::HeaderMap;
use prost::Message;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::intake::Moves;

use crate::jetstream_support::{NatsVersion, ask, client, event, on_both_servers, started, until};
use crate::partitioner_support::{publish_twice, ready, stored, until_all_moved};

on_both_servers! {
    what_has_no_partition_is_a_letter
    what_is_too_large_is_a_letter_or_goes_without_its_headers
    a_streams_own_bound_counts_too
    headers_that_servers_act_on_stay_behind
    a_stream_that_refuses_one_event_alone_makes_it_a_letter
}

const MAX_PAYLOAD: usize = 1 << 20;

/// An event whose payload has exactly so many bytes.
fn of_size(session: &str, bytes: usize) -> Vec<u8> {
    let make = |content: usize| {
        let content = "c".repeat(content);
        PushEvent { msg_id: 1, session_id: session.into(), content, ..PushEvent::default() }.encode_to_vec()
    };
    let around = make(bytes).len() - bytes;
    let made = make(bytes - around);
    assert_eq!(made.len(), bytes);
    made
}

fn what_has_no_partition_is_a_letter(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    ask(&client, "events", b"\xff\xff");
    ask(&client, "events", event("", 7));
    publish_twice(&client, 3, 0..10);
    until_all_moved(&client);
    let letters = taking.letters.lock().expect("no panic");
    let said: Vec<_> = letters.iter().map(|(letter, origin)| (letter.reason, origin.stream_sequence)).collect();
    assert_eq!(said, [("unpartitionable", Some(1)), ("unpartitionable", Some(2))]);
    assert!(letters[0].0.detail.contains("not a PushEvent") && letters[1].0.detail.contains("session_id is empty"));
    assert!(letters.iter().all(|(_, origin)| origin.subject == "events"));
    assert_eq!((stored(&client).len(), taking.moves(Moves::Letters)), (10, 2));
    taking.stop();
}

fn what_is_too_large_is_a_letter_or_goes_without_its_headers(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    let poison = of_size("p", MAX_PAYLOAD - 10);
    assert_eq!(ask(&client, "events", &poison)["seq"], 1);
    let mut headers = HeaderMap::default();
    headers.insert("Trace", "t".repeat(50_000));
    let (large, fits) = (of_size("q", MAX_PAYLOAD - 50_040), of_size("r", MAX_PAYLOAD - 51_000));
    for payload in [&large, &fits] {
        client.publish_with_reply_or_headers("events", None, Some(&headers), payload).expect("published");
    }
    publish_twice(&client, 3, 0..10);
    until_all_moved(&client);
    let letters = taking.letters.lock().expect("no panic");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].0.reason == "not_taken" && letters[0].0.payload == poison);
    assert!(letters[0].0.detail.contains("are over the 1048576"), "{}", letters[0].0.detail);
    let all = stored(&client);
    let of = |payload: &Vec<u8>| all.iter().find(|stored| stored.payload == *payload).expect("it is stored");
    assert!(!of(&large).headers.contains("Trace") && of(&fits).headers.contains("Trace"));
    assert_eq!(all.len(), 12);
    taking.stop();
}

fn a_streams_own_bound_counts_too(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let mut config = ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone();
    config["max_msg_size"] = 5_000.into();
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", config.to_string())["error"].is_null());
    let taking = started(&settings, 1);
    ask(&client, "events", of_size("p", 5_000));
    ask(&client, "events", of_size("p", 4_000));
    until_all_moved(&client);
    let letters = taking.letters.lock().expect("no panic");
    assert!(letters.len() == 1 && letters[0].0.detail.contains("are over the 5000"), "{letters:?}");
    assert_eq!(stored(&client).len(), 1);
    taking.stop();
}

fn headers_that_servers_act_on_stay_behind(version: NatsVersion) {
    let (server, settings) = ready(version);
    let client = client(&server);
    let taking = started(&settings, 1);
    // The input stream takes all of these; the other one would refuse the event for each but the last three.
    for (number, (name, value)) in (0..).zip([
        ("Nats-Expected-Stream", "STREAM_IN"),
        ("Nats-Expected-Last-Msg-Id", ""),
        ("Nats-Msg-Id", "mine"),
        ("Task-Engine-In", "4711"),
        ("Trace", "a: b"),
    ]) {
        let mut headers = HeaderMap::default();
        headers.insert(name, value);
        client.publish_with_reply_or_headers("events", None, Some(&headers), event("s", number)).expect("published");
    }
    publish_twice(&client, 3, 100..110);
    until_all_moved(&client);
    let all = stored(&client);
    assert_eq!((all.len(), taking.moves(Moves::Refused), taking.moves(Moves::Letters)), (15, 0, 0));
    let headers: Vec<_> = all.iter().map(|stored| stored.headers.as_str()).collect();
    assert!(
        headers.iter().all(|block| !block.contains("mine") && !block.contains("4711") && !block.contains("Expected"))
    );
    assert_eq!(headers.iter().filter(|block| block.contains("Trace: a: b")).count(), 1);
    taking.stop();
}

fn a_stream_that_refuses_one_event_alone_makes_it_a_letter(version: NatsVersion) {
    let (server, mut settings) = ready(version);
    (settings.consumer.max_retry, settings.consumer.retry_interval) = (1, std::time::Duration::from_millis(300));
    let client = client(&server);
    let taking = started(&settings, 1);
    publish_twice(&client, 3, 0..10);
    until_all_moved(&client);
    // The partitioner looked at the bound when it connected.
    let mut config = ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone();
    config["max_msg_size"] = 5_000.into();
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", config.to_string())["error"].is_null());
    ask(&client, "events", of_size("poison", 6_000));
    ask(&client, "events", event("poison", 7));
    let mut number = 100;
    until("it is given up", || {
        publish_twice(&client, 3, number..number + 3);
        number += 3;
        !taking.letters.lock().expect("no panic").is_empty()
    });
    until_all_moved(&client);
    let letters = taking.letters.lock().expect("no panic");
    assert!(letters.len() == 1 && letters[0].0.reason == "not_taken", "{letters:?}");
    assert!(
        letters[0].0.detail.contains("the stream refuses it and takes others: message size exceeds"),
        "{letters:?}"
    );
    let behind = stored(&client).iter().filter(|stored| stored.payload == event("poison", 7)).count();
    assert_eq!((behind, stored(&client).len() as u64), (1, 10 + 1 + (number - 100)));
    taking.stop();
}
