//! Redis away: every ask is answered with what is wrong, what was known is unknown, and all works again by itself.

use std::time::{Duration, Instant};

use task_engine::config::RedisConfig;
use task_engine::edge::redis::Config;
use task_engine::model::limits::MGETS_IN_FLIGHT;
use task_engine::ports::{Health, LookupError};
use task_engine::push::facts::Input;
use testkit::redis_only::{Server, connect, on_a_shard, text};

#[test]
fn killed_and_back() {
    let mut server = Server::start(&[]);
    connect(&mut server.client(""), "ann", "gw-1");
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["ann"]);
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-1"]);

        server.kill();
        assert!(matches!(shard.fact().await, Input::RoutesUnknown));
        assert_eq!(shard.said_tracking(), [true, false], "said before unknown");
        shard.ask(2, ["ann"]);
        let Err(LookupError::NotReached(why)) = shard.answer(2).await else { panic!("Redis is gone") };
        assert!(why.starts_with("redis localhost:") && why.contains("; check that "), "{why}");
        assert_eq!(shard.trouble(), why);

        server.start_again();
        connect(&mut server.client(""), "ann", "gw-2");
        let (routes, others) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["gw-2"]);
        assert!(others.iter().all(|fact| matches!(fact, Input::RouteChanged(_))), "unknown is said once: {others:?}");
        assert_eq!((shard.port.health(), shard.said_tracking().last()), (Health::Ready, Some(&true)));
        connect(&mut server.client(""), "ann", "gw-3");
        assert!(matches!(shard.fact().await, Input::RouteChanged(user) if &*user == "ann"));
    });
}

#[test]
fn not_there_at_the_start() {
    let mut server = Server::start(&[]);
    server.kill();
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["ann"]);
        let error = shard.answer(1).await.expect_err("nobody listens").to_string();
        assert!(error.contains("connection refused; check that Redis runs there"), "{error}");
        server.start_again();
        let (routes, _) = shard.ask_until_answered("ann").await;
        assert_eq!(text(&routes), ["-"]);
    });
}

#[test]
fn a_silent_server_is_noticed_by_its_answers() {
    let server = Server::start(&[]);
    let config = Config {
        server: RedisConfig { read_timeout: Duration::from_millis(300), ..server.config().server },
        ..server.config()
    };
    on_a_shard(config, async |shard| {
        shard.ask(0, ["ann"]);
        shard.answer(0).await.expect("an answer");

        server.freeze(true);
        let asks = MGETS_IN_FLIGHT as u64;
        let started = Instant::now();
        (1..=asks).for_each(|ask| shard.ask(ask, ["ann"]));
        for ask in 1..=asks {
            let Err(LookupError::Unavailable(why)) = shard.answer(ask).await else { panic!("ask {ask} was answered") };
            assert!(why.contains("no answer within 300ms"), "{why}");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(matches!(shard.fact().await, Input::RoutesUnknown));

        server.freeze(false);
        let (routes, others) = shard.ask_until_answered("ann").await;
        assert_eq!((text(&routes), others.len()), (vec!["-".to_owned()], 0));

        // Also when nothing is asked, or a change would go unnoticed.
        server.freeze(true);
        assert!(matches!(shard.fact().await, Input::RoutesUnknown));
        server.freeze(false);
    });
}
