//! Promise: the YAML of the Go service, with every key it has, runs unchanged.

use std::time::Duration;

use task_engine::config::keys::{KEYS, Key};
use task_engine::config::{self, Checked, Flags, HostPort, LogFormat, NatsAuth};

const FILE: &str = include_str!("../fixtures/go-service.yaml");

fn checked() -> Checked {
    config::parse("go.yaml", FILE, [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

#[test]
fn it_means_what_it_meant() {
    let config = checked().config;
    assert_eq!((config.log.format, config.log.color, config.log.source), (LogFormat::Json, false, true));
    assert_eq!(config.mysql.at, at("mysql.im.svc", 3306));
    assert_eq!(config.mysql.password.reveal(), "s3cret-dsn", "the DSN wins");
    assert_eq!(config.mysql.connect_timeout, Duration::from_secs(10), "a written key wins over the DSN's parameter");
    assert_eq!((config.redis.at, config.redis.db), (at("redis.im.svc", 6379), 2));
    assert_eq!(config.redis.dial_timeout, Duration::from_secs(4), "dial_timeout wins over connect_timeout");
    let servers: Vec<_> = config.nats.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["nats://nats-0.im.svc:4222", "nats://nats-1.im.svc:4222"]);
    let NatsAuth::User { username, password } = config.nats.auth else { panic!("{:?}", config.nats.auth) };
    assert_eq!((username.as_str(), password.reveal()), ("task", "s3cret-nats"));
    assert_eq!((config.nats.reconnect_delay, config.nats.max_pings_out), (Duration::from_secs(2), 3));
    assert_eq!(config.etcd.endpoints, [at("etcd-0.im.svc", 2379), at("etcd-1.im.svc", 2379)]);
    assert_eq!((config.consumer.max_retry, config.consumer.retry_interval), (5, Duration::from_secs(2)));
}

#[test]
fn each_key_without_effect_is_noted_once_with_its_reason() {
    let notes = checked().notes;
    let lines: Vec<_> = notes.iter().map(|note| note.line("go.yaml")).collect();
    let count = |key: &str| notes.iter().filter(|note| note.key == key && note.what.contains("no effect")).count();
    let is_there =
        |key: &&Key| FILE.contains(&format!("\n{}:", key.section)) && FILE.contains(&format!(" {}:", key.name));
    let noted: Vec<_> = KEYS.iter().filter(|key| !key.is_used()).filter(is_there).collect();
    assert!(noted.len() > 20, "{noted:?}");
    for key in noted {
        assert_eq!(count(&key.full()), 1, "{}: {lines:#?}", key.full());
    }
    let workers = lines.iter().find(|line| line.contains("worker_count")).unwrap();
    assert_eq!(
        workers,
        "go.yaml:87:17: consumer.worker_count: has no effect here: engine.cores decides how many threads push"
    );
    assert!(lines.iter().all(|line| !line.contains("s3cret")), "{lines:#?}");
}

#[test]
fn single_keys_stand_in_for_a_missing_dsn() {
    let text = FILE.lines().filter(|line| !line.contains("dsn:")).collect::<Vec<_>>().join("\n");
    let config = config::parse("go.yaml", &text, [], &Flags::default()).unwrap().config;
    assert_eq!((config.mysql.password.reveal(), config.mysql.dsn_masked.as_str()), ("s3cret-mysql", ""));
}
