//! A stop does not wait for a store that is away.

use std::time::{Duration, Instant};

use harness::servers::NatsVersion;
use task_engine::model::proto::event::PushEvent;

use crate::door::Way;
use crate::scene::{ALL_OPEN, CORE, Scene, jetstream};
use testkit::engine::{PATIENCE, Process, SUBJECT, event, eventually};

/// Stops it, and asserts that it was quick; gives what it wrote.
fn stop(engine: Process) -> (Option<i32>, String) {
    let began = Instant::now();
    let (status, output) = engine.terminate();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}\n{output}", began.elapsed());
    (status.code(), output)
}

#[test]
fn with_core_what_is_in_hand_is_cut_at_once_and_counted() {
    let scene = Scene::start(NatsVersion::Installed);
    for (at, ways) in [(0, 0), (1, 1)] {
        let instance = scene.instance(CORE, ALL_OPEN);
        instance.engine.wait_ready();
        if ways == 0 {
            instance.redis.set(Way::Hanging)
        } else {
            instance.mysql.set(Way::Closed)
        }
        // The members' answers are good for a second.
        let first = 1_000 * at;
        let mut to = first;
        let metrics = instance.engine.wait_metrics("some wait", |metrics| {
            scene.publish(to..to + 20);
            to += 20;
            metrics.of("events_in_flight", "") > 20
        });
        assert!(metrics.of("events_arrived_total", "") > 20);
        let (code, output) = stop(instance.engine);
        assert_eq!(code, Some(1), "events were lost: {output}");
        assert!(output.contains("it is not waited for") && !output.contains("cut off: 0 events"), "{output}");
    }
}

/// One shard and its lane are full, so the reader waits for room: nobody waits for it.
#[test]
fn with_core_and_full_lanes_it_is_cut_at_once() {
    use prost::Message;
    let scene = Scene::start(NatsVersion::Installed);
    let consumer = "consumer:\n  ack_wait: 60s\n  retry_interval: 500ms\n";
    let instance = scene.instance(consumer, ALL_OPEN);
    instance.engine.wait_ready();
    instance.mysql.set(Way::Closed);
    let publish = |msg_id: i64, bytes: usize| {
        let event = PushEvent { content: "x".repeat(bytes), ..event("group:0", "system", msg_id) };
        scene.client.publish(SUBJECT, event.encode_to_vec()).expect("published");
    };
    (1..=160).for_each(|msg_id| publish(msg_id, 1 << 19));
    (161..=20_000).for_each(|msg_id| publish(msg_id, 1));
    scene.client.flush_timeout(PATIENCE).expect("flushed");
    let mut before = 0;
    let metrics = instance.engine.wait_metrics("the lane is full", |metrics| {
        let read = metrics.of("events_read_total", "");
        let is_full = read > 16_000 && read == before;
        before = read;
        is_full
    });
    // What arrived, a lane of 16 k, and the reader has the rest in its hands.
    assert!(metrics.of("events_arrived_total", "") + 16 * 1024 < 20_000, "{}", metrics.numbers());
    let began = Instant::now();
    let (status, output) = instance.engine.terminate();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}\n{output}", began.elapsed());
    assert_eq!(status.code(), Some(1), "events were lost: {output}");
    assert!(output.contains("it is not waited for") && !output.contains("cut off: 0 events"), "{output}");
}

#[test]
fn with_jetstream_it_is_given_back_and_another_has_it() {
    let scene = Scene::start(NatsVersion::Current);
    let sick = scene.instance(&jetstream("queue"), ALL_OPEN);
    sick.engine.wait_ready();
    sick.redis.set(Way::Closed);
    scene.publish(0..100);
    sick.engine.wait_metrics("all wait", |metrics| metrics.of("events_in_flight", "") == 100);
    stop(sick.engine);
    let healthy = scene.instance(&jetstream("queue"), ALL_OPEN);
    healthy.engine.wait_ready();
    scene.until_pushed(0..100, &[&healthy.engine]);
    scene.until_settled("d");
    healthy.engine.stop_clean();
}

/// Sick for long: nothing is in hand any more, so the stop is a clean one.
#[test]
fn with_jetstream_one_that_gave_all_back_stops_clean() {
    let scene = Scene::start(NatsVersion::Installed);
    let sick = scene.instance(&jetstream("partitioned"), ALL_OPEN);
    sick.engine.wait_ready();
    sick.mysql.set(Way::Hanging);
    scene.publish_on(0..100, |_| format!("{}.0", testkit::engine::SUBJECT));
    sick.engine.wait_metrics("all was given back", |metrics| {
        metrics.of("intake_open", "") == 0 && metrics.of("events_in_flight", "") == 0
    });
    let (code, output) = stop(sick.engine);
    assert_eq!(code, Some(0), "{output}");
    // And one that never read.
    let never = scene.instance(&jetstream("partitioned"), [Way::Closed; 3]);
    eventually("it runs", || never.engine.page("/readyz").is_some());
    assert_eq!(never.engine.metrics().of("intake_open", ""), 0);
    let (code, output) = stop(never.engine);
    assert_eq!(code, Some(0), "{output}");
}
