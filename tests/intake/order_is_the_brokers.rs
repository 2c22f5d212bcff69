//! Queue assignment: each session's events reach one shard in the order NATS sent them, and two instances share them.
#![allow(deprecated)]

use crate::intake_support::{Seen, Server, Taking, event, started, until};

#[test]
fn each_session_is_in_order_on_one_shard() {
    let server = Server::start(&[]);
    let taking = started(&server.settings(), 3);
    taking.until_ready();
    let client = server.client();
    for number in 0..30_000_u64 {
        client.publish("events", event(&format!("group:{}", number % 50), number)).expect("published");
    }
    client.flush().expect("flushed");
    let mut seen = Seen::default();
    until("all are taken", || {
        seen.take(&taking);
        seen.events == 30_000
    });
    assert_eq!(seen.sessions.len(), 50);
    let homes: std::collections::BTreeSet<_> = seen.sessions.values().map(|(home, _)| home).collect();
    assert_eq!(homes.len(), 3, "all shards have work");
    taking.source.stop();
    assert_eq!((taking.intake.counts().read(), taking.intake.counts().taken()), (30_000, 30_000));
}

#[test]
fn two_instances_get_each_event_once() {
    let server = Server::start(&[]);
    let both = [started(&server.settings(), 2), started(&server.settings(), 1)];
    both.iter().for_each(Taking::until_ready);
    let client = server.client();
    for number in 0..10_000 {
        client.publish("events", event("s", number)).expect("published");
    }
    client.flush().expect("flushed");
    let mut seen = [Seen::default(), Seen::default()];
    until("all are taken", || {
        both.iter().zip(&mut seen).for_each(|(taking, seen)| seen.take(taking));
        seen[0].events + seen[1].events >= 10_000
    });
    both.iter().for_each(|taking| taking.source.stop());
    both.iter().zip(&mut seen).for_each(|(taking, seen)| seen.take(taking));
    assert_eq!(seen[0].events + seen[1].events, 10_000);
    assert!(seen[0].events > 0 && seen[1].events > 0);
}

#[test]
fn a_replay_is_told_to_its_shard_before_its_event() {
    use task_engine::push::facts::Input;
    let server = Server::start(&[]);
    let taking = started(&server.settings(), 3);
    taking.until_ready();
    let client = server.client();
    let mut headers = nats::HeaderMap::new();
    headers.insert("Task-Engine-Replay", "1".to_owned());
    for number in 0..30 {
        let headers = (number % 10 == 3).then_some(&headers);
        client.publish_with_reply_or_headers("events", None, headers, event("s", number)).expect("published");
    }
    client.flush().expect("flushed");
    let events = taking.take_many(30);
    let told: Vec<_> =
        taking.facts().into_iter().map(|fact| if let Input::Replayed(tag) = fact { tag } else { panic!() }).collect();
    let want: Vec<_> = events.iter().filter(|(number, _)| number % 10 == 3).map(|(_, tag)| *tag).collect();
    assert_eq!(told, want);
    taking.source.stop();
}
