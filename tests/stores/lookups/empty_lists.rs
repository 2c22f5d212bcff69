//! Promise: an event that is faster than the rows of its session is pushed when they come, and so is what stands behind it,
//! in order; a session that stays empty gives a letter that can be replayed.

use std::time::{Duration, Instant};

use harness::gateways::Protocols;
use mysql::prelude::Queryable;

use testkit::engine::{World, got};

#[test]
fn an_event_faster_than_its_members_is_pushed_and_the_next_one_behind_it() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("anna", "gw-1");
    let engine = world.engine(2, "");
    let publisher = world.publisher();
    let published = Instant::now();
    publisher.publish("fresh", "system", [1]);
    engine.wait_metrics("the first was asked for", |metrics| metrics.of("events_without_members", "") == 1);
    publisher.publish("fresh", "system", [2, 3]);
    engine.wait_metrics("the others wait behind it", |metrics| metrics.of("events_without_members", "") == 3);
    std::thread::park_timeout(Duration::from_millis(300).saturating_sub(published.elapsed()));
    world.members("fresh", &["anna"]);
    let committed = Instant::now();
    let metrics = engine.wait_ended(3);
    println!("pushed {:?} after the rows were committed", committed.elapsed());
    assert_eq!(got(&world.log.records(), "fresh", "anna"), [1, 2, 3], "{}", engine.output());
    assert_eq!((metrics.events("settled"), metrics.events("no_members")), (3, 0), "{}", metrics.numbers());

    // It had members and has none for a moment: the old list is not used.
    let mut maria = world.maria.connect().expect("MariaDB");
    maria.query_drop("DELETE FROM t_session_member WHERE session_id = 'fresh'").expect("gone");
    engine.wait_metrics("what was known is old", |metrics| {
        let _ = metrics;
        committed.elapsed() > Duration::from_millis(1_500)
    });
    publisher.publish("fresh", "system", [4]);
    engine.wait_metrics("it waits", |metrics| metrics.of("events_without_members", "") == 1);
    world.members("fresh", &["anna"]);
    engine.wait_ended(4);
    assert_eq!(got(&world.log.records(), "fresh", "anna"), [1, 2, 3, 4], "{}", engine.output());
    engine.stop_clean();
}

#[test]
fn a_session_that_stays_empty_gives_a_letter_for_each_event_after_its_own_wait() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("anna", "gw-1");
    let engine = world.engine(1, "members:\n  empty_wait: 1s\n");
    let publisher = world.publisher();
    let published = Instant::now();
    publisher.publish("nobody", "system", [1, 2]);
    let metrics = engine.wait_ended(2);
    let took = published.elapsed();
    println!("two letters after {took:?}");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(metrics.events("no_members"), 2, "{}", metrics.numbers());
    assert_eq!(metrics.of("dead_letters_total", "reason=\"no_members\""), 2, "{}", metrics.numbers());
    let letters = std::fs::read_to_string(world.letters()).expect("letters");
    assert_eq!(letters.lines().filter(|line| line.contains("no_members")).count(), 2, "{letters}");
    assert!(letters.contains("session nobody has no members"), "{letters}");

    // A replay is a new event.
    world.members("nobody", &["anna"]);
    publisher.publish("nobody", "system", [1]);
    engine.wait_ended(3);
    assert_eq!(got(&world.log.records(), "nobody", "anna"), [1], "{}", engine.output());
    engine.stop_clean();
}

#[test]
fn many_sessions_without_members_do_not_hold_up_the_others() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("anna", "gw-1");
    world.members("full", &["anna"]);
    let engine = world.engine(1, "members:\n  empty_wait: 60s\n");
    let publisher = world.publisher();
    // Past the bound of a shard: a quarter of 64 Ki events.
    for session in 0..400 {
        publisher.publish(&format!("deleted{session}"), "system", 1..=50);
    }
    let metrics = engine.wait_metrics("the oldest end, the others wait", |metrics| {
        metrics.of("events_arrived_total", "") == 20_000
            && metrics.of("empty_waits_cut_total", "") > 0
            && metrics.of("events_in_flight", "") <= 16 * 1024
    });
    assert!(metrics.of("events_without_members", "") <= 16 * 1024, "{}", metrics.numbers());
    let published = Instant::now();
    publisher.publish("full", "system", 1..=50);
    engine.wait_metrics("the others are pushed", |metrics| metrics.events("settled") == 50);
    println!("50 events beside 16 Ki waiting ones: {:?}", published.elapsed());
    assert_eq!(got(&world.log.records(), "full", "anna"), (1..=50).collect::<Vec<_>>());
}
