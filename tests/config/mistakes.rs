//! Promise: all mistakes are told at once, each with its place, its key, what is allowed and the nearest known key;
//! and reading ends on any input.

use proptest::prelude::*;
use task_engine::config::{self, Config, EchoSender, Flags, Partitioner};

fn lines(text: &str) -> Vec<String> {
    let mistakes = config::parse("f.yaml", text, [], &Flags::default()).expect_err("the text is wrong");
    mistakes.to_string().lines().map(str::to_owned).collect()
}

fn config(text: &str) -> Config {
    config::parse("f.yaml", text, [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}")).config
}

#[test]
fn nothing_written_is_the_defaults() {
    for text in
        ["", "\n", "# words\n", "---\n", "~", "mysql:\nredis:\n", "mysql:\n  host: \"\"\n  port:\n", "\u{feff}log:\n"]
    {
        assert_eq!(config(text), Config::default(), "{text:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let text = "log:\n  level: loud\nmysq:\n  host: a\nconsumer:\n  topik: x\n  max_retry: three\n  max_retry: 2\n\
                mysql:\n  port: 70000\nredis: here\nnats:\n  url: [a, {b: c}]\n  name: [a]\nmembers:\n  cache_ttl: 5\n";
    let expected = [
        "f.yaml:2:10: log.level: \"loud\" is not one of trace, debug, info, warn, error",
        "f.yaml:3:1: mysq: unknown key; did you mean `mysql`?",
        "f.yaml:6:3: consumer.topik: unknown key; did you mean `consumer.topic`?",
        "f.yaml:7:14: consumer.max_retry: \"three\" is not a whole number; write one from 0 to 1000",
        "f.yaml:8:3: `max_retry` is written twice here; first on line 7",
        "f.yaml:10:9: mysql.port: 70000 is not from 1 to 65535",
        "f.yaml:11:8: redis: is a section; its keys go below it, indented",
        "f.yaml:13:8: nats.url: must be a list of texts",
        "f.yaml:14:9: nats.name: takes one value, not a list",
        "f.yaml:16:14: members.cache_ttl: 5 has no unit; write 5s for seconds or 5ms for milliseconds",
    ];
    assert_eq!(lines(text), expected);
}

#[test]
fn a_key_at_the_wrong_place_finds_its_section() {
    for (text, nearest) in [
        ("topic: x", "consumer.topic"),
        ("engine:\n  worker_count: 3", "consumer.worker_count"),
        ("log:\n  enable_color: true", "log.enableColor"),
        ("gateway_servicename: x", "gateway_service_name"),
        ("nats:\n  max_reconect: 3", "nats.max_reconnect"),
        ("nats:\n  tls:\n    sever_name: x", "nats.tls.server_name"),
        ("nats:\n  tls: {caa: x}", "nats.tls.ca"),
    ] {
        assert!(lines(text)[0].ends_with(&format!("did you mean `{nearest}`?")), "{text}: {:?}", lines(text));
    }
}

#[test]
fn form_is_checked_as_well() {
    for (text, what) in [
        ("- a\n- b", "the file must consist of keys with their values"),
        ("log: {level: info", "not valid YAML"),
        ("log:\n\tlevel: info", "not valid YAML"),
        ("log:\n  level: info\n---\nlog:\n", "a second document"),
        ("log:\n  level: !mine info", "a value that begins with ! needs quotes"),
        ("? [a]\n: b", "a key must be a name"),
        ("redis: &a\n  db: 1\netcd:\n  <<: *a", "merge keys are not supported"),
    ] {
        assert!(lines(text).iter().any(|line| line.contains(what)), "{text}: {:?}", lines(text));
    }
    for (depth, what) in [(100, "levels deep"), (100_000, "recursion limit")] {
        let deep = "log: ".to_owned() + &"[".repeat(depth);
        assert!(lines(&deep).iter().any(|line| line.contains(what)), "{:?}", lines(&deep));
    }
    let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
    assert!(lines(&bomb).iter().any(|line| line.contains("aliases followed")));
}

#[test]
fn aliases_of_yaml_are_followed() {
    let config = config("mysql:\n  username: &name im\netcd:\n  username: *name\n");
    assert_eq!((config.mysql.username.as_str(), config.etcd.username.as_str()), ("im", "im"));
}

#[test]
fn times_and_numbers_have_bounds() {
    for (text, what) in [
        ("consumer:\n  ack_wait: 10ms", "10ms is not from 1s to 1h"),
        ("consumer:\n  partitions: 0", "0 is not from 1 to 16384"),
        ("consumer:\n  partitions: -3", "-3 is not from 1 to 16384"),
        ("consumer:\n  retry_interval: soon", "\"soon\" is not a time; write one such as 30s, 1h or 500ms"),
        ("redis:\n  read_timeout: -1", "-1 is below zero"),
        ("redis:\n  addr: host:0", "is not from 1 to 65535"),
        ("engine:\n  cores: 0", "0 is not from 1 to 1024, or `all`"),
        ("admin:\n  listen: 9100", "is not address:port"),
        ("mysql:\n  port: 0", "0 is not from 1 to 65535"),
        ("log:\n  addSource: maybe", "\"maybe\" is neither true nor false"),
        ("consumer:\n  topic: a.*", "wildcard"),
        ("consumer:\n  topic: $JS.API.INFO", "begins with $"),
        ("redis:\n  addr: https://a:1", "write host:port; the section's key tls asks for TLS"),
    ] {
        assert!(lines(text)[0].contains(what), "{text}: {:?}", lines(text));
    }
    let ok = config("consumer:\n  retry_interval: 1500ms\nredis:\n  read_timeout: 0\nmembers:\n  cache_ttl: 0\n");
    assert_eq!(ok.consumer.retry_interval.as_millis(), 1500);
    let switched = config("consumer:\n  echo_sender: true\n  partitioner: no\n");
    assert_eq!((switched.consumer.echo_sender, switched.consumer.partitioner), (EchoSender::On, Partitioner::Off));
    assert_eq!((ok.redis.read_timeout.as_secs(), ok.members.cache_ttl.as_secs()), (3, 0), "zero is Go's default");
}

#[test]
fn settings_that_contradict_each_other_are_mistakes() {
    for (text, what) in [
        ("consumer:\n  partitions: 2\nengine:\n  cores: 4", "f.yaml:4:10: engine.cores: 4 shards for 2 partitions"),
        ("gateway:\n  delivery_timeout: 30s", "engine.drain_timeout must be longer"),
        ("engine:\n  drain_timeout: 5s", "f.yaml:2:18: engine.drain_timeout: a push may wait 10s and a stop 5s"),
        ("nats:\n  username: a\n  token: b", "f.yaml:3:10: nats.token: contradicts"),
        ("nats:\n  password: b", "nats.password: needs nats.username"),
        ("nats:\n  url: nats://a:b@h,nats://c:d@i", "name different users"),
        ("nats:\n  username: a\n  creds_file: b", "f.yaml:3:15: nats.creds_file: contradicts another key"),
        ("nats:\n  token: a\n  nkey_seed: SUB", "nats.nkey_seed: contradicts another key that says who we are"),
        ("nats:\n  creds_file: a\n  nkey_seed_file: b", "nats.nkey_seed_file: contradicts another key"),
        (
            "nats:\n  url: nats://u:p@h\n  creds_file: a",
            "f.yaml:2:8: nats.url: names a user or a token, and another key",
        ),
        ("nats:\n  tls:\n    cert: a", "f.yaml:3:11: nats.tls.cert: needs nats.tls.key"),
        ("nats:\n  tls: {key: a}", "nats.tls.key: needs nats.tls.cert"),
        (
            "nats:\n  tls: yes",
            "f.yaml:2:8: nats.tls: has keys below it, indented: mode, ca, cert, key, server_name, handshake_first",
        ),
        ("nats:\n  tls: {server_name: \"h:1\"}", "nats.tls.server_name: write the host without a port"),
        ("nats:\n  tls: {ca: [a]}", "nats.tls.ca: takes one value, not a list"),
        ("admin:\n  tls: {cert: a}", "admin.tls.cert: needs admin.tls.key"),
        ("admin:\n  tls: {ca: a}", "admin.tls.ca: needs admin.tls.cert"),
        ("gateway:\n  notice_above: 9", "f.yaml:2:17: gateway.notice_above: notices need inbox.rows_up_to above 0"),
        (
            "gateway:\n  notice_above: 9\ninbox:\n  rows_up_to: 5\n  store: off",
            "gateway.notice_above: notices need inbox.rows_up_to above 0 and inbox.store other than off",
        ),
        ("gateway:\n  tls: {mode: maybe}", "gateway.tls.mode: \"maybe\" is not one of auto, required"),
        ("redis:\n  username: a", "redis.username: needs redis.password"),
        ("etcd:\n  password: b", "etcd.password: needs etcd.username"),
        ("consumer:\n  mode: jetstream\n  queue_group: a.b", "set consumer.durable"),
        (
            "consumer:\n  mode: jetstream\n  ack_wait: 2s\n  retry_interval: 3",
            "is not longer than consumer.retry_interval",
        ),
    ] {
        let lines = lines(text);
        assert!(lines.len() == 1 && lines[0].contains(what), "{text}: {lines:?}");
    }
    let clamped = config("consumer:\n  partitions: 1");
    assert_eq!(clamped.engine.cores, 1, "all is not more than there are partitions");
}

proptest! {
    #[test]
    fn any_text_ends(text in "([a-z:{}\\[\\]&*!|>'\"#%@,? \n\t-]|log|mysql|dsn|url|nats|: |\n  ){0,80}") {
        let _ = config::parse("f", &text, [], &Flags::default());
    }

    #[test]
    fn any_value_ends(key in 0..6_usize, value in "\\PC{0,40}") {
        let key = ["mysql:\n  dsn", "nats:\n  url", "redis:\n  addr", "etcd:\n  endpoints", "admin:\n  listen", "engine:\n  cores"][key];
        let text = format!("{key}: {}", serde_json::to_string(&value).unwrap());
        let _ = config::parse("f", &text, [], &Flags::default());
    }
}

#[test]
fn partitions_have_owners_only_where_there_are_partitions_that_are_kept() {
    let only = "consumer.ownership: etcd needs consumer.mode jetstream and consumer.assignment partitioned";
    for (mode, assignment) in [("core", "partitioned"), ("jetstream", "queue"), ("core", "queue")] {
        let text = format!("consumer:\n  ownership: etcd\n  mode: {mode}\n  assignment: {assignment}\n");
        let said = lines(&text);
        assert!(said.iter().any(|line| line.starts_with("f.yaml:2:14: ") && line.contains(only)), "{said:?}");
    }
    let owned = "consumer:\n  ownership: etcd\n  mode: jetstream\n  assignment: partitioned\n";
    let config = config(&format!("{owned}  lease_ttl: 4s\nengine:\n  instance: node-7\n"));
    assert!(config.consumer.is_owned() && config.engine.instance == "node-7");
    assert_eq!(config.consumer.lease_ttl, std::time::Duration::from_secs(4));
    let said = lines(&format!("{owned}  lease_ttl: 3999ms\nengine:\n  instance: a.b\n"));
    assert!(said[0].contains("consumer.lease_ttl: 3s999ms is not from 4s to 1m"), "{said:?}");
    assert!(said[1].contains("engine.instance"), "{said:?}");
}

#[test]
fn an_instance_without_a_name_has_the_hosts() {
    let name = config("").engine.instance;
    assert!(!name.is_empty() && !name.contains(['.', '*', '>', '/', '\\', ' ']), "{name:?}");
}
