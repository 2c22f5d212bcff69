//! Engines beside each other that own the partitions together: each event is pushed once and in order, also while one of them is
//! restarted; after a crash nothing is lost and the order is kept; and one that was paused until others took over pushes nothing more.
#![allow(deprecated)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::gateways::Gateway;
use harness::servers::NatsVersion;
use prost::Message;
use task_engine::model::ids::Partition;
use testkit::engine::{PATIENCE, Process, SUBJECT, World, event, eventually};

use crate::jetstream_support::{Publishing, assert_pushed, on_both_servers, session_of, world_set_up};

on_both_servers! {
    a_rolling_restart_repeats_loses_and_reorders_nothing
    a_crash_loses_nothing_and_keeps_the_order
    one_that_was_paused_until_others_took_over_ends_and_pushes_nothing
    partitions_are_shared_out_and_a_namesake_waits
}

const SESSIONS: usize = 12;
const PARTITIONS: u32 = 6;
const CONSUMER: &str = "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  assignment: partitioned\n  partitions: 6\n  \
                        ownership: etcd\n  lease_ttl: 4s\n  ack_wait: 10s\n";

struct Scene {
    world: World,
    client: nats::Connection,
    _gateway: Gateway,
}

impl Scene {
    fn start(version: NatsVersion) -> Self {
        let (world, client, gateway) = world_set_up(version, SESSIONS, CONSUMER);
        Self { world, client, _gateway: gateway }
    }

    fn engine(&self, name: &str) -> Process {
        let engine = self.world.engine_with(2, CONSUMER, &[("RESONANCE_ENGINE_INSTANCE", name)]);
        engine.wait_ready();
        engine
    }

    /// Publishes over all sessions in turn until it is told to stop; gives how many.
    fn publishes(&self) -> Publishing {
        let (client, stop) = (self.client.clone(), Arc::<AtomicBool>::default());
        let is_over = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !is_over.load(Ordering::Acquire) {
                count += 1;
                let session = session_of(count % SESSIONS);
                let subject = format!("{SUBJECT}.{}", Partition::of(session.as_bytes(), PARTITIONS).0);
                client.publish(&subject, event(&session, "system", count as i64).encode_to_vec()).expect("published");
                std::thread::park_timeout(Duration::from_millis(1));
            }
            client.flush_timeout(PATIENCE).expect("flushed");
            count
        });
        Publishing { stop, thread }
    }

    /// Waits until each user has the last message of each session; then each must have all in order, and once if `is_once`.
    fn assert_pushed(&self, count: usize, is_once: bool) {
        assert_pushed(&self.world, SESSIONS, count, is_once);
    }
}

fn owned(engine: &Process) -> u64 {
    engine.metrics().of("partitions", "owned")
}

/// Waits until these own all partitions, each some.
fn until_shared(engines: &[&Process]) {
    eventually("the partitions are shared out", || {
        let all: Vec<_> = engines.iter().map(|engine| owned(engine)).collect();
        let least = u64::from(PARTITIONS) / engines.len() as u64;
        all.iter().sum::<u64>() == u64::from(PARTITIONS) && all.iter().all(|owned| *owned >= least)
    });
}

fn a_rolling_restart_repeats_loses_and_reorders_nothing(version: NatsVersion) {
    let scene = Scene::start(version);
    let (mut a, mut b) = (scene.engine("a"), scene.engine("b"));
    until_shared(&[&a, &b]);
    let publishing = scene.publishes();
    a.stop_clean();
    until_shared(&[&b]);
    a = scene.engine("a");
    until_shared(&[&a, &b]);
    b.stop_clean();
    until_shared(&[&a]);
    b = scene.engine("b");
    until_shared(&[&a, &b]);
    let count = publishing.end();
    scene.assert_pushed(count, true);
    a.stop_clean();
    b.stop_clean();
}

fn a_crash_loses_nothing_and_keeps_the_order(version: NatsVersion) {
    let scene = Scene::start(version);
    let (a, b) = (scene.engine("a"), scene.engine("b"));
    until_shared(&[&a, &b]);
    let publishing = scene.publishes();
    a.wait_metrics("it pushes", |metrics| metrics.of("events_arrived_total", "") > 100);
    a.send(libc::SIGKILL);
    drop(a.wait());
    until_shared(&[&b]);
    let count = publishing.end();
    scene.assert_pushed(count, false);
    b.stop_clean();
}

fn one_that_was_paused_until_others_took_over_ends_and_pushes_nothing(version: NatsVersion) {
    let scene = Scene::start(version);
    let (a, b) = (scene.engine("a"), scene.engine("b"));
    until_shared(&[&a, &b]);
    let publishing = scene.publishes();
    a.wait_metrics("it pushes", |metrics| metrics.of("events_arrived_total", "") > 100);
    a.send(libc::SIGSTOP);
    until_shared(&[&b]);
    b.wait_metrics("the other goes on", |metrics| metrics.of("events_in_flight", "") < 50);
    a.send(libc::SIGCONT);
    let (status, output) = a.wait();
    assert_eq!(status.code(), Some(3), "{output}");
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains("fenced by b, epoch ") && last.contains("exit code 3"), "{output}");
    let count = publishing.end();
    scene.assert_pushed(count, false);
    b.stop_clean();
}

fn partitions_are_shared_out_and_a_namesake_waits(version: NatsVersion) {
    let scene = Scene::start(version);
    let (a, b) = (scene.engine("a"), scene.engine("b"));
    until_shared(&[&a, &b]);
    let others = [(&a, "this machine runs b too"), (&b, "this machine runs a too")];
    assert!(
        others.iter().any(|(engine, words)| engine.output().contains(words)),
        "who joined later says that they share a machine"
    );
    let namesake =
        scene.world.engine_with(1, CONSUMER, &[("RESONANCE_ENGINE_INSTANCE", "a"), ("STATE_DIRECTORY", "/nowhere")]);
    eventually("the namesake says who has the name", || {
        namesake.output().contains("another process has the name a (its admin pages are at 127.0.0.1:")
    });
    assert_eq!(owned(&namesake), 0);
    until_shared(&[&a, &b]);
    drop(namesake);
    a.stop_clean();
    b.stop_clean();
}
