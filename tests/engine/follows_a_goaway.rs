//! A gateway that says GOAWAY is left at once and politely: what it has is answered there, the rest goes on a new
//! connection; nothing is repeated, lost or out of order, and the old connection ends.

use harness::gateways::Protocols;
use testkit::engine::{PATIENCE, World, got};

/// Times that the gateway says it, each while pushes are under way.
const GOODBYES: i64 = 5;
const EVENTS_BETWEEN: i64 = 200;

fn goodbyes_cost_nothing(protocols: Protocols) {
    let world = World::start();
    let gateway = world.gateway("gw-1", protocols);
    world.route("anna", "gw-1");
    world.members("single:1", &["anna", "bert"]);
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    publisher.publish("single:1", "bert", [1]);
    engine.wait_ended(1);
    for time in 0..GOODBYES {
        let first = 2 + time * EVENTS_BETWEEN;
        publisher.publish("single:1", "bert", first..first + EVENTS_BETWEEN / 2);
        gateway.goaway();
        publisher.publish("single:1", "bert", first + EVENTS_BETWEEN / 2..first + EVENTS_BETWEEN);
        engine.wait_ended((first + EVENTS_BETWEEN - 1) as u64);
    }
    let metrics = engine.metrics();
    let all: Vec<i64> = (1..=1 + GOODBYES * EVENTS_BETWEEN).collect();
    assert_eq!(got(&world.log.records(), "single:1", "anna"), all, "{}", metrics.numbers());
    assert_eq!(metrics.of("gateway_breaks_total", ""), 0, "a goodbye is no break\n{}", engine.output());

    // Also when nothing is under way: the connection must not keep the gateway from ending.
    let before = gateway.accepted();
    assert!(before > 1, "a new connection after a goodbye: {before}");
    gateway.goaway();
    gateway.wait("the quiet connection to end", PATIENCE, |gateway| gateway.open() == 0).expect("it ends");
    let next = all.len() as i64 + 1;
    publisher.publish("single:1", "bert", [next]);
    engine.wait_ended(next as u64);
    assert_eq!(gateway.accepted(), before + 1);
    engine.stop_clean();
}

#[test]
fn on_a_stream() {
    goodbyes_cost_nothing(Protocols::STREAM);
}

#[test]
fn in_batches() {
    goodbyes_cost_nothing(Protocols::BATCH);
}

#[test]
fn with_unary_calls() {
    goodbyes_cost_nothing(Protocols::UNARY);
}
