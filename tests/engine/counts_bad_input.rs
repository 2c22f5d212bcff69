//! Bad input, from the broker, from Redis and from etcd, is counted by its reason, logged with an example, and disturbs
//! nothing: the good messages among it arrive as ever.

use harness::gateways::Protocols;
use prost::Message;
use testkit::engine::{World, event, got};

const GOOD: i64 = 50;
/// Of each kind of bad event.
const BAD: i64 = 5;

#[test]
fn bad_input_is_counted_by_reason_and_disturbs_nothing() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    let broken = [
        ("no-json", "not json".to_owned()),
        ("no-endpoint", r#"{"id":"gw-a","metadata":{"gateway_id":"gw-a"},"endpoints":[]}"#.to_owned()),
        ("no-address", r#"{"id":"gw-b","metadata":{"gateway_id":"gw-b"},"endpoints":["grpc://nowhere"]}"#.to_owned()),
        ("no-id", format!(r#"{{"metadata":{{}},"endpoints":["grpc://{}"]}}"#, gateway.addr())),
    ];
    broken.iter().for_each(|(instance, value)| world.register(instance, value));
    world.route("anna", "gw-1");
    world.route_value("bad-route", "not json");
    world.route_value("no-gateway", r#"{"username":"no-gateway"}"#);
    world.members("group:1", &["anna", "bad-route", "no-gateway"]);
    let engine = world.engine(2, "");

    let mut large = event("group:1", "system", 9_000);
    large.content = "x".repeat(5 << 20);
    let long = "s".repeat(65);
    let publisher = world.publisher();
    for number in 0..GOOD {
        if number < BAD {
            publisher.send(b"\xff\xff not a message");
            publisher.send(&event("", "system", number).encode_to_vec());
            publisher.send(&event(&long, "system", number).encode_to_vec());
            publisher.send(&event("group:nobody", "system", number).encode_to_vec());
            large.msg_id += 1;
            publisher.send(&large.encode_to_vec());
        }
        publisher.send(&event("group:1", "system", number).encode_to_vec());
    }
    publisher.flush();

    let metrics = engine.wait_ended((GOOD + BAD * 5) as u64);
    assert_eq!(got(&world.log.records(), "group:1", "anna"), (0..GOOD).collect::<Vec<_>>());
    for reason in ["undecodable", "no_session_id", "long_session_id", "no_members", "too_large"] {
        assert_eq!(metrics.events(reason), BAD as u64, "{reason}:\n{}", metrics.numbers());
    }
    assert_eq!(metrics.events("settled"), GOOD as u64);
    assert_eq!(metrics.recipients("delivered"), GOOD as u64);
    // Treated as offline: their messages are in the inbox.
    assert_eq!(metrics.recipients("stored"), GOOD as u64 * 2, "{}", metrics.numbers());
    for reason in ["registry_not_json", "registry_no_endpoint", "registry_bad_endpoint", "registry_no_id"] {
        let counted = metrics.of("registry_bad_entries_total", &format!("reason=\"{reason}\""));
        assert!(counted >= 1, "{reason}:\n{}", metrics.numbers());
    }

    let output = engine.stop_clean();
    for example in ["no-json", "no-endpoint", "no-address", "no-id", "group:nobody", "undecodable", "bad-route"] {
        assert!(output.contains(example), "the log has no example of {example}:\n{output}");
    }
    let lines = output.lines().filter(|line| line.contains("WARN")).count();
    assert!(lines < BAD as usize * 5, "one line a reason and while, not one an event: {lines}\n{output}");
}
