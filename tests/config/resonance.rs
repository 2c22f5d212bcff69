//! Promise: the YAML of Resonance as it is today runs unchanged: each key has its meaning or one line that says why it has none; the
//! database follows from the section that is there, and what contradicts itself is told with both places.

use std::ffi::OsString;
use std::time::Duration;

use task_engine::config::keys::KEYS;
use task_engine::config::{self, Checked, Database, Flags, HostPort, InboxStore, SslMode, TlsMode};

const FILE: &str = include_str!("../../config/resonance.yaml");

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Checked, String> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    config::parse("task.yaml", text, variables, &Flags::default()).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn it_means_what_it_meant() {
    let checked = read(FILE, &[("RESONANCE_POSTGRES_PASSWORD", "geheim")]).expect("it runs");
    let config = checked.config;
    assert_eq!(config.database, Database::Postgres);
    let postgres = &config.postgres;
    assert_eq!(postgres.at, HostPort { host: "127.0.0.1".into(), port: 5432 });
    assert_eq!(
        (&*postgres.username, &*postgres.database, postgres.password.reveal()),
        ("resonance", "resonance", "geheim")
    );
    assert_eq!((postgres.conn_max_lifetime, postgres.sslmode), (Duration::from_secs(3600), SslMode::Disable));
    assert_eq!(
        (&*config.consumer.topic, &*config.consumer.queue_group),
        ("resonance.push.event.v1", "resonance_group_push")
    );
    assert_eq!((config.consumer.max_retry, config.consumer.retry_interval), (3, Duration::from_secs(5)));
    assert_eq!((config.inbox.store, config.inbox.sender), (InboxStore::All, true), "as its storage consumer");
    let notes: Vec<_> = checked.notes.iter().map(|note| note.line("task.yaml")).collect();
    for key in [
        "service.name",
        "postgres.max_open_conns",
        "registry.poll_interval",
        "gateway_queue_size",
        "gateway_pusher_count",
    ]
    .into_iter()
    .chain(["storage_consumer.worker_count", "storage_consumer.max_retry", "push_consumer.worker_count"])
    {
        let of: Vec<_> = notes.iter().filter(|note| note.contains(&format!(" {key}: has no effect here: "))).collect();
        assert_eq!(of.len(), 1, "{key}: {notes:#?}");
    }
    let rows = "storage_consumer.topic: its section means: inbox.store all, inbox.sender true; rows are made of the events of \
                resonance.push.event.v1";
    assert!(notes.iter().any(|note| note.contains(rows)), "{notes:#?}");
    assert!(notes.iter().all(|note| !note.contains("geheim")), "{notes:#?}");
}

#[test]
fn each_key_without_effect_says_why() {
    let sections = ["service", "postgres", "registry", "push_consumer", "storage_consumer"];
    let mut text = "gateway_queue_size: 1\ngateway_pusher_count: 1\n".to_owned();
    for section in sections {
        text += &format!("{section}:\n");
        let keys = KEYS.iter().filter(|key| key.section == section && !key.is_used());
        keys.for_each(|key| text += &format!("  {}: 1\n", key.name));
    }
    let notes = read(&text, &[]).expect("all are taken").notes;
    let keys = KEYS.iter().filter(|key| (sections.contains(&key.section) || key.section.is_empty()) && !key.is_used());
    for key in keys {
        let of = notes.iter().filter(|note| note.key == key.full() && note.what.contains("has no effect here: "));
        assert_eq!(of.count(), 1, "{}", key.full());
    }
}

#[test]
fn the_database_is_the_one_whose_section_is_there() {
    for (text, variables, expected) in [
        ("", &[][..], Database::Mysql),
        ("mysql:\n  host: a\n", &[], Database::Mysql),
        ("postgres:\n  host: a\n", &[], Database::Postgres),
        ("", &[("RESONANCE_POSTGRES_HOST", "a")], Database::Postgres),
        ("postgres:\n  host: a\nmysql:\n", &[], Database::Postgres),
        ("postgres:\n  host: a\n", &[("RESONANCE_MYSQL_PASSWORD", "")], Database::Postgres),
    ] {
        assert_eq!(read(text, variables).expect(text).config.database, expected, "{text} {variables:?}");
    }
    let both = read("mysql:\n  host: a\npostgres:\n  port: 5433\n", &[]).expect_err("both");
    assert!(
        both.starts_with(
            "task.yaml:4:9: postgres.port: the sections mysql (mysql.host, line 2) and postgres are both there"
        ),
        "{both}"
    );
    let both = read("postgres:\n  port: 5433\n", &[("RESONANCE_MYSQL_PASSWORD", "hunter2")]).expect_err("both");
    assert!(
        both.contains("(mysql.password, environment RESONANCE_MYSQL_PASSWORD)") && !both.contains("hunter2"),
        "{both}"
    );
}

#[test]
fn what_is_shown_of_it_can_be_read_again() {
    let config = read(FILE, &[]).expect("it runs").config;
    let shown = config::show(&config);
    assert!(shown.contains("\npostgres:\n") && !shown.contains("mysql:") && !shown.contains("_consumer:"), "{shown}");
    assert_eq!(read(&shown, &[]).expect("it can be read").config, config);
}

#[test]
fn other_spellings_and_words_are_taken() {
    let config =
        read("postgres:\n  user: engine\n  dbname: chat\n  sslmode: verify-full\n", &[]).expect("taken").config;
    assert_eq!((&*config.postgres.username, &*config.postgres.database), ("engine", "chat"));
    assert_eq!(config.postgres.tls.mode, TlsMode::Required);
    for (mode, demands) in
        [("disable", false), ("allow", false), ("prefer", false), ("require", true), ("verify-ca", true)]
    {
        let config = read(&format!("postgres:\n  sslmode: {mode}\n"), &[]).expect(mode).config;
        assert_eq!(config.postgres.tls.is_written(), demands, "{mode}");
    }
    let why = read("postgres:\n  sslmode: disable\n  tls:\n    ca: /ca.pem\n", &[]).expect_err("it contradicts itself");
    assert!(why.contains("postgres.sslmode: is disable, and a key of postgres.tls asks for TLS"), "{why}");
}

#[test]
fn a_consumer_is_written_once() {
    let same = "consumer:\n  topic: a.b\npush_consumer:\n  topic: a.b\n  queue_group: g\n";
    let config = read(same, &[]).expect("the same").config;
    assert_eq!((&*config.consumer.topic, &*config.consumer.queue_group, &*config.consumer.durable), ("a.b", "g", "g"));
    assert_eq!(
        (config.inbox.store, config.inbox.sender),
        (InboxStore::Offline, false),
        "nothing says how rows are stored"
    );
    let why = read(&same.replacen("a.b", "c.d", 1), &[]).expect_err("two topics");
    assert!(why.contains("push_consumer.topic: contradicts consumer.topic: write one of them"), "{why}");
    let config = read("storage_consumer:\n  topic: only.one\ninbox:\n  store: offline\n", &[]).expect("taken").config;
    assert_eq!(
        (&*config.consumer.topic, config.inbox.store, config.inbox.sender),
        ("only.one", InboxStore::Offline, false)
    );
}
