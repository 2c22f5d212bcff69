//! What is published on `consumer.urgent_topic` comes before what waits in the stream, says that it is urgent, in order, and is
//! acknowledged and given back as the other events are; `setup` makes what it needs, and what would bring an event twice is refused.
#![allow(deprecated)]

use std::sync::Arc;

use harness::servers::Nats;
use prost::Message;
use task_engine::config::{Assignment, Config};
use task_engine::model::priority::{Priority, Said};
use task_engine::ports::Disposition;

use testkit::engine::{Metrics, SUBJECT};

use crate::jetstream_support::{
    NatsVersion, PARTITIONS, Taking, ask, assert_pushed, client, consumer, numbers, on_both_servers, publish, server,
    session_of, set_up, settings, until, world_set_up,
};

on_both_servers! {
    urgent_events_pass_what_waits_in_the_stream
    a_session_in_both_subjects_is_settled_in_both
    setup_makes_what_it_needs_and_says_what_is_in_the_way
    an_engine_pushes_and_counts_them_as_urgent_without_any_other_rule
}

const URGENT: u64 = 1_000_000;

fn with_urgent_topic(server: &Nats, assignment: Assignment) -> Config {
    let mut settings = settings(server, assignment);
    settings.consumer.urgent_topic = "calls".into();
    settings
}

/// The subject of session "s" below a topic.
fn subject(topic: &str, assignment: Assignment) -> String {
    match assignment {
        Assignment::Queue => topic.to_owned(),
        Assignment::Partitioned => {
            format!("{topic}.{}", task_engine::model::ids::Partition::of(b"s", PARTITIONS).0)
        }
    }
}

fn urgent_events_pass_what_waits_in_the_stream(version: NatsVersion) {
    for assignment in [Assignment::Queue, Assignment::Partitioned] {
        let server = server(version);
        let mut settings = with_urgent_topic(&server, assignment);
        settings.consumer.max_ack_pending = 64;
        assert!(set_up(&settings, false).expect("setup").1);
        let client = client(&server);
        publish(&client, &subject("events", assignment), "s", 0..2_000);
        let taking = Taking::with_permit(&settings, PARTITIONS, 2, Arc::default());
        taking.until_ready();
        // What is out is not settled, so that nothing more of the topic comes.
        until("the window is full", || consumer_pending(&client, &settings, assignment) >= 16);
        let mut all = Vec::new();
        publish(&client, &subject("calls", assignment), "s", URGENT..URGENT + 5);
        let of_calls = |all: &[(u64, Said)]| all.iter().filter(|(number, _)| *number >= URGENT).copied().collect();
        let mut urgent: Vec<(u64, Said)> = Vec::new();
        until("the urgent ones came", || {
            all.extend(taking.take_said());
            urgent = of_calls(&all);
            urgent.len() >= 5
        });
        let want = (URGENT..URGENT + 5).map(|number| (number, Said::Class(Priority::Urgent)));
        assert_eq!(urgent, want.collect::<Vec<_>>(), "{assignment:?}: in order, and urgent");
        let plain: Vec<_> = all.iter().filter(|(number, _)| *number < URGENT).collect();
        assert!(plain.len() < 2_000, "{assignment:?}: {} of the topic came before", plain.len());
        assert!(plain.iter().all(|(_, said)| *said == Said::Nothing));
        taking.stop();
    }
}

fn consumer_pending(client: &nats::Connection, settings: &Config, assignment: Assignment) -> u64 {
    let name = match assignment {
        Assignment::Queue => settings.consumer.durable.clone(),
        Assignment::Partitioned => subject(&settings.consumer.durable, assignment).replace('.', "-"),
    };
    consumer(client, &name)["num_ack_pending"].as_u64().unwrap_or_default()
}

fn a_session_in_both_subjects_is_settled_in_both(version: NatsVersion) {
    for assignment in [Assignment::Queue, Assignment::Partitioned] {
        let server = server(version);
        let settings = with_urgent_topic(&server, assignment);
        assert!(set_up(&settings, false).expect("setup").1);
        let client = client(&server);
        let topics = [(subject("events", assignment), 0), (subject("calls", assignment), URGENT)];
        for (subject, from) in &topics {
            publish(&client, subject, "s", *from..from + 10);
        }
        let first = Taking::with_permit(&settings, PARTITIONS, 2, Arc::default());
        let taken = first.take_many(20);
        for (subject, from) in &topics {
            let of_topic: Vec<_> =
                taken.iter().filter(|(number, _)| (number / URGENT) * URGENT == *from).copied().collect();
            assert_eq!(numbers(&of_topic), (*from..from + 10).collect::<Vec<_>>(), "{subject}: in order");
            assert_eq!(first.origin(of_topic[0].1).subject, *subject);
            first.settle(&of_topic[..7], Disposition::Ack);
        }
        first.stop();
        let again = Taking::with_permit(&settings, PARTITIONS, 1, Arc::default());
        let mut left = numbers(&again.take_many(6));
        left.sort_unstable();
        assert_eq!(left, [7, 8, 9, URGENT + 7, URGENT + 8, URGENT + 9], "{assignment:?}: what was given back");
        again.stop();
    }
}

fn an_engine_pushes_and_counts_them_as_urgent_without_any_other_rule(version: NatsVersion) {
    const SESSIONS: usize = 4;
    const CONSUMER: &str = "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  urgent_topic: calls\n";
    let (world, client, _gateway) = world_set_up(version, SESSIONS, CONSUMER);
    let engine = world.engine_of(2, &(world.yaml() + CONSUMER));
    engine.wait_ready();
    for id in 1..=40_i64 {
        let session = id as usize % SESSIONS;
        let subject = if session < 2 { "calls" } else { SUBJECT };
        let payload = testkit::engine::event(&session_of(session), "system", id).encode_to_vec();
        client.publish(subject, payload).expect("published");
    }
    client.flush().expect("flushed");
    engine.wait_ended(40);
    // They are counted at once and told once a second.
    let label = |class| format!("class=\"{class}\",end=\"settled\"");
    let of = |metrics: &Metrics, class| metrics.of("events_ended_by_class_total", &label(class));
    engine
        .wait_metrics("20 are urgent, 20 normal", |metrics| [of(metrics, "urgent"), of(metrics, "normal")] == [20, 20]);
    assert_pushed(&world, SESSIONS, 40, true);
    engine.stop_clean();
    for name in ["d", "d-urgent"] {
        let info = ask(&client, &format!("$JS.API.CONSUMER.INFO.S.{name}"), "");
        assert_eq!(
            (info["num_ack_pending"].as_u64(), info["num_pending"].as_u64()),
            (Some(0), Some(0)),
            "{name}: {info}"
        );
    }
}

fn setup_makes_what_it_needs_and_says_what_is_in_the_way(version: NatsVersion) {
    for (assignment, subjects, made) in [
        (Assignment::Queue, serde_json::json!(["events", "calls"]), ["engine", "engine-urgent"]),
        (Assignment::Partitioned, serde_json::json!(["events.*", "calls.*"]), ["engine-3", "engine-urgent-3"]),
    ] {
        let server = server(version);
        let settings = with_urgent_topic(&server, assignment);
        let client = client(&server);
        let (dry, _) = set_up(&settings, true).expect("a dry run");
        let (lines, is_usable) = set_up(&settings, false).expect("a run");
        assert!(is_usable, "{lines:?}");
        let would: Vec<_> = lines.iter().map(|line| format!("would make{}", line.trim_start_matches("made"))).collect();
        assert_eq!(would, dry);
        assert_eq!(ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"]["subjects"], subjects);
        for name in made {
            assert!(consumer(&client, name)["error"].is_null(), "{name}");
        }
        let (again, is_usable) = set_up(&settings, false).expect("a second run");
        assert!(is_usable && again.iter().all(|line| line.contains("exist") && !line.contains("left as")), "{again:?}");
    }
    // A stream from before, and a consumer that is for all of it.
    let server = server(version);
    let before = settings(&server, Assignment::Queue);
    let client = client(&server);
    assert!(set_up(&before, false).expect("setup").1);
    let now = with_urgent_topic(&server, Assignment::Queue);
    let (lines, is_usable) = set_up(&now, false).expect("a run");
    assert!(!is_usable && lines[0].contains("events, calls is needed; add the subject to it"), "{lines:?}");
    let taking = Taking::start(&now, PARTITIONS, 1);
    taking.until_waiting(&["stream STREAM takes events, and calls is needed", "add the subject to the stream"]);
    taking.stop();
    let update = r#"{"name":"STREAM","subjects":["events","calls"]}"#;
    assert!(ask(&client, "$JS.API.STREAM.UPDATE.STREAM", update)["error"].is_null());
    let of_all =
        r#"{"stream_name":"STREAM","config":{"durable_name":"all","ack_policy":"explicit","deliver_policy":"all"}}"#;
    assert!(ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.all", of_all)["error"].is_null());
    let mut of_all = now;
    of_all.consumer.durable = "all".into();
    let (lines, is_usable) = set_up(&of_all, false).expect("a run");
    let said = lines.iter().find(|line| line.starts_with("consumer all exists and cannot be used"));
    assert!(!is_usable && said.is_some_and(|line| line.contains("another consumer reads calls")), "{lines:?}");
}
