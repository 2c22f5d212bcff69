//! Promise: with TLS on all five links nothing that crosses the network can be read: no message, no name, no password; the same relays,
//! with the links in plain, show each of them.

use harness::gateways::Protocols;
use harness::servers::{EngineConfig, Maria};
use testkit::engine::{PATIENCE, SECRETS, World, got};

use crate::proxy::Proxy;

const EVENTS: i64 = 200;
/// What no link may show: the beginning of each message's content, a user, and passwords.
const USER: &str = "anna-who-is-pushed-to";
const CONTENT: &str = "message 1";

/// A relay before each link's server: NATS, Redis, MySQL, etcd, gateway.
struct Relays([Proxy; 5]);

impl Relays {
    fn before(ports: [u16; 5]) -> Self {
        Self(ports.map(Proxy::recording))
    }

    /// A configuration that leads through them.
    fn config(&self, mut config: EngineConfig, scheme: &str) -> EngineConfig {
        let [nats, redis, mysql, etcd, _] = self.0.each_ref().map(Proxy::address);
        config.set("nats", "url", format_args!("nats://{nats}")).set("redis", "addr", redis);
        config.set("mysql", "port", mysql.port()).set("etcd", "endpoints", format_args!("[\"{scheme}://{etcd}\"]"));
        config
    }

    /// Which of these each has shown, and that each has relayed something.
    fn shown(&self) -> [Vec<&'static str>; 5] {
        let texts: Vec<_> = [USER, CONTENT].into_iter().chain(SECRETS).collect();
        self.0.each_ref().map(|relay| {
            let all = relay.recorded();
            assert!(all.len() > 500, "nothing went this way: {} bytes", all.len());
            let is_in = |text: &&str| all.windows(text.len()).any(|window| window == text.as_bytes());
            texts.iter().copied().filter(is_in).collect()
        })
    }
}

fn registered(world: &World, scheme: &str, relay: &Proxy) {
    let value = format!(r#"{{"id":"gw-1","endpoints":["{scheme}://{}"]}}"#, relay.address());
    world.register("gw-1", &value);
}

/// Pushes events to a user who is there and stores them for one who is not.
fn pushes(world: &World, yaml: &str, first: i64) {
    let engine = world.engine_of(1, yaml);
    engine.wait_ready();
    world.publisher().publish("group:1", "system", first..first + EVENTS);
    let all: Vec<_> = (first..first + EVENTS).collect();
    let came = world.log.wait(PATIENCE, |records| got(records, "group:1", USER).ends_with(&all));
    assert!(came.is_ok(), "{}\n{}", engine.metrics().numbers(), engine.output());
    let metrics = engine.wait_ended(EVENTS as u64);
    assert_eq!(metrics.recipients("delivered"), EVENTS as u64, "{}", metrics.numbers());
    let output = engine.stop_clean();
    assert!(SECRETS.iter().all(|secret| !output.contains(secret)), "{output}");
}

#[test]
fn nothing_can_be_read_on_any_link() {
    let world = World::over_tls();
    let tls = world.tls.as_ref().expect("it speaks TLS");
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route(USER, "gw-1");
    world.members("group:1", &[USER, "bert-who-is-away"]);
    let (nats, mysql, etcd) = (world.nats.port(), world.maria.port(), world.etcd.port());
    let relays = Relays::before([nats, tls.redis_port(), mysql, etcd, gateway.port()]);
    registered(&world, "grpcs", &relays.0[4]);
    pushes(&world, &relays.config(world.config(), "https").text(), 1);
    assert_eq!(relays.shown(), [const { Vec::<&str>::new() }; 5]);

    // That a relay would show it.
    drop(gateway);
    let gateway = world.plain_gateway("gw-1", Protocols::STREAM);
    let etcd: u16 = world.etcd.plain_addr().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let relays = Relays::before([nats, world.redis.port(), mysql, etcd, gateway.port()]);
    registered(&world, "grpc", &relays.0[4]);
    let mut config = relays.config(world.plain_config(), "http");
    // The engine's own user is let in over TLS only. Its password goes as a hash.
    config.set("mysql", "username", Maria::USER).set("mysql", "password", Maria::PASSWORD);
    pushes(&world, &config.text(), 1_000);
    let [nats, redis, mysql, etcd, gateway] = relays.shown();
    assert_eq!((nats, gateway), (vec![CONTENT, SECRETS[0]], vec![USER, CONTENT]));
    assert_eq!((redis, mysql, etcd), (vec![USER, SECRETS[1]], vec![USER], vec![SECRETS[3]]));
}
