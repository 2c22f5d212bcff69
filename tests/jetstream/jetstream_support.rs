//! A real nats-server with JetStream, and a source whose lanes a test reads and whose events it settles.

#![allow(deprecated, dead_code)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::gateways::{Gateway, Protocols};
pub use harness::servers::NatsVersion;
use harness::servers::{Nats, NatsAuth, NatsOptions};
use serde_json::Value;
use task_engine::config::{self, Assignment, Config, ConsumerConfig, ConsumerMode, Flags, NatsConfig};
use task_engine::edge::nats::jetstream::setup::{MAX_AGE, SetupPlan, setup};
use task_engine::ports::DeliveryTag;
use testkit::engine::{SECRETS, World, eventually, got};
use testkit::nats::{server_at, user};

pub use testkit::events::numbered as event;
pub use testkit::taking::{PATIENCE, Taking};

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

pub fn settings(server: &Nats, assignment: Assignment) -> Config {
    let nats = NatsConfig {
        servers: server_at(&server.addr()),
        timeout: Duration::from_secs(5),
        reconnect_delay: Duration::from_millis(50),
        ping_interval: Duration::from_secs(2),
        ..NatsConfig::default()
    };
    let consumer = ConsumerConfig {
        topic: "events".to_owned(),
        mode: ConsumerMode::JetStream,
        stream: "STREAM".to_owned(),
        durable: "engine".to_owned(),
        assignment,
        partitions: PARTITIONS,
        ack_wait: ACK_WAIT,
        max_ack_pending: 1000,
        ..ConsumerConfig::default()
    };
    Config { nats, consumer, ..Config::default() }
}

/// `task-engine setup`; its lines, and whether all can be used.
pub fn set_up(settings: &Config, dry_run: bool) -> Result<(Vec<String>, bool), String> {
    set_up_with(settings, dry_run, false)
}

/// The same with `--change` or without.
pub fn set_up_with(settings: &Config, dry_run: bool, change: bool) -> Result<(Vec<String>, bool), String> {
    let plan = SetupPlan { max_age: MAX_AGE, replicas: 1, change, dry_run };
    let mut lines = Vec::new();
    setup(&settings.nats, &settings.consumer, plan, &mut |line| lines.push(line)).map(|is_usable| (lines, is_usable))
}

/// A server on which setup ran.
pub fn ready(version: NatsVersion, assignment: Assignment) -> (Nats, Config) {
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
pub fn started(settings: &Config, shards: usize) -> Taking {
    Taking::start(settings, PARTITIONS, shards)
}

pub fn started_with_lanes(settings: &Config, shards: usize, lane_events: usize) -> Taking {
    Taking::with_lanes(settings, PARTITIONS, shards, lane_events)
}

pub fn numbers(events: &[(u64, DeliveryTag)]) -> Vec<u64> {
    events.iter().map(|event| event.0).collect()
}

/// A server on which an administrator ran setup with these settings; the settings of a user who may publish where these rights
/// say, and the administrator's client.
pub fn with_rights(
    version: NatsVersion,
    publish: &str,
    settings: impl FnOnce(&Nats) -> Config,
) -> (Nats, Config, nats::Connection) {
    let config = format!(
        r#"authorization {{ users: [
        {{ user: admin, password: admin }},
        {{ user: engine, password: s3cret, permissions: {{ publish: {publish} }} }} ] }}"#
    );
    let server = Nats::start(&NatsOptions { version, jetstream: true, config, ..NatsOptions::default() });
    let server = server.expect("nats-server starts");
    let mut settings = settings(&server);
    settings.nats.auth = user("admin", "admin");
    assert!(set_up(&settings, false).expect("setup").1);
    settings.nats.auth = user("engine", "s3cret");
    let client = nats::Options::with_user_pass("admin", "admin").connect(server.url()).expect("a client");
    (server, settings, client)
}

/// All servers, of which NATS is one with JetStream; one gateway with two users of each session, `group:N` with `aN` and `bN`.
pub fn world_of(version: NatsVersion, sessions: usize) -> (World, nats::Connection, Gateway) {
    let mut world = World::start();
    let auth = NatsAuth::Token(SECRETS[0].to_owned());
    let options = NatsOptions { version, auth, jetstream: true, ..NatsOptions::default() };
    world.nats = Nats::start(&options).expect("nats-server starts");
    let gateway = world.gateway("gw-1", Protocols::BATCH);
    for session in 0..sessions {
        let users = [format!("a{session}"), format!("b{session}")];
        world.members(&format!("group:{session}"), &users);
        users.iter().for_each(|user| world.route(user, "gw-1"));
    }
    let client = nats::Options::with_token(SECRETS[0]).connect(world.nats.addr()).expect("a client");
    (world, client, gateway)
}

/// The same after setup with this section of the configuration.
pub fn world_set_up(version: NatsVersion, sessions: usize, consumer: &str) -> (World, nats::Connection, Gateway) {
    let made = world_of(version, sessions);
    let yaml = made.0.yaml() + consumer;
    let settings = config::parse("task.yaml", &yaml, [], &Flags::default()).expect("right").config;
    assert!(set_up(&settings, false).expect("setup").1);
    made
}

/// What comes again left out.
pub fn firsts(mut all: Vec<i64>) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    all.retain(|id| seen.insert(*id));
    all
}

/// A publisher that goes on until it is told to stop.
pub struct Publishing {
    pub stop: Arc<AtomicBool>,
    pub thread: std::thread::JoinHandle<usize>,
}

impl Publishing {
    /// Stops it; gives how many it published.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("no panic")
    }
}

pub fn session_of(number: usize) -> String {
    format!("group:{number}")
}

/// Waits until each user of [`world_of`] has the last message of each session, the messages being numbered over the sessions in turn; then
/// each must have all in order, and once if `is_once`.
pub fn assert_pushed(world: &World, sessions: usize, count: usize, is_once: bool) {
    let want = |session: usize| -> Vec<i64> {
        (1..=count).filter(|id| id % sessions == session).map(|id| id as i64).collect()
    };
    let users = (0..sessions).flat_map(|session| ["a", "b"].map(|user| (session, format!("{user}{session}"))));
    let users: Vec<_> = users.collect();
    let has = |session: usize, user: &str| got(&world.log.records(), &session_of(session), user);
    eventually("each user has all messages", || {
        users.iter().all(|(session, user)| firsts(has(*session, user)).len() == want(*session).len())
    });
    for (session, user) in users {
        let all = has(session, &user);
        let has = if is_once { all } else { firsts(all) };
        assert!(has == want(session), "user {user}: {has:?}");
    }
}
