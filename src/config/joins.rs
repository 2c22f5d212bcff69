//! Settings that several keys decide together: fills them in, and finds what contradicts itself.

use std::thread::available_parallelism;
use std::time::Duration;

use super::addresses::{Dsn, NatsAuth, NatsUrls};
use super::keys::{self, SECTIONS};
use super::otel;
use super::own::host_name;
use super::plain::{jetstream_name, show_span};
use super::read::Reading;
use super::secret::Secret;
use super::sections::{
    Assignment, Config, ConsumerConfig, ConsumerMode, EtcdConfig, InboxStore, MysqlConfig, NatsConfig, Partitioner,
    RedisConfig, TlsMode,
};
use super::stores;
use super::value::Value;
use crate::model::priority::{Priority, PriorityRules};

/// The configuration; what contradicts itself goes to the reading's mistakes.
pub(super) fn build(reading: &mut Reading) -> Config {
    let mut config = reading.fill();
    mysql(reading, &mut config.mysql);
    stores::join(reading, &mut config);
    nats(reading, &mut config.nats);
    redis(reading, &config.redis);
    etcd(reading, &mut config.etcd);
    check_tls(reading);
    let durable = reading.text("consumer", "durable");
    config.consumer.durable = if durable.is_empty() { config.consumer.queue_group.clone() } else { durable };
    config.engine.cores = cores(reading, config.consumer.partitions);
    let instance = reading.text("engine", "instance");
    config.engine.instance = if instance.is_empty() { host_name() } else { instance };
    check_times(reading, &config);
    check_consumer(reading, &config);
    check_ownership(reading, &config);
    check_priority(reading, &config.priority);
    otel::check(reading, &config.tracing);
    check_notices(reading, &config);
    check_inbox(reading, &config);
    config
}

impl Reading {
    fn text(&self, section: &str, name: &str) -> String {
        match self.value(section, name) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }
}

/// What the DSN says wins over the keys of its parts; its parameters do not win over keys.
fn mysql(reading: &mut Reading, mysql: &mut MysqlConfig) {
    let Some(Value::Dsn(dsn)) = reading.value("mysql", "dsn") else { return };
    mysql.dsn_masked = dsn.masked();
    let lost = ["host", "port", "username", "password", "database"];
    let lost: Vec<_> = lost.into_iter().filter(|name| reading.is_written("mysql", name)).collect();
    if !lost.is_empty() {
        let what = format!("takes precedence; mysql.{} is ignored", lost.join(", mysql."));
        reading.note(reading.place("mysql", "dsn"), "mysql.dsn", what);
    }
    let Dsn { username, password, server, database, connect_timeout, timeout, tls, .. } = *dsn;
    (mysql.at, mysql.username, mysql.password, mysql.database) = (server, username, password, database);
    if tls {
        mysql.tls.mode = TlsMode::Required;
    }
    if !reading.is_written("mysql", "connect_timeout") {
        mysql.connect_timeout = connect_timeout.unwrap_or(mysql.connect_timeout);
    }
    if !reading.is_written("mysql", "timeout") {
        mysql.timeout = timeout.unwrap_or(mysql.timeout);
    }
}

/// The servers, and who we are: by the URL, or else by the keys.
fn nats(reading: &mut Reading, nats: &mut NatsConfig) {
    let Some(Value::NatsUrls(urls)) = reading.value("nats", "url") else { return };
    nats.url_masked = urls.masked();
    let NatsUrls { servers, auth: in_url } = urls;
    let auth = nats_auth(reading);
    if in_url != NatsAuth::None && auth != NatsAuth::None && in_url != auth {
        if let NatsAuth::User { .. } | NatsAuth::Token(_) = auth {
            let what = "names a user or a token, which takes precedence over nats.username and nats.token".into();
            reading.note(reading.place("nats", "url"), "nats.url", what);
        } else {
            let what = "names a user or a token, and another key says who we are as well; write one of them".into();
            reading.mistake(reading.place("nats", "url"), "nats.url", what);
        }
    }
    nats.servers = servers;
    nats.auth = if in_url == NatsAuth::None { auth } else { in_url };
}

/// A certificate and its key go together, in each block of TLS.
fn check_tls(reading: &mut Reading) {
    let sections = SECTIONS.iter().map(|(section, _)| *section);
    for section in sections.filter(|section| keys::find(section, "tls.cert").is_some()) {
        for (one, other) in [("tls.cert", "tls.key"), ("tls.key", "tls.cert")] {
            if reading.is_written(section, one) && !reading.is_written(section, other) {
                let what = format!("needs {section}.{other}: a certificate and its key go together");
                reading.mistake(reading.place(section, one), &format!("{section}.{one}"), what);
            }
        }
    }
    if reading.is_written("admin", "tls.ca") && !reading.is_written("admin", "tls.cert") {
        let what = "needs admin.tls.cert: clients prove themselves over TLS only".into();
        reading.mistake(reading.place("admin", "tls.ca"), "admin.tls.ca", what);
    }
}

/// The user of Redis's ACL has a password.
fn redis(reading: &mut Reading, redis: &RedisConfig) {
    if !redis.username.is_empty() && redis.password.is_empty() {
        let what = "needs redis.password or redis.password_file".into();
        reading.mistake(reading.place("redis", "username"), "redis.username", what);
    }
}

/// What username and password, token, seed and files say together.
fn nats_auth(reading: &mut Reading) -> NatsAuth {
    let secret = |name| Secret::new(&reading.text("nats", name));
    let (username, password, token) = (reading.text("nats", "username"), secret("password"), secret("token"));
    let has_user = !(username.is_empty() && password.is_empty());
    if has_user && !token.is_empty() {
        let what = "contradicts nats.username and nats.password; write the token or the user".into();
        reading.mistake(reading.place("nats", "token"), "nats.token", what);
    }
    if username.is_empty() && !password.is_empty() && token.is_empty() {
        let what = "needs nats.username; a token goes to nats.token".into();
        reading.mistake(reading.place("nats", "password"), "nats.password", what);
    }
    let by_words = match (username.is_empty(), token.is_empty()) {
        (_, false) => NatsAuth::Token(token),
        (false, true) => NatsAuth::User { username, password },
        (true, true) => NatsAuth::None,
    };
    let by_keys = [
        ("creds_file", NatsAuth::CredsFile(reading.text("nats", "creds_file").into())),
        ("nkey_seed_file", NatsAuth::NkeySeedFile(reading.text("nats", "nkey_seed_file").into())),
        ("nkey_seed", NatsAuth::NkeySeed(Secret::new(&reading.text("nats", "nkey_seed")))),
    ];
    let mut auth = by_words;
    for (name, by_key) in by_keys {
        if reading.text("nats", name).is_empty() {
            continue;
        }
        if auth != NatsAuth::None || has_user {
            let what = "contradicts another key that says who we are: write one of nats.username and nats.password, \
                        nats.token, nats.creds_file, nats.nkey_seed_file and nats.nkey_seed";
            reading.mistake(reading.place("nats", name), &format!("nats.{name}"), what.into());
        }
        auth = by_key;
    }
    auth
}

fn etcd(reading: &mut Reading, etcd: &mut EtcdConfig) {
    if let Some(Value::EtcdUrls(endpoints, https)) = reading.value("etcd", "endpoints") {
        (etcd.endpoints, etcd.https) = (endpoints, https);
    }
    if etcd.username.is_empty() && !etcd.password.is_empty() {
        reading.mistake(reading.place("etcd", "password"), "etcd.password", "needs etcd.username".into());
    }
}

/// `all` is every CPU this process may use, but not more than there are partitions: a shard beyond that is idle.
fn cores(reading: &mut Reading, partitions: u32) -> u16 {
    let most = u16::try_from(partitions).unwrap_or(u16::MAX);
    let Some(Value::Cores(cores)) = reading.value("engine", "cores") else { return 1 };
    let place = reading.place("engine", "cores");
    match cores {
        Some(cores) if cores > most => {
            let what = format!(
                "{cores} shards for {partitions} partitions leave some shards idle; raise consumer.partitions or lower engine.cores"
            );
            reading.mistake(place, "engine.cores", what);
            cores
        }
        Some(cores) => cores,
        None => {
            let cpus = available_parallelism().map_or(1, |cpus| u16::try_from(cpus.get()).unwrap_or(u16::MAX));
            if cpus > most {
                let what = format!("all is {most} here, not {cpus}: consumer.partitions is {partitions}");
                reading.note(place, "engine.cores", what);
            }
            cpus.min(most)
        }
    }
}

/// A stop must outlast a push, or a clean stop cuts what was allowed to wait.
fn check_times(reading: &mut Reading, config: &Config) {
    let (push, stop) = (config.gateway.delivery_timeout, config.engine.drain_timeout);
    if push >= stop {
        let (section, name) = if reading.is_written("gateway", "delivery_timeout") {
            ("gateway", "delivery_timeout")
        } else {
            ("engine", "drain_timeout")
        };
        let (push, stop) = (show_span(push), show_span(stop));
        let what = format!(
            "a push may wait {push} and a stop {stop}; engine.drain_timeout must be longer than gateway.delivery_timeout"
        );
        reading.mistake(reading.place(section, name), &format!("{section}.{name}"), what);
    }
}

/// A notice takes the place of a content that is known to be kept, and only a reader of contents knows.
fn check_notices(reading: &mut Reading, config: &Config) {
    let is_read = config.inbox.rows_up_to > 0 && config.inbox.store != InboxStore::Off;
    if config.gateway.notice_above > 0 && !is_read {
        let what = "notices need inbox.rows_up_to above 0 and inbox.store other than off: the engine sends a notice only when it has \
                    seen the content in t_message_content";
        reading.mistake(reading.place("gateway", "notice_above"), "gateway.notice_above", what.to_owned());
    } else if config.gateway.notice_above > 0 && config.gateway.notice_above < config.inbox.rows_up_to {
        let what = format!(
            "notices begin above inbox.rows_up_to ({}), not above {}: in a smaller session nobody reads contents",
            config.inbox.rows_up_to, config.gateway.notice_above
        );
        reading.note(reading.place("gateway", "notice_above"), "gateway.notice_above", what);
    }
}

/// What has an effect with certain stores only.
fn check_inbox(reading: &mut Reading, config: &Config) {
    let inbox = &config.inbox;
    let without_effect = [
        ("rows_up_to", inbox.rows_up_to > 0 && inbox.store == InboxStore::Off, "has no effect with inbox.store off"),
        ("sender", inbox.sender && inbox.store != InboxStore::All, "has an effect with inbox.store all only"),
    ];
    for (name, has_none, what) in without_effect {
        if has_none && reading.is_written("inbox", name) {
            reading.note(reading.place("inbox", name), &format!("inbox.{name}"), what.to_owned());
        }
    }
}

/// What the partitioner needs, and what it means for publishers.
fn check_partitioner(reading: &mut Reading, consumer: &ConsumerConfig) {
    if consumer.partitioner == Partitioner::Off {
        return;
    }
    let place = reading.place("consumer", "partitioner");
    if (consumer.mode, consumer.assignment) != (ConsumerMode::JetStream, Assignment::Partitioned) {
        let what = "needs consumer.mode jetstream and consumer.assignment partitioned".into();
        return reading.mistake(place, "consumer.partitioner", what);
    }
    let topic = &consumer.topic;
    let what = format!(
        "publishers publish on {topic} only: one that writes {topic}.<partition> itself would race the partitioner, and the order \
         of its sessions would be lost. Stream {} must not take {topic} itself, as {} does: where it does, let the instances settle \
         what it holds, set its subjects to {topic}.* by hand, and run task-engine setup",
        consumer.stream,
        consumer.input_stream()
    );
    reading.note(place, "consumer.partitioner", what);
}

/// What a subject of urgent events needs.
fn check_urgent_topic(reading: &mut Reading, consumer: &ConsumerConfig) {
    if let Some(what) = consumer.urgent_topic_fault() {
        reading.mistake(reading.place("consumer", "urgent_topic"), "consumer.urgent_topic", what.to_owned());
    }
}

/// What only JetStream reads, and what it needs.
fn check_consumer(reading: &mut Reading, config: &Config) {
    let consumer = &config.consumer;
    check_partitioner(reading, consumer);
    check_urgent_topic(reading, consumer);
    if consumer.mode == ConsumerMode::Core {
        for name in ["stream", "durable", "max_ack_pending"] {
            if reading.is_written("consumer", name) {
                let what = "has no effect with consumer.mode core".into();
                reading.note(reading.place("consumer", name), &format!("consumer.{name}"), what);
            }
        }
        return;
    }
    if jetstream_name(&consumer.durable).is_err() {
        let what = "cannot be the durable consumer's name; set consumer.durable, without . * > / \\".into();
        reading.mistake(reading.place("consumer", "queue_group"), "consumer.queue_group", what);
    }
    if consumer.ack_wait <= consumer.retry_interval {
        let (wait, retry) = (show_span(consumer.ack_wait), show_span(consumer.retry_interval));
        let what = format!(
            "{wait} is not longer than consumer.retry_interval ({retry}): an event would be sent again before its own retry"
        );
        reading.mistake(reading.place("consumer", "ack_wait"), "consumer.ack_wait", what);
    }
    if consumer.ack_wait > Duration::from_secs(60) {
        let what = format!(
            "after a crash the next instance waits {} for the events of the one that is gone",
            show_span(consumer.ack_wait)
        );
        reading.note(reading.place("consumer", "ack_wait"), "consumer.ack_wait", what);
    }
    if u64::from(consumer.max_ack_pending) < u64::from(config.engine.cores) {
        let what =
            format!("is below engine.cores ({}): some shards would never get events; raise it", config.engine.cores);
        reading.mistake(reading.place("consumer", "max_ack_pending"), "consumer.max_ack_pending", what);
    }
}

/// Partitions can be owned only where there are some, and where the broker keeps what an owner had not settled.
fn check_ownership(reading: &mut Reading, config: &Config) {
    let consumer = &config.consumer;
    if !consumer.is_owned() {
        for (section, name) in [("consumer", "lease_ttl"), ("engine", "instance")] {
            if reading.is_written(section, name) {
                let what = "has no effect with consumer.ownership none".into();
                reading.note(reading.place(section, name), &format!("{section}.{name}"), what);
            }
        }
        return;
    }
    if (consumer.mode, consumer.assignment) != (ConsumerMode::JetStream, Assignment::Partitioned) {
        let what = "etcd needs consumer.mode jetstream and consumer.assignment partitioned: only there has each \
                    partition a reader of its own, and only there is kept what its last one had not settled"
            .into();
        reading.mistake(reading.place("consumer", "ownership"), "consumer.ownership", what);
    }
}

/// What has no effect, or one that few want.
fn check_priority(reading: &mut Reading, rules: &PriorityRules) {
    if reading.is_written("priority", "fleeting_ttl") && !rules.can_give(Priority::Fleeting) {
        let what = "has no effect: no rule of priority gives an event the class fleeting".to_owned();
        reading.note(reading.place("priority", "fleeting_ttl"), "priority.fleeting_ttl", what);
    }
    let what = match rules.default {
        Priority::Normal | Priority::Bulk => return,
        Priority::Urgent => "all events that no rule names are urgent, so that none goes before another",
        Priority::Fleeting => "all events that no rule names are dropped when they are late, and stored nowhere",
    };
    reading.note(reading.place("priority", "default"), "priority.default", what.to_owned());
}
