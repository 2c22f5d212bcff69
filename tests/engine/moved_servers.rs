//! A server that moved is found although the old one lives on: MySQL by the age of its connections, Redis by its name.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::gateways::Protocols;
use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig, RedisConfig, Secret};
use task_engine::edge::mysql::{MysqlInbox, MysqlMembers};
use task_engine::edge::redis::Config;
use task_engine::edge::resolve::Resolver;
use task_engine::ports::{Inbox, InboxRows, Members};
use task_engine::push::facts::Input;

use crate::proxy::Proxy;
use testkit::engine::{World, eventually, maria};
use testkit::redis_only::{Server, connect, on_a_shard_with, text};

fn members(server: &Maria, users: &[&str]) {
    let rows = users.iter().map(|user| ("s", *user));
    let statement = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
    server.connect().expect("MariaDB answers").exec_batch(statement, rows).expect("rows");
}

/// Who has a row of this event there.
fn owners(server: &Maria, msg_id: i64) -> Vec<String> {
    let sql = format!("SELECT owner_username FROM t_inbox WHERE msg_id = {msg_id} ORDER BY 1");
    server.connect().expect("MariaDB answers").query(sql).expect("rows")
}

#[test]
fn rows_and_members_come_to_the_database_that_the_address_leads_to() {
    let world = World::start();
    let new = world.another_maria();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    let proxy = Proxy::to(([127, 0, 0, 1], world.maria.port()).into());
    let port = proxy.address().port().to_string();
    let variables = [("RESONANCE_MYSQL_PORT", port.as_str()), ("RESONANCE_MYSQL_CONN_MAX_LIFETIME", "2s")];
    let engine = world.engine_with(1, "", &variables);
    engine.wait_ready();
    members(&world.maria, &["ann"]);
    let publisher = world.publisher();
    publisher.publish("s", "system", [1]);
    eventually("a row of the old member", || owners(&world.maria, 1) == ["ann"]);
    members(&new, &["ann", "bob"]);
    proxy.point_to(([127, 0, 0, 1], new.port()).into());
    let mut msg_id = 1;
    eventually("rows of old and new member at the new server", || {
        msg_id += 1;
        publisher.publish("s", "system", [msg_id]);
        engine.wait_ended(msg_id as u64);
        owners(&new, msg_id) == ["ann", "bob"]
    });
    assert!(owners(&world.maria, msg_id).is_empty(), "nothing more at the old one");
    // A connection that is due while no new one can be had is used on.
    proxy.point_to(([127, 0, 0, 1], 1).into());
    let before = proxy.connections();
    eventually("it tries to replace a connection", || {
        msg_id += 1;
        publisher.publish("s", "system", [msg_id]);
        engine.wait_ended(msg_id as u64);
        let both = [owners(&new, msg_id), owners(&world.maria, msg_id)].concat();
        assert!(both.contains(&"ann".to_owned()), "{both:?}");
        proxy.connections() > before + 2
    });
    engine.stop_clean();
}

/// A listener that takes connections and never says a word is what a server that was stopped, or a port without its server
/// behind a load balancer, is to whoever connects.
#[test]
fn a_new_server_that_is_silent_holds_up_no_ask_of_the_old_one() {
    let (old, new) = (maria(), maria());
    members(&old, &["ann"]);
    members(&new, &["bob"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let proxy = Proxy::to(([127, 0, 0, 1], old.port()).into());
    let (limit, lifetime) = (Duration::from_secs(2), Duration::from_secs(1));
    let settings = MysqlConfig {
        at: HostPort { host: "127.0.0.1".into(), port: proxy.address().port() },
        username: Maria::USER.into(),
        password: Secret::new(Maria::PASSWORD),
        database: Maria::DATABASE.into(),
        connect_timeout: limit,
        timeout: limit,
        conn_max_lifetime: lifetime,
        ..MysqlConfig::default()
    };
    let mut reader = MysqlMembers::new(settings.clone()).open();
    let mut writer = MysqlInbox::new(settings).open();
    let mut msg_id = 0;
    // Reads and writes; who is a member, where the row is, and how long it took.
    let mut ask = || {
        msg_id += 1;
        let started = Instant::now();
        let lists = reader.members(&["s".into()]).expect("an answer");
        let row = InboxRows { session: "s".into(), msg_id, seq_id: msg_id, users: ["eve"].into_iter().collect() };
        assert!(writer.store(&[row]).remove(0).expect("an answer").is_empty());
        let took = started.elapsed();
        (lists[0].iter().map(str::to_owned).collect::<Vec<_>>(), msg_id, took)
    };
    assert_eq!(ask().0, ["ann"]);
    proxy.point_to(silent.local_addr().expect("an address"));
    let (before, until) = (proxy.connections(), Instant::now() + lifetime + Duration::from_secs(3));
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let (members, _, took) = ask();
        assert_eq!(members, ["ann"]);
        longest = longest.max(took);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    println!("the longest pair of asks while the new server is silent: {longest:?}");
    assert!(proxy.connections() >= before + 2, "both are to be replaced");
    assert!(longest < Duration::from_millis(400), "{longest:?}");
    for (server, member) in [(&new, "bob"), (&old, "ann")] {
        proxy.point_to(([127, 0, 0, 1], server.port()).into());
        eventually("reader and writer are where the address leads", || {
            let (members, msg_id, took) = ask();
            assert!(took < Duration::from_millis(400), "{took:?}");
            members == [member] && owners(server, msg_id) == ["eve"]
        });
    }
}

#[test]
fn redis_is_followed_to_the_address_of_its_name_without_a_gap() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    connect(&mut old.client(""), "ann", "gw-old");
    connect(&mut new.client(""), "ann", "gw-new");
    let address = |server: &Server| SocketAddr::from(([127, 0, 0, 1], server.config().server.at.port));
    let leads_to = Arc::new(Mutex::new(Some(address(&old))));
    let (asked, told) = (Arc::clone(&leads_to), Arc::new(Mutex::new(0)));
    let looks = Arc::clone(&told);
    let resolver = Resolver::with(move |_, _| {
        *told.lock().unwrap() += 1;
        asked.lock().unwrap().map(|address| vec![address]).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    });
    let config = Config {
        server: RedisConfig { at: HostPort { host: "redis.test".to_owned(), port: 6379 }, ..RedisConfig::default() },
        look_every: Duration::from_millis(50),
        ..Config::default()
    };
    let new_address = address(&new);
    on_a_shard_with(config, resolver.expect("threads"), async move |shard| {
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["gw-old"]);
        // A name that cannot be resolved says nothing.
        *leads_to.lock().unwrap() = None;
        let before = *looks.lock().unwrap();
        while *looks.lock().unwrap() < before + 6 {
            glommio::timer::Timer::new(Duration::from_millis(10)).await;
        }
        assert!(shard.port.is_tracking());
        *leads_to.lock().unwrap() = Some(new_address);
        let mut was_unknown = false;
        for ask in 10..2_000 {
            shard.ask(ask, ["ann"]);
            let answer = loop {
                match shard.fact().await {
                    Input::Routes { answer, .. } => break answer.expect("no gap"),
                    Input::RoutesUnknown => was_unknown = true,
                    other => panic!("{other:?}"),
                }
            };
            if text(&answer) == ["gw-new"] {
                assert!(was_unknown && shard.port.is_tracking(), "what the old one told is forgotten");
                return;
            }
            glommio::timer::Timer::new(Duration::from_millis(10)).await;
        }
        panic!("never followed");
    });
}
