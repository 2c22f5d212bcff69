//! The table of all keys: one row per key.
//!
//! Promises that reading, the defaults, what `check-config` shows, `config/task.yaml`, `config/REFERENCE.md` and the names
//! of the environment variables all follow from it. A key that is not here is unknown. To add a key, add its row and the
//! field that the row fills (`sections.rs`).

use super::field::Field;
use super::kinds::Kind;
use super::sections::{
    Assignment, Config, ConsumerMode, EchoSender, InboxStore, LogFormat, LogLevel, Ownership, Partitioner, Recorder,
    RouteCache, SslMode, TlsMode, TraceExport, Unannounced,
};

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The section it stands in; empty for a key at the top of the file.
    pub section: &'static str,
    /// Its name inside the section; `group.name` for one of several that stand together below `group`.
    pub name: &'static str,
    /// Other spellings that mean the same; the name wins when both are written.
    pub aliases: &'static [&'static str],
    /// What may be written: type, unit and bounds.
    pub kind: Kind,
    /// The value that is used when nothing, an empty text or (for times of the Go service) zero is written; in the form
    /// in which one would write it.
    pub default: &'static str,
    /// When a change takes effect.
    pub reload: Reload,
    /// Where the value goes.
    pub(super) goes: Goes,
    /// What it does and why the default is what it is. For a key without effect: why it has none.
    pub doc: &'static str,
}

/// When a changed key takes effect; [`reload`](super::reload) has the exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At the next start.
    Restart,
    /// When a running engine reads its configuration again.
    Running,
    /// What it says of the server's place at the next start, the rest when a running engine reads it again.
    Parts,
}

/// Where the value of a key goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goes {
    /// Nowhere: the key is accepted because files of the Go service have it.
    Nowhere,
    /// Into this field.
    Field(fn(&mut Config) -> &mut dyn Field),
    /// Into fields that several keys share: `joins.rs` fills them. The function gives this key's part, as one would write it.
    Joined(fn(&Config) -> String),
}

impl Key {
    /// The key as messages name it: `mysql.host`.
    pub fn full(&self) -> String {
        join(self.section, self.name, ".")
    }

    /// The environment variables that set it: `RESONANCE_MYSQL_HOST`, the name's first, then the aliases'.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let names = std::iter::once(self.name).chain(self.aliases.iter().copied());
        names.map(|name| format!("RESONANCE_{}", join(self.section, name, "_").replace('.', "_").to_uppercase()))
    }

    /// Whether the engine reads it; the others are accepted because files of the Go service have them.
    pub fn is_used(&self) -> bool {
        !matches!(self.goes, Goes::Nowhere)
    }

    /// Whether its value holds a secret, alone or among other parts.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Dsn | Kind::NatsUrls)
    }

    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

pub(super) fn join(section: &str, name: &str, between: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}{between}{name}") }
}

/// The sections in the order of the file, each with what it is about. The empty one holds the keys at the top.
pub const SECTIONS: &[(&str, &str)] = &[
    ("log", "The engine's log."),
    (
        "mysql",
        "Who is in a session (t_session_member), and the inbox (t_inbox; with inbox.rows_up_to t_message_content).",
    ),
    (
        "postgres",
        "The same in PostgreSQL, instead of mysql: the section that is there says which database it is; both is a mistake.",
    ),
    ("redis", "Which gateway a user is connected to."),
    ("nats", "Where events come from."),
    ("etcd", "Where gateways register."),
    ("registry", "How gateways are named in etcd."),
    ("service", "What Resonance's services say of themselves."),
    ("", "The service name gateways register under: <registry.namespace>/<gateway_service_name>/<instance>."),
    ("consumer", "Which events this process takes, and how."),
    (
        "push_consumer",
        "What Resonance calls the section consumer since it stores and pushes apart; a key may be written in one of the two.",
    ),
    (
        "storage_consumer",
        "Resonance's second consumer: it writes a row for each member, the sender too. With this section inbox.store is all and \
         inbox.sender true where they are not written; the rows are those of the events that are pushed.",
    ),
    ("stream_consumer", "The consumer of agents' text in newer versions of Resonance."),
    ("jetstream", "How newer versions of Resonance make their streams."),
    ("observability", "What Resonance's services tell of themselves to Prometheus and to a collector."),
    ("priority", "Who goes first, and who yields: the classes of events. Without any rule all are alike."),
    ("gateway", "How pushes are handed to gateways."),
    ("members", "How long a session's member list may be reused, and waited for."),
    ("routes", "How users' gateways are remembered."),
    ("inbox", "Who gets a row in t_inbox."),
    ("dead_letters", "Where events go that can never be pushed."),
    ("engine", "Threads and the stop."),
    ("admin", "Metrics and health."),
    ("tracing", "Traces of events, for a collector that speaks OTLP over HTTP."),
];

const RESTART: Reload = Reload::Restart;
const RUNNING: Reload = Reload::Running;
const PARTS: Reload = Reload::Parts;

const fn field(of: fn(&mut Config) -> &mut dyn Field) -> Goes {
    Goes::Field(of)
}

const fn joined(shown: fn(&Config) -> String) -> Goes {
    Goes::Joined(shown)
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    goes: Goes,
    doc: &'static str,
) -> Key {
    Key { section, name, aliases: &[], kind, default, reload, goes, doc }
}

const fn noted(section: &'static str, name: &'static str, reason: &'static str) -> Key {
    key(section, name, Kind::Noted, "", RESTART, Goes::Nowhere, reason)
}

const TLS_MODE: &str = "required: the server must speak TLS. auto: it must when another key of this block is written.";
const TLS_MODE_OF_ETCD: &str = "required: etcd must speak TLS. auto: it must when another key of this block is written, or an endpoint begins with https://.";
const TLS_MODE_OF_GATEWAYS: &str = "required: all gateways must speak TLS. auto: those do that register with grpcs:// or isSecure=true, the others are plain.";
const TLS_NAME_OF_GATEWAYS: &str =
    "What every gateway's certificate must be for; empty: the host under which it registers.";
const TLS_CA: &str = "File of the CAs (PEM) that may have signed the server's certificate; empty: the system's CAs. These files are read at the start, and again at a connect when they have changed.";
const TLS_NAME: &str = "What the server's certificate must be for; empty: the host that is connected to.";
const TLS_CERT: &str =
    "File with the engine's certificate (PEM), for servers that verify their clients; needs tls.key.";
const TLS_KEY: &str = "File with the key of that certificate (PEM, without a passphrase).";
const NAME: &str = "a label of the Go service";
const POOL: &str = "connections are not pooled here: their number follows from the threads";
const RETRIES: &str = "a server that is away is tried again until it is back";
const RETRY_WAIT: &str = "waits between tries grow by themselves, with jitter";
const HEALTH: &str = "each connection judges its health by its answers";
const ADMIN: &str = "health and metrics are at admin.listen";
const LETTERS: &str =
    "dead letters go to the stream <consumer.stream>_DLQ, or to dead_letters.path; task-engine dlq reads both";
const AGENTS: &str = "what agents write letter by letter (AgentStreamEvent) is not pushed by this engine";
const STREAMS: &str =
    "task-engine setup makes the streams that consumer.mode jetstream needs, and changes none that exists";

/// Every key, section by section, in the order of the file: section, name, what may be written, default, when a change takes
/// effect, where the value goes, what it does. A line each: rustfmt would make nine of it.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("log", "level", Kind::Level(LogLevel::WORDS), "info", RUNNING, field(|c| &mut c.log.level), "Least important level of the engine's own lines: trace, debug, info, warn, error. Lines of the libraries below it are written from warn up."),
    key("log", "filter", Kind::Directives, "", RUNNING, field(|c| &mut c.log.filter), "Levels of single parts: target=level, several separated by commas, such as h2=debug,task_engine::push=warn; a level alone is for all libraries."),
    key("log", "format", Kind::Choice(LogFormat::WORDS), "console", RESTART, field(|c| &mut c.log.format), "console and text are lines for people, console in colours; json is one object per line."),
    key("log", "output", Kind::Word, "stdout", RESTART, field(|c| &mut c.log.output), "stdout, stderr, or the path of a file that is appended to; SIGHUP opens it again, as after a rotation."),
    key("log", "enableColor", Kind::Bool, "true", RESTART, field(|c| &mut c.log.color), "Colours, when format is console and the output is a terminal."),
    key("log", "addSource", Kind::Bool, "false", RESTART, field(|c| &mut c.log.source), "Adds file and line of the source to each log line."),
    noted("log", "sourceRoot", "source paths are written as the compiler knows them"),
    noted("mysql", "name", NAME),
    key("mysql", "dsn", Kind::Dsn, "", PARTS, joined(|c| c.mysql.dsn_masked.clone()), "user:password@tcp(host:port)/database?params, as Go writes it. Wins over the five keys below."),
    key("mysql", "dsn_file", Kind::SecretFile, "", PARTS, field(|c| &mut c.mysql.dsn_file), "File in which the DSN stands, instead of mysql.dsn."),
    key("mysql", "host", Kind::Host, "127.0.0.1", RESTART, field(|c| &mut c.mysql.at.host), "Host name or address."),
    key("mysql", "port", Kind::Port, "3306", RESTART, field(|c| &mut c.mysql.at.port), "TCP port."),
    key("mysql", "username", Kind::Text, "root", RUNNING, field(|c| &mut c.mysql.username), "User.").also(&["user"]),
    key("mysql", "password", Kind::Secret, "", RUNNING, field(|c| &mut c.mysql.password), "Password; better set as RESONANCE_MYSQL_PASSWORD."),
    key("mysql", "password_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.mysql.password_file), "File in which the password stands, instead of mysql.password; a line end after it does not count. Read at the start and at a reload."),
    key("mysql", "database", Kind::Word, "resonance", RESTART, field(|c| &mut c.mysql.database), "Schema that holds the t_ tables."),
    noted("mysql", "charset", "the connection always speaks utf8mb4"),
    key("mysql", "connect_timeout", Kind::GoSpan, "5s", RUNNING, field(|c| &mut c.mysql.connect_timeout), "Time to connect and log in."),
    key("mysql", "timeout", Kind::GoSpan, "5s", RUNNING, field(|c| &mut c.mysql.timeout), "Time the server may take to answer a statement; then the connection is given up."),
    noted("mysql", "max_idle_conns", POOL),
    noted("mysql", "max_open_conns", POOL),
    key("mysql", "conn_max_lifetime", Kind::Lifetime, "10m", RUNNING, field(|c| &mut c.mysql.conn_max_lifetime), "Age at which a connection is replaced, between two statements, and its host resolved anew, so that a server that moved is found; a random part of up to a fifth is taken off. 0s: never.").also(&["max_lifetime"]),
    noted("mysql", "max_retries", RETRIES),
    noted("mysql", "retry_interval", RETRY_WAIT),
    noted("mysql", "health_check_freq", HEALTH),
    key("mysql", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.mysql.tls.mode), TLS_MODE),
    key("mysql", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.mysql.tls.ca), TLS_CA),
    key("mysql", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.mysql.tls.cert), TLS_CERT),
    key("mysql", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.mysql.tls.key), TLS_KEY),
    key("mysql", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.mysql.tls.server_name), TLS_NAME),
    noted("postgres", "name", NAME),
    key("postgres", "host", Kind::Host, "127.0.0.1", RESTART, field(|c| &mut c.postgres.at.host), "Host name or address."),
    key("postgres", "port", Kind::Port, "5432", RESTART, field(|c| &mut c.postgres.at.port), "TCP port."),
    key("postgres", "username", Kind::Text, "resonance", RUNNING, field(|c| &mut c.postgres.username), "User.").also(&["user"]),
    key("postgres", "password", Kind::Secret, "", RUNNING, field(|c| &mut c.postgres.password), "Password; better set as RESONANCE_POSTGRES_PASSWORD."),
    key("postgres", "password_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.postgres.password_file), "File in which the password stands, instead of postgres.password; a line end after it does not count. Read at the start and at a reload."),
    key("postgres", "database", Kind::Word, "resonance", RESTART, field(|c| &mut c.postgres.database), "Database that holds the t_ tables, in the user's search_path.").also(&["dbname"]),
    key("postgres", "sslmode", Kind::Choice(SslMode::WORDS), "prefer", RUNNING, field(|c| &mut c.postgres.sslmode), "As other clients have it. require, verify-ca and verify-full: the server must speak TLS and prove itself, by postgres.tls. allow and prefer: TLS when a key of postgres.tls is written, and never without proof. disable: never."),
    noted("postgres", "timezone", "times of rows are the server's own"),
    key("postgres", "connect_timeout", Kind::GoSpan, "5s", RUNNING, field(|c| &mut c.postgres.connect_timeout), "Time to connect and log in."),
    key("postgres", "timeout", Kind::GoSpan, "5s", RUNNING, field(|c| &mut c.postgres.timeout), "Time the server may take to answer a statement; then the connection is given up."),
    noted("postgres", "max_idle_conns", POOL),
    noted("postgres", "max_open_conns", POOL),
    key("postgres", "conn_max_lifetime", Kind::Lifetime, "10m", RUNNING, field(|c| &mut c.postgres.conn_max_lifetime), "Age at which a connection is replaced, between two statements, and its host resolved anew, so that a server that moved is found; a random part of up to a fifth is taken off. 0s: never.").also(&["max_lifetime"]),
    noted("postgres", "max_retries", RETRIES),
    noted("postgres", "retry_interval", RETRY_WAIT),
    noted("postgres", "health_check_freq", HEALTH),
    key("postgres", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.postgres.tls.mode), TLS_MODE),
    key("postgres", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.postgres.tls.ca), TLS_CA),
    key("postgres", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.postgres.tls.cert), TLS_CERT),
    key("postgres", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.postgres.tls.key), TLS_KEY),
    key("postgres", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.postgres.tls.server_name), TLS_NAME),
    noted("redis", "name", NAME),
    key("redis", "addr", Kind::HostPort(6379), "127.0.0.1:6379", RESTART, field(|c| &mut c.redis.at), "host:port."),
    key("redis", "username", Kind::Text, "", RUNNING, field(|c| &mut c.redis.username), "User of the ACL (Redis 6 and newer); empty: the user default."),
    key("redis", "password", Kind::Secret, "", RUNNING, field(|c| &mut c.redis.password), "Password; better set as RESONANCE_REDIS_PASSWORD, or in redis.password_file."),
    key("redis", "password_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.redis.password_file), "File in which the password stands, instead of redis.password; read at the start and at a reload."),
    key("redis", "db", Kind::Count(0, 65_535), "0", RESTART, field(|c| &mut c.redis.db), "Database number."),
    noted("redis", "pool_size", "each shard has one pipelined connection"),
    noted("redis", "min_idle_conns", "each shard has one pipelined connection"),
    key("redis", "dial_timeout", Kind::GoSpan, "5s", RUNNING, field(|c| &mut c.redis.dial_timeout), "Time to connect and log in.").also(&["connect_timeout"]),
    key("redis", "read_timeout", Kind::GoSpan, "3s", RUNNING, field(|c| &mut c.redis.read_timeout), "Time the server may take to answer; then the connection is given up and the routes are asked again."),
    key("redis", "write_timeout", Kind::GoSpan, "3s", RUNNING, field(|c| &mut c.redis.write_timeout), "Time a request may take to leave; then the connection is given up."),
    noted("redis", "max_retries", RETRIES),
    noted("redis", "retry_interval", RETRY_WAIT),
    noted("redis", "health_check_freq", HEALTH),
    key("redis", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.redis.tls.mode), TLS_MODE),
    key("redis", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.redis.tls.ca), TLS_CA),
    key("redis", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.redis.tls.cert), TLS_CERT),
    key("redis", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.redis.tls.key), TLS_KEY),
    key("redis", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.redis.tls.server_name), TLS_NAME),
    key("nats", "name", Kind::Text, "task-engine", RESTART, field(|c| &mut c.nats.name), "What the names of the engine's connections begin with in the server's monitoring."),
    key("nats", "url", Kind::NatsUrls, "nats://127.0.0.1:4222", PARTS, joined(|c| c.nats.url_masked.clone()), "nats://[user:password@]host:port, several separated by commas. With tls:// in one of them TLS is demanded of all, also of those that servers name; a server that demands TLS gets it with nats://, too."),
    key("nats", "username", Kind::Text, "", RUNNING, joined(|c| c.nats.auth_in_keys().username()), "User, when the url names none."),
    key("nats", "password", Kind::Secret, "", RUNNING, joined(|c| c.nats.auth_in_keys().password_masked()), "Password; better set as RESONANCE_NATS_PASSWORD."),
    key("nats", "password_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.nats.password_file), "File in which the password stands, instead of nats.password; read at the start and at a reload."),
    key("nats", "token", Kind::Secret, "", RUNNING, joined(|c| c.nats.auth_in_keys().token_masked()), "Token, instead of a user."),
    key("nats", "token_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.nats.token_file), "File in which the token stands, instead of nats.token; read at the start and at a reload."),
    key("nats", "creds_file", Kind::Word, "", RUNNING, joined(|c| c.nats.auth_in_keys().file_of("nats.creds_file")), "File of credentials (JWT and seed) as nsc writes it, instead of a user; read at each connect, so that a renewed one counts."),
    key("nats", "nkey_seed_file", Kind::Word, "", RUNNING, joined(|c| c.nats.auth_in_keys().file_of("nats.nkey_seed_file")), "File with the seed of the user's NKey (SU...), instead of a user; read at each connect."),
    key("nats", "nkey_seed", Kind::Secret, "", RUNNING, joined(|c| c.nats.auth_in_keys().nkey_seed_masked()), "The seed itself; better set as RESONANCE_NATS_NKEY_SEED."),
    key("nats", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.nats.tls.mode), "required: as tls:// in nats.url. auto: TLS is demanded when nats.url says tls:// or another key of nats.tls is written."),
    key("nats", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.nats.tls.ca), "File of the CAs (PEM) that may have signed the servers' certificates; empty: the system's CAs. With any key of nats.tls TLS is demanded of all servers. These files are read at the start, and again at a connect when they have changed."),
    key("nats", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.nats.tls.cert), TLS_CERT),
    key("nats", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.nats.tls.key), TLS_KEY),
    key("nats", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.nats.tls.server_name), "What the servers' certificates must be for; empty: the host in nats.url. A server that another names by an IP address is checked against that other's host."),
    key("nats", "tls.handshake_first", Kind::Bool, "false", RUNNING, field(|c| &mut c.nats.handshake_first), "For servers that want TLS before their first word (handshake_first of nats-server 2.10)."),
    key("nats", "timeout", Kind::GoSpan, "5s", RESTART, field(|c| &mut c.nats.timeout), "Time the server may take to answer, also a test of the link.").also(&["connect_timeout"]),
    noted("nats", "max_reconnect", "the engine reconnects until it is stopped").also(&["max_reconnects"]),
    key("nats", "reconnect_delay", Kind::GoSpan, "1s", RESTART, field(|c| &mut c.nats.reconnect_delay), "Wait before the second try to connect; it doubles up to 1s, or stays when it is longer.").also(&["reconnect_wait"]),
    key("nats", "ping_interval", Kind::GoSpan, "5s", RESTART, field(|c| &mut c.nats.ping_interval), "How often the link is tested, every 5s at least; a half-open one is noticed after this times max_pings_out."),
    key("nats", "max_pings_out", Kind::Count(1, 100), "2", RESTART, field(|c| &mut c.nats.max_pings_out), "Tests that fail in a row before the link is given up."),
    noted("nats", "max_retries", RETRIES),
    noted("nats", "retry_interval", "see nats.reconnect_delay"),
    noted("nats", "health_check_freq", "see nats.ping_interval"),
    noted("etcd", "name", NAME),
    key("etcd", "endpoints", Kind::EtcdUrls(2379), "127.0.0.1:2379", RESTART, joined(|c| c.etcd.endpoints_shown()), "host:port, http://host:port or https://host:port, as a list or separated by commas. With https:// at one of them TLS is demanded of all."),
    key("etcd", "username", Kind::Text, "", RUNNING, field(|c| &mut c.etcd.username), "User, when etcd asks for one."),
    key("etcd", "password", Kind::Secret, "", RUNNING, field(|c| &mut c.etcd.password), "Password; better set as RESONANCE_ETCD_PASSWORD."),
    key("etcd", "password_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.etcd.password_file), "File in which the password stands, instead of etcd.password; read at the start and at a reload."),
    key("etcd", "dial_timeout", Kind::GoSpan, "5s", RESTART, field(|c| &mut c.etcd.dial_timeout), "Time to connect.").also(&["connect_timeout"]),
    key("etcd", "timeout", Kind::GoSpan, "5s", RESTART, field(|c| &mut c.etcd.timeout), "Time the server may take to answer a request."),
    key("etcd", "keep_alive_time", Kind::GoSpan, "30s", RESTART, field(|c| &mut c.etcd.keep_alive_time), "Quiet time on a connection after which it is tested; 6s at least, for etcd cuts off clients that ask more often than every 5s."),
    key("etcd", "keep_alive_timeout", Kind::GoSpan, "10s", RESTART, field(|c| &mut c.etcd.keep_alive_timeout), "Time that test may take."),
    noted("etcd", "max_retries", RETRIES),
    noted("etcd", "retry_interval", RETRY_WAIT),
    noted("etcd", "health_check_freq", HEALTH),
    key("etcd", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.etcd.tls.mode), TLS_MODE_OF_ETCD),
    key("etcd", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.etcd.tls.ca), TLS_CA),
    key("etcd", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.etcd.tls.cert), TLS_CERT),
    key("etcd", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.etcd.tls.key), TLS_KEY),
    key("etcd", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.etcd.tls.server_name), TLS_NAME),
    key("registry", "namespace", Kind::Prefix, "/resonance/services", RESTART, field(|c| &mut c.registry.namespace), "What the keys of all services begin with."),
    key("registry", "forget_after", Kind::Span(0, 86_400_000), "5m", RUNNING, field(|c| &mut c.registry.forget_after), "How long the last known address of a gateway that is no longer registered stays in use while it answers: registrations may be lost while gateways live. 0s: not at all."),
    noted("registry", "default_ttl", "the engine registers nothing, so it holds no lease"),
    noted("registry", "enable_cache", "the gateways are always known from a watch, and kept when etcd is lost"),
    noted("registry", "poll_interval", "the registry is watched, so what changes is known at once"),
    noted("registry", "cache_expiration", "the gateways are always known from a watch, and kept when etcd is lost"),
    noted("service", "name", NAME),
    noted("service", "http_port", ADMIN),
    key("", "gateway_service_name", Kind::Word, "gateway-service", RESTART, field(|c| &mut c.gateway_service_name), "The gateways' service name."),
    noted("", "gateway_queue_size", "what may wait for a gateway is bounded in users and bytes, by the engine"),
    noted("", "gateway_pusher_count", "one connection a gateway carries its pushes, in the order of each session"),
    noted("", "stream_max_delta_bytes", AGENTS),
    key("consumer", "topic", Kind::Subject, "resonance.push.event.v1", RESTART, field(|c| &mut c.consumer.topic), "Subject of the events."),
    key("consumer", "urgent_topic", Kind::Subject, "", RESTART, field(|c| &mut c.consumer.urgent_topic), "JetStream: a second subject, read through consumers and connections of its own, whose events are all urgent: what waits in the broker on the topic does not hold them up. For sessions whose every message is urgent: nothing is promised of the order between the two subjects. With partitioned: <urgent_topic>.<partition>. Not with ownership etcd or the partitioner. `setup` makes what it needs. Empty: none."),
    key("consumer", "queue_group", Kind::Word, "task-service", RESTART, field(|c| &mut c.consumer.queue_group), "Queue group: each event goes to one process of it."),
    noted("consumer", "worker_count", "engine.cores decides how many threads push"),
    noted("consumer", "dlq_topic", LETTERS),
    key("consumer", "max_retry", Kind::Count(0, 1000), "3", RUNNING, field(|c| &mut c.consumer.max_retry), "How often the lookups of one event are tried again when they fail."),
    key("consumer", "retry_interval", Kind::Seconds, "1s", RUNNING, field(|c| &mut c.consumer.retry_interval), "Wait between these tries; whole seconds as a bare number, or with a unit."),
    key("consumer", "mode", Kind::Choice(ConsumerMode::WORDS), "core", RESTART, field(|c| &mut c.consumer.mode), "core: the broker keeps nothing. jetstream: an event is acked when it is settled for each recipient."),
    key("consumer", "stream", Kind::Name, "RESONANCE", RESTART, field(|c| &mut c.consumer.stream), "JetStream stream; must exist."),
    key("consumer", "durable", Kind::Name, "", RESTART, joined(|c| c.consumer.durable_in_key()), "JetStream durable consumer; made when missing. Empty: the queue group's name."),
    key("consumer", "assignment", Kind::Choice(Assignment::WORDS), "queue", RESTART, field(|c| &mut c.consumer.assignment), "queue: the group shares one subject. partitioned: <topic>.<partition>, one connection per shard, publish order over all instances."),
    key("consumer", "ownership", Kind::Choice(Ownership::WORDS), "none", RESTART, field(|c| &mut c.consumer.ownership), "Who reads which partition when several instances run. none: each instance reads all, so let one run. etcd: each partition has one owner at a time, and partitions move when instances come and go; needs mode jetstream and assignment partitioned, and the same value in all instances."),
    key("consumer", "lease_ttl", Kind::Span(4_000, 60_000), "5s", RESTART, field(|c| &mut c.consumer.lease_ttl), "With ownership etcd: how long etcd waits for a sign of life of an instance before others may take its partitions. Longer: more time for a slow etcd or network; shorter: an instance that died is replaced sooner."),
    key("consumer", "partitions", Kind::Count(1, 16_384), "64", RESTART, field(|c| &mut c.consumer.partitions), "Slices of all sessions; the same number for publishers, broker and all instances. At least engine.cores."),
    key("consumer", "partitioner", Kind::Choice(Partitioner::WORDS), "off", RESTART, field(|c| &mut c.consumer.partitioner), "on: publishers know no partitions and publish on the topic itself, each event any number of times; the stream <stream>_IN takes it, and the engine moves each event once, in order, to <topic>.<partition>. Of several instances (ownership etcd) one at a time does. Only with jetstream and partitioned; `setup` makes the stream."),
    key("consumer", "ack_wait", Kind::Span(1_000, 3_600_000), "10s", RESTART, field(|c| &mut c.consumer.ack_wait), "JetStream: an event that is neither acked nor reported as in work for this long is sent again. After a crash the next instance waits this long for the events of the one that is gone: keep it short. With core NATS too, an instance takes no events while a store is away for longer than this."),
    key("consumer", "max_ack_pending", Kind::Count(1, 1_000_000), "65536", RESTART, field(|c| &mut c.consumer.max_ack_pending), "JetStream: events out at once, unacked."),
    key("consumer", "echo_sender", Kind::Choice(EchoSender::WORDS), "off", RESTART, field(|c| &mut c.consumer.echo_sender), "on: the sender is pushed its own message, too, for its other devices; the event's from_device is passed on, so that the gateway leaves out the connection that sent it. A sender that cannot be reached gets no row for that."),
    key("push_consumer", "topic", Kind::Subject, "", RESTART, joined(|_| String::new()), "consumer.topic."),
    key("push_consumer", "queue_group", Kind::Word, "", RESTART, joined(|_| String::new()), "consumer.queue_group."),
    noted("push_consumer", "worker_count", "engine.cores decides how many threads push"),
    noted("push_consumer", "dlq_topic", LETTERS),
    key("push_consumer", "max_retry", Kind::Count(0, 1000), "", RUNNING, joined(|_| String::new()), "consumer.max_retry."),
    key("push_consumer", "retry_interval", Kind::Seconds, "", RUNNING, joined(|_| String::new()), "consumer.retry_interval."),
    key("storage_consumer", "topic", Kind::Subject, "", RESTART, joined(|_| String::new()), "consumer.topic, when neither that nor push_consumer.topic is written; else without effect: rows are made of the events that are pushed."),
    key("storage_consumer", "queue_group", Kind::Word, "", RESTART, joined(|_| String::new()), "Without effect of its own: who pushes an event also stores it."),
    noted("storage_consumer", "worker_count", "two threads write rows, a commit for many of them"),
    noted("storage_consumer", "max_retry", "rows are tried again until the database has them"),
    noted("storage_consumer", "retry_interval", RETRY_WAIT),
    noted("storage_consumer", "dlq_topic", LETTERS),
    noted("stream_consumer", "topic", AGENTS),
    noted("stream_consumer", "queue_group", AGENTS),
    noted("stream_consumer", "worker_count", AGENTS),
    noted("stream_consumer", "max_retry", AGENTS),
    noted("stream_consumer", "retry_interval", AGENTS),
    noted("stream_consumer", "dlq_topic", AGENTS),
    noted("jetstream", "auto_create_stream", STREAMS),
    noted("jetstream", "stream_prefix", "consumer.stream names the stream"),
    noted("jetstream", "ack_wait", "see consumer.ack_wait"),
    noted("jetstream", "max_deliver", "an event comes again until it has ended; one that can never be pushed becomes a dead letter"),
    noted("jetstream", "retention", STREAMS),
    noted("jetstream", "storage", STREAMS),
    noted("jetstream", "max_age", STREAMS),
    noted("jetstream", "max_bytes", STREAMS),
    noted("jetstream", "replicas", STREAMS),
    noted("observability", "version", "the metric task_engine_build_info says which version runs"),
    noted("observability", "instance", "see engine.instance"),
    noted("observability", "environment", "see tracing.resource"),
    noted("observability", "trace", "see tracing.export; tracing.endpoint names the collector, which takes OTLP over HTTP here"),
    noted("observability", "metrics", ADMIN),
    key("priority", "header", Kind::Header, "", RESTART, field(|c| &mut c.priority.header), "NATS header in which a publisher names the class of an event: urgent, normal, bulk or fleeting, such as Resonance-Priority. It wins over all other rules; a value that is none of these is counted, and the next rule decides. Empty: none is read."),
    key("priority", "types", Kind::TypeClasses, "", RESTART, field(|c| &mut c.priority.types), "Class by the event's type, where no header decides: {call: urgent, typing: fleeting}. urgent goes first and is never shed; bulk goes last, and yields to the inbox where gateways have half of what they may; fleeting is as bulk, never stored, and dropped when there is no room or it is late."),
    key("priority", "members_above", Kind::SizeClasses, "", RESTART, field(|c| &mut c.priority.members_above), "Class of the events of sessions with more members than this, where neither header nor type decides: {500: bulk}. The largest number that fits counts."),
    key("priority", "default", Kind::Choice(super::priority::CLASSES), "normal", RESTART, field(|c| &mut c.priority.default), "Class of all other events."),
    key("priority", "fleeting_ttl", Kind::Span(0, 3_600_000), "5s", RESTART, field(|c| &mut c.priority.fleeting_ttl), "How long a fleeting event may wait in the engine until it is written to its gateways; of an older one whatever is not on its way is dropped (shed: acknowledged and counted). 0s: never for its age."),
    key("priority", "stream_target", Kind::Span(0, 1_000), "2ms", RESTART, field(|c| &mut c.priority.stream_target), "How long an urgent push may stand behind others that its gateway has been sent and has not answered: what is not urgent is written to a stream only while the gateway, at its best pace of late, answers what is on it within this, or within four round trips if that is longer. The rest waits in the outbox, where urgent pushes pass it. 0s: written as fast as the gateway takes it."),
    key("gateway", "delivery_timeout", Kind::Span(100, 600_000), "10s", RUNNING, field(|c| &mut c.gateway.delivery_timeout), "How long a push may wait for its gateway (unknown, unreachable, full or silent) before its recipients count as not reached; for one that answers others meanwhile three times as long. Below engine.drain_timeout."),
    key("gateway", "protocol", Kind::Choice(Unannounced::WORDS), "stream", RESTART, field(|c| &mut c.gateway.protocol), "What a gateway speaks that announces nothing (push_protocols in its registry entry). stream: PushMessage with one user a frame, as the first gateways of Resonance take it. stream-many: PushMessage with all users of a message in a frame, as those of version 0.1.0 take it (repeated to_usernames); a gateway that answers as one of the first is sent one user a frame from then on. One that knows no PushMessage, as today's, is called by Push with either."),
    key("gateway", "notice_above", Kind::Count(0, 10_000_000), "0", RESTART, field(|c| &mut c.gateway.notice_above), "In a session of more members, and in one of more than 2,000 with more than 20 messages a second, connected members get a notice (session, highest sequence) instead of the content, where their gateway announces notice and the content is in t_message_content already; urgent events are pushed in full. A newer notice replaces one that is not sent. Needs inbox.rows_up_to, and an inbox. 0: never; 10000 is a good value where clients read when they look."),
    key("gateway", "tls.mode", Kind::Choice(TlsMode::WORDS), "auto", RUNNING, field(|c| &mut c.gateway.tls.mode), TLS_MODE_OF_GATEWAYS),
    key("gateway", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.gateway.tls.ca), TLS_CA),
    key("gateway", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.gateway.tls.cert), TLS_CERT),
    key("gateway", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.gateway.tls.key), TLS_KEY),
    key("gateway", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.gateway.tls.server_name), TLS_NAME_OF_GATEWAYS),
    key("members", "cache_ttl", Kind::Span(0, 3_600_000), "1s", RUNNING, field(|c| &mut c.members.cache_ttl), "How long a session's member list may be reused; 0s asks the database each time. A new member waits at most this long for messages."),
    key("members", "empty_wait", Kind::Span(0, 3_600_000), "5s", RUNNING, field(|c| &mut c.members.empty_wait), "How long an event waits for the first member of its session, for its rows may be committed a moment later; then it is a dead letter, no_members. 0s asks once."),
    key("routes", "cache", Kind::Choice(RouteCache::WORDS), "tracked", RESTART, field(|c| &mut c.routes.cache), "tracked: a route is kept until Redis reports that it changed. off: Redis is asked each time."),
    key("inbox", "store", Kind::Choice(InboxStore::WORDS), "offline", RESTART, field(|c| &mut c.inbox.store), "Which recipients get a row: offline (each recipient that could not be reached), all, off."),
    key("inbox", "sender", Kind::Bool, "false", RESTART, field(|c| &mut c.inbox.sender), "With store all: the sender gets a row of its own message as well, as unread as the others'. For clients that read t_inbox and nothing else."),
    key("inbox", "rows_up_to", Kind::Count(0, 10_000_000), "0", RESTART, field(|c| &mut c.inbox.rows_up_to), "In a session of more members whoever could not be reached gets no row while the message is in t_message_content: its reader finds it there by session and sequence. One look-up an event; not there: rows as ever. With store all nobody gets a row then. 0: always rows; 500 is a good value where readers can do that."),
    key("dead_letters", "path", Kind::Word, "task-engine-dead-letters.jsonl", RESTART, field(|c| &mut c.dead_letters.path), "Local file for dead letters when there is no stream <consumer.stream>_DLQ (core NATS), and for those too large for it. Relative to the folder the engine runs in; `task-engine dlq` reads it."),
    key("engine", "cores", Kind::Cores, "all", RESTART, joined(|c| c.engine.cores.to_string()), "Shards, each a thread on its own CPU: all, or a number."),
    key("engine", "instance", Kind::Name, "", RESTART, joined(|c| c.engine.instance_in_key()), "With consumer.ownership etcd: this instance's name, another one in each instance and the same after a restart. Empty: the host's name, with - for what a name may not have."),
    key("engine", "drain_timeout", Kind::Span(1_000, 3_600_000), "25s", RUNNING, field(|c| &mut c.engine.drain_timeout), "How long a stop may take; below the 30 s after which Kubernetes kills."),
    key("engine", "recorder", Kind::Choice(Recorder::WORDS), "off", RESTART, field(|c| &mut c.engine.recorder), "on: each shard remembers its latest 65,536 ends that were not delivered, and one of 1,024 that were (session and user as hashes, message id, end, gateway, times; nothing of a message), for task-engine why. Takes up to 6 MiB a shard."),
    key("admin", "listen", Kind::Listen, "127.0.0.1:9100", RESTART, field(|c| &mut c.admin.listen), "address:port of /metrics, /livez and /readyz; `:9100` is every address, port 0 a free one."),
    key("admin", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.admin.tls.cert), "File with the admin port's certificate (PEM): the port speaks TLS, and nothing else, when it is written; needs admin.tls.key. These files are read at the start, and again for a new connection when they have changed."),
    key("admin", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.admin.tls.key), TLS_KEY),
    key("admin", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.admin.tls.ca), "File of the CAs (PEM) that must have signed each client's certificate; empty: clients need none."),
    key("admin", "push_latency", Kind::Bool, "false", RESTART, field(|c| &mut c.admin.push_latency), "true: /metrics shows how long pushes take from the publication of their event until their gateway has answered, by class. An event was published when its header Resonance-Published says (Unix time in milliseconds or nanoseconds); without one when JetStream stored it; without that when its timestamp says, if that is in milliseconds. Others are counted as unknown. It is as right as the clocks of both hosts are."),
    key("admin", "tap_content", Kind::Bool, "false", RESTART, field(|c| &mut c.admin.tap_content), "true: task-engine tap --content shows what messages say to whoever may ask the admin port; without it nobody is told."),
    key("tracing", "export", Kind::Choice(TraceExport::WORDS), "off", RESTART, field(|c| &mut c.tracing.export), "otlp: events are told of as spans (event, members, routes, and outbox and gateway of each push) once they have ended, when their publisher records them (the traceparent in trace_headers is sampled), or they were slow, or somebody who was connected could not be reached. The trace_headers of events that their publisher records are passed on to gateways. The standard variables OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS (both also with TRACES_ before their last word), OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count as well, and win over the file."),
    key("tracing", "endpoint", Kind::HttpUrl, "http://localhost:4318", RUNNING, field(|c| &mut c.tracing.endpoint), "The collector; spans are posted to its path /v1/traces, as protobuf. What it does not take within 5 s is dropped and counted, never tried again."),
    key("tracing", "headers", Kind::Secret, "", RUNNING, field(|c| &mut c.tracing.headers), "Headers of each post, such as a key of the collector: name=value,name=value, with %2C for a comma."),
    key("tracing", "headers_file", Kind::SecretFile, "", RUNNING, field(|c| &mut c.tracing.headers_file), "File that holds these headers, instead of tracing.headers."),
    key("tracing", "slow_after", Kind::Span(0, 3_600_000), "1s", RESTART, field(|c| &mut c.tracing.slow_after), "An event that takes longer than this is told of, whoever published it; of its pushes those that ended by then are not. 0s: none for that."),
    key("tracing", "spans_per_second", Kind::Count(1, 100_000), "1000", RESTART, field(|c| &mut c.tracing.spans_per_second), "Spans a second at the most, in all shards, one second with another; what is more is counted (spans_over_limit)."),
    key("tracing", "service_name", Kind::Text, "", RUNNING, field(|c| &mut c.tracing.service_name), "The spans' service.name; empty: what tracing.resource says, or else task-engine."),
    key("tracing", "resource", Kind::Text, "", RUNNING, field(|c| &mut c.tracing.resource), "Further attributes of the spans' resource: name=value,name=value, with %2C for a comma."),
    key("tracing", "tls.ca", Kind::Word, "", RUNNING, field(|c| &mut c.tracing.tls.ca), TLS_CA),
    key("tracing", "tls.cert", Kind::Word, "", RUNNING, field(|c| &mut c.tracing.tls.cert), TLS_CERT),
    key("tracing", "tls.key", Kind::Word, "", RUNNING, field(|c| &mut c.tracing.tls.key), TLS_KEY),
    key("tracing", "tls.server_name", Kind::Host, "", RUNNING, field(|c| &mut c.tracing.tls.server_name), TLS_NAME),
];

/// The place in [`KEYS`] of a key written as `section` and `name` or one of its aliases.
pub fn find(section: &str, name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.section == section && (key.name == name || key.aliases.contains(&name)))
}

/// The names of the keys that stand below `group` in this section.
pub fn group(section: &str, group: &str) -> impl Iterator<Item = &'static str> {
    let of = KEYS.iter().filter(move |key| key.section == section).filter_map(|key| key.name.split_once('.'));
    of.filter(move |(name, _)| *name == group).map(|(_, name)| name)
}

/// Whether a key or a section has this name.
pub fn is_known(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split('.').any(|part| part == name) || key.aliases.contains(&name))
        || SECTIONS.iter().any(|(section, _)| *section == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_row_fills_a_field_of_its_own_and_shows_its_default() {
        let (mut config, mut fields) = (Config::default(), BTreeMap::new());
        for key in KEYS {
            let Goes::Field(field) = key.goes else { continue };
            let field = field(&mut config);
            assert_eq!(field.show(), key.default, "{}", key.full());
            let place = std::ptr::from_ref(field).cast::<()>();
            let other = fields.insert(place, key.full());
            assert_eq!(other, None, "{} fills the same field", key.full());
        }
    }
}
