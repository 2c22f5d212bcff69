//! From single values to the whole: fills the sections in and finds what contradicts itself.

use std::thread::available_parallelism;
use std::time::Duration;

use super::addresses::{Dsn, HostPort, NatsAuth, NatsUrls};
use super::kinds::{Value, jetstream_name, show_span};
use super::read::Reading;
use super::{
    AdminConfig, Config, ConsumerConfig, ConsumerMode, DeadLettersConfig, EngineConfig, EtcdConfig, GatewayConfig,
    InboxConfig, LogConfig, LogOutput, MembersConfig, MysqlConfig, NatsConfig, Place, RedisConfig, RegistryConfig,
    RoutesConfig, Secret,
};

/// The configuration; what contradicts itself goes to the reading's mistakes.
pub(super) fn build(reading: &mut Reading) -> Config {
    let consumer = consumer(reading);
    let config = Config {
        log: log(reading),
        mysql: mysql(reading),
        redis: redis(reading),
        nats: nats(reading),
        etcd: etcd(reading),
        registry: RegistryConfig {
            namespace: reading.text("registry", "namespace").trim_end_matches('/').to_owned(),
            forget_after: reading.span("registry", "forget_after"),
        },
        gateway_service_name: reading.text("", "gateway_service_name"),
        gateway: GatewayConfig { delivery_timeout: reading.span("gateway", "delivery_timeout") },
        members: MembersConfig {
            cache_ttl: reading.span("members", "cache_ttl"),
            empty_wait: reading.span("members", "empty_wait"),
        },
        routes: RoutesConfig { cache: super::RouteCache::of(&reading.text("routes", "cache")) },
        inbox: InboxConfig { store: super::InboxStore::of(&reading.text("inbox", "store")) },
        dead_letters: DeadLettersConfig { path: reading.text("dead_letters", "path").into() },
        engine: EngineConfig {
            cores: cores(reading, consumer.partitions),
            drain_timeout: reading.span("engine", "drain_timeout"),
        },
        admin: AdminConfig {
            listen: match reading.value("admin", "listen").0 {
                Value::Listen(address) => address,
                other => wrong(&other),
            },
        },
        consumer,
    };
    check_times(reading, &config);
    check_consumer(reading, &config);
    config
}

/// A value that its kind cannot give: a defect of the table, found by the test that reads all defaults.
fn wrong(value: &Value) -> ! {
    unreachable!("the table gives this key another kind of value: {:?}", std::mem::discriminant(value))
}

impl Reading {
    fn text(&self, section: &str, name: &str) -> String {
        match self.value(section, name).0 {
            Value::Text(text) => text,
            other => wrong(&other),
        }
    }

    fn secret(&self, section: &str, name: &str) -> Secret {
        Secret::new(&self.text(section, name))
    }

    fn flag(&self, section: &str, name: &str) -> bool {
        match self.value(section, name).0 {
            Value::Bool(flag) => flag,
            other => wrong(&other),
        }
    }

    fn count(&self, section: &str, name: &str) -> u32 {
        match self.value(section, name).0 {
            Value::Count(number) => u32::try_from(number).expect("the table's bounds fit"),
            other => wrong(&other),
        }
    }

    fn span(&self, section: &str, name: &str) -> Duration {
        match self.value(section, name).0 {
            Value::Span(time) => time,
            other => wrong(&other),
        }
    }

    fn hosts(&self, section: &str, name: &str) -> Vec<HostPort> {
        match self.value(section, name).0 {
            Value::Hosts(hosts) => hosts,
            other => wrong(&other),
        }
    }

    fn host(&self, section: &str, name: &str) -> HostPort {
        self.hosts(section, name).swap_remove(0)
    }

    fn place(&self, section: &str, name: &str) -> Place {
        self.value(section, name).1
    }

    fn is_written(&self, section: &str, name: &str) -> bool {
        self.place(section, name) != Place::Default
    }
}

fn log(reading: &Reading) -> LogConfig {
    LogConfig {
        level: super::LogLevel::of(&reading.text("log", "level")),
        format: super::LogFormat::of(&reading.text("log", "format")),
        output: match reading.text("log", "output").as_str() {
            "stdout" => LogOutput::Stdout,
            "stderr" => LogOutput::Stderr,
            path => LogOutput::File(path.into()),
        },
        color: reading.flag("log", "enableColor"),
        source: reading.flag("log", "addSource"),
        filter: reading.text("log", "filter"),
    }
}

fn mysql(reading: &mut Reading) -> MysqlConfig {
    let (dsn, place) = reading.value("mysql", "dsn");
    let dsn = match dsn {
        Value::Dsn(dsn) => dsn,
        other => wrong(&other),
    };
    let port = u16::try_from(reading.count("mysql", "port")).expect("the table's bounds fit");
    let mut mysql = MysqlConfig {
        at: HostPort { host: reading.text("mysql", "host"), port },
        username: reading.text("mysql", "username"),
        password: reading.secret("mysql", "password"),
        database: reading.text("mysql", "database"),
        connect_timeout: reading.span("mysql", "connect_timeout"),
        timeout: reading.span("mysql", "timeout"),
        conn_max_lifetime: reading.span("mysql", "conn_max_lifetime"),
        dsn_masked: String::new(),
    };
    let Some(dsn) = dsn else { return mysql };
    mysql.dsn_masked = dsn.masked();
    let lost = ["host", "port", "username", "password", "database"];
    let lost: Vec<_> = lost.into_iter().filter(|name| reading.is_written("mysql", name)).collect();
    if !lost.is_empty() {
        let what = format!("wins; mysql.{} does not count", lost.join(", mysql."));
        reading.note(place, "mysql.dsn", what);
    }
    let Dsn { username, password, server, database, connect_timeout, timeout, .. } = *dsn;
    (mysql.at, mysql.username, mysql.password, mysql.database) = (server, username, password, database);
    if !reading.is_written("mysql", "connect_timeout") {
        mysql.connect_timeout = connect_timeout.unwrap_or(mysql.connect_timeout);
    }
    if !reading.is_written("mysql", "timeout") {
        mysql.timeout = timeout.unwrap_or(mysql.timeout);
    }
    mysql
}

fn redis(reading: &Reading) -> RedisConfig {
    RedisConfig {
        at: reading.host("redis", "addr"),
        password: reading.secret("redis", "password"),
        db: reading.count("redis", "db"),
        dial_timeout: reading.span("redis", "dial_timeout"),
        read_timeout: reading.span("redis", "read_timeout"),
        write_timeout: reading.span("redis", "write_timeout"),
    }
}

fn nats(reading: &mut Reading) -> NatsConfig {
    let (urls, place) = reading.value("nats", "url");
    let urls = match urls {
        Value::NatsUrls(urls) => urls,
        other => wrong(&other),
    };
    let url_masked = urls.masked();
    let NatsUrls { servers, auth: in_url } = urls;
    let auth = nats_auth(reading);
    if in_url != NatsAuth::None && auth != NatsAuth::None && in_url != auth {
        reading.note(place, "nats.url", "names a user or token; it wins over nats.username and nats.token".into());
    }
    NatsConfig {
        name: reading.text("nats", "name"),
        servers,
        auth: if in_url == NatsAuth::None { auth } else { in_url },
        timeout: reading.span("nats", "timeout"),
        reconnect_delay: reading.span("nats", "reconnect_delay"),
        ping_interval: reading.span("nats", "ping_interval"),
        max_pings_out: reading.count("nats", "max_pings_out"),
        url_masked,
    }
}

/// What username, password and token say together.
fn nats_auth(reading: &mut Reading) -> NatsAuth {
    let (username, password) = (reading.text("nats", "username"), reading.secret("nats", "password"));
    let token = reading.secret("nats", "token");
    let has_user = !(username.is_empty() && password.is_empty());
    if has_user && !token.is_empty() {
        let what = "contradicts nats.username and nats.password; write the token or the user".into();
        reading.mistake(reading.place("nats", "token"), "nats.token", what);
    }
    if username.is_empty() && !password.is_empty() && token.is_empty() {
        let what = "needs nats.username; a token goes to nats.token".into();
        reading.mistake(reading.place("nats", "password"), "nats.password", what);
    }
    match (username.is_empty(), token.is_empty()) {
        (_, false) => NatsAuth::Token(token),
        (false, true) => NatsAuth::User { username, password },
        (true, true) => NatsAuth::None,
    }
}

fn etcd(reading: &mut Reading) -> EtcdConfig {
    let etcd = EtcdConfig {
        endpoints: reading.hosts("etcd", "endpoints"),
        username: reading.text("etcd", "username"),
        password: reading.secret("etcd", "password"),
        dial_timeout: reading.span("etcd", "dial_timeout"),
        timeout: reading.span("etcd", "timeout"),
        keep_alive_time: reading.span("etcd", "keep_alive_time"),
        keep_alive_timeout: reading.span("etcd", "keep_alive_timeout"),
    };
    if etcd.username.is_empty() && !etcd.password.is_empty() {
        reading.mistake(reading.place("etcd", "password"), "etcd.password", "needs etcd.username".into());
    }
    etcd
}

fn consumer(reading: &Reading) -> ConsumerConfig {
    let queue_group = reading.text("consumer", "queue_group");
    let durable = reading.text("consumer", "durable");
    ConsumerConfig {
        topic: reading.text("consumer", "topic"),
        max_retry: reading.count("consumer", "max_retry"),
        retry_interval: reading.span("consumer", "retry_interval"),
        mode: ConsumerMode::of(&reading.text("consumer", "mode")),
        stream: reading.text("consumer", "stream"),
        durable: if durable.is_empty() { queue_group.clone() } else { durable },
        assignment: super::Assignment::of(&reading.text("consumer", "assignment")),
        partitions: reading.count("consumer", "partitions"),
        ack_wait: reading.span("consumer", "ack_wait"),
        max_ack_pending: reading.count("consumer", "max_ack_pending"),
        queue_group,
    }
}

/// `all` is every CPU this process may use, but not more than there are partitions: a shard beyond that is idle.
fn cores(reading: &mut Reading, partitions: u32) -> u16 {
    let most = u16::try_from(partitions).unwrap_or(u16::MAX);
    let (cores, place) = match reading.value("engine", "cores") {
        (Value::Cores(cores), place) => (cores, place),
        (other, _) => wrong(&other),
    };
    match cores {
        Some(cores) if cores > most => {
            let what = format!(
                "{cores} shards for {partitions} partitions leave some idle; raise consumer.partitions or take fewer"
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
        let what = format!("a push may wait {push} and a stop {stop}; engine.drain_timeout must be the longer one");
        reading.mistake(reading.place(section, name), &format!("{section}.{name}"), what);
    }
}

/// What only JetStream reads, and what it needs.
fn check_consumer(reading: &mut Reading, config: &Config) {
    let consumer = &config.consumer;
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
            "{wait} is not over consumer.retry_interval ({retry}): an event would be sent again before its own retry"
        );
        reading.mistake(reading.place("consumer", "ack_wait"), "consumer.ack_wait", what);
    }
    if consumer.ack_wait > Duration::from_secs(60) {
        let what = format!("after a crash its sessions wait {} for whoever takes over", show_span(consumer.ack_wait));
        reading.note(reading.place("consumer", "ack_wait"), "consumer.ack_wait", what);
    }
    if u64::from(consumer.max_ack_pending) < u64::from(config.engine.cores) {
        let what = format!("is below engine.cores ({}): some shards would always wait", config.engine.cores);
        reading.mistake(reading.place("consumer", "max_ack_pending"), "consumer.max_ack_pending", what);
    }
}
