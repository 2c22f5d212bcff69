//! Promise: a session whose rows are slow holds up nobody: who was asked for in the same query is pushed within two query
//! timeouts, who comes later is never asked for with it, and it ends by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message as _;

use super::view::{self, ASKS_EACH_TIME, Mode};
use testkit::engine::{Process, Publisher, World, event, eventually, got};

const TIMEOUT: Duration = Duration::from_secs(1);
/// A busy machine.
const MARGIN: Duration = Duration::from_millis(1_500);

fn started(sessions: &[&str]) -> (World, harness::gateways::Gateway, Process) {
    let (world, gateway) = view::world_of(sessions);
    let engine = world.engine_with(1, ASKS_EACH_TIME, &[("RESONANCE_MYSQL_TIMEOUT", "1s")]);
    engine.wait_ready();
    (world, gateway, engine)
}

/// One event of each, in one write, so that they are asked for in few queries.
fn publish_together(publisher: &Publisher, sessions: &[&str], msg_id: i64) {
    sessions.iter().for_each(|session| publisher.send(&event(session, "system", msg_id).encode_to_vec()));
    publisher.flush();
}

#[test]
fn a_slow_session_stops_none_of_its_neighbours_and_ends_by_itself() {
    let sessions = (0..10).map(|number| format!("n{number}")).collect::<Vec<_>>();
    let all = sessions.iter().map(String::as_str).chain(["huge"]).collect::<Vec<_>>();
    let (world, _gateway, engine) = started(&all);
    view::set(&world, Mode::SlowFor("huge"));
    let publisher = world.publisher();
    let published = Instant::now();
    publish_together(&publisher, &all, 1);
    let settled = |metrics: &testkit::engine::Metrics| metrics.events("settled");
    engine.wait_metrics("the neighbours are pushed", |metrics| settled(metrics) == 10);
    let took = published.elapsed();
    println!("the neighbours of one slow session were pushed after {took:?}");
    assert!(took < 2 * TIMEOUT + MARGIN, "{took:?}\n{}", engine.output());

    // Whoever comes later, however often, while it is slow.
    let mut slowest = Duration::ZERO;
    for round in 2..60 {
        let published = Instant::now();
        publish_together(&publisher, &all[..10], round);
        engine.wait_metrics("the later ones are pushed", |metrics| settled(metrics) == 10 * round as u64);
        slowest = slowest.max(published.elapsed());
    }
    println!("580 events beside a slow session: the slowest ten took {slowest:?}");
    assert!(slowest < TIMEOUT, "{slowest:?}\n{}", engine.output());
    let metrics = engine.wait_ended(591);
    assert_eq!(metrics.events("lookup_failed"), 1, "{}", metrics.numbers());

    view::set(&world, Mode::Well);
    publisher.publish("huge", "system", [2]);
    engine.wait_ended(592);
    assert_eq!(got(&world.log.records(), "huge", "anna"), [2], "{}", engine.output());
    engine.stop_clean();
}

#[test]
fn an_engine_that_starts_beside_a_bad_session_finds_a_good_one() {
    // The bad one is the first of the table, and the first and the last.
    for (mode, bad) in
        [(Mode::SlowFor("huge"), "huge"), (Mode::FailsFor("huge"), "huge"), (Mode::FailsFor("z%"), "zzz")]
    {
        let good = (0..10).map(|number| format!("n{number}")).collect::<Vec<_>>();
        let (world, _gateway) = view::world_of(good.iter().map(String::as_str).chain([bad]));
        view::set(&world, mode);
        let engine = world.engine_with(1, "", &[("RESONANCE_MYSQL_TIMEOUT", "1s")]);
        engine.wait_ready();
        let publisher = world.publisher();
        good.iter().for_each(|session| publisher.publish(session, "system", [1]));
        let metrics = engine.wait_metrics("the others are pushed", |metrics| metrics.events("settled") == 10);
        assert_eq!(metrics.recipients("delivered"), 10, "{mode:?}: {}", metrics.numbers());
        engine.stop_clean();
    }
}

#[test]
fn five_slow_sessions_in_one_query_hold_one_lane_and_few_queries_at_the_server() {
    let names = (0..60).map(|number| format!("n{number}")).collect::<Vec<_>>();
    let slow = (0..5).map(|number| format!("slow{number}")).collect::<Vec<_>>();
    let all = names.iter().chain(&slow).map(String::as_str).collect::<Vec<_>>();
    let (world, _gateway, engine) = started(&all);
    view::set(&world, Mode::SlowFor("slow%"));
    let publisher = world.publisher();
    let published = Instant::now();
    publish_together(&publisher, &all, 1);
    engine.wait_metrics("the neighbours are pushed", |metrics| metrics.events("settled") == 60);
    let took = published.elapsed();
    println!("60 neighbours of five slow sessions were pushed after {took:?}");
    assert!(took < 2 * TIMEOUT + MARGIN, "{took:?}\n{}", engine.output());

    let mut asleep = BTreeMap::new();
    // One session: the engine has others ended meanwhile, whose threads MariaDB may give to new ones while it ends them.
    let mut sessions = world.maria.connect().expect("MariaDB");
    eventually("the slow ones are letters", || {
        use mysql::prelude::Queryable;
        let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        let count = sessions.query_first::<usize, _>(count).expect("a count");
        *asleep.entry(count.expect("one row")).or_insert(0) += 1;
        // Others go on, which is what blames the slow ones.
        publisher.publish("n0", "system", [1 + asleep.values().sum::<i64>()]);
        engine.metrics().events("lookup_failed") == 5
    });
    println!("queries asleep at the server, and how often: {asleep:?}");
    // The set's, which the server gives up after two timeouts, and the session's own.
    assert!(asleep.keys().all(|count| *count <= 2 * slow.len()), "abandoned queries pile up: {asleep:?}");
    engine.stop_clean();
}
