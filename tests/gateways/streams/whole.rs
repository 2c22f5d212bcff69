//! The same with the whole engine: a gateway that answers what was not asked does not hold up a stop, and a hop that says "not
//! now" loses nothing.

use std::time::{Duration, Instant};

use testkit::engine::{World, eventually};

use super::peer::{Manner, Peer, Strange};

/// A peer that is registered as a gateway of this protocol.
fn registered(world: &World, id: &str, protocols: &str, manner: Manner) -> Peer {
    let peer = Peer::start(manner);
    let value = format!(
        r#"{{"id":"instance-{id}","name":"gateway-service","version":"1","metadata":{{"gateway_id":"{id}","push_protocols":"{protocols}"}},"endpoints":["grpc://{}"]}}"#,
        peer.address
    );
    world.register(id, &value);
    peer
}

#[test]
fn a_stop_waits_for_no_gateway_that_answers_what_was_not_asked() {
    let world = World::start();
    let peer = registered(&world, "gw-odd", "batch", Manner::Strange(Strange::Counter));
    world.route("anna", "gw-odd");
    world.members("group:1", &["anna"]);
    let engine = world.engine(1, "");
    world.publisher().publish("group:1", "system", 1..=10);
    eventually("something was pushed", || peer.seen.most_copies() > 0);
    let began = Instant::now();
    let output = engine.stop_clean();
    let took = began.elapsed();
    // gateway.delivery_timeout and a moment; engine.drain_timeout is 25 s.
    assert!(took < Duration::from_secs(14), "{took:?}\n{output}");
    let (copies, connections) = (peer.seen.most_copies(), peer.connections());
    assert!(copies <= 6 && connections <= 20, "{copies} copies, {connections} connections\n{output}");
    let line = output.lines().find(|line| line.contains("batch's answer")).unwrap_or_default();
    assert!(line.contains("gw-odd"), "the log names the gateway and what it did\n{output}");
    println!("stopped after {took:?}, {copies} copies, {connections} connections: {line}");
}

#[test]
fn a_hop_that_says_not_now_costs_time_only_on_each_protocol() {
    let world = World::start();
    let engine = world.engine(1, "");
    let users = [("anna", "stream"), ("bert", "batch"), ("carl", "unary")];
    let peers = users.map(|(user, protocol)| {
        world.route(user, protocol);
        world.members(&format!("group:{user}"), &[user]);
        registered(&world, protocol, protocol, Manner::ReadsThenStatus(14))
    });
    let publisher = world.publisher();
    users.iter().for_each(|(user, _)| publisher.publish(&format!("group:{user}"), "system", 1..=20));
    let refused = |peer: &Peer| peer.seen.most_copies() > 5;
    eventually("each has refused a few times", || peers.iter().all(refused));
    peers.iter().for_each(|peer| peer.behave(Manner::Good));
    let metrics = engine.wait_ended(60);
    assert_eq!(metrics.recipients("delivered"), 60, "{}", metrics.numbers());
    engine.stop_clean();
}
