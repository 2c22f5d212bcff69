//! A user with several devices is pushed at the gateway of each, and has a row only when none of them took the message; the routes are
//! written by the scripts of `contrib/redis`.

use harness::gateways::{Protocols, Record};
use testkit::engine::World;

/// The message ids that a user got at a gateway, in order.
fn got_at(records: &[Record], gateway: &str, user: &str) -> Vec<i64> {
    let here = records.iter().filter(|record| &*record.gateway == gateway && record.recipient == user);
    here.map(|record| record.msg_id).collect()
}

#[test]
fn each_device_gets_each_message_where_it_is() {
    let world = World::start();
    let _gateways = ["gw-1", "gw-2", "gw-3"].map(|id| world.gateway(id, Protocols::STREAM));
    world.members("group:1", &["anna", "bert", "gone"]);
    world.add_device("anna", "phone", "gw-1");
    world.add_device("anna", "web", "gw-2");
    world.add_device("bert", "web", "gw-2");
    world.route_value("gone", r#"{"gateway_id":"gw-lost","gateways":["gw-lost","gw-lost","gw-nowhere"]}"#);
    let engine = world.engine(2, "gateway:\n  delivery_timeout: 1s\n");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", 1..=20);
    engine.wait_ended(20);

    // Her phone comes to another gateway; the goodbye of its old connection is late and changes nothing.
    world.add_device("anna", "phone", "gw-3");
    world.remove_device("anna", "phone", "gw-1");
    publisher.publish("group:1", "system", 21..=40);
    engine.wait_ended(40);
    world.remove_device("anna", "web", "gw-2");
    publisher.publish("group:1", "system", 41..=60);
    let metrics = engine.wait_ended(60);

    let records = world.log.records();
    let ids = |range: std::ops::RangeInclusive<i64>| range.collect::<Vec<_>>();
    for (gateway, user, expected) in [
        ("gw-1", "anna", ids(1..=20)),
        ("gw-2", "anna", ids(1..=40)),
        ("gw-3", "anna", ids(21..=60)),
        ("gw-2", "bert", ids(1..=60)),
    ] {
        assert_eq!(got_at(&records, gateway, user), expected, "{user} at {gateway}\n{}", metrics.numbers());
    }
    assert_eq!(metrics.recipients("delivered"), 120, "{}", metrics.numbers());
    assert_eq!(metrics.recipients("stored"), 60, "gone is at gateways that nobody knows: {}", metrics.numbers());
    assert_eq!(metrics.of("recipient_copies_missed_total", ""), 0, "{}", metrics.numbers());
    assert!(metrics.of("route_lists_mended_total", "") > 0, "{}", metrics.numbers());
    assert!(engine.stop_clean().contains("names a gateway twice"), "it is said");
}
