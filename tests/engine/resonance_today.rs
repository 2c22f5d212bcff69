//! Promise: Resonance's own YAML runs unchanged: members, rows and contents in PostgreSQL, a gateway that speaks `Push` alone, each
//! member a row, the sender too; and a server that goes away and comes back loses nothing.

use harness::gateways::{Gateway, GatewayOptions, Protocols};
use testkit::databases::{Database, Kind};
use testkit::engine::{SECRETS, World, got};

/// The file.
pub const FILE: &str = include_str!("../../config/resonance.yaml");

/// Where its servers are, over what the file says.
pub fn servers(world: &World, database: &Database) -> [(&'static str, String); 8] {
    let [nats, redis, _, etcd] = SECRETS;
    [
        ("RESONANCE_POSTGRES_PASSWORD", "resonance".to_owned()),
        ("RESONANCE_POSTGRES_PORT", database.port().to_string()),
        ("RESONANCE_NATS_URL", format!("nats://{nats}@{}", world.nats.addr())),
        ("RESONANCE_REDIS_ADDR", world.redis.addr()),
        ("RESONANCE_REDIS_PASSWORD", redis.to_owned()),
        ("RESONANCE_ETCD_ENDPOINTS", world.etcd.plain_addr()),
        ("RESONANCE_ETCD_USERNAME", "root".to_owned()),
        ("RESONANCE_ETCD_PASSWORD", etcd.to_owned()),
    ]
}

#[test]
fn resonances_own_file_runs_against_postgresql() {
    let (world, database) = (World::start(), Database::start(Kind::Postgres));
    let options = GatewayOptions::new("gateway-service-1", world.log.clone()).protocols(Protocols::UNARY);
    let gateway = Gateway::start(options).expect("a gateway");
    // As its gateways register: no gateway_id, no protocols.
    let value = format!(
        r#"{{"id":"gateway-service-1","name":"gateway-service","version":"1","metadata":{{}},"endpoints":["grpc://{}"]}}"#,
        gateway.addr()
    );
    world.register("gateway-service-1", &value);
    database.add([("group:1", "anna"), ("group:1", "bert"), ("group:1", "cleo")]);
    world.route("anna", "gateway-service-1");
    let servers = servers(&world, &database);
    let engine = world.engine_as(2, FILE, &servers.each_ref().map(|(name, value)| (*name, value.as_str())));
    engine.wait_ready();
    let ready = engine.page("/readyz?verbose").expect("a page").1;
    assert!(ready.contains("postgres") && !ready.contains("mysql"), "{ready}");

    let publisher = world.publisher();
    publisher.publish("group:1", "cleo", 1..=10);
    let metrics = engine.wait_ended(10);
    assert_eq!(metrics.recipients("delivered"), 10, "{}", metrics.numbers());
    assert_eq!(got(&world.log.records(), "group:1", "anna"), (1..=10).collect::<Vec<_>>());

    // It goes away with events on their way: they wait, and end well.
    database.kill();
    publisher.publish("group:1", "cleo", 11..=20);
    database.start_again();
    let metrics = engine.wait_ended(20);
    assert_eq!(metrics.recipients("delivered"), 20, "{}", metrics.numbers());
    let rows = database.stored();
    for user in ["anna", "bert", "cleo"] {
        let of: Vec<i64> = rows.iter().filter(|row| row.0 == user).map(|row| row.2).collect();
        assert_eq!(of, (1..=20).collect::<Vec<_>>(), "{user}");
    }
    assert_eq!((rows.len(), database.root().number("SELECT COUNT(*) FROM t_inbox WHERE is_read = 0")), (60, 60));
    let output = engine.stop_clean();
    let explained = "gateway_pusher_count: has no effect here: one connection a gateway carries its pushes";
    assert!(output.contains(explained), "{output}");
}
