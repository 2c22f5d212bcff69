//! Redis, MySQL, etcd and NATS are each killed and come back: what the engine had read is delivered then, in order and
//! once, without a restart of the engine.

use harness::gateways::{Gateway, Protocols};
use testkit::engine::{Process, World, eventually, got};

const BURST: i64 = 30;

/// A world with one gateway and one session, and its engine after a first burst. No cache: each event needs each store.
fn started(more: &str) -> (World, Gateway, Process) {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    ["anna", "bert"].iter().for_each(|user| world.route(user, "gw-1"));
    world.members("group:1", &["anna", "bert"]);
    let engine = world.engine(2, more);
    world.publisher().publish("group:1", "system", 1..=BURST);
    engine.wait_ended(BURST as u64);
    (world, gateway, engine)
}

/// Everything was delivered, in order and once; the engine stops cleanly.
fn assert_all_delivered(world: &World, engine: Process, last: i64) {
    let metrics = engine.wait_ended(last as u64);
    let records = world.log.records();
    for user in ["anna", "bert"] {
        let all: Vec<i64> = (1..=last).collect();
        assert_eq!(got(&records, "group:1", user), all, "{user}\n{}\n{}", metrics.numbers(), engine.output());
    }
    assert_eq!(metrics.recipients("delivered"), last as u64 * 2, "{}", metrics.numbers());
    engine.stop_clean();
}

/// Publishes a burst that the engine takes and cannot end.
fn publish_into_the_outage(world: &World, engine: &Process) {
    let last = BURST * 2;
    world.publisher().publish("group:1", "system", BURST + 1..=last);
    engine.wait_metrics("the events are read and wait", |metrics| {
        metrics.of("events_arrived_total", "") == last as u64 && metrics.of("events_in_flight", "") == BURST as u64
    });
    eventually("/readyz says that a server is away", || !engine.is_ready());
}

#[test]
fn redis_is_lost_and_comes_back() {
    let (world, _gateway, engine) = started("routes:\n  cache: \"off\"\n");
    world.redis.kill9();
    publish_into_the_outage(&world, &engine);
    world.redis.restart().expect("Redis comes back");
    assert_all_delivered(&world, engine, BURST * 2);
}

#[test]
fn a_route_that_changed_while_redis_was_lost_is_not_taken_from_the_cache() {
    let (world, gateway, engine) = started("");
    let later = world.gateway("gw-2", Protocols::STREAM);
    world.redis.kill9();
    eventually("/readyz says that Redis is away", || !engine.is_ready());
    world.redis.restart().expect("Redis comes back");
    world.route("anna", "gw-2");
    engine.wait_ready();
    world.publisher().publish("group:1", "system", BURST + 1..=BURST * 2);
    engine.wait_ended(BURST as u64 * 2);
    assert_eq!((gateway.pushes(), later.pushes()), (BURST as u64 * 3, BURST as u64), "{}", engine.output());
    assert_all_delivered(&world, engine, BURST * 2);
}

#[test]
fn mysql_is_lost_and_comes_back() {
    let (world, _gateway, engine) = started("members:\n  cache_ttl: 0s\n");
    world.maria.kill9();
    publish_into_the_outage(&world, &engine);
    world.maria.restart().expect("MariaDB comes back");
    assert_all_delivered(&world, engine, BURST * 2);
}

#[test]
fn etcd_is_lost_and_comes_back() {
    let (world, _gateway, engine) = started("");
    world.etcd.kill9();
    eventually("/readyz says that etcd is away", || !engine.is_ready());
    // The gateways that were known stay known.
    world.publisher().publish("group:1", "system", BURST + 1..=BURST * 2);
    engine.wait_ended(BURST as u64 * 2);
    world.etcd.restart().expect("etcd comes back");
    engine.wait_ready();
    // What is registered now is seen: the user is on a gateway that did not exist before.
    let later = world.gateway("gw-2", Protocols::BATCH);
    ["anna", "bert"].iter().for_each(|user| world.route(user, "gw-2"));
    world.publisher().publish("group:1", "system", BURST * 2 + 1..=BURST * 3);
    engine.wait_ended(BURST as u64 * 3);
    assert!(later.pushes() > 0, "{}", engine.output());
    assert_all_delivered(&world, engine, BURST * 3);
}

#[test]
fn nats_is_lost_and_comes_back() {
    let (world, gateway, engine) = started("");
    // What was read waits at a gateway that does not answer while the broker dies.
    gateway.behave(harness::gateways::Behaviour::Stuck);
    world.publisher().publish("group:1", "system", BURST + 1..=BURST * 2);
    engine.wait_metrics("the events are read", |metrics| metrics.of("events_arrived_total", "") == BURST as u64 * 2);
    world.nats.kill9();
    eventually("/readyz says that NATS is away", || !engine.is_ready());
    gateway.behave(harness::gateways::Behaviour::Prompt);
    engine.wait_ended(BURST as u64 * 2);
    world.nats.restart().expect("NATS comes back");
    engine.wait_ready();
    world.publisher().publish("group:1", "system", BURST * 2 + 1..=BURST * 3);
    assert_all_delivered(&world, engine, BURST * 3);
}
