//! Core NATS: whoever cannot work is not in the queue group; what it has in hand it keeps and finishes.

use loadtest::servers::NatsVersion;

use crate::door::Way;
use crate::scene::{ALL_OPEN, CORE, Scene};

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
    scene.publish(0..200);
    let in_hand = sick.engine.wait_metrics("it has left", |metrics| metrics.of("intake_open", "") == 0);
    let in_hand = in_hand.of("events_read_total", "");
    assert!(in_hand > 0, "{}", sick.engine.output());
    // The server knows it no more once it says that it reads nothing.
    crate::support::eventually("it says so", || {
        sick.engine.page("/readyz?verbose").is_some_and(|(_, page)| page.contains("no events are read"))
    });
    crate::support::eventually("the subscription is gone", || {
        let before = sick.engine.metrics().of("events_read_total", "");
        scene.publish(0..1);
        healthy.engine.metrics().of("events_read_total", "") > 0 && before == in_hand
    });
    scene.publish(200..500);
    healthy.engine.wait_metrics("the other one has the rest", |metrics| {
        metrics.of("events_in_flight", "") == 0 && metrics.of("events_read_total", "") >= 300
    });
    assert_eq!(sick.engine.metrics().of("events_read_total", ""), in_hand, "nothing went to the sick one");
    sick.redis.set(Way::Open);
    sick.engine.wait_ready();
    sick.engine.wait_metrics("what was in hand is finished", |metrics| metrics.of("events_in_flight", "") == 0);
    sick.engine.stop_clean();
    healthy.engine.stop_clean();
}
