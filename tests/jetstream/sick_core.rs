//! Core NATS: whoever cannot work is not in the queue group; what it has in hand it keeps and finishes.

use harness::servers::NatsVersion;

use crate::door::Way;
use crate::scene::{ALL_OPEN, CORE, Instance, Scene};
use testkit::engine::eventually;

#[test]
fn one_that_is_sick_at_the_start_never_joins() {
    let scene = Scene::start(NatsVersion::Installed);
    let sick = scene.instance(CORE, [Way::Closed, Way::Open, Way::Open]);
    let healthy = scene.instance(CORE, ALL_OPEN);
    healthy.engine.wait_ready();
    scene.publish(0..500);
    scene.until_pushed(0..500, &[&healthy.engine, &sick.engine]);
    assert_eq!(sick.engine.metrics().of("events_read_total", ""), 0);
    sick.redis.set(Way::Open);
    sick.engine.wait_ready();
    healthy.engine.stop_clean();
    scene.publish(500..600);
    scene.until_pushed(0..600, &[&sick.engine]);
    sick.engine.stop_clean();
}

#[test]
fn one_that_becomes_sick_leaves_and_keeps_what_it_has() {
    let scene = Scene::start(NatsVersion::Installed);
    let [sick, healthy] = [0, 1].map(|_| scene.instance(CORE, ALL_OPEN));
    [&sick, &healthy].iter().for_each(|instance| instance.engine.wait_ready());
    sick.redis.set(Way::Hanging);
    let read = |instance: &Instance| instance.engine.metrics().of("events_read_total", "");
    let mut to = 200;
    scene.publish(0..to);
    sick.engine.wait_metrics("it takes no more", |metrics| metrics.of("intake_open", "") == 0);
    let mut in_hand = 0;
    eventually("a round in which nothing goes to the sick one", || {
        scene.publish(to..to + 20);
        to += 20;
        eventually("all are read", || read(&sick) + read(&healthy) == to as u64);
        let before = std::mem::replace(&mut in_hand, read(&sick));
        before == in_hand
    });
    assert!(in_hand > 0 && sick.engine.metrics().of("events_in_flight", "") == in_hand, "{}", sick.engine.output());
    scene.publish(to..to + 300);
    to += 300;
    healthy.engine.wait_ended(to as u64 - in_hand);
    assert_eq!(read(&sick), in_hand, "nothing went to the sick one");
    sick.redis.set(Way::Open);
    sick.engine.wait_ready();
    sick.engine.wait_ended(in_hand);
    scene.until_pushed(0..to, &[&sick.engine, &healthy.engine]);
    sick.engine.stop_clean();
    healthy.engine.stop_clean();
}
