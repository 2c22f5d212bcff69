//! Routes are what Redis holds: a gateway, nobody, or something that is no route; many asks at once keep their order.

use task_engine::config::{RedisConfig, RouteCache, Secret};
use task_engine::edge::redis::Config;
use task_engine::model::limits::{MGET_KEYS, MGETS_IN_FLIGHT};
use task_engine::ports::Health;
use testkit::redis_only::{Server, connect, key, on_a_shard, run, text};

#[test]
fn a_route_is_a_gateway_or_offline_or_bad() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gateway-service-437");
    connect(&mut client, "jürgen 汉", "gw-é");
    run(&mut client, &["SET", &key("empty"), ""]);
    run(&mut client, &["SET", &key("text"), "gw-1"]);
    run(&mut client, &["SET", &key("nameless"), r#"{"username":"nameless"}"#]);
    run(&mut client, &["SET", &key("number"), r#"{"gateway_id":7}"#]);
    run(&mut client, &["SET", &key("huge"), &format!(r#"{{"gateway_id":"gw","x":"{}"}}"#, "x".repeat(3_000_000))]);
    run(&mut client, &["RPUSH", &key("list"), "gw-1"]);
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["ann", "nobody", "empty", "text", "nameless", "number", "huge", "list", "jürgen 汉", "ann"]);
        let routes = shard.answer(1).await.expect("an answer");
        let gateway = "gateway-service-437";
        assert_eq!(text(&routes), [gateway, "-", "!", "!", "!", "7", "!", "-", "gw-é", gateway]);
        shard.ask(2, []);
        assert!(shard.answer(2).await.expect("an answer").is_empty());
        assert_eq!(shard.port.health(), Health::Ready);
    });
}

#[test]
fn many_asks_at_once_are_answered_in_their_order() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    let users: Vec<String> = (0..5_000).map(|number| format!("user-{number}")).collect();
    let mut stored = redis::cmd("MSET");
    for (number, user) in users.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        stored.arg(key(user)).arg(format!(r#"{{"gateway_id":"gw-{number}"}}"#));
    }
    stored.exec(&mut client).expect("stored");
    on_a_shard(Config { cache: RouteCache::Off, ..server.config() }, async |shard| {
        let asks = 4 * MGETS_IN_FLIGHT as u64;
        let ask_of = |ask: u64| (0..MGET_KEYS).map(move |place| (ask as usize * 131 + place * 7) % 5_000);
        for ask in 0..asks {
            shard.ask(ask, ask_of(ask).map(|number| users[number].as_str()));
        }
        for ask in 0..asks {
            let routes = shard.answer(ask).await.expect("an answer");
            let expected =
                ask_of(ask).map(|number| if number % 3 == 0 { "-".to_owned() } else { format!("gw-{number}") });
            assert_eq!(text(&routes), expected.collect::<Vec<_>>(), "ask {ask}");
        }
        assert!(!shard.port.is_tracking(), "routes.cache: off");
    });
}

#[test]
fn the_database_and_the_password_of_the_configuration_are_used() {
    let server = Server::start(&["--requirepass", "correct horse"]);
    let mut client = server.client(":correct%20horse@");
    run(&mut client, &["SELECT", "3"]);
    connect(&mut client, "ann", "gw-3");
    let config = Config {
        server: RedisConfig { password: Secret::new("correct horse"), db: 3, ..server.config().server },
        ..server.config()
    };
    on_a_shard(config, async |shard| {
        shard.ask(1, ["ann"]);
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-3"]);
        assert!(shard.port.is_tracking());
    });
    on_a_shard(
        Config {
            server: RedisConfig { password: Secret::new("correct horse"), db: 99, ..server.config().server },
            ..server.config()
        },
        async |shard| {
            shard.ask(1, ["ann"]);
            let error = shard.answer(1).await.expect_err("no such database").to_string();
            assert!(error.contains("DB index is out of range") && error.contains("redis.db"), "{error}");
        },
    );
}
