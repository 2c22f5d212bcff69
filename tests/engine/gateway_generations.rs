//! Promise: each generation of Resonance's gateways is pushed to as it takes it, though none says in the registry which it is: one user
//! a request, several users a request (0.1.0), a call a message (today). What `gateway.protocol` says wrongly of one costs it no message.

use harness::gateways::{Gateway, GatewayOptions, Protocols};
use testkit::engine::{World, got};

const GENERATIONS: [(&str, Protocols); 3] =
    [("gw-first", Protocols::STREAM), ("gw-010", Protocols::MANY), ("gw-today", Protocols::UNARY)];
const USERS: usize = 4;
const EVENTS: i64 = 10;
/// Its gateway does not know it any more.
const GONE: &str = "gw-010-3";

/// Gives how many requests each gateway has answered, and what the engine wrote.
fn each_gets_all(protocol: &str) -> ([u64; 3], String) {
    let world = World::start();
    let gateways = GENERATIONS.map(|(id, protocols)| {
        let gateway = Gateway::start(GatewayOptions::new(id, world.log.clone()).protocols(protocols)).expect("a gateway");
        // As they register: no gateway_id, and no push_protocols.
        let value = format!(
            r#"{{"id":"{id}","name":"gateway-service","version":"1.0.0","metadata":{{"http_addr":"h:8080"}},"endpoints":["grpc://{}"]}}"#,
            gateway.addr()
        );
        world.register(id, &value);
        gateway
    });
    gateways[1].refuse([GONE]);
    let users = GENERATIONS.iter().flat_map(|(id, _)| (0..USERS).map(move |user| (format!("{id}-{user}"), *id)));
    let users: Vec<_> = users.collect();
    users.iter().for_each(|(user, gateway)| world.route(user, gateway));
    world.members("group:1", &users.iter().map(|(user, _)| user).collect::<Vec<_>>());

    let engine = world.engine(2, &format!("gateway:\n  protocol: {protocol}\n"));
    world.publisher().publish("group:1", "system", 1..=EVENTS);
    let metrics = engine.wait_ended(EVENTS as u64);
    let delivered = (users.len() as u64 - 1) * EVENTS as u64;
    assert_eq!(metrics.recipients("delivered"), delivered, "{protocol}: {}", metrics.numbers());
    let records = world.log.records();
    for (user, gateway) in users.iter().filter(|(user, _)| user != GONE) {
        let mut ids = got(&records, "group:1", user);
        // A gateway that is not what the configuration says has told one user of a frame before it is found out.
        if protocol == "stream-many" && *gateway == "gw-first" {
            ids.sort_unstable();
            ids.dedup();
        }
        assert_eq!(ids, (1..=EVENTS).collect::<Vec<_>>(), "{protocol}: {user}");
    }
    (gateways.each_ref().map(Gateway::answers), engine.stop_clean())
}

#[test]
fn one_user_a_frame_is_taken_by_the_first_two_and_calls_by_the_third() {
    let (answers, output) = each_gets_all("stream");
    assert_eq!(answers, [USERS as u64, USERS as u64, 1].map(|requests| requests * EVENTS as u64));
    assert!(!output.contains("gateway_broken") && !output.contains("answer_mismatch"), "{output}");
}

#[test]
fn several_users_a_frame_are_taken_by_the_second_and_the_first_is_found_out() {
    let ([_, many, calls], output) = each_gets_all("stream-many");
    assert_eq!((many, calls), (EVENTS as u64, EVENTS as u64), "a request a message");
    let found_out = "it answers as one that takes one user a frame, and is sent one a frame from now on";
    assert_eq!(
        output.lines().filter(|line| line.contains(found_out) && line.contains("gw-first")).count(),
        1,
        "{output}"
    );
}
