//! Promise: a store that answers everybody with an error is away, whatever it says: no event becomes a letter, `/readyz`
//! says that it is not ready, and all is pushed when it is over.

use std::time::{Duration, Instant};

use super::view::{self, ASKS_EACH_TIME, Mode};
use testkit::engine::{Process, World, eventually, got};

const SESSIONS: i64 = 40;

fn publish_to_all(world: &World, round: i64) {
    let publisher = world.publisher();
    (0..SESSIONS).for_each(|number| publisher.publish(&format!("g{number}"), "system", [round * 100 + number]));
}

/// For so long nothing ends, and the engine is not ready.
fn holds_for(engine: &Process, outage: Duration, ended: u64) {
    eventually("/readyz says that a store is away", || !engine.is_ready());
    engine.wait_metrics("all wait", |metrics| metrics.of("events_in_flight", "") == SESSIONS as u64);
    let over = Instant::now() + outage;
    while Instant::now() < over {
        let metrics = engine.metrics();
        let in_flight = metrics.of("events_in_flight", "");
        assert_eq!((in_flight, metrics.events("settled")), (SESSIONS as u64, ended), "{}", engine.output());
        assert!(!engine.is_ready(), "{}", engine.output());
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn assert_all_pushed(world: &World, engine: &Process, rounds: i64) {
    let metrics = engine.wait_ended((SESSIONS * rounds) as u64);
    assert_eq!(metrics.events("settled"), (SESSIONS * rounds) as u64, "{}\n{}", metrics.numbers(), engine.output());
    assert_eq!(metrics.of("dead_letters_total", ""), 0, "{}", metrics.numbers());
    let records = world.log.records();
    for number in 0..SESSIONS {
        let expected = (0..rounds).map(|round| round * 100 + number).collect::<Vec<_>>();
        assert_eq!(got(&records, &format!("g{number}"), "anna"), expected, "{}", engine.output());
    }
}

#[test]
fn mysql_that_fails_for_everybody_makes_no_letters_whatever_it_says() {
    let (world, _gateway) = view::world_of((0..SESSIONS).map(|number| format!("g{number}")));
    let engine = world.engine(2, ASKS_EACH_TIME);
    let mut rounds = 0;
    let mut outage = |mode: Mode, millis: u64| {
        view::set(&world, mode);
        publish_to_all(&world, rounds);
        holds_for(&engine, Duration::from_millis(millis), (SESSIONS * rounds) as u64);
        rounds += 1;
        view::set(&world, Mode::Well);
        let over = Instant::now();
        engine.wait_ended((SESSIONS * rounds) as u64);
        println!("{mode:?} for {millis} ms: all ended {:?} after it", over.elapsed());
        engine.wait_ready();
    };
    outage(Mode::Fails(9001), 6_000);
    for code in [1064, 1105, 1146, 1292, 1366, 1205] {
        outage(Mode::Fails(code), 1_500);
    }
    outage(Mode::FailsAs45000(1644), 1_500);
    assert_all_pushed(&world, &engine, rounds);
    engine.stop_clean();
}

#[test]
fn one_session_that_fails_becomes_a_letter_and_its_neighbours_are_pushed() {
    let (world, _gateway) = view::world_of((0..SESSIONS).map(|number| format!("g{number}")));
    let engine = world.engine(1, ASKS_EACH_TIME);
    view::set(&world, Mode::FailsFor("g7"));
    publish_to_all(&world, 0);
    engine.wait_metrics("all but one are pushed", |metrics| metrics.events("settled") == SESSIONS as u64 - 1);
    assert!(engine.is_ready(), "one session is no outage: {}", engine.output());
    let metrics = engine.wait_ended(SESSIONS as u64);
    assert_eq!(metrics.events("lookup_failed"), 1, "{}", metrics.numbers());
    let letters = std::fs::read_to_string(world.letters()).expect("letters");
    assert!(letters.contains("g7") && letters.contains("as told"), "{letters}");

    // Alone on a quiet engine: the probe is the other ask.
    view::set(&world, Mode::FailsFor("g8"));
    world.publisher().publish("g8", "system", [1_000]);
    let metrics = engine.wait_ended(SESSIONS as u64 + 1);
    assert_eq!(metrics.events("lookup_failed"), 2, "{}", metrics.numbers());
    assert!(metrics.of("lookup_probes_total", "") > 0, "{}", metrics.numbers());

    // Half of them: the other half shows that the store is there.
    view::set(&world, Mode::FailsFor("g1%"));
    publish_to_all(&world, 2);
    let (publisher, mut published) = (world.publisher(), 0);
    eventually("g1 and g10 to g19 are letters, for others go on", || {
        published += 1;
        publisher.publish("g30", "system", [2_000 + published]);
        engine.metrics().events("lookup_failed") == 2 + 11
    });
    let metrics = engine.wait_ended(SESSIONS as u64 * 2 + 1 + published as u64);
    assert_eq!(metrics.events("settled"), SESSIONS as u64 * 2 - 12 + published as u64, "{}", metrics.numbers());
    engine.stop_clean();
}

#[test]
fn a_session_that_fails_and_gets_many_events_ends_them_together_and_holds_up_nobody() {
    let (world, _gateway) = view::world_of((0..SESSIONS).map(|number| format!("g{number}")));
    let engine = world.engine(1, ASKS_EACH_TIME);
    engine.wait_ready();
    view::set(&world, Mode::FailsFor("g7"));
    let publisher = world.publisher();
    let (begun, mut others) = (Instant::now(), 0);
    publisher.publish("g7", "system", 1..=500);
    eventually("all of its events are letters", || {
        others += 1;
        publisher.publish("g30", "system", [others]);
        engine.metrics().events("lookup_failed") == 500
    });
    println!("500 events of a session that fails ended within {:?}", begun.elapsed());
    // What comes now finds it refused: one try more, and no wait for the others.
    publisher.publish("g7", "system", 501..=600);
    let metrics = engine.wait_ended(600 + others as u64);
    assert_eq!(
        (metrics.events("lookup_failed"), metrics.events("settled")),
        (600, others as u64),
        "{}",
        metrics.numbers()
    );
    view::set(&world, Mode::Well);
    publisher.publish("g7", "system", [601]);
    engine.wait_ended(601 + others as u64);
    assert_eq!(got(&world.log.records(), "g7", "anna"), [601], "{}", engine.output());
    engine.stop_clean();
}
