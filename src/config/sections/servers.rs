//! The sections about servers: where they are, who we are to them, and how the way there is protected.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::addresses::{HostPort, NatsAuth, NatsServer};
use super::super::field::{Blank, Field, wrong};
use super::super::secret::Secret;
use super::super::value::Value;
use super::Config;

/// Which database holds members, inbox and contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// MySQL or MariaDB: the section `mysql`, or neither.
    Mysql,
    /// PostgreSQL: the section `postgres`.
    Postgres,
}

impl Database {
    /// The section that says where it is.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Postgres => "postgres",
        }
    }

    /// What people call it.
    pub const fn product(self) -> &'static str {
        match self {
            Self::Mysql => "MySQL",
            Self::Postgres => "PostgreSQL",
        }
    }
}

impl Blank for Database {
    fn blank() -> Self {
        Self::Mysql
    }
}

section! {
    /// `mysql`; what the DSN says is already in the other fields.
    MysqlConfig of mysql {
        /// The server.
        at: HostPort,
        /// `mysql.username`.
        username: String,
        /// `mysql.password`, or what stands in `mysql.password_file`.
        password: Secret,
        /// `mysql.password_file`: where the password was read, if there.
        password_file: PathBuf,
        /// `mysql.database`.
        database: String,
        /// `mysql.connect_timeout`.
        connect_timeout: Duration,
        /// `mysql.timeout`: for reads and for writes.
        timeout: Duration,
        /// `mysql.conn_max_lifetime`; zero: without limit.
        conn_max_lifetime: Duration,
        /// `mysql.dsn` with `***` for its password; empty when none is written. Only for showing.
        dsn_masked: String,
        /// `mysql.dsn_file`: where the DSN was read, if there.
        dsn_file: PathBuf,
        /// `mysql.tls`; required as well when the DSN says `tls=true`.
        tls: TlsConfig,
    }
}

words! {
    /// Whether a connection to PostgreSQL is over TLS, in the words of other clients.
    SslMode {
        /// It is not.
        Disable = "disable",
        /// When `postgres.tls` says so.
        Allow = "allow",
        /// The same.
        Prefer = "prefer",
        /// It is.
        Require = "require",
        /// It is.
        VerifyCa = "verify-ca",
        /// It is.
        VerifyFull = "verify-full",
    }
}

impl SslMode {
    /// Whether TLS is demanded by it.
    pub fn demands_tls(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }
}

section! {
    /// `postgres`.
    PostgresConfig of postgres {
        /// The server.
        at: HostPort,
        /// `postgres.username`.
        username: String,
        /// `postgres.password`, or what stands in `postgres.password_file`.
        password: Secret,
        /// `postgres.password_file`: where the password was read, if there.
        password_file: PathBuf,
        /// `postgres.database`.
        database: String,
        /// `postgres.sslmode`; what it demands is already in `tls`.
        sslmode: SslMode,
        /// `postgres.connect_timeout`.
        connect_timeout: Duration,
        /// `postgres.timeout`: for an answer.
        timeout: Duration,
        /// `postgres.conn_max_lifetime`; zero: without limit.
        conn_max_lifetime: Duration,
        /// `postgres.tls`; required as well when `postgres.sslmode` says so.
        tls: TlsConfig,
    }
}

section! {
    /// `redis`.
    RedisConfig of redis {
        /// `redis.addr`.
        at: HostPort,
        /// `redis.username`; empty: the user `default`.
        username: String,
        /// `redis.password`, or what stands in `redis.password_file`; empty: no AUTH.
        password: Secret,
        /// `redis.password_file`: where the password was read, if there.
        password_file: PathBuf,
        /// `redis.db`.
        db: u32,
        /// `redis.dial_timeout`.
        dial_timeout: Duration,
        /// `redis.read_timeout`.
        read_timeout: Duration,
        /// `redis.write_timeout`.
        write_timeout: Duration,
        /// `redis.tls`.
        tls: TlsConfig,
    }
}

words! {
    /// Whether a server must speak TLS.
    TlsMode {
        /// By the other keys of the block, and by the address.
        Auto = "auto",
        /// It must.
        Required = "required",
    }
}

section! {
    /// How a server proves itself to us over TLS, and we to it.
    TlsConfig {
        /// `mode`.
        mode: TlsMode,
        /// `ca`: a file of CAs (PEM) that are trusted; empty: the system's.
        ca: PathBuf,
        /// `cert`: a file with our certificate and those up to its CA (PEM); empty: none.
        cert: PathBuf,
        /// `key`: the file with its key (PEM).
        key: PathBuf,
        /// `server_name`: what the server's certificate must be for; empty: the host that we connect to.
        server_name: String,
    }
}

section! {
    /// `nats`; who the URL says we are is already in `auth`.
    NatsConfig of nats {
        /// `nats.name`.
        name: String,
        /// The servers of `nats.url`, at least one, without users.
        servers: Vec<NatsServer>,
        /// Who we are.
        auth: NatsAuth,
        /// `nats.password_file`: where the password was read, if there.
        password_file: PathBuf,
        /// `nats.token_file`: where the token was read, if there.
        token_file: PathBuf,
        /// `nats.timeout`.
        timeout: Duration,
        /// `nats.reconnect_delay`.
        reconnect_delay: Duration,
        /// `nats.ping_interval`.
        ping_interval: Duration,
        /// `nats.max_pings_out`.
        max_pings_out: u32,
        /// `nats.url` with `***` for password or token. Only for showing.
        url_masked: String,
        /// `nats.tls`.
        tls: TlsConfig,
        /// `nats.tls.handshake_first`.
        handshake_first: bool,
    }
}

section! {
    /// `etcd`.
    EtcdConfig of etcd {
        /// `etcd.endpoints`, at least one.
        endpoints: Vec<HostPort>,
        /// Whether one of them is written with `https://`: TLS is asked for of all then.
        https: bool,
        /// `etcd.username`; empty: no login.
        username: String,
        /// `etcd.password`, or what stands in `etcd.password_file`.
        password: Secret,
        /// `etcd.password_file`: where the password was read, if there.
        password_file: PathBuf,
        /// `etcd.dial_timeout`.
        dial_timeout: Duration,
        /// `etcd.timeout`.
        timeout: Duration,
        /// `etcd.keep_alive_time`.
        keep_alive_time: Duration,
        /// `etcd.keep_alive_timeout`.
        keep_alive_timeout: Duration,
        /// `etcd.tls`.
        tls: TlsConfig,
    }
}

section! {
    /// How we prove ourselves to clients over TLS, and they to us; without a certificate the port is plain.
    ServerTlsConfig {
        /// `cert`: a file with our certificate and those up to its CA (PEM).
        cert: PathBuf,
        /// `key`: the file with its key (PEM).
        key: PathBuf,
        /// `ca`: a file of CAs (PEM) of which each client's certificate must be; empty: none is asked for.
        ca: PathBuf,
    }
}

section! {
    /// `admin`.
    AdminConfig of admin {
        /// `admin.listen`; port 0 is a free one.
        listen: SocketAddr,
        /// `admin.tls`.
        tls: ServerTlsConfig,
        /// `admin.push_latency`.
        push_latency: bool,
        /// `admin.tap_content`.
        tap_content: bool,
    }
}

words! {
    /// Where traces of events go.
    TraceExport {
        /// Nowhere: none are made.
        Off = "off",
        /// To a collector, by OTLP over HTTP.
        Otlp = "otlp",
    }
}

section! {
    /// `tracing`.
    TracingConfig of tracing {
        /// `tracing.export`.
        export: TraceExport,
        /// `tracing.endpoint`, without a `/` at its end.
        endpoint: String,
        /// `tracing.headers`, or what stands in `tracing.headers_file`.
        headers: Secret,
        /// `tracing.headers_file`: where the headers were read, if there.
        headers_file: PathBuf,
        /// `tracing.slow_after`; zero: no event is slow.
        slow_after: Duration,
        /// `tracing.spans_per_second`.
        spans_per_second: u32,
        /// `tracing.service_name`; empty: what the resource says, or the program's name.
        service_name: String,
        /// `tracing.resource`.
        resource: String,
        /// `tracing.tls`.
        tls: TlsConfig,
    }
}
