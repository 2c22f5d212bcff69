//! A described world can be read back from the real servers, and what is published reaches who subscribed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use loadtest::gateways::{Gateway, GatewayOptions, Log, Protocols};
use loadtest::publisher::{NatsPublisher, Subject};
use loadtest::servers::{Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions};
use loadtest::verdict::{gateway_of, member_name, session_name};
use loadtest::world::World;
use mysql::prelude::Queryable;

#[test]
fn members_routes_and_gateways_are_where_the_engine_looks() {
    let world = World { sizes: vec![2, 1_500], gateways: 3 };
    let (maria, redis) = (Maria::start().unwrap(), Redis::start(&RedisOptions::default()).unwrap());
    let etcd = Etcd::start(&EtcdOptions::default()).unwrap();
    world.seed_members(&maria).unwrap();
    world.seed_members(&maria).unwrap();
    let mut conn = maria.connect().unwrap();
    let counts: Vec<(String, u64)> = conn
        .query("SELECT session_id, COUNT(*) FROM t_session_member GROUP BY session_id ORDER BY session_id")
        .unwrap();
    assert_eq!(counts, [(session_name(0), 2), (session_name(1), 1_500)]);

    world.seed_routes(&redis).unwrap();
    let mut conn = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let key = format!("resonance:router:user:{}", member_name(1, 1_499));
    let route: String = redis::cmd("GET").arg(&key).query(&mut conn).unwrap();
    assert!(route.contains(&format!("\"gateway_id\":\"gateway-{}\"", gateway_of(1, 1_499, 3))), "{route}");
    let ttl: i64 = redis::cmd("TTL").arg(&key).query(&mut conn).unwrap();
    assert!(ttl > 3_600, "{ttl}");

    let gateway = Gateway::start(GatewayOptions::new("gateway-0", Log::shared()).protocols(Protocols::ALL)).unwrap();
    world.register(&etcd, std::slice::from_ref(&gateway)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let mut client = etcd_client::Client::connect([etcd.addr()], None).await.unwrap();
        client.get("/resonance/services/gateway-service/gateway-0", None).await.unwrap()
    });
    let entry: serde_json::Value = serde_json::from_slice(answer.kvs()[0].value()).unwrap();
    assert_eq!(entry["endpoints"][0], format!("grpc://{}", gateway.addr()));
    assert_eq!(entry["metadata"]["push_protocols"], "batch,stream,unary");
    assert_ne!(answer.kvs()[0].lease(), 0);
}

#[test]
fn published_events_arrive_on_their_subjects_in_order() {
    let nats = Nats::start(&NatsOptions::default()).unwrap();
    let mut subscriber = TcpStream::connect(nats.addr()).unwrap();
    subscriber.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    subscriber.write_all(b"CONNECT {\"verbose\":false}\r\nSUB topic.> 1\r\nPING\r\n").unwrap();
    let mut lines = BufReader::new(subscriber).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line == "PONG"), "the subscription holds before anything is published");

    let subject = Subject::Partitioned { topic: "topic".into(), partitions: 64 };
    // FNV-1a of "foobar" is 0xbf9cf968: modulo 64 that is 40.
    assert_eq!(subject.of("foobar"), "topic.40");
    let mut publisher = NatsPublisher::connect(&nats.addr()).unwrap();
    for number in 0..5_000 {
        publisher.publish(&subject.of("foobar"), format!("{number:05}").as_bytes()).unwrap();
    }
    publisher.sync().unwrap();
    for number in 0..5_000 {
        assert_eq!(lines.next().unwrap(), "MSG topic.40 1 5");
        assert_eq!(lines.next().unwrap(), format!("{number:05}"));
    }
    nats.kill9();
    assert!(publisher.sync().is_err(), "a dead server takes nothing");
}
