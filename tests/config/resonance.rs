//! Promise: the YAML of Resonance as it is today runs unchanged: each key has its meaning or one line that says why it has none; the
//! database follows from the section that is there, and what contradicts itself is told with both places.

use std::ffi::OsString;
use std::time::Duration;

use task_engine::config::keys::KEYS;
use task_engine::config::{self, Checked, Database, Flags, HostPort, InboxStore, LogFormat, SslMode, TlsMode};

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
    let sections =
        ["service", "postgres", "registry", "push_consumer", "storage_consumer", "stream_consumer", "jetstream"];
    let mut text = "gateway_queue_size: 1\ngateway_pusher_count: 1\nstream_max_delta_bytes: 1\n".to_owned();
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

/// What its `.env` and its compose file set for all services, and older ones of both.
const VARIABLES: &[(&str, &str)] = &[
    ("RESONANCE_ENV", "prod"),
    ("RESONANCE_DEBUG_CONFIG", "false"),
    ("RESONANCE_IMAGE", "resonance:local"),
    ("RESONANCE_CONFIG_DIR", "../configs"),
    ("RESONANCE_GATEWAY_HOSTNAME", "gateway-service-001"),
    ("RESONANCE_LOGIC_HOSTNAME", "logic-service-001"),
    ("RESONANCE_TASK_HOSTNAME", "task-service-001"),
    ("RESONANCE_WEB_HOSTNAME", "web-service-001"),
    ("RESONANCE_AUTH_SECRET_KEY", "hunter2"),
    ("RESONANCE_AUTH_ISSUER", "hunter2"),
    ("RESONANCE_AUTH_ACCESS_TOKEN_TTL", "24h"),
    ("RESONANCE_ADMIN_USERNAME", "hunter2"),
    ("RESONANCE_ADMIN_PASSWORD", "hunter2"),
    ("RESONANCE_ADMIN_NICKNAME", "\u{7ba1}\u{7406}\u{5458}"),
    ("RESONANCE_WEB_API_BASE_URL", ""),
    ("RESONANCE_WEB_WS_BASE_URL", ""),
    ("RESONANCE_GATEWAY_SERVICE_AUTH_SECRET", "hunter2"),
    ("RESONANCE_PILOT_SERVICE_AUTH_SECRET", "hunter2"),
    ("RESONANCE_GATEWAY_HTTP_PORT", "8080"),
    ("RESONANCE_LOGIC_GRPC_PORT", "15090"),
    ("RESONANCE_TASK_SERVICE_NAME", "task-service"),
    ("RESONANCE_DB_PORT", "3306"),
    ("RESONANCE_REDIS_PORT", "6379"),
    ("RESONANCE_NATS_PORT", "4222"),
    ("RESONANCE_ETCD_PORT", "2379"),
    ("RESONANCE_MYSQL_ROOT_PASSWORD", "hunter2"),
    ("RESONANCE_JWT_SECRET", "hunter2"),
    ("RESONANCE_REGISTRY_TTL", "30s"),
    ("RESONANCE_GRAFANA_ADMIN_PASSWORD", "hunter2"),
    ("RESONANCE_PROMETHEUS_PORT", "9090"),
];

#[test]
fn variables_of_its_other_services_are_taken_and_each_says_why_it_means_nothing() {
    let own = [
        ("RESONANCE_POSTGRES_DATABASE", "chat"),
        ("RESONANCE_POSTGRES_USER", "chatter"),
        ("RESONANCE_POSTGRES_PASSWORD", "hunter2"),
        ("RESONANCE_POSTGRES_HOST", "postgres"),
        ("RESONANCE_REGISTRY_NAMESPACE", "/other/services"),
        ("RESONANCE_REGISTRY_DEFAULT_TTL", "30s"),
        ("RESONANCE_REGISTRY_ENABLE_CACHE", "true"),
        ("RESONANCE_LOG_FORMAT", "json"),
        // Only Resonance's logic service and gateways read it; Kubernetes sets such names as well.
        ("RESONANCE_SERVICE_HOST", "task-service-001"),
    ];
    let checked = read(FILE, &[VARIABLES, &own].concat()).expect("it runs with its own .env");
    let (config, notes) = (checked.config, checked.notes);
    assert_eq!(
        (&*config.postgres.username, &*config.postgres.database),
        ("chatter", "chat"),
        "keys keep their meaning"
    );
    assert_eq!((&*config.registry.namespace, config.log.format), ("/other/services", LogFormat::Json));
    for (name, _) in VARIABLES {
        let of: Vec<_> = notes
            .iter()
            .map(|note| note.line("f"))
            .filter(|line| line.starts_with(&format!("environment {name}: ")))
            .collect();
        let [line] = &of[..] else { panic!("{name}: {of:?}") };
        assert!(line.contains(": has no effect here: ") && line.len() > name.len() + 45, "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_slip_in_a_variable_is_a_mistake_next_to_them() {
    for (slip, nearest) in [
        ("RESONANCE_POSTGRES_PASSWRD", "RESONANCE_POSTGRES_PASSWORD"),
        ("RESONANCE_ADMIN_LISTN", "RESONANCE_ADMIN_LISTEN"),
        ("RESONANCE_ENVV", ""),
        ("RESONANCE_GATEWAY_HOST", ""),
    ] {
        let why = read(FILE, &[VARIABLES, &[(slip, "hunter2")]].concat()).expect_err(slip);
        assert!(why.starts_with(&format!("environment {slip}: unknown variable")) && why.lines().count() == 1, "{why}");
        assert!(nearest.is_empty() || why.contains(&format!("did you mean `{nearest}`?")), "{why}");
    }
}

/// The keys of its newest file.
const NEWER: &str = "\
consumer:
  topic: resonance.push.event.v1
  queue_group: resonance_group_chat_event
  worker_count: 20
  max_retry: 3
  retry_interval: 5
  dlq_topic: resonance.push.event.v1.dlq
stream_consumer:
  topic: resonance.agent.stream.v1
  queue_group: resonance_group_agent_stream
  worker_count: 10
  max_retry: 2
  retry_interval: 0
  dlq_topic: resonance.agent.stream.v1.dlq
stream_max_delta_bytes: 65536
jetstream:
  auto_create_stream: true
  stream_prefix: S-
  ack_wait: 30s
  max_deliver: 5
  retention: limits
  storage: file
  max_age: 0s
  max_bytes: 0
  replicas: 1
observability:
  version: v1
  instance: task-1
  environment: prod
  trace:
    disable: false
    endpoint: localhost:4317
    sampler: 1.0
    insecure: true
  metrics:
    port: 9090
    path: /metrics
    enable_runtime: true
";

#[test]
fn the_keys_of_its_newest_file_have_a_meaning_or_say_why_they_have_none() {
    let Checked { config, notes, .. } = read(NEWER, &[]).expect("it is taken");
    assert_eq!(
        (&*config.consumer.topic, &*config.consumer.queue_group, config.consumer.retry_interval),
        ("resonance.push.event.v1", "resonance_group_chat_event", Duration::from_secs(5))
    );
    let without: Vec<_> = notes.iter().filter(|note| note.what.starts_with("has no effect here: ")).collect();
    let is_key = |line: &&str| (line.starts_with("  ") && !line.starts_with("    ")) || !line.ends_with(':');
    let written = NEWER.lines().filter(|line| !line.starts_with("    ")).filter(is_key).count();
    assert_eq!(without.len(), written - 4, "all but four of consumer: {without:#?}");
    // A slip in one of them is one as ever.
    let why = read(&NEWER.replace("max_deliver", "max_delivr"), &[]).expect_err("a slip");
    assert!(why.contains("jetstream.max_delivr: unknown key; did you mean `jetstream.max_deliver`?"), "{why}");
}

#[test]
fn a_subject_of_other_messages_is_refused_before_each_of_them_is_a_dead_letter() {
    let newest = NEWER.replacen("resonance.push.event.v1", "resonance.chat.event.v1", 1);
    let why = read(&newest, &[]).expect_err("it cannot be read");
    let expected = "task.yaml:2:10: consumer.topic: carries MQEvent, the message of newer versions of Resonance, and this engine reads \
                    PushEvent: name the subject on which that is published, such as resonance.push.event.v1";
    assert_eq!(why, expected);
    let why = read("push_consumer:\n  topic: resonance.chat.event.v1\n", &[]).expect_err("the same");
    assert!(why.starts_with("task.yaml:2:10: consumer.topic: carries MQEvent"), "{why}");
}
