//! The configuration as the engine means it: typed, checked, with every default filled in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::addresses::{HostPort, NatsAuth, NatsServer};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// As it is written.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            pub(super) fn of(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => unreachable!("the table of keys lets no other word through"),
                }
            }
        }
    };
}

/// All of it. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the engine says of itself.
    pub log: LogConfig,
    /// Members and inbox.
    pub mysql: MysqlConfig,
    /// Routes.
    pub redis: RedisConfig,
    /// Events.
    pub nats: NatsConfig,
    /// Where gateways register.
    pub etcd: EtcdConfig,
    /// How they are named there.
    pub registry: RegistryConfig,
    /// The gateways' service name.
    pub gateway_service_name: String,
    /// Which events, and how.
    pub consumer: ConsumerConfig,
    /// Pushes.
    pub gateway: GatewayConfig,
    /// Member lists.
    pub members: MembersConfig,
    /// Users' gateways.
    pub routes: RoutesConfig,
    /// t_inbox.
    pub inbox: InboxConfig,
    /// Dead letters.
    pub dead_letters: DeadLettersConfig,
    /// Threads and the stop.
    pub engine: EngineConfig,
    /// Metrics and health.
    pub admin: AdminConfig,
}

words! {
    /// The least important level that is written.
    LogLevel {
        /// Everything.
        Trace = "trace",
        /// For whoever looks for a defect.
        Debug = "debug",
        /// What changes.
        Info = "info",
        /// What an operator should read.
        Warn = "warn",
        /// What stops the engine or loses something.
        Error = "error",
    }
}

words! {
    /// How a log line looks.
    LogFormat {
        /// For people, in colours on a terminal.
        Console = "console",
        /// One JSON object a line.
        Json = "json",
        /// For people, never in colours.
        Text = "text",
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The end of a file.
    File(PathBuf),
}

/// `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `log.level`.
    pub level: LogLevel,
    /// `log.format`.
    pub format: LogFormat,
    /// `log.output`.
    pub output: LogOutput,
    /// `log.enableColor`.
    pub color: bool,
    /// `log.addSource`.
    pub source: bool,
    /// `log.filter`: directives that can be read.
    pub filter: String,
}

/// `mysql`; what the DSN says is already in the other fields.
#[derive(Clone, Debug, PartialEq)]
pub struct MysqlConfig {
    /// The server.
    pub at: HostPort,
    /// `mysql.username`.
    pub username: String,
    /// `mysql.password`.
    pub password: Secret,
    /// `mysql.database`.
    pub database: String,
    /// `mysql.connect_timeout`.
    pub connect_timeout: Duration,
    /// `mysql.timeout`: for reads and for writes.
    pub timeout: Duration,
    /// `mysql.conn_max_lifetime`; zero: without limit.
    pub conn_max_lifetime: Duration,
    /// `mysql.dsn` with `***` for its password; empty when none is written. Only for showing.
    pub dsn_masked: String,
}

/// `redis`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// `redis.addr`.
    pub at: HostPort,
    /// `redis.password`; empty: no AUTH.
    pub password: Secret,
    /// `redis.db`.
    pub db: u32,
    /// `redis.dial_timeout`.
    pub dial_timeout: Duration,
    /// `redis.read_timeout`.
    pub read_timeout: Duration,
    /// `redis.write_timeout`.
    pub write_timeout: Duration,
}

/// `nats`; who the URL says we are is already in `auth`.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsConfig {
    /// `nats.name`.
    pub name: String,
    /// The servers of `nats.url`, at least one, without users.
    pub servers: Vec<NatsServer>,
    /// Who we are.
    pub auth: NatsAuth,
    /// `nats.timeout`.
    pub timeout: Duration,
    /// `nats.reconnect_delay`.
    pub reconnect_delay: Duration,
    /// `nats.ping_interval`.
    pub ping_interval: Duration,
    /// `nats.max_pings_out`.
    pub max_pings_out: u32,
    /// `nats.url` with `***` for password or token. Only for showing.
    pub url_masked: String,
}

/// `etcd`.
#[derive(Clone, Debug, PartialEq)]
pub struct EtcdConfig {
    /// `etcd.endpoints`, at least one.
    pub endpoints: Vec<HostPort>,
    /// `etcd.username`; empty: no login.
    pub username: String,
    /// `etcd.password`.
    pub password: Secret,
    /// `etcd.dial_timeout`.
    pub dial_timeout: Duration,
    /// `etcd.timeout`.
    pub timeout: Duration,
    /// `etcd.keep_alive_time`.
    pub keep_alive_time: Duration,
    /// `etcd.keep_alive_timeout`.
    pub keep_alive_timeout: Duration,
}

/// `registry`.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryConfig {
    /// `registry.namespace`, without a `/` at its end.
    pub namespace: String,
    /// `registry.forget_after`.
    pub forget_after: Duration,
}

words! {
    /// What keeps events until they are settled.
    ConsumerMode {
        /// Nothing: core NATS.
        Core = "core",
        /// A JetStream stream.
        JetStream = "jetstream",
    }
}

words! {
    /// How sessions come to processes.
    Assignment {
        /// One subject, one queue group.
        Queue = "queue",
        /// A subject for each partition.
        Partitioned = "partitioned",
    }
}

/// `consumer`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerConfig {
    /// `consumer.topic`.
    pub topic: String,
    /// `consumer.queue_group`.
    pub queue_group: String,
    /// `consumer.max_retry`.
    pub max_retry: u32,
    /// `consumer.retry_interval`.
    pub retry_interval: Duration,
    /// `consumer.mode`.
    pub mode: ConsumerMode,
    /// `consumer.stream`.
    pub stream: String,
    /// `consumer.durable`; the queue group when none is written.
    pub durable: String,
    /// `consumer.assignment`.
    pub assignment: Assignment,
    /// `consumer.partitions`; never below `engine.cores`.
    pub partitions: u32,
    /// `consumer.ack_wait`.
    pub ack_wait: Duration,
    /// `consumer.max_ack_pending`.
    pub max_ack_pending: u32,
}

/// `gateway`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayConfig {
    /// `gateway.delivery_timeout`; below `engine.drain_timeout`.
    pub delivery_timeout: Duration,
}

/// `members`.
#[derive(Clone, Debug, PartialEq)]
pub struct MembersConfig {
    /// `members.cache_ttl`; zero: MySQL is asked each time.
    pub cache_ttl: Duration,
    /// `members.empty_wait`; zero: one empty answer is enough.
    pub empty_wait: Duration,
}

words! {
    /// How users' gateways are remembered.
    RouteCache {
        /// Until Redis tells that a route changed.
        Tracked = "tracked",
        /// Not at all.
        Off = "off",
    }
}

/// `routes`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutesConfig {
    /// `routes.cache`.
    pub cache: RouteCache,
}

words! {
    /// Which recipients get a row in t_inbox.
    InboxStore {
        /// Whoever could not be reached.
        Offline = "offline",
        /// Everyone.
        All = "all",
        /// Nobody.
        Off = "off",
    }
}

/// `inbox`.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxConfig {
    /// `inbox.store`.
    pub store: InboxStore,
}

/// `dead_letters`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLettersConfig {
    /// `dead_letters.path`.
    pub path: PathBuf,
}

/// `engine`.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// `engine.cores`: shards, at least one; `all` is already counted.
    pub cores: u16,
    /// `engine.drain_timeout`.
    pub drain_timeout: Duration,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// `admin.listen`; port 0 is a free one.
    pub listen: SocketAddr,
}
