//! The whole of it: a publisher as Resonance's, which publishes each event twice on the plain topic; each user gets each message
//! once and in order, also when the engine stops and starts, is killed, or stands still for longer than ack_wait.
#![allow(deprecated)]

use std::time::Duration;

use harness::gateways::Gateway;
use harness::servers::NatsVersion;
use prost::Message;
use serde_json::Value;
use testkit::engine::{PATIENCE, SUBJECT, World, event, eventually, got};

use crate::jetstream_support::{firsts, on_both_servers, world_set_up};

on_both_servers! {
    each_user_gets_each_message_once_and_in_order
    a_stop_and_a_start_in_the_middle_cost_nothing
    a_kill_in_the_middle_stores_nothing_twice_and_loses_nothing
    an_engine_that_stands_still_for_a_while_goes_on_where_it_was
}

const SESSIONS: usize = 7;
const CONSUMER: &str = "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  assignment: partitioned\n  partitions: 4\n  \
                        partitioner: on\n  ack_wait: 2s\n  retry_interval: 500ms\n";

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

    /// Each event twice, over all sessions.
    fn publish(&self, msg_ids: std::ops::Range<i64>) {
        let payload = |msg_id: i64| event(&session_of(msg_id), "system", msg_id).encode_to_vec();
        for msg_id in msg_ids.clone() {
            self.client.publish(SUBJECT, payload(msg_id)).expect("published");
            let before = msg_id - 2;
            if msg_ids.contains(&before) {
                self.client.publish(SUBJECT, payload(before)).expect("published");
            }
        }
        for msg_id in (msg_ids.end - 2).max(msg_ids.start)..msg_ids.end {
            self.client.publish(SUBJECT, payload(msg_id)).expect("published");
        }
        self.client.flush_timeout(PATIENCE).expect("flushed");
    }

    fn ask(&self, subject: &str, body: &str) -> Value {
        let answer = self.client.request_timeout(&format!("$JS.API.{subject}"), body, PATIENCE).expect("an answer");
        serde_json::from_slice(&answer.data).expect("JSON")
    }

    /// What each user got, in order; and once if `is_once`.
    fn assert_pushed(&self, msg_ids: std::ops::Range<i64>, is_once: bool) {
        for session in 0..SESSIONS {
            let want: Vec<i64> = msg_ids.clone().filter(|id| session_of(*id) == format!("group:{session}")).collect();
            for user in ["a", "b"] {
                let all = got(&self.world.log.records(), &format!("group:{session}"), &format!("{user}{session}"));
                let has = if is_once { all } else { firsts(all) };
                assert_eq!(has, want, "user {user}{session}");
            }
        }
    }

    /// Waits until the users have all of it and nothing is out.
    fn until_done(&self, last: i64) {
        eventually("all is moved and settled", || {
            let input = self.ask("CONSUMER.INFO.S_IN.d-in", "");
            let is_moved = input["num_pending"] == 0 && input["num_ack_pending"] == 0;
            is_moved
                && (0..4).all(|partition| {
                    let info = self.ask(&format!("CONSUMER.INFO.S.d-{partition}"), "");
                    info["num_pending"] == 0 && info["num_ack_pending"] == 0
                })
        });
        assert_eq!(self.ask("STREAM.INFO.S", "")["state"]["messages"], last, "each event is stored once");
    }
}

fn session_of(msg_id: i64) -> String {
    format!("group:{}", msg_id as usize % SESSIONS)
}

fn each_user_gets_each_message_once_and_in_order(version: NatsVersion) {
    let scene = Scene::start(version);
    let engine = scene.world.engine(2, CONSUMER);
    scene.publish(1..201);
    scene.until_done(200);
    scene.assert_pushed(1..201, true);
    let metrics = engine.metrics();
    assert_eq!((metrics.of("partitioner_moved_total", ""), metrics.of("partitioner_copies_total", "")), (200, 200));
    // What has no partition is a letter in the stream.
    scene.client.publish(SUBJECT, b"\xff").expect("published");
    engine.wait_metrics("the letter is kept", |metrics| metrics.of("dead_letters_total", "unpartitionable") == 1);
    assert_eq!(scene.ask("STREAM.INFO.S_DLQ", "")["state"]["messages"], 1);
    scene.until_done(200);
    engine.stop_clean();
}

fn a_stop_and_a_start_in_the_middle_cost_nothing(version: NatsVersion) {
    let scene = Scene::start(version);
    for round in 0..3 {
        let engine = scene.world.engine(2, CONSUMER);
        scene.publish(round * 400 + 1..round * 400 + 401);
        engine.wait_metrics("it is at work", |metrics| metrics.of("partitioner_moved_total", "") > 50);
        engine.stop_clean();
    }
    let engine = scene.world.engine(2, CONSUMER);
    scene.until_done(1200);
    scene.assert_pushed(1..1201, true);
    engine.stop_clean();
}

fn a_kill_in_the_middle_stores_nothing_twice_and_loses_nothing(version: NatsVersion) {
    let scene = Scene::start(version);
    for round in 0..3 {
        let engine = scene.world.engine(2, CONSUMER);
        scene.publish(round * 1000 + 1..round * 1000 + 1001);
        engine.wait_metrics("it is at work", |metrics| metrics.of("partitioner_moved_total", "") > 50);
        engine.send(libc::SIGKILL);
        drop(engine.wait());
    }
    let engine = scene.world.engine(2, CONSUMER);
    scene.until_done(3000);
    // What was pushed and not settled when it was killed is pushed again.
    scene.assert_pushed(1..3001, false);
    engine.stop_clean();
}

fn an_engine_that_stands_still_for_a_while_goes_on_where_it_was(version: NatsVersion) {
    let scene = Scene::start(version);
    let engine = scene.world.engine(2, CONSUMER);
    scene.publish(1..1001);
    engine.wait_metrics("it is at work", |metrics| metrics.of("partitioner_moved_total", "") > 50);
    engine.send(libc::SIGSTOP);
    scene.publish(1001..1501);
    // Longer than ack_wait, so that the server delivers again.
    std::thread::park_timeout(Duration::from_secs(5));
    engine.send(libc::SIGCONT);
    scene.until_done(1500);
    scene.assert_pushed(1..1501, true);
    engine.stop_clean();
}
