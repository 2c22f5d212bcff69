//! Whatever is at the address of a gateway, what it costs is bounded in memory and in time: its own users' messages have their end
//! within the delivery timeout, and users elsewhere do not wait for it.

use std::time::Duration;

use prost::Message;
use testkit::engine::{World, event};

use crate::raw_gateway::{Bad, FORGED, RawGateway};
use crate::siege::{Siege, good_gateway, judge, resident};

/// Each bad gateway's events, and what they weigh: together more than the engine holds unsent of a stream.
const EVENTS: i64 = 40;
const CONTENT_BYTES: usize = 128 * 1024;
/// What one bad gateway may cost beside the events themselves.
const GROWN_MAX: u64 = 48 << 20;
/// On a machine that others use as well.
const SLOWEST_MAX: Duration = Duration::from_secs(3);
const LEAST: Duration = Duration::from_millis(1_500);

fn register(world: &World, id: &str, protocol: &str, gateway: &RawGateway) {
    let endpoint = gateway.address;
    let value = format!(
        r#"{{"id":"instance-{id}","metadata":{{"gateway_id":"{id}","push_protocols":"{protocol}"}},"endpoints":["grpc://{endpoint}"]}}"#
    );
    world.register(id, &value);
}

fn publish(world: &World, session: &str) {
    let publisher = world.publisher();
    for msg_id in 1..=EVENTS {
        let mut event = event(session, "system", msg_id);
        event.content = "x".repeat(CONTENT_BYTES);
        publisher.send(&event.encode_to_vec());
    }
    publisher.flush();
}

#[test]
fn a_bad_gateway_costs_bounded_memory_and_its_own_users_only() {
    let world = World::start();
    let good = good_gateway(&world);
    let engine = world.engine(1, "gateway:\n  delivery_timeout: 2s\n");
    let mut siege = Siege::of(&world, &engine, &good);
    println!("| gateway | memory | slowest push elsewhere | until its events had ended |\n|---|---|---|---|");
    for bad in Bad::ALL {
        let id = format!("{bad:?}").to_lowercase();
        let gateway = RawGateway::start(bad);
        let (user, session) = (format!("user-{id}"), format!("group:{id}"));
        register(&world, &id, bad.protocol(), &gateway);
        world.route(&user, &id);
        world.members(&session, &[user]);
        let before = resident(&engine);
        publish(&world, &session);
        let mut is_there = false;
        let cost = siege.watch(before, LEAST, || {
            is_there |= gateway.connections() > 0;
            // The good user's may be one of them.
            is_there && engine.metrics().of("events_in_flight", "") <= 1
        });
        judge(&format!("{bad:?}"), cost, GROWN_MAX, SLOWEST_MAX);
        assert!(gateway.connections() < 60, "{bad:?}: {} connections in {:?}", gateway.connections(), cost.took);
    }
    let output = engine.output();
    assert!(!output.lines().any(|line| line.trim_start().starts_with(FORGED)), "{output}");
    assert!(output.contains(FORGED), "it was said, in a line of its own gateway\n{output}");
    assert!(!output.contains("\u{1b}[2J"), "and moves nobody's terminal");
    engine.stop_clean();
}
