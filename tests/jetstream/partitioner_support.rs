//! Servers, publishers that know no partitions, and what is stored in the end.

#![allow(deprecated)]

use std::collections::BTreeMap;

use base64::Engine as _;
use harness::servers::Nats;
use serde_json::Value;
use task_engine::config::{Assignment, Config, Partitioner};
use task_engine::model::ids::Partition;
use task_engine::ports::{DeliveryTag, Disposition};
use testkit::events::session_and_number;

use crate::jetstream_support::{NatsVersion, PARTITIONS, ask, event, server, set_up, settings, until};
use testkit::taking::Taking;

/// The settings of an engine whose partitioner is on.
pub fn moving(server: &Nats) -> Config {
    let mut settings = settings(server, Assignment::Partitioned);
    settings.consumer.partitioner = Partitioner::On;
    settings
}

/// A server on which setup ran.
pub fn ready(version: NatsVersion) -> (Nats, Config) {
    let server = server(version);
    let settings = moving(&server);
    let (lines, is_usable) = set_up(&settings, false).expect("setup");
    assert!(is_usable, "{lines:?}");
    (server, settings)
}

/// An event's msg_id is its number and this: with msg_id 0 it would have no id.
const FIRST_ID: u64 = 1_000_000;

fn numbered(sessions: u64, number: u64) -> Vec<u8> {
    event(&format!("s{}", number % sessions), FIRST_ID + number)
}

/// As Resonance's outbox: each event twice on the topic itself. Numbers of these sessions in turn; waits until the stream has all.
pub fn publish_twice(client: &nats::Connection, sessions: u64, numbers: std::ops::Range<u64>) {
    for number in numbers.clone() {
        client.publish("events", numbered(sessions, number)).expect("published");
        // The second path of the outbox is a few events behind the first.
        if let Some(before) = number.checked_sub(3).filter(|before| *before >= numbers.start) {
            client.publish("events", numbered(sessions, before)).expect("published");
        }
    }
    for number in numbers.end.saturating_sub(3).max(numbers.start)..numbers.end {
        let answer = ask(client, "events", numbered(sessions, number));
        assert_eq!(answer["stream"], "STREAM_IN", "{answer}");
    }
}

/// What a message of the partitioned stream is: subject, headers, payload.
pub struct Stored {
    pub subject: String,
    pub headers: String,
    pub payload: Vec<u8>,
}

/// All that the partitioned stream holds, in its order.
pub fn stored(client: &nats::Connection) -> Vec<Stored> {
    let decode = |value: &Value| {
        base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64")
    };
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let body = format!(r#"{{"seq":{from},"next_by_subj":"events.*"}}"#);
        let answer = ask(client, "$JS.API.STREAM.MSG.GET.STREAM", body);
        let message = &answer["message"];
        let Some(seq) = message["seq"].as_u64() else { return all };
        all.push(Stored {
            subject: message["subject"].as_str().expect("a subject").to_owned(),
            headers: String::from_utf8_lossy(&decode(&message["hdrs"])).into_owned(),
            payload: decode(&message["data"]),
        });
        from = seq + 1;
    }
}

/// The numbers of each session, in the order in which they are stored.
pub fn by_session(all: &[Stored]) -> BTreeMap<String, Vec<u64>> {
    let mut sessions = BTreeMap::<String, Vec<u64>>::new();
    for stored in all {
        let (session, number) = session_and_number(&stored.payload);
        let partition = Partition::of(session.as_bytes(), PARTITIONS);
        assert_eq!(stored.subject, format!("events.{}", partition.0));
        sessions.entry(session).or_default().push(number.saturating_sub(FIRST_ID));
    }
    sessions
}

/// Asserts that each of the numbers is stored once, and each session in order.
pub fn assert_moved(client: &nats::Connection, sessions: u64, numbers: std::ops::Range<u64>) {
    let all = by_session(&stored(client));
    for session in 0..sessions {
        let want: Vec<u64> = numbers.clone().filter(|number| number % sessions == session).collect();
        let has = all.get(&format!("s{session}")).cloned().unwrap_or_default();
        assert!(has == want, "session s{session}: {} stored, {} published\n{has:?}\n{want:?}", has.len(), want.len());
    }
}

/// Waits until the partitioner's consumer has nothing out or to come.
pub fn until_all_moved(client: &nats::Connection) {
    until_settled(client, "engine-in");
}

/// The same of another generation of it.
pub fn until_settled(client: &nats::Connection, consumer: &str) {
    until("all of the input stream is settled", || {
        let info = ask(client, &format!("$JS.API.CONSUMER.INFO.STREAM_IN.{consumer}"), "");
        info["num_ack_pending"] == 0 && info["num_pending"] == 0
    });
}

/// Changes the partitioned stream's bound.
pub fn bound(client: &nats::Connection, max_msgs: i64) {
    let mut config = ask(client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone();
    (config["max_msgs"], config["discard"]) = (max_msgs.into(), "new".into());
    let answer = ask(client, "$JS.API.STREAM.UPDATE.STREAM", config.to_string());
    assert!(answer["error"].is_null(), "{answer}");
}

/// Messages that the partitioned stream holds.
pub fn stored_count(client: &nats::Connection) -> u64 {
    ask(client, "$JS.API.STREAM.INFO.STREAM", "")["state"]["messages"].as_u64().unwrap_or_default()
}

/// Takes and settles so many events of the lanes; gives session and number of each.
pub fn take_and_settle(taking: &Taking, count: usize) -> Vec<(u16, u64)> {
    let mut all = Vec::new();
    until("all events are taken", || {
        let events: Vec<(u64, DeliveryTag)> = taking.take();
        taking.settle(&events, Disposition::Ack);
        all.extend(events.iter().map(|(number, tag)| (tag.reader, number - FIRST_ID)));
        all.len() >= count
    });
    all
}
