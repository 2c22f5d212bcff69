//! The main job, end to end on real servers: each event reaches every member on the gateway that member is connected
//! to, in each of the three protocols, once; who sent it or is offline gets nothing; the numbers add up; SIGTERM ends it
//! with a report; each event's time is in the stage histograms; no password is ever written.

use std::collections::BTreeSet;

use harness::gateways::{Gateway, Protocols, Record};
use prost::Message;
use testkit::engine::{PATIENCE, Process, SECRETS, World, event, eventually};

const GATEWAYS: [(&str, Protocols); 3] =
    [("gw-stream", Protocols::STREAM), ("gw-unary", Protocols::UNARY), ("gw-batch", Protocols::BATCH)];
const GROUP: usize = 60;
const ROUNDS: i64 = 20;

#[test]
fn each_event_reaches_every_member_once() {
    let world = World::start();
    let gateways = GATEWAYS.map(|(id, protocols)| world.gateway(id, protocols));
    let users: Vec<String> = (0..GROUP).map(|user| format!("user-{user}")).collect();
    let home = |user: usize| GATEWAYS[user % 3].0;
    users.iter().enumerate().for_each(|(user, name)| world.route(name, home(user)));
    let mut members = users.clone();
    members.push("offline".to_owned());
    world.members("group:1", &members);
    let pairs: Vec<String> = (0..10).map(|pair| format!("single:{pair}")).collect();
    for (pair, session) in pairs.iter().enumerate() {
        world.members(session, &[&users[pair], &users[pair + 1]]);
    }

    let engine = world.engine(2, "");
    let publisher = world.publisher();
    let mut expected = BTreeSet::new();
    for msg_id in 1..=ROUNDS {
        // Every third message comes from someone who is no member: then all members are recipients.
        let from = if msg_id % 3 == 0 { "system" } else { "user-0" };
        let mut told = event("group:1", from, msg_id);
        told.session_name = "the group".to_owned();
        told.session_type = 2;
        publisher.send(&told.encode_to_vec());
        let recipients = users.iter().enumerate().filter(|(_, name)| *name != from);
        expected
            .extend(recipients.map(|(user, name)| (home(user).to_owned(), "group:1".to_owned(), name.clone(), msg_id)));
        for (pair, session) in pairs.iter().enumerate() {
            publisher.publish(session, &users[pair], [1000 + msg_id]);
            expected.insert((home(pair + 1).to_owned(), session.clone(), users[pair + 1].clone(), 1000 + msg_id));
        }
    }
    publisher.flush();

    let records = world.log.wait_for(expected.len(), PATIENCE).unwrap_or_else(|records| {
        panic!("{} of {} pushes\n{}\n{}", records.len(), expected.len(), engine.metrics().numbers(), engine.output())
    });
    let events = (ROUNDS * 11) as u64;
    let metrics = engine.wait_ended(events);
    assert_eq!(world.log.records().len(), expected.len(), "nothing more than expected");
    let seen: BTreeSet<_> = records
        .iter()
        .map(|record| (record.gateway.to_string(), record.session.clone(), record.recipient.clone(), record.msg_id))
        .collect();
    assert_eq!(seen, expected);
    assert_session_is_told(&records);
    assert_one_connection_each(&gateways);

    let (offline, skipped) = (ROUNDS as u64, (ROUNDS - ROUNDS / 3 + ROUNDS * 10) as u64);
    let told = expected.len() as u64;
    assert_eq!(metrics.events("settled"), events);
    let ends = ["delivered", "skipped_sender"].map(|end| metrics.recipients(end));
    assert_eq!((ends, metrics.unreached("offline")), ([told, skipped], offline), "{}", metrics.numbers());
    assert_eq!(metrics.of("recipients_ended_total", ""), told + offline + skipped);
    for stage in ["intake", "members", "routes", "event"] {
        // The shards hand their histograms over once a second.
        eventually(&format!("{events} events in the stage {stage}"), || stage_count(&engine, stage) == events);
    }
    let pages = ["/metrics", "/readyz?verbose"].map(|page| engine.page(page).expect("a page").1).concat();
    SECRETS.iter().for_each(|secret| assert!(!pages.contains(secret), "a password on a page"));

    let output = engine.stop_clean();
    let report = format!(
        "{events} events, {events} settled, {} pushes delivered, {offline} stored, 0 not delivered;",
        expected.len()
    );
    assert_eq!(output.lines().filter(|line| line.contains(&report)).count(), 1, "{output}");
}

/// The events of the group named their session, and so does what the gateways got.
fn assert_session_is_told(records: &[Record]) {
    for record in records.iter().filter(|record| record.session == "group:1") {
        let message = record.message.as_ref().expect("a plain gateway keeps messages");
        let meta = message.session_meta.as_ref().expect("the event named its session");
        assert_eq!(
            (meta.name.as_str(), meta.r#type, message.content.as_str()),
            ("the group", 2, &*format!("message {}", record.msg_id))
        );
    }
}

/// Each gateway has one connection and, where it streams, one stream.
fn assert_one_connection_each(gateways: &[Gateway]) {
    for (gateway, (_, protocols)) in gateways.iter().zip(GATEWAYS) {
        let one_stream = protocols != Protocols::UNARY;
        assert_eq!(gateway.accepted(), 1, "{}: one connection", gateway.id());
        assert!(!one_stream || gateway.streams() == 1, "{}: one stream, not {}", gateway.id(), gateway.streams());
    }
}

/// How many values a stage has on the page of histograms; its time is more than nothing when it has any.
fn stage_count(engine: &Process, stage: &str) -> u64 {
    let (_, page) = engine.page("/debug/histograms").expect("a page");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let stage = &page["stages"][stage];
    let count = stage["count"].as_u64().expect("a count");
    assert_eq!(count > 0, stage["sum_seconds"].as_f64().expect("a sum") > 0.0, "{stage}");
    count
}
