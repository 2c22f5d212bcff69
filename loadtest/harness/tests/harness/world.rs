//! A world can be read back from the real servers, routes follow who moves, and what is published reaches who subscribed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::gateways::{Gateway, GatewayOptions, Log, Protocols};
use harness::moves::{Mover, RouteWriter};
use harness::publisher::{NatsPublisher, Subject};
use harness::servers::{Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions};
use harness::verdict::Verdict;
use harness::workload::{How, Misbehaving, SessionGroup, Workload};
use harness::world::World;
use mysql::prelude::Queryable;
use task_engine::model::proto::gateway::push_service_client::PushServiceClient;
use task_engine::model::proto::gateway::{PushMessage, PushRequest};

/// Two small sessions and a large one over three gateways, a fifth of the users offline.
fn world() -> Arc<World> {
    let mut workload = Workload::find("offline-20").unwrap();
    (workload.users, workload.gateways) = (2_000, 3);
    let group = |count, members| SessionGroup { count, members, share: 1, ..SessionGroup::default() };
    workload.sessions = vec![group(2, 2), group(1, 1_500)];
    workload.check().unwrap();
    World::new(&workload)
}

/// What Redis has of users' routes, by user: the gateway's name.
fn routes(redis: &Redis, users: u32) -> Vec<Option<String>> {
    let mut conn = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> =
        (0..users).map(|user| format!("resonance:router:user:{}", World::user_name(user))).collect();
    let found: Vec<Option<String>> = redis::cmd("MGET").arg(&keys).query(&mut conn).unwrap();
    let gateway = |route: String| {
        let route: serde_json::Value = serde_json::from_str(&route).unwrap();
        route["gateway_id"].as_str().unwrap().to_owned()
    };
    let ttl: i64 = redis::cmd("TTL").arg(&keys[0]).query(&mut conn).unwrap();
    assert!(ttl > 3_600, "{ttl}");
    found.into_iter().map(|route| route.map(gateway)).collect()
}

/// What the routes must say.
fn places(world: &World) -> Vec<Option<String>> {
    let places = (0..world.workload().users).map(|user| world.place(user));
    places.map(|place| (!place.is_offline).then(|| World::gateway_name(place.current))).collect()
}

#[test]
fn members_routes_and_gateways_are_where_the_engine_looks() {
    let world = world();
    let (maria, redis) = (Maria::start().unwrap(), Redis::start(&RedisOptions::default()).unwrap());
    let etcd = Etcd::start(&EtcdOptions::default()).unwrap();
    let gateway = Gateway::start(GatewayOptions::new("gateway-0", Log::shared()).protocols(Protocols::ALL)).unwrap();
    let gateways = std::slice::from_ref(&gateway);
    world.seed(&maria, &redis, &etcd, gateways).unwrap();
    world.seed(&maria, &redis, &etcd, gateways).unwrap();

    let mut conn = maria.connect().unwrap();
    let count = "SELECT session_id, COUNT(*) FROM t_session_member GROUP BY session_id ORDER BY session_id";
    let counts: Vec<(String, u64)> = conn.query(count).unwrap();
    assert_eq!(counts, [(World::session_name(0), 2), (World::session_name(1), 2), (World::session_name(2), 1_500)]);
    let members = format!("SELECT username FROM t_session_member WHERE session_id = '{}'", World::session_name(1));
    let members: HashSet<String> = conn.query(members).unwrap().into_iter().collect();
    assert_eq!(members, world.members(1).map(World::user_name).collect::<HashSet<_>>());

    let seeded = routes(&redis, world.workload().users);
    assert_eq!(seeded, places(&world));
    assert_eq!(seeded.iter().flatten().count(), 1_600, "a fifth is offline");

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
fn routes_in_redis_follow_the_users_that_move() {
    let mut workload = world().workload().clone();
    workload.moves_per_second = 20_000;
    let (world, redis) = (World::new(&workload), Redis::start(&RedisOptions::default()).unwrap());
    let before = places(&world);
    let mover = Mover::start(world.clone(), RouteWriter::Redis(redis.url())).unwrap().expect("users move");
    let until = Instant::now() + Duration::from_secs(30);
    while mover.moves() < 2_000 && Instant::now() < until {
        std::thread::yield_now();
    }
    mover.stop().unwrap();
    let after = places(&world);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(moved > 500, "{moved} of 1,600 are elsewhere than before");
    assert_eq!(routes(&redis, workload.users), after);
}

#[test]
fn gateways_refuse_users_that_are_not_connected_to_them() {
    for plain in [false, true] {
        let mut workload = world().workload().clone();
        workload.misbehaving = vec![Misbehaving { gateway: 2, how: How::Refusing, ms: 0 }];
        let world = World::new(&workload);
        let gateways = world.start_gateways(&Verdict::new(world.clone()), Protocols::UNARY, plain).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let user_at = |gateway| {
            let is_there = |user: &u32| !world.place(*user).is_offline && world.place(*user).current == gateway;
            World::user_name((0..workload.users).find(is_there).unwrap())
        };
        for (user, refused) in [(user_at(0), false), (user_at(1), true), (user_at(2), true)] {
            let at = if user == user_at(2) { 2 } else { 0 };
            let answer = runtime.block_on(async {
                let endpoint = format!("http://{}", gateways[at].addr());
                let channel = tonic::transport::Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
                let mut client = PushServiceClient::new(channel);
                let message = Some(PushMessage { msg_id: 1, session_id: World::session_name(2), ..Default::default() });
                let request = PushRequest { to_usernames: vec![user.clone()], message };
                client.push(request).await.unwrap().into_inner()
            });
            assert_eq!(answer.failed_usernames, if refused { vec![user] } else { vec![] });
            assert_eq!(answer.error, if refused { "user not connected" } else { "" });
        }
    }
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
