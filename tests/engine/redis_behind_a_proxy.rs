//! Routes are read whatever a proxy in front of Redis makes of HELLO, tracked again once it is gone; a wrong password is told as
//! one in each case.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use task_engine::config::{HostPort, RedisConfig, RouteCache, Secret};
use task_engine::edge::redis::Config;

use crate::proxy::{Handled, Proxy, Script};
use testkit::redis_only::{self, Server, connect, on_a_shard, text};

/// What a proxy does with a connection that begins with this command.
fn at(command: &'static str, then: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Script {
    Arc::new(move |client| {
        let mut bytes = vec![0; 512];
        let Ok(read @ 1..) = client.read(&mut bytes) else { return Handled::Closed };
        bytes.truncate(read);
        if !bytes.windows(command.len()).any(|part| part == command.as_bytes()) {
            return Handled::Relay(bytes);
        }
        then(client);
        Handled::Closed
    })
}

/// The proxy answers this to HELLO and keeps the connection open until the client goes.
fn answers(reply: &'static str) -> Script {
    at("HELLO", move |client| {
        let _ = client.write_all(reply.as_bytes());
        let _ = client.read(&mut [0; 64]);
    })
}

fn through(proxy: &Proxy) -> Config {
    Config {
        server: RedisConfig {
            at: HostPort { host: "127.0.0.1".to_owned(), port: proxy.address().port() },
            read_timeout: Duration::from_millis(500),
            ..RedisConfig::default()
        },
        hello_again: Duration::from_millis(300),
        look_every: Duration::from_millis(100),
        ..Config::default()
    }
}

fn address(server: &Server) -> std::net::SocketAddr {
    ([127, 0, 0, 1], server.config().server.at.port).into()
}

#[test]
fn routes_are_read_whatever_is_said_against_hello_and_tracked_when_it_gets_through() {
    let server = Server::start(&[]);
    connect(&mut server.client(""), "ann", "gw-1");
    let cases: [(&str, Script); 8] = [
        ("envoy", answers("-ERR unsupported command 'hello'\r\n")),
        ("an error of its own", answers("-upstream failure\r\n")),
        ("no permission", answers("-NOPERM this user has no permissions to run the 'hello' command\r\n")),
        ("OK", answers("+OK\r\n")),
        ("RESP2", answers("*2\r\n$6\r\nserver\r\n$5\r\nredis\r\n")),
        ("no Redis", answers("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("twemproxy", at("HELLO", |client| drop(client.shutdown(Shutdown::Both)))),
        ("silence", at("HELLO", |client| drop(client.read(&mut [0; 64])))),
    ];
    for (case, script) in cases {
        let proxy = Proxy::to(address(&server));
        proxy.script(Some(script));
        on_a_shard(through(&proxy), async move |shard| {
            let (routes, _) = shard.ask_until_answered("ann").await;
            assert_eq!(text(&routes), ["gw-1"], "{case}");
            assert!(!shard.port.is_tracking(), "{case}: nobody tells changes");
            proxy.script(None);
            let mut waits = 0;
            while !shard.port.is_tracking() {
                waits += 1;
                assert!(waits < 200, "{case}: never tracked again");
                glommio::timer::Timer::new(Duration::from_millis(50)).await;
            }
            let (routes, _) = shard.ask_until_answered("ann").await;
            assert_eq!(text(&routes), ["gw-1"], "{case}");
        });
    }
}

#[test]
fn a_quiet_connection_through_a_proxy_is_kept_and_asks_with_what_every_proxy_knows() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(address(&server));
    proxy.script(Some(answers("-ERR unknown command\r\n")));
    let config = Config { hello_again: Duration::from_secs(300), ..through(&proxy) };
    on_a_shard(config, async move |shard| {
        shard.ask_until_answered("ann").await;
        let connections = proxy.connections();
        let stats =
            || -> String { redis::cmd("INFO").arg("commandstats").query(&mut server.client("")).expect("an answer") };
        // One MGET at the handshake and one for the ask; the others are probes of a quiet connection.
        let mgets = |stats: &str| -> u32 {
            let calls = stats.split("cmdstat_mget:calls=").nth(1).and_then(|rest| rest.split(',').next());
            calls.map_or(0, |calls| calls.parse().expect("a number"))
        };
        let mut looks = 0;
        while mgets(&stats()) < 4 {
            looks += 1;
            assert!(looks < 400, "no probe: {}", stats());
            glommio::timer::Timer::new(Duration::from_millis(50)).await;
        }
        shard.ask_until_answered("ann").await;
        assert_eq!(proxy.connections(), connections);
        assert!(!stats().contains("cmdstat_ping"), "{}", stats());
    });
}

#[test]
fn password_and_database_are_used_without_hello_as_well() {
    let server = Server::start(&["--requirepass", "geheim"]);
    let mut client = server.client(":geheim@");
    redis_only::run(&mut client, &["SELECT", "3"]);
    connect(&mut client, "ann", "gw-3");
    let proxy = Proxy::to(address(&server));
    proxy.script(Some(answers("-ERR unknown command\r\n")));
    let config = Config {
        server: RedisConfig { password: Secret::new("geheim"), db: 3, ..through(&proxy).server },
        ..through(&proxy)
    };
    on_a_shard(config, async move |shard| {
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["gw-3"]);
    });
}

#[test]
fn a_wrong_password_is_told_as_one_and_never_shown() {
    let server = Server::start(&["--requirepass", "geheim"]);
    for (password, hint) in [("falsch", "redis.password is right"), ("", "redis.password is set")] {
        for script in
            [None, Some(answers("-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'falsch'\r\n"))]
        {
            let proxy = Proxy::to(address(&server));
            proxy.script(script);
            let config = Config {
                server: RedisConfig { password: Secret::new(password), ..through(&proxy).server },
                ..through(&proxy)
            };
            on_a_shard(config, async move |shard| {
                shard.ask(1, ["ann"]);
                let why = shard.answer(1).await.expect_err("it is wrong").to_string();
                assert!(why.contains(hint), "{why}");
                assert!(!why.contains("falsch") && !shard.trouble().contains("falsch"), "{why}");
            });
        }
    }
}

#[test]
fn a_long_password_is_not_shown_when_a_server_repeats_a_part_of_it() {
    let server = Server::start(&[]);
    let password = "pa55w0rd-of-many-letters-".repeat(6);
    // What Redis before version 6 answers, cut at 128 bytes; and a proxy that repeats less in words of its own.
    for words in ["ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `", "ERR no such thing: AUTH "] {
        for len in [9, 100, 128, 150] {
            let said = format!("-{words}{}`, \r\n", &password[..len]);
            let proxy = Proxy::to(address(&server));
            proxy.script(Some(at("AUTH", move |client| {
                let _ = client.write_all(said.as_bytes());
                let _ = client.read(&mut [0; 64]);
            })));
            let config = Config {
                server: RedisConfig { password: Secret::new(&password), ..through(&proxy).server },
                ..through(&proxy)
            };
            on_a_shard(config, async move |shard| {
                shard.ask(1, ["ann"]);
                let why = shard.answer(1).await.expect_err("it is refused").to_string();
                for text in [why, shard.trouble()] {
                    assert!(text.contains("ERR") && text.contains("***") && !text.contains("pa55w0rd"), "{text}");
                }
            });
        }
    }
}

#[test]
fn a_user_that_may_read_few_keys_is_served() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gw-1");
    let [prefix, ann] = ["", "ann"].map(|user| format!("~{}", redis_only::key(user)));
    redis_only::run(&mut client, &["ACL", "SETUSER", "default", "resetkeys", &prefix, &ann]);
    let config = Config { cache: RouteCache::Off, ..server.config() };
    on_a_shard(config, async move |shard| {
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["gw-1"]);
        assert_eq!(shard.port.health(), task_engine::ports::Health::Ready, "the prefix alone can be read");
        shard.ask(1, []);
        assert_eq!(shard.answer(1).await.map(|routes| routes.len()), Ok(0));
        shard.ask(2, ["bob"]);
        let why = shard.answer(2).await.expect_err("not his").to_string();
        assert!(why.contains("NOPERM"), "{why}");
    });
}

#[test]
fn a_redis_that_starts_is_tracked() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(address(&server));
    // The first connection is closed at HELLO, as by a server that goes down; the next one is answered.
    let first = Arc::new(std::sync::Mutex::new(true));
    let dies = at("HELLO", |client| drop(client.shutdown(Shutdown::Both)));
    proxy.script(Some(Arc::new(move |client| {
        if std::mem::take(&mut *first.lock().unwrap()) { dies(client) } else { Handled::Relay(Vec::new()) }
    })));
    on_a_shard(through(&proxy), async move |shard| {
        shard.ask_until_answered("ann").await;
        assert!(shard.port.is_tracking());
        assert_eq!(proxy.connections(), 2);
    });
}
