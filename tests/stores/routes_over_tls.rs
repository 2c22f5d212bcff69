//! Routes over TLS from a Redis that speaks nothing else and wants a certificate of ours; what may be wrong is told with what to
//! check, and is tried until it is mended. Users of its ACL.

use std::fs;

use task_engine::config::{RedisConfig, Secret, TlsConfig};
use task_engine::edge::redis::Config;
use task_engine::model::limits::MGET_KEYS;
use task_engine::ports::Health;
use task_engine::push::facts::Input;
use testkit::redis_only::{Server, connect, key, on_a_shard, run, text};
use testkit::tls::{authority, both_sides, certificate, none, ours};

fn over(server: &Server, tls: TlsConfig) -> Config {
    Config { server: RedisConfig { tls, ..server.config().server }, ..server.config() }
}

#[test]
fn routes_and_their_changes_come_over_tls_and_again_after_the_server_was_away() {
    let (authority, theirs, mine) = both_sides();
    let mut server = Server::over_tls(&authority, &theirs, &[]);
    connect(&mut server.client(""), "ann", "gw-1");
    on_a_shard(over(&server, ours(&authority, &mine)), async |shard| {
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["gw-1"]);
        assert_eq!((shard.port.health(), shard.port.is_tracking()), (Health::Ready, true));
        connect(&mut server.client(""), "ann", "gw-2");
        assert!(matches!(shard.fact().await, Input::RouteChanged(user) if &*user == "ann"));
        // An answer of many records.
        let users: Vec<String> = (0..MGET_KEYS).map(|number| format!("user-{number}")).collect();
        let mut stored = redis::cmd("MSET");
        for user in &users {
            stored.arg(key(user)).arg(format!(r#"{{"gateway_id":"gw-{user}","x":"{}"}}"#, "x".repeat(1_500)));
        }
        stored.exec(&mut server.client("")).expect("stored");
        for _ in &users {
            assert!(matches!(shard.fact().await, Input::RouteChanged(_)));
        }
        shard.ask(1, users.iter().map(String::as_str));
        let expected: Vec<String> = users.iter().map(|user| format!("gw-{user}")).collect();
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), expected);
        server.kill();
        assert!(matches!(shard.fact().await, Input::RoutesUnknown));
        server.start_again();
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["-"], "it keeps nothing");
    });
}

/// What an ask is answered, once the server has said enough to be understood.
fn said(config: Config, part: &'static str) -> String {
    on_a_shard(config, async move |shard| {
        for ask in 1..1_000 {
            shard.ask(ask, ["ann"]);
            let why = shard.answer(ask).await.expect_err(part).to_string();
            if why.contains(part) {
                return why;
            }
            glommio::timer::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{part}: {}", shard.trouble())
    })
}

#[test]
fn what_is_wrong_is_told_with_the_key_and_what_to_do() {
    let (authority, other) = (authority(), authority());
    let mine = certificate(&authority, &["task-engine"]);
    let of_other = certificate(&other, &["task-engine"]);
    let good = certificate(&authority, &["localhost"]);
    let server = Server::over_tls(&authority, &good, &[]);
    let tls = ours(&authority, &mine);
    for (tls, part) in [
        (TlsConfig { ca: other.ca(), ..tls.clone() }, "signed by no CA that is trusted here; set redis.tls.ca"),
        (TlsConfig { ca: authority.ca(), ..none() }, "set redis.tls.cert and redis.tls.key"),
        (
            TlsConfig { cert: of_other.cert, key: of_other.key, ..tls.clone() },
            "check redis.tls.cert: is it signed by a CA",
        ),
        (TlsConfig { server_name: "db.example".into(), ..tls.clone() }, "is not for db.example, it is for"),
        (TlsConfig { ca: "/no/such/ca.pem".into(), ..tls.clone() }, "redis.tls.ca: /no/such/ca.pem: cannot be read"),
        (TlsConfig { key: good.key.clone(), ..tls.clone() }, "it is not the key of the certificate in redis.tls.cert"),
    ] {
        let said = said(over(&server, tls), part);
        assert!(said.starts_with(&format!("redis {}: ", server.config().server.at)), "{said}");
    }
    let expired = authority.expired(&["localhost"]).expect("a certificate");
    let server = Server::over_tls(&authority, &expired, &[]);
    said(over(&server, tls.clone()), "the server's certificate has expired (2021-01-01");
    let plain = Server::start(&[]);
    let config = over(&plain, tls);
    let quick = RedisConfig { dial_timeout: std::time::Duration::from_millis(500), ..config.server.clone() };
    said(Config { server: quick, ..config }, "check that it speaks TLS at this address");
}

#[test]
fn it_goes_on_once_what_was_wrong_is_mended() {
    let (authority, other) = (authority(), authority());
    let theirs = certificate(&authority, &["localhost"]);
    let mine = certificate(&authority, &["task-engine"]);
    let server = Server::over_tls(&authority, &theirs, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::copy(other.ca(), &ca).expect("copied");
    on_a_shard(over(&server, TlsConfig { ca: ca.clone(), ..ours(&authority, &mine) }), async |shard| {
        shard.ask(1, ["ann"]);
        let why = shard.answer(1).await.expect_err("another CA").to_string();
        assert!(why.contains("signed by no CA"), "{why}");
        fs::copy(authority.ca(), &ca).expect("copied");
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["-"]);
    });
}

const SECRET: &str = "s3cret-of-the-test";

/// Users of the ACL, where `default` may do nothing.
const USERS: [&str; 2] = [
    "on >s3cret-of-the-test ~resonance:router:user:* +mget +hello +auth +client|tracking",
    "on >s3cret-of-the-test ~other:* +hello +auth +get",
];

#[test]
fn a_user_of_the_acl_reads_routes_and_one_without_the_right_is_told_so() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gw-1");
    for (name, rules) in ["engine", "stranger"].iter().zip(USERS) {
        let rules: Vec<_> = ["ACL", "SETUSER", name].into_iter().chain(rules.split(' ')).collect();
        run(&mut client, &rules);
    }
    run(&mut client, &["ACL", "SETUSER", "default", "resetkeys", "-@all", "+ping"]);
    let as_user = |name: &str, password: &str| Config {
        server: RedisConfig { username: name.to_owned(), password: Secret::new(password), ..server.config().server },
        ..server.config()
    };
    on_a_shard(as_user("engine", SECRET), async |shard| {
        shard.ask(1, ["ann"]);
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-1"]);
        assert!(shard.port.is_tracking());
    });
    let wrong = said(as_user("engine", "another"), "WRONGPASS");
    assert!(wrong.contains("redis.username and redis.password are right"), "{wrong}");
    let stranger = said(as_user("stranger", SECRET), "NOPERM");
    assert!(!stranger.contains(SECRET), "{stranger}");
}

#[test]
fn the_user_is_said_where_hello_is_not_known() {
    let server = Server::start(&["--rename-command", "HELLO", ""]);
    let rules = USERS[0].replace(" +hello", "");
    let rules: Vec<_> = ["ACL", "SETUSER", "engine"].into_iter().chain(rules.split(' ')).collect();
    run(&mut server.client(""), &rules);
    run(&mut server.client(""), &["ACL", "SETUSER", "default", "-@all"]);
    let at = server.config().server;
    let config = Config {
        server: RedisConfig { username: "engine".into(), password: Secret::new(SECRET), ..at },
        ..server.config()
    };
    on_a_shard(config, async |shard| {
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!((text(&routes), shard.port.is_tracking()), (vec!["-".to_owned()], false));
    });
}
