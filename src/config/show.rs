//! The configuration as YAML: what holds ([`show`]), and the commented file of all defaults ([`sample`]).
//!
//! Promises that what is shown can be read again and means the same, but for the secrets, which are `***`.

use std::fmt::Write;

use super::keys::{KEYS, Key, SECTIONS};
use super::kinds::{Kind, show_span};
use super::{Config, LogOutput, NatsAuth};

/// Every key that is used, with what holds for it.
pub fn show(config: &Config) -> String {
    let mut text = String::new();
    for (section, _) in SECTIONS {
        let keys = KEYS.iter().filter(|key| key.section == *section && key.is_used());
        let indent = open(&mut text, section);
        for key in keys {
            line(&mut text, &format!("{indent}{}: {}", key.name, scalar(key.kind, &value(config, key))));
        }
    }
    text
}

/// The text of `config/task.yaml`.
pub fn sample() -> String {
    let mut text = String::from(SAMPLE_HEAD);
    for (section, about) in SECTIONS {
        line(&mut text, "");
        line(&mut text, &format!("# {about}"));
        let indent = open(&mut text, section);
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let Key { name, doc, .. } = key;
            let spelled = match key.aliases {
                [] => String::new(),
                others => format!(" Also spelled {}.", others.join(", ")),
            };
            if key.is_used() {
                line(&mut text, &format!("{indent}# {doc}{spelled}"));
                line(&mut text, &format!("{indent}{name}: {}", scalar(key.kind, key.default)));
            } else {
                line(&mut text, &format!("{indent}# {name}:   accepted, without effect: {doc}.{spelled}"));
            }
        }
    }
    text
}

const SAMPLE_HEAD: &str = "\
# Every key of task-engine, with its default. All are optional: an empty file, or none, means this one.
#
# A time has a unit: 500ms, 30s, 1h. A key left empty means its default. Each key has an environment variable,
# RESONANCE_<SECTION>_<KEY> in capitals (mysql.password: RESONANCE_MYSQL_PASSWORD), which wins over the file; the
# flags --cores and --admin win over both. `task-engine check-config FILE` shows what holds, or what is wrong.
#
# This file follows from the table in src/config/keys.rs; `UPDATE_SAMPLE=1 cargo test --test config` writes it.
";

fn open(text: &mut String, section: &str) -> &'static str {
    if section.is_empty() {
        return "";
    }
    line(text, &format!("{section}:"));
    "  "
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

/// A value as YAML; quoted where it could be read as something else.
fn scalar(kind: Kind, value: &str) -> String {
    let is_text = matches!(kind, Kind::Text | Kind::Secret | Kind::Word | Kind::Subject | Kind::Name | Kind::Host);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_number_like = value.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let is_word_like = ["null", "true", "false", "yes", "no", "on", "off"].contains(&value.to_lowercase().as_str());
    let plain = if is_text {
        value.chars().all(is_safe) && !is_word_like && (!is_number_like || matches!(kind, Kind::Host))
    } else {
        !value.starts_with([':', '*', '[']) && value.chars().all(|c| is_safe(c) || ":,".contains(c))
    };
    if plain && !value.is_empty() {
        return value.to_owned();
    }
    serde_json::to_string(value).expect("a text is JSON")
}

fn value(config: &Config, key: &Key) -> String {
    let name = key.name;
    match key.section {
        "log" => log(config, name),
        "mysql" => mysql(config, name),
        "redis" => redis(config, name),
        "nats" => nats(config, name),
        "etcd" => etcd(config, name),
        "consumer" => consumer(config, name),
        section => other(config, section, name),
    }
}

fn missing(name: &str) -> String {
    unreachable!("{name} is in the table of keys and in no section: the test of the defaults reads them all")
}

fn log(config: &Config, name: &str) -> String {
    let log = &config.log;
    match name {
        "level" => log.level.word().to_owned(),
        "format" => log.format.word().to_owned(),
        "output" => match &log.output {
            LogOutput::Stdout => "stdout".to_owned(),
            LogOutput::Stderr => "stderr".to_owned(),
            LogOutput::File(path) => path.display().to_string(),
        },
        "enableColor" => log.color.to_string(),
        "addSource" => log.source.to_string(),
        "filter" => log.filter.clone(),
        _ => missing(name),
    }
}

fn mysql(config: &Config, name: &str) -> String {
    let mysql = &config.mysql;
    match name {
        "dsn" => mysql.dsn_masked.clone(),
        "host" => mysql.at.host.clone(),
        "port" => mysql.at.port.to_string(),
        "username" => mysql.username.clone(),
        "password" => mysql.password.to_string(),
        "database" => mysql.database.clone(),
        "connect_timeout" => show_span(mysql.connect_timeout),
        "timeout" => show_span(mysql.timeout),
        "conn_max_lifetime" => show_span(mysql.conn_max_lifetime),
        _ => missing(name),
    }
}

fn redis(config: &Config, name: &str) -> String {
    let redis = &config.redis;
    match name {
        "addr" => redis.at.to_string(),
        "password" => redis.password.to_string(),
        "db" => redis.db.to_string(),
        "dial_timeout" => show_span(redis.dial_timeout),
        "read_timeout" => show_span(redis.read_timeout),
        "write_timeout" => show_span(redis.write_timeout),
        _ => missing(name),
    }
}

/// Who we are is shown where it was written: in the URL, or in the keys.
fn nats(config: &Config, name: &str) -> String {
    let nats = &config.nats;
    let auth = if nats.url_masked.contains('@') { &NatsAuth::None } else { &nats.auth };
    match (name, auth) {
        ("name", _) => nats.name.clone(),
        ("url", _) => nats.url_masked.clone(),
        ("username", NatsAuth::User { username, .. }) => username.clone(),
        ("password", NatsAuth::User { password, .. }) => password.to_string(),
        ("token", NatsAuth::Token(token)) => token.to_string(),
        ("username" | "password" | "token", _) => String::new(),
        ("timeout", _) => show_span(nats.timeout),
        ("reconnect_delay", _) => show_span(nats.reconnect_delay),
        ("ping_interval", _) => show_span(nats.ping_interval),
        ("max_pings_out", _) => nats.max_pings_out.to_string(),
        _ => missing(name),
    }
}

fn etcd(config: &Config, name: &str) -> String {
    let etcd = &config.etcd;
    match name {
        "endpoints" => etcd.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "username" => etcd.username.clone(),
        "password" => etcd.password.to_string(),
        "dial_timeout" => show_span(etcd.dial_timeout),
        "timeout" => show_span(etcd.timeout),
        "keep_alive_time" => show_span(etcd.keep_alive_time),
        "keep_alive_timeout" => show_span(etcd.keep_alive_timeout),
        _ => missing(name),
    }
}

fn consumer(config: &Config, name: &str) -> String {
    let consumer = &config.consumer;
    match name {
        "topic" => consumer.topic.clone(),
        "queue_group" => consumer.queue_group.clone(),
        "max_retry" => consumer.max_retry.to_string(),
        "retry_interval" => show_span(consumer.retry_interval),
        "mode" => consumer.mode.word().to_owned(),
        "stream" => consumer.stream.clone(),
        "durable" if consumer.durable == consumer.queue_group => String::new(),
        "durable" => consumer.durable.clone(),
        "assignment" => consumer.assignment.word().to_owned(),
        "partitions" => consumer.partitions.to_string(),
        "ack_wait" => show_span(consumer.ack_wait),
        "max_ack_pending" => consumer.max_ack_pending.to_string(),
        _ => missing(name),
    }
}

fn other(config: &Config, section: &str, name: &str) -> String {
    match (section, name) {
        ("registry", "namespace") => config.registry.namespace.clone(),
        ("registry", "forget_after") => show_span(config.registry.forget_after),
        ("", "gateway_service_name") => config.gateway_service_name.clone(),
        ("gateway", "delivery_timeout") => show_span(config.gateway.delivery_timeout),
        ("members", "cache_ttl") => show_span(config.members.cache_ttl),
        ("members", "empty_wait") => show_span(config.members.empty_wait),
        ("routes", "cache") => config.routes.cache.word().to_owned(),
        ("inbox", "store") => config.inbox.store.word().to_owned(),
        ("dead_letters", "path") => config.dead_letters.path.display().to_string(),
        ("engine", "cores") => config.engine.cores.to_string(),
        ("engine", "drain_timeout") => show_span(config.engine.drain_timeout),
        ("admin", "listen") => config.admin.listen.to_string(),
        _ => missing(name),
    }
}
