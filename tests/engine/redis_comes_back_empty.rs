//! A Redis that comes back empty costs nobody a push who is still at the gateway that is known: neither FLUSHALL nor a
//! restart without data. Who has left is stored.

use harness::gateways::Protocols;
use testkit::engine::{World, eventually, got};

#[test]
fn users_are_pushed_where_they_were_until_their_routes_are_written_again() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    let users = ["anna", "bert", "gone"];
    users.iter().for_each(|user| world.route(user, "gw-1"));
    world.members("group:1", &[&users[..], &["offline"]].concat());
    let engine = world.engine(2, "");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", 1..=20);
    engine.wait_ended(20);

    let flush = || {
        let client = redis::Client::open(world.redis.url()).expect("an address");
        redis::cmd("FLUSHALL").exec(&mut client.get_connection().expect("Redis answers")).expect("FLUSHALL");
    };
    let asked = engine.metrics().of("mgets_total", "");
    flush();
    // Redis says so a moment later: until then routes need not be asked for.
    let mut seen = 20;
    eventually("routes are asked for anew", || {
        seen += 1;
        publisher.publish("group:1", "system", [seen]);
        engine.wait_ended(seen as u64).of("mgets_total", "") > asked
    });
    gateway.refuse(["gone"]);
    publisher.publish("group:1", "system", seen + 1..=seen + 40);
    let seen = seen + 40;
    let metrics = engine.wait_ended(seen as u64);
    assert_eq!(metrics.recipients("delivered"), 3 * seen as u64 - 40, "{}", metrics.numbers());
    assert_eq!(metrics.recipients("stored"), seen as u64 + 40, "{}", metrics.numbers());

    world.redis.kill9();
    eventually("/readyz says that Redis is away", || !engine.is_ready());
    world.redis.restart().expect("Redis comes back");
    engine.wait_ready();
    publisher.publish("group:1", "system", seen + 1..=seen + 40);
    let seen = seen + 40;
    engine.wait_ended(seen as u64);

    let later = world.gateway("gw-2", Protocols::STREAM);
    world.route("anna", "gw-2");
    publisher.publish("group:1", "system", seen + 1..=seen + 20);
    let seen = seen + 20;
    let metrics = engine.wait_ended(seen as u64);
    let records = world.log.records();
    let all: Vec<i64> = (1..=seen).collect();
    for user in ["anna", "bert"] {
        assert_eq!(got(&records, "group:1", user), all, "{user}\n{}\n{}", metrics.numbers(), engine.output());
    }
    assert_eq!(later.pushes(), 20, "what Redis tells counts at once");
    assert!(metrics.of("routes_kept_total", "") >= 5, "{}", metrics.numbers());
    let output = engine.stop_clean();
    assert!(output.contains("routes_vanished"), "{output}");
}
