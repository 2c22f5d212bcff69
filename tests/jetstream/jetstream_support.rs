//! A real nats-server with JetStream, and a source whose lanes a test reads and whose events it settles.

#![allow(deprecated, dead_code)]

use std::sync::Arc;
use std::time::Duration;

pub use harness::servers::NatsVersion;
use harness::servers::{Nats, NatsOptions};
use serde_json::Value;
use task_engine::edge::nats::jetstream::setup::{MAX_AGE, SetupPlan, setup};
use task_engine::edge::nats::{Assignment, JetStreamSettings, NatsSettings, NatsSource};
use task_engine::ports::intake::{Intake, IntakeLane};
use task_engine::ports::{DeliveryTag, Disposition, Health, RunningSource, Settled, Source};
use testkit::events::session_and_number;

pub use testkit::events::numbered as event;

/// What a test waits for at the most, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that tests of what happens after it are.
pub const ACK_WAIT: Duration = Duration::from_secs(2);
pub const PARTITIONS: u32 = 4;

pub fn until(what: &str, holds: impl FnMut() -> bool) {
    testkit::wait::eventually_within(PATIENCE, what, holds);
}

/// Each of these tests on Debian's nats-server and on the current one.
macro_rules! on_both_servers {
    ($($name:ident)+) => {
        mod installed { $(#[test] fn $name() { super::$name(super::NatsVersion::Installed); })+ }
        mod current { $(#[test] fn $name() { super::$name(super::NatsVersion::Current); })+ }
    };
}
pub(crate) use on_both_servers;

/// A server with JetStream on.
pub fn server(version: NatsVersion) -> Nats {
    Nats::start(&NatsOptions { version, jetstream: true, ..NatsOptions::default() }).expect("nats-server starts")
}

pub fn settings(server: &Nats, assignment: Assignment) -> NatsSettings {
    NatsSettings {
        url: server.url(),
        topic: "events".to_owned(),
        connect_timeout: Duration::from_secs(5),
        reconnect_wait: Duration::from_millis(50),
        assignment,
        jetstream: Some(JetStreamSettings {
            stream: "STREAM".to_owned(),
            durable: "engine".to_owned(),
            ack_wait: ACK_WAIT,
            max_ack_pending: 1000,
        }),
        ..NatsSettings::default()
    }
}

/// `task-engine setup`; its lines, and whether all can be used.
pub fn set_up(settings: &NatsSettings, dry_run: bool) -> Result<(Vec<String>, bool), String> {
    set_up_with(settings, dry_run, false)
}

/// The same with `--change` or without.
pub fn set_up_with(settings: &NatsSettings, dry_run: bool, change: bool) -> Result<(Vec<String>, bool), String> {
    let source = NatsSource::new(settings.clone()).expect("an address");
    let plan = SetupPlan {
        stream: "STREAM".to_owned(),
        partitions: PARTITIONS,
        max_age: MAX_AGE,
        replicas: 1,
        change,
        dry_run,
    };
    let mut lines = Vec::new();
    setup(source, plan, &mut |line| lines.push(line)).map(|is_usable| (lines, is_usable))
}

/// A server on which setup ran.
pub fn ready(version: NatsVersion, assignment: Assignment) -> (Nats, NatsSettings) {
    let server = server(version);
    let settings = settings(&server, assignment);
    assert!(set_up(&settings, false).expect("setup").1);
    (server, settings)
}

pub fn client(server: &Nats) -> nats::Connection {
    let options = nats::Options::new().reconnect_delay_callback(|_| Duration::from_millis(20));
    options.connect(server.url()).expect("a client")
}

/// A request to JetStream's API, or a publish that is stored.
pub fn ask(client: &nats::Connection, subject: &str, body: impl AsRef<[u8]>) -> Value {
    let answer = client.request_timeout(subject, body, PATIENCE).expect("an answer");
    serde_json::from_slice(&answer.data).expect("JSON")
}

/// Publishes events with these numbers in one session, and waits until all are stored.
pub fn publish(client: &nats::Connection, subject: &str, session: &str, numbers: std::ops::Range<u64>) {
    let Some(last) = numbers.end.checked_sub(1) else { return };
    for number in numbers.start..last {
        client.publish(subject, event(session, number)).expect("published");
    }
    let answer = ask(client, subject, event(session, last));
    assert!(answer["seq"].as_u64().is_some(), "{answer}");
}

pub fn consumer(client: &nats::Connection, name: &str) -> Value {
    ask(client, &format!("$JS.API.CONSUMER.INFO.STREAM.{name}"), "")
}

/// A started source and the lanes it fills.
pub struct Taking {
    pub intake: Intake,
    pub lanes: Vec<IntakeLane>,
    pub source: Box<dyn RunningSource>,
}

impl Taking {
    pub fn start(settings: &NatsSettings, shards: usize) -> Self {
        Self::with_lanes(settings, shards, 16 * 1024)
    }

    pub fn with_lanes(settings: &NatsSettings, shards: usize, lane_events: usize) -> Self {
        let wakes = (0..shards).map(|_| Arc::default()).collect();
        let (intake, lanes) = Intake::with_lane_events(wakes, PARTITIONS, Arc::default(), lane_events);
        let source = NatsSource::new(settings.clone()).expect("an address");
        let source = Box::new(source).start(intake.clone()).expect("threads");
        Self { intake, lanes, source }
    }

    pub fn until_ready(&self) {
        until("the source is ready", || self.intake.health() == Health::Ready);
    }

    /// What the source says it waits for, once that holds all the words.
    pub fn until_waiting(&self, words: &[&str]) -> String {
        let mut said = String::new();
        until(&format!("the source says {words:?}"), || {
            if let Health::Waiting(why) = self.intake.health() {
                said = why;
            }
            words.iter().all(|word| said.contains(word))
        });
        said
    }

    /// What is in the lanes.
    pub fn take(&self) -> Vec<(u64, DeliveryTag)> {
        let all = self.lanes.iter().flat_map(|lane| std::iter::from_fn(|| lane.try_take()));
        all.map(|(payload, tag)| (session_and_number(&payload).1, tag)).collect()
    }

    /// Waits for so many.
    pub fn take_many(&self, count: usize) -> Vec<(u64, DeliveryTag)> {
        let mut all = Vec::new();
        until(&format!("{count} events"), || {
            all.extend(self.take());
            all.len() >= count
        });
        all
    }

    pub fn settle(&self, events: &[(u64, DeliveryTag)], how: Disposition) {
        let settled: Vec<_> = events.iter().map(|&(_, tag)| Settled { tag, how }).collect();
        self.source.settle(&settled);
    }

    /// As the engine stops.
    pub fn stop(&self) {
        self.source.stop();
        self.source.finish();
    }
}

pub fn numbers(events: &[(u64, DeliveryTag)]) -> Vec<u64> {
    events.iter().map(|event| event.0).collect()
}
