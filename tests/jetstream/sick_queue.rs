//! JetStream: whoever cannot work takes nothing, and gives back what it cannot go on with.

use std::time::{Duration, Instant};

use harness::servers::NatsVersion;

use crate::door::Way;
use crate::jetstream_support::on_both_servers;
use crate::scene::{ALL_OPEN, Scene, jetstream, partition_of, session_of};
use testkit::engine::{eventually, got};

on_both_servers! {
    one_without_redis_takes_nothing_until_redis_is_there
    one_that_becomes_sick_gives_back_what_waits
}

fn one_without_redis_takes_nothing_until_redis_is_there(version: NatsVersion) {
    let scene = Scene::start(version);
    let sick = scene.instance(&jetstream("queue"), [Way::Closed, Way::Open, Way::Open]);
    let healthy = scene.instance(&jetstream("queue"), ALL_OPEN);
    healthy.engine.wait_ready();
    let began = Instant::now();
    scene.publish(0..1000);
    scene.until_pushed(0..1000, &[&healthy.engine, &sick.engine]);
    scene.until_settled("d");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(sick.engine.metrics().of("events_arrived_total", ""), 0);
    let (status, page) = sick.engine.page("/readyz?verbose").expect("a page");
    assert!(status == 503 && page.contains("no events are read") && page.contains("routes"), "{page}");
    sick.redis.set(Way::Open);
    sick.engine.wait_ready();
    healthy.engine.stop_clean();
    scene.publish(1000..1200);
    scene.until_pushed(0..1200, &[&sick.engine]);
    sick.engine.stop_clean();
}

fn one_that_becomes_sick_gives_back_what_waits(version: NatsVersion) {
    let scene = Scene::start(version);
    let [sick, healthy] = [0, 1].map(|_| scene.instance(&jetstream("queue"), ALL_OPEN));
    [&sick, &healthy].iter().for_each(|instance| instance.engine.wait_ready());
    scene.publish(0..200);
    scene.until_pushed(0..200, &[&sick.engine, &healthy.engine]);
    // It accepts and never answers; what was known of routes is not used any more.
    sick.redis.set(Way::Hanging);
    let mut to = 200;
    eventually("the sick one took some, and they wait for their routes", || {
        scene.publish(to..to + 50);
        to += 50;
        let metrics = sick.engine.metrics();
        // What waits at the gateway found its routes, and is not given back.
        metrics.of("events_in_flight", "") > 10 && metrics.of("outbox_recipients", "") == 0
    });
    scene.until_pushed(0..to, &[&sick.engine, &healthy.engine]);
    let metrics = sick.engine.metrics();
    assert!(metrics.events("given_back") > 10 && metrics.of("events_in_flight", "") == 0, "{}", metrics.numbers());
    scene.until_settled("d");
    assert!(!sick.engine.is_ready());
    sick.redis.set(Way::Open);
    sick.engine.wait_ready();
    healthy.engine.stop_clean();
    scene.publish(to..to + 100);
    scene.until_pushed(0..to + 100, &[&sick.engine]);
    sick.engine.stop_clean();
}

/// MySQL that is closed or hangs, Redis that hangs, etcd that is not there: all at the start.
#[test]
fn each_store_is_needed_once_at_the_start() {
    let scene = Scene::start(NatsVersion::Current);
    let (open, closed, hanging) = (Way::Open, Way::Closed, Way::Hanging);
    let sick = [[hanging, open, open], [open, closed, open], [open, hanging, open], [open, open, closed]]
        .map(|ways| scene.instance(&jetstream("queue"), ways));
    let healthy = scene.instance(&jetstream("queue"), ALL_OPEN);
    healthy.engine.wait_ready();
    scene.publish(0..400);
    scene.until_pushed(0..400, &[&healthy.engine]);
    scene.until_settled("d");
    for instance in &sick {
        assert_eq!(instance.engine.metrics().of("events_arrived_total", ""), 0, "{}", instance.engine.output());
    }
    healthy.engine.stop_clean();
    for instance in &sick {
        [&instance.redis, &instance.mysql, &instance.etcd].iter().for_each(|door| door.set(open));
    }
    sick.iter().for_each(|instance| instance.engine.wait_ready());
    // What is known of gateways is kept: etcd lost later is no reason to take nothing.
    sick.iter().for_each(|instance| instance.etcd.set(closed));
    scene.publish(400..600);
    scene.until_pushed(0..600, &[&sick[0].engine, &sick[1].engine, &sick[2].engine, &sick[3].engine]);
    scene.until_settled("d");
}

/// All instances are sick at once, for longer than a store may be away; then they heal, and each event is pushed once.
#[test]
fn all_of_them_sick_and_healed() {
    let scene = Scene::start(NatsVersion::Installed);
    let both = [0, 1].map(|_| scene.instance(&jetstream("queue"), ALL_OPEN));
    both.iter().for_each(|instance| instance.engine.wait_ready());
    both.iter().for_each(|instance| instance.mysql.set(Way::Closed));
    scene.publish(0..600);
    for instance in &both {
        instance.engine.wait_metrics("it gave up what waited", |metrics| {
            metrics.of("intake_open", "") == 0 && metrics.of("events_in_flight", "") == 0
        });
    }
    both.iter().for_each(|instance| instance.mysql.set(Way::Open));
    scene.until_pushed(0..600, &[&both[0].engine, &both[1].engine]);
    scene.until_settled("d");
    both.into_iter().for_each(|instance| drop(instance.engine.stop_clean()));
}

/// A store that comes and goes every second, never away for as long as it may be: events go on, and nothing flaps.
#[test]
fn a_store_that_flaps_shuts_nothing() {
    let scene = Scene::start(NatsVersion::Installed);
    let instance = scene.instance(&jetstream("queue"), ALL_OPEN);
    instance.engine.wait_ready();
    for round in 0..4 {
        instance.redis.set(Way::Closed);
        scene.publish(round * 50..(round + 1) * 50);
        let began = Instant::now();
        eventually("a second", || began.elapsed() > Duration::from_millis(1000));
        instance.redis.set(Way::Open);
        scene.until_pushed(0..(round + 1) * 50, &[&instance.engine]);
    }
    let output = instance.engine.stop_clean();
    assert!(!output.contains("no events are taken any more"), "{output}");
}

/// Partitions: what waited is given back and comes again in order, before what was published meanwhile.
#[test]
fn partitions_keep_their_order_over_a_sickness() {
    for version in [NatsVersion::Installed, NatsVersion::Current] {
        let scene = Scene::start(version);
        let instance = scene.instance(&jetstream("partitioned"), ALL_OPEN);
        instance.engine.wait_ready();
        scene.publish_on(0..100, partition_of);
        scene.until_pushed(0..100, &[&instance.engine]);
        instance.redis.set(Way::Closed);
        scene.publish_on(100..300, partition_of);
        instance.engine.wait_metrics("it gave up what waited", |metrics| {
            metrics.events("given_back") > 100 && metrics.of("events_in_flight", "") == 0
        });
        scene.publish_on(300..400, partition_of);
        instance.redis.set(Way::Open);
        scene.until_pushed(0..400, &[&instance.engine]);
        let records = scene.world.log.records();
        for at in 0..20_i64 {
            let (session, all) = (session_of(at), (at..400).step_by(20).collect::<Vec<_>>());
            assert_eq!(got(&records, &session, &format!("a{at}")), all, "{version:?}: {session}");
        }
        instance.engine.stop_clean();
    }
}
