//! A publisher as Resonance's, which knows no partitions and publishes each event twice on the one subject of its topic, and one, two
//! or three engines that own the partitions and the input stream together: each user gets each message once and in order, also while
//! engines are restarted one after the other; after a kill nothing is lost or stored twice, and the order is kept.
#![allow(deprecated)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::gateways::{Gateway, Protocols};
use harness::servers::NatsVersion;
use prost::Message;
use serde_json::Value;
use testkit::engine::{PATIENCE, Process, SUBJECT, World, event, eventually, got};

use crate::jetstream_support::{Publishing, assert_pushed, on_both_servers, session_of, world_set_up};

on_both_servers! {
    resonance_gets_40_of_40_for_each_of_19_users_with_1_2_and_3_engines
    resonance_gets_40_of_40_while_one_of_3_is_restarted
    a_rolling_restart_repeats_loses_and_reorders_nothing
    a_kill_of_the_owner_of_the_input_loses_nothing_and_keeps_the_order
    a_kill_of_another_owner_loses_nothing_and_keeps_the_order
    who_owns_the_input_and_how_far_it_is_are_shown
}

const SESSIONS: usize = 12;
const PARTITIONS: u64 = 6;
const CONSUMER: &str = "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  assignment: partitioned\n  partitions: 6\n  \
                        partitioner: on\n  ownership: etcd\n  lease_ttl: 4s\n  ack_wait: 10s\n";
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The users and the messages of the trial with Resonance.
const USERS: usize = 19;
const MESSAGES: i64 = 40;

struct Scene {
    world: World,
    client: nats::Connection,
    gateways: Vec<Gateway>,
}

impl Scene {
    fn start(version: NatsVersion) -> Self {
        let (world, client, gateway) = world_set_up(version, SESSIONS, CONSUMER);
        Self { world, client, gateways: vec![gateway] }
    }

    fn engine(&self, name: &str) -> Process {
        let engine = self.world.engine_with(2, CONSUMER, &[("RESONANCE_ENGINE_INSTANCE", name)]);
        engine.wait_ready();
        engine
    }

    fn engines(&self, count: usize) -> Vec<Process> {
        let all: Vec<_> = NAMES[..count].iter().map(|name| self.engine(name)).collect();
        until_shared(&all.iter().collect::<Vec<_>>());
        all
    }

    /// A session of all users of the trial, half of them at a gateway that takes batches and half at one that takes single calls.
    fn trial(&mut self, session: &str) {
        if self.gateways.len() == 1 {
            self.gateways.push(self.world.gateway("gw-2", Protocols::UNARY));
        }
        let users: Vec<_> = (0..USERS).map(user).collect();
        self.world.members(session, &users);
        users.iter().enumerate().for_each(|(at, user)| self.world.route(user, ["gw-1", "gw-2"][at % 2]));
    }

    /// As Resonance's outbox: each event by two paths, the second some events behind the first.
    fn publish(&self, session: &str, msg_id: i64) {
        self.client.publish(SUBJECT, event(session, "system", msg_id).encode_to_vec()).expect("published");
    }

    /// All messages of the trial, over so long; `meanwhile` runs beside.
    fn publish_trial(&self, session: &str, over: Duration, meanwhile: impl FnOnce()) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for msg_id in 1..=MESSAGES {
                    self.publish(session, msg_id);
                    if msg_id > 1 {
                        self.publish(session, msg_id - 1);
                    }
                    std::thread::park_timeout(over / MESSAGES as u32);
                }
                self.publish(session, MESSAGES);
                self.client.flush_timeout(PATIENCE).expect("flushed");
            });
            meanwhile();
        });
    }

    /// Each user has each message once, in order, and nothing is under way any more.
    fn assert_40_of_40(&self, session: &str) {
        let want: Vec<i64> = (1..=MESSAGES).collect();
        let has = |user: &str| got(&self.world.log.records(), session, user);
        eventually("each user has the last message", || (0..USERS).all(|at| has(&user(at)).last() == Some(&MESSAGES)));
        self.until_settled();
        for at in 0..USERS {
            assert_eq!(has(&user(at)), want, "{} in {session}", user(at));
        }
    }

    /// Each event twice, over all sessions in turn, until it is told to stop; gives how many.
    fn publishes(&self) -> Publishing {
        let (client, stop) = (self.client.clone(), Arc::<AtomicBool>::default());
        let is_over = stop.clone();
        let thread = std::thread::spawn(move || {
            let publish = |number: usize| {
                let payload = event(&session_of(number % SESSIONS), "system", number as i64).encode_to_vec();
                client.publish(SUBJECT, payload).expect("published");
            };
            let mut count = 0;
            while !is_over.load(Ordering::Acquire) {
                count += 1;
                publish(count);
                if count > 3 {
                    publish(count - 3);
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            (count - 2..=count).for_each(publish);
            client.flush_timeout(PATIENCE).expect("flushed");
            count
        });
        Publishing { stop, thread }
    }

    fn ask(&self, subject: &str) -> Value {
        let answer = self.client.request_timeout(&format!("$JS.API.{subject}"), "", PATIENCE).expect("an answer");
        serde_json::from_slice(&answer.data).expect("JSON")
    }

    /// What `task-engine partitions` shows.
    fn shown(&self) -> Value {
        let output = self.world.command(CONSUMER, &["partitions", "--json"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Of the input stream's consumer.
    fn generation(&self) -> Value {
        self.shown()["partitions"][PARTITIONS as usize]["generation"].clone()
    }

    /// Waits until all is moved and settled by the word of the command.
    fn until_settled(&self) {
        eventually("all is moved and settled", || {
            let shown = self.shown();
            let partitions = shown["partitions"].as_array().expect("a list");
            partitions.iter().all(|one| one["lag"] == 0 && one["unacked"] == 0)
        });
    }

    /// Each event is stored once; each user has all messages of each session in order, and once if `is_once`.
    fn assert_pushed(&self, count: usize, is_once: bool) {
        assert_pushed(&self.world, SESSIONS, count, is_once);
        self.until_settled();
        assert_eq!(self.ask("STREAM.INFO.S")["state"]["messages"], count, "each event is stored once");
    }
}

fn user(at: usize) -> String {
    format!("user-{at}")
}

/// Waits until these own all partitions and the input stream, each about as many.
fn until_shared(engines: &[&Process]) {
    eventually("the partitions are shared out", || {
        let all: Vec<_> = engines.iter().map(|engine| engine.metrics().of("partitions", "owned")).collect();
        let least = (PARTITIONS + 1) / engines.len() as u64;
        all.iter().sum::<u64>() == PARTITIONS + 1 && all.iter().all(|owned| *owned >= least)
    });
}

fn owns_input(engine: &Process) -> bool {
    engine.metrics().of("partition_owner_epoch", "input") > 0
}

fn at_work(engine: &Process) {
    engine.wait_metrics("it is at work", |metrics| metrics.of("events_arrived_total", "") > 100);
}

fn resonance_gets_40_of_40_for_each_of_19_users_with_1_2_and_3_engines(version: NatsVersion) {
    let mut scene = Scene::start(version);
    let mut engines = Vec::new();
    for name in NAMES {
        engines.push(scene.engine(name));
        until_shared(&engines.iter().collect::<Vec<_>>());
        let session = format!("group:with-{name}");
        scene.trial(&session);
        scene.publish_trial(&session, Duration::from_secs(1), || {});
        scene.assert_40_of_40(&session);
    }
    for engine in engines {
        engine.stop_clean();
    }
}

fn resonance_gets_40_of_40_while_one_of_3_is_restarted(version: NatsVersion) {
    let mut scene = Scene::start(version);
    let mut engines = scene.engines(3);
    for (at, name) in NAMES.into_iter().enumerate() {
        let session = format!("group:without-{name}");
        scene.trial(&session);
        scene.publish_trial(&session, Duration::from_secs(6), || {
            engines.remove(at).stop_clean();
            engines.insert(at, scene.engine(name));
            until_shared(&engines.iter().collect::<Vec<_>>());
        });
        scene.assert_40_of_40(&session);
    }
    for engine in engines {
        engine.stop_clean();
    }
}

fn a_rolling_restart_repeats_loses_and_reorders_nothing(version: NatsVersion) {
    let scene = Scene::start(version);
    let mut engines = scene.engines(2);
    let first = scene.generation();
    let publishing = scene.publishes();
    for _ in 0..3 {
        engines.iter().for_each(at_work);
        let at = engines.iter().position(owns_input).expect("one of two");
        engines.remove(at).stop_clean();
        until_shared(&[&engines[0]]);
        assert!(owns_input(&engines[0]));
        engines.insert(at, scene.engine(NAMES[at]));
        until_shared(&engines.iter().collect::<Vec<_>>());
    }
    let count = publishing.end();
    scene.assert_pushed(count, true);
    // On a machine that is too busy NATS may not answer a close in time: then the next owner begins another generation.
    println!("{version:?}: generations of the input stream: {first} before, {} after three moves", scene.generation());
    for engine in engines {
        engine.stop_clean();
    }
}

/// Kills the owner of the input stream, or the other one, while events come, and starts it again.
fn killed(version: NatsVersion, is_input: bool) {
    let scene = Scene::start(version);
    let mut engines = scene.engines(2);
    let publishing = scene.publishes();
    engines.iter().for_each(at_work);
    let at = engines.iter().position(|engine| owns_input(engine) == is_input).expect("one of two");
    let killed = engines.remove(at);
    killed.send(libc::SIGKILL);
    drop(killed.wait());
    until_shared(&[&engines[0]]);
    engines.insert(at, scene.engine(NAMES[at]));
    until_shared(&engines.iter().collect::<Vec<_>>());
    let count = publishing.end();
    // What was pushed and not settled when it was killed is pushed again.
    scene.assert_pushed(count, false);
    for engine in engines {
        engine.stop_clean();
    }
}

fn a_kill_of_the_owner_of_the_input_loses_nothing_and_keeps_the_order(version: NatsVersion) {
    killed(version, true);
}

fn a_kill_of_another_owner_loses_nothing_and_keeps_the_order(version: NatsVersion) {
    killed(version, false);
}

fn who_owns_the_input_and_how_far_it_is_are_shown(version: NatsVersion) {
    let scene = Scene::start(version);
    let engine = scene.engine("a");
    until_shared(&[&engine]);
    let (_, page) = engine.page("/readyz?verbose").expect("a page");
    assert!(page.contains("7 of 7 partitions (the input stream is one of them)"), "{page}");
    (1..=20).for_each(|msg_id| scene.publish("group:0", msg_id));
    scene.until_settled();
    let rows = scene.shown()["partitions"].clone();
    let input = &rows[PARTITIONS as usize];
    assert_eq!((&input["is_input"], &input["owner"], &input["lag"]), (&true.into(), &"a".into(), &0.into()), "{input}");
    engine.stop_clean();
    // Nobody reads: what comes waits in the input stream.
    (21..=25).for_each(|msg_id| scene.publish("group:0", msg_id));
    scene.client.flush_timeout(PATIENCE).expect("flushed");
    let shown = scene.world.command(CONSUMER, &["partitions"]);
    let (table, said) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    let row: Vec<_> =
        table.lines().find(|line| line.starts_with("input ")).expect("a row").split_whitespace().collect();
    assert_eq!((row[1], row[2], row[row.len() - 2], row[row.len() - 1]), ("free", "-", "5", "0"), "{table}{said}");
}
