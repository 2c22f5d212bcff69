//! A wrong or missing password is said clearly, and no text ever holds it.

use task_engine::config::{RedisConfig, Secret};
use task_engine::edge::redis::Config;
use task_engine::ports::LookupError;
use testkit::log::Log;
use testkit::redis_only::{Server, connect, on_a_shard, run, text};

const SECRET: &str = "s3cret-of-the-test";

/// What an ask and the log say when the server is asked with this password.
fn told(server: &Server, password: &str) -> (String, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let config =
        Config { server: RedisConfig { password: Secret::new(password), ..server.config().server }, ..server.config() };
    let error = tracing::subscriber::with_default(subscriber, || {
        on_a_shard(config, async |shard| {
            shard.ask(1, ["ann"]);
            let Err(LookupError::NotReached(why)) = shard.answer(1).await else { panic!("the password is wrong") };
            assert_eq!(shard.trouble(), why);
            why
        })
    });
    (error, log.text())
}

#[test]
fn wrong_and_missing_passwords_are_said() {
    let server = Server::start(&["--requirepass", "another"]);
    let (error, log) = told(&server, SECRET);
    assert!(error.contains("WRONGPASS") && error.contains("redis.password is right"), "{error}");
    assert!(log.contains("WRONGPASS"), "{log}");
    assert!(!error.contains(SECRET) && !log.contains(SECRET), "{error}\n{log}");
    let (error, _) = told(&server, "");
    assert!(error.contains("NOAUTH") && error.contains("redis.password is set"), "{error}");
}

#[test]
fn a_server_that_repeats_commands_does_not_make_us_show_it() {
    // Neither command is known, so Redis repeats their arguments in its errors.
    let server = Server::start(&["--rename-command", "HELLO", "", "--rename-command", "AUTH", ""]);
    let (error, log) = told(&server, SECRET);
    assert!(error.contains("unknown command") && error.contains("***"), "{error}");
    assert!(!error.contains(SECRET) && !log.contains(SECRET), "{error}\n{log}");
}

#[test]
fn a_password_set_later_is_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gw-1");
    on_a_shard(
        Config { server: RedisConfig { password: Secret::default(), ..server.config().server }, ..server.config() },
        async |shard| {
            shard.ask(1, ["ann"]);
            assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-1"]);
            run(&mut client, &["CONFIG", "SET", "requirepass", SECRET]);
            run(&mut client, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            assert!(matches!(shard.fact().await, task_engine::push::facts::Input::RoutesUnknown));
            // The first refusal names the cut, later ones what the handshake found.
            for ask in 2.. {
                shard.ask(ask, ["ann"]);
                let error = shard.answer(ask).await.expect_err("it wants a password").to_string();
                if error.contains("NOAUTH") {
                    assert!(error.contains("redis.password is set"), "{error}");
                    break;
                }
                assert!(ask < 1_000, "{error}");
                glommio::timer::sleep(std::time::Duration::from_millis(10)).await;
            }
        },
    );
}
