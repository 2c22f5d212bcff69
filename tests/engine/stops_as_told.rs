//! A stop of the real process: SIGTERM under load loses nothing that was read, what the drain deadline cuts off is counted
//! in the report, whether in flight or still waiting, with exit code 1, and a second signal ends it at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::gateways::{Behaviour, Protocols};
use prost::Message;
use task_engine::model::proto::event::PushEvent;
use testkit::engine::{PATIENCE, World, event, eventually};

const USERS: usize = 20;

/// All servers, one gateway, and a group of users on it.
fn world_with_a_group() -> (World, harness::gateways::Gateway) {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    let users: Vec<String> = (0..USERS).map(|user| format!("user-{user}")).collect();
    users.iter().for_each(|user| world.route(user, "gw-1"));
    world.members("group:1", &users);
    (world, gateway)
}

#[test]
fn sigterm_under_load_loses_nothing() {
    let (world, gateway) = world_with_a_group();
    let (goes, stays) = (world.engine(2, ""), world.engine(2, ""));
    let enough = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let publisher = world.publisher();
            let mut msg_id = 0;
            while !enough.load(Ordering::Acquire) {
                // As much as this machine's gateway can take: an overload is another test's.
                let sent = msg_id as u64 * USERS as u64;
                gateway.wait("room", PATIENCE, |gateway| sent < gateway.pushes() + 4_000).expect("pushes go on");
                publisher.publish("group:1", "system", msg_id + 1..=msg_id + 20);
                msg_id += 20;
            }
            msg_id
        });
        gateway.wait("load", PATIENCE, |gateway| gateway.pushes() > 2_000).expect("pushes come");
        let output = goes.stop_clean();
        assert!(!output.contains(" 0 pushes delivered"), "it had its share:\n{output}");
        enough.store(true, Ordering::Release);
        publishing.join().expect("a publisher that ends")
    });
    let expected = published as usize * USERS;
    eventually("all came", || gateway.pushes() as usize >= expected);
    stays.stop_clean();
    let records = world.log.records();
    let seen: BTreeSet<_> = records.iter().map(|record| (&record.recipient, record.msg_id)).collect();
    assert_eq!((records.len(), seen.len()), (expected, expected), "each push once");
}

#[test]
fn what_the_drain_deadline_cuts_off_is_counted() {
    let (world, gateway) = world_with_a_group();
    // It answers, so its users are waited for, but not all of them in time.
    gateway.behave(Behaviour::Slow(Duration::from_millis(300)));
    let engine = world.engine(1, "engine:\n  drain_timeout: 2s\ngateway:\n  delivery_timeout: 1500ms\n");
    world.publisher().publish("group:1", "system", 1..=3);
    gateway.wait("the first pushes", PATIENCE, |gateway| gateway.pushes() > 0).expect("they come");
    engine.wait_metrics("all are under way", |metrics| metrics.of("recipients_arrived_total", "") == 3 * USERS as u64);
    let (status, output) = engine.terminate();
    assert_eq!(status.code(), Some(1), "{output}");
    let report = output.lines().find(|line| line.contains("cut off: ")).expect("a report");
    assert!(report.contains("exit code 1"), "{report}");
    let number = |after: &str, before: &str| number(report, after, before);
    let (delivered, others) = (number("settled, ", " pushes delivered"), number("stored, ", " not delivered"));
    let cut_off = number("cut off: ", " event");
    assert_eq!(delivered + others, 3 * USERS, "{report}");
    assert!((1..=3).contains(&cut_off) && others > 0, "{report}");
}

#[test]
fn what_waits_at_the_drain_deadline_is_counted() {
    const LARGE: i64 = 22;
    const SMALL: i64 = 20_000;
    let (world, _gateway) = world_with_a_group();
    let engine = world.engine(1, "engine:\n  drain_timeout: 2s\ngateway:\n  delivery_timeout: 1500ms\n");
    // No session's members are told: what is taken stays in flight until its bytes are as many as may be, the rest waits
    // in the lane, and what does not fit there waits with the reader.
    world.maria.stop().expect("MariaDB stands still");
    let publisher = world.publisher();
    for msg_id in 1..=LARGE {
        let content = "x".repeat(3 << 20);
        publisher.send(&PushEvent { content, ..event("group:1", "system", msg_id) }.encode_to_vec());
        publisher.flush();
    }
    engine.wait_metrics("the large ones are taken", |metrics| metrics.of("events_in_flight", "") == LARGE as u64);
    publisher.publish("group:1", "system", LARGE + 1..=LARGE + SMALL);
    engine.wait_metrics("the lane is full", |metrics| metrics.of("events_read_total", "") >= 16 * 1024 + LARGE as u64);
    let (status, output) = engine.terminate();
    assert_eq!(status.code(), Some(1), "{output}");
    let report = output.lines().find(|line| line.contains("cut off: ")).expect("a report");
    let arrived = number(report, " s: ", " events");
    let (cut_off, dropped) = (number(report, "cut off: ", " events"), number(report, "at the stop: ", " events"));
    assert_eq!(arrived + dropped, (LARGE + SMALL) as usize, "{report}");
    assert_eq!((arrived, cut_off), (LARGE as usize + 16 * 1024, arrived), "{report}");
}

/// The number between two texts of a report.
fn number(report: &str, after: &str, before: &str) -> usize {
    let words = report.split_once(after).and_then(|(_, rest)| rest.split_once(before));
    words.and_then(|(number, _)| number.parse().ok()).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_second_signal_stops_at_once() {
    let (world, gateway) = world_with_a_group();
    gateway.behave(Behaviour::Deaf);
    let engine = world.engine(1, "engine:\n  drain_timeout: 10m\n");
    world.publisher().publish("group:1", "system", 1..=1);
    gateway.wait("the pushes", PATIENCE, |gateway| gateway.pushes() as usize == USERS).expect("they come");
    engine.signal();
    eventually("readyz is 503", || engine.page("/readyz").is_some_and(|(status, _)| status == 503));
    let (status, output) = engine.terminate();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("second signal: stopped at once"), "{output}");
}
