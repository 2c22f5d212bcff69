//! Promise: a proxy before several Redis servers that puts an error in the place of each value whose server is away takes
//! nothing from the other users: their routes are used at once, over the same connection. The users whose routes it lacks
//! wait; when all are lacking, Redis is away.

use std::thread;
use std::time::{Duration, Instant};

use harness::gateways::{Gateway, Protocols};

use super::refused_routes::Proxy;
use testkit::engine::{Process, World, eventually, got};

const USERS: i64 = 20;
const OUTAGE: Duration = Duration::from_secs(6);
/// What Envoy puts there.
const WORDS: Option<&str> = Some("upstream failure");

fn world() -> (World, Gateway, Proxy) {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    let users = (0..USERS).map(|number| format!("anna{number}")).collect::<Vec<_>>();
    for (number, user) in users.iter().enumerate() {
        world.route(user, "gw-1");
        world.members(&format!("g{number}"), &[user]);
    }
    world.members("all", &users);
    let proxy = Proxy::start(world.redis.addr());
    (world, gateway, proxy)
}

fn engine(world: &World, proxy: &Proxy, more: &str) -> Process {
    let variables = [("RESONANCE_REDIS_ADDR", &*proxy.address), ("RESONANCE_REDIS_READ_TIMEOUT", "1s")];
    let engine = world.engine_with(1, more, &variables);
    engine.wait_ready();
    engine
}

fn publish_to_each(world: &World, round: i64) {
    let publisher = world.publisher();
    (0..USERS).for_each(|number| publisher.publish(&format!("g{number}"), "system", [round]));
}

fn assert_all_pushed(world: &World, engine: &Process, proxy: &Proxy, rounds: i64) {
    let metrics = engine.wait_ended((USERS * rounds) as u64);
    assert_eq!(metrics.recipients("delivered"), (USERS * rounds) as u64, "{}\n{}", metrics.numbers(), engine.output());
    assert_eq!(metrics.of("dead_letters_total", "") + metrics.unreached("bad_route"), 0, "{}", metrics.numbers());
    let records = world.log.records();
    for number in 0..USERS {
        let expected = (0..rounds).collect::<Vec<_>>();
        assert_eq!(got(&records, &format!("g{number}"), &format!("anna{number}")), expected, "{}", engine.output());
    }
    assert_eq!(proxy.connections(), 1, "{}", engine.output());
}

#[test]
fn one_of_two_servers_behind_a_proxy_that_is_away_takes_nothing_from_the_users_of_the_other() {
    for cache in ["tracked", "off"] {
        let (world, _gateway, proxy) = world();
        let engine = engine(&world, &proxy, &format!("routes:\n  cache: \"{cache}\"\n"));
        publish_to_each(&world, 0);
        assert_all_pushed(&world, &engine, &proxy, 1);
        // The odd users; then also the first key that probes read.
        for (round, pattern) in [(1, "[13579]$"), (2, "[13579:]$")] {
            (0..USERS).for_each(|number| world.route(&format!("anna{number}"), "gw-1"));
            let changes = if cache == "off" { 0 } else { (USERS * round) as u64 };
            engine.wait_metrics("no route is known", |metrics| metrics.of("route_changes_total", "") == changes);
            proxy.lacks(pattern, WORDS);
            let began = Instant::now();
            publish_to_each(&world, round);
            let pushed = (USERS * round + USERS / 2) as u64;
            engine.wait_metrics("the others are pushed", |metrics| {
                metrics.recipients("delivered") == pushed && metrics.of("events_in_flight", "") == USERS as u64 / 2
            });
            let took = began.elapsed();
            println!("{cache}, {pattern}: the others are pushed after {took:?}");
            assert!(took < Duration::from_secs(2), "{took:?}: {}", engine.output());
            while began.elapsed() < OUTAGE {
                let metrics = engine.metrics();
                assert_eq!(metrics.of("events_in_flight", ""), USERS as u64 / 2, "{}", engine.output());
                assert!(engine.is_ready(), "half of them is no outage: {}", engine.output());
                thread::park_timeout(Duration::from_millis(100));
            }
            proxy.lacks("", None);
            let over = Instant::now();
            assert_all_pushed(&world, &engine, &proxy, round + 1);
            println!("{cache}, {pattern}: all ended {:?} after it", over.elapsed());
            engine.wait_ready();
        }
        engine.stop_clean();
    }
}

#[test]
fn all_servers_behind_a_proxy_that_are_away_are_a_redis_that_is_away() {
    let (world, _gateway, proxy) = world();
    let more = "routes:\n  cache: \"off\"\nconsumer:\n  max_retry: 1\n  retry_interval: 100ms\n";
    let engine = engine(&world, &proxy, more);
    for (round, words) in ["upstream failure", "no upstream host", "NOAUTH Authentication required."].iter().enumerate()
    {
        proxy.lacks(".", Some(words));
        publish_to_each(&world, round as i64);
        engine.wait_metrics("/readyz says that Redis is away", |_| !engine.is_ready());
        let (_, page) = engine.page("/readyz?verbose").expect("a page");
        assert!(page.contains(words), "{page}");
        engine.wait_metrics("all wait", |metrics| metrics.of("events_in_flight", "") == USERS as u64);
        let over = Instant::now() + if round == 0 { OUTAGE } else { OUTAGE / 4 };
        while Instant::now() < over {
            assert_eq!(engine.metrics().of("events_in_flight", ""), USERS as u64, "{}", engine.output());
            assert!(!engine.is_ready(), "{}", engine.output());
            thread::park_timeout(Duration::from_millis(100));
        }
        proxy.lacks("", None);
        assert_all_pushed(&world, &engine, &proxy, round as i64 + 1);
        engine.wait_ready();
    }
    // Nothing is asked for: what the engine asks by itself tells.
    proxy.lacks(".", WORDS);
    eventually("/readyz of a quiet engine says that Redis is away", || !engine.is_ready());
    proxy.lacks("", None);
    engine.wait_ready();
    assert_eq!(proxy.connections(), 1, "{}", engine.output());
    engine.stop_clean();
}

#[test]
fn an_engine_that_starts_while_all_are_away_is_not_ready() {
    let (world, _gateway, proxy) = world();
    proxy.lacks(".", WORDS);
    let variables = [("RESONANCE_REDIS_ADDR", &*proxy.address)];
    let engine = world.engine_with(1, "", &variables);
    eventually("all but Redis is there", || {
        let page = engine.page("/readyz?verbose").map(|(_, page)| page).unwrap_or_default();
        page.contains("upstream failure")
    });
    assert!(!engine.is_ready(), "{}", engine.output());
    proxy.lacks("", None);
    engine.wait_ready();
    assert_eq!(proxy.connections(), 1, "{}", engine.output());
    engine.stop_clean();
}

#[test]
fn an_event_for_users_of_both_servers_is_pushed_to_the_others_when_the_tries_are_over() {
    let (world, _gateway, proxy) = world();
    let engine = engine(&world, &proxy, "consumer:\n  max_retry: 1\n  retry_interval: 100ms\n");
    proxy.lacks("[13579]$", WORDS);
    let publisher = world.publisher();
    publisher.publish("all", "system", [0]);
    // Others are asked for and answered meanwhile: it is not the store.
    let mut others = 0;
    let half = USERS as u64 / 2;
    let metrics = engine.wait_metrics("the others of the event are pushed", |metrics| {
        world.route("anna0", "gw-1");
        publisher.publish("g0", "system", [others]);
        others += 1;
        metrics.recipients("stored") == half
    });
    assert_eq!(metrics.of("dead_letters_total", ""), 0, "{}", metrics.numbers());
    engine.wait_ended(others as u64 + 1);
    let records = world.log.records();
    for number in 0..USERS {
        let pushed = if number % 2 == 0 { &[0][..] } else { &[] };
        assert_eq!(got(&records, "all", &format!("anna{number}")), pushed, "{}", engine.output());
    }

    proxy.lacks("", None);
    let mut next = 0;
    eventually("all are pushed again", || {
        next += 1;
        world.publisher().publish("all", "system", [next]);
        engine.wait_ended((others + next) as u64 + 1);
        let records = world.log.records();
        (0..USERS).all(|number| !got(&records, "all", &format!("anna{number}")).is_empty())
    });
    assert_eq!(proxy.connections(), 1, "{}", engine.output());
    engine.stop_clean();
}
