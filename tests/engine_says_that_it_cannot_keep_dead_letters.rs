//! Promise: where the file of dead letters cannot be opened the engine is not ready and says what to change; an event that
//! can never be pushed is lost and counted there, and holds neither the events after it nor a stop.

#[path = "support/engine.rs"]
mod support;

use std::time::Instant;

use loadtest::gateways::Protocols;
use support::{PATIENCE, World, eventually, got};

#[test]
fn engine_says_that_it_cannot_keep_dead_letters() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("bob", "gw-1");
    world.members("group:1", &["bob"]);
    let engine = world.engine_not_ready(1, "dead_letters:\n  path: /nonexistent/letters.jsonl\n");
    eventually("only the dead letters are missing", || {
        engine.page("/readyz?verbose").is_some_and(|(status, text)| {
            let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("[-]")).collect();
            status == 503 && bad.len() == 1 && bad[0].contains("dead_letters.path") && bad[0].contains("/nonexistent")
        })
    });
    let publisher = world.publisher();
    publisher.send(b"\xff");
    publisher.publish("group:1", "system", 1..=3);
    let metrics = engine.wait_ended(4);
    assert_eq!((metrics.events("dead_letter_lost"), metrics.of("dead_letters_rejected_total", "")), (1, 1));
    assert_eq!(got(&world.log.records(), "group:1", "bob"), [1, 2, 3]);
    let began = Instant::now();
    publisher.send(b"\xff\xff");
    publisher.flush();
    engine.wait_metrics("it is read", |metrics| metrics.of("events_arrived_total", "") == 5);
    engine.stop_clean();
    assert!(began.elapsed() < PATIENCE / 2, "the stop does not wait for the file: {:?}", began.elapsed());
}
