//! How connections to PostgreSQL are opened, over TLS where that is wanted, and sessions of ours ended.
//!
//! Promises that nothing but the wish for TLS leaves before the server has proved itself, and that rows are durable when they are
//! committed also where the server's default is another. Refuses to end what may be somebody else's: a session is known by the
//! time at which its server started, by its number there, by its user, and by how long it has been open.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls};
use tokio_rustls::TlsConnector;

use super::conn::{Conn, within};
use super::fault::{TLS_SECTION, place_of};
use crate::config::{Current, Held, PostgresConfig};
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::inbox::Times;
use crate::edge::sql::live::{Ended, Link, Live, Session, prepare, until_ended};
use crate::edge::tls;
use crate::telemetry::logging::warn_limited;

/// "Do you speak TLS?", of a client that has said nothing yet.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Its answer when it does.
const SPEAKS_TLS: u8 = b'S';
/// Which session a connection is.
const WHO: &str = "SELECT pg_postmaster_start_time()::text, pg_backend_pid()::bigint";
/// Ends a session of ours that was open for so long; no row when there is none.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1::bigint AND usename = current_user \
                   AND backend_start < clock_timestamp() - make_interval(secs => $2)";

/// The way to a PostgreSQL.
pub struct PostgresLink {
    settings: Held<PostgresConfig>,
    place: Place,
    /// What each session begins with.
    session: String,
    writes: bool,
}

/// A connection for reads.
pub(super) fn live(server: &Current<PostgresConfig>, schema: &'static str) -> Live<PostgresLink> {
    Live::new(PostgresLink::new(server.hold(), false), schema)
}

/// A connection for writes.
pub(super) fn live_for_writes(server: &Current<PostgresConfig>, schema: &'static str) -> Live<PostgresLink> {
    Live::new(PostgresLink::new(server.hold(), true), schema)
}

/// How long the server lets a statement take, and wait for a lock. Zero would be "for ever".
pub(super) fn limits(statement: Duration, lock: Duration) -> String {
    let millis = |time: Duration| time.as_millis().max(1);
    format!("SET statement_timeout = {}; SET lock_timeout = {};", millis(statement), millis(lock))
}

/// What each session begins with. A transaction of ours that is idle is one whose client is gone.
fn session(times: &Times) -> String {
    let limits = limits(times.statement, times.lock);
    let idle = times.statement.as_millis().max(1);
    format!(
        "{limits} SET idle_in_transaction_session_timeout = {idle}; SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
}

/// A connection's bytes, plain or over TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Link for PostgresLink {
    type Conn = Conn;

    fn place(&self) -> &Place {
        &self.place
    }

    fn reloaded(&self) -> Option<Self> {
        self.settings.is_old().then(|| Self::new(self.settings.renewed(), self.writes))
    }

    fn thread(&self) -> &'static str {
        "pg-connect"
    }

    fn writes(&self) -> bool {
        self.writes
    }

    fn connect(&self, address: SocketAddr, limit: Duration) -> Result<Conn, Fault> {
        let timeout = self.settings.timeout;
        let server =
            TcpStream::connect_timeout(&address, limit).map_err(|error| Fault::not_connected(address, &error))?;
        prepare(&server, timeout).map_err(|error| Fault::not_connected(address, &error))?;
        let no_way = |error: std::io::Error| Fault::NotOpened(format!("no way to it on this machine: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_way)?;
        let logged_in = within(&runtime, limit + timeout, self.log_in(&runtime, server));
        let late = || Fault::NotOpened(format!("{address} does not finish the login within {:.1?}", limit + timeout));
        let (client, carrier) = logged_in.ok_or_else(late)??;
        let mut conn = Conn::new(runtime, client, carrier, timeout);
        conn.run(&self.session)?;
        Ok(conn)
    }

    fn who(&self, conn: &mut Conn) -> Result<Option<Session>, Fault> {
        let row = match conn.query(WHO, &[], &[]) {
            Ok(rows) => rows.into_iter().next(),
            Err(Fault::Server(_)) => None,
            Err(fault) => return Err(fault),
        };
        let session = |row: tokio_postgres::Row| {
            Some(Session { server: row.try_get(0).ok()?, number: row.try_get::<_, i64>(1).ok()? as u64 })
        };
        Ok(row.and_then(session))
    }

    fn end(&self, conn: &mut Conn, number: u64) -> Result<bool, Fault> {
        let (number, waited) = (number as i64, self.settings.timeout.as_secs_f64());
        until_ended(|| match conn.query(END, &[Type::INT8, Type::FLOAT8], &[&number, &waited]) {
            Ok(rows) if rows.is_empty() => Ok(Ended::Yes),
            Ok(_) => Ok(Ended::NotYet),
            Err(Fault::Server(answer)) => {
                let why = format_args!(
                    "PostgreSQL goes on with a statement of session {number} that was given up, and does not let user {:?} end \
                     it ({})",
                    self.settings.username, answer.words
                );
                warn_limited("postgres_not_ended", why);
                Ok(Ended::Never)
            }
            Err(fault) => Err(fault),
        })
    }
}

type LoggedIn = (tokio_postgres::Client, tokio::task::JoinHandle<()>);

impl PostgresLink {
    /// By these settings.
    pub(super) fn new(settings: Held<PostgresConfig>, writes: bool) -> Self {
        let session = session(&Times::of(settings.timeout));
        Self { place: place_of(&settings), settings, session, writes }
    }

    async fn log_in(&self, runtime: &Runtime, server: TcpStream) -> Result<LoggedIn, Fault> {
        let PostgresConfig { username, password, database, .. } = &*self.settings;
        let server = tokio::net::TcpStream::from_std(server).map_err(|error| Fault::Broken(error.to_string()))?;
        let stream = self.secured(server).await?;
        let mut config = Config::new();
        // TLS is ours, below.
        config.user(username).password(password.reveal()).application_name("task-engine").ssl_mode(SslMode::Disable);
        if !database.is_empty() {
            config.dbname(database);
        }
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let carry = async {
            // Whoever asks next learns why.
            let _ = connection.await;
        };
        Ok((client, runtime.spawn(carry)))
    }

    /// The same connection over TLS, if that is wanted.
    async fn secured(&self, mut server: tokio::net::TcpStream) -> Result<Box<dyn Stream>, Fault> {
        let PostgresConfig { tls: block, at, .. } = &*self.settings;
        if !block.is_written() {
            return Ok(Box::new(server));
        }
        let insecure = |error: tls::TlsError| Fault::Insecure(error.to_string());
        let client = tls::client(block, TLS_SECTION, &[]).map_err(insecure)?;
        let name = tls::server_name(block, &at.host).map_err(insecure)?;
        let broken = |error: std::io::Error| Fault::Insecure(tls::words(&error, TLS_SECTION));
        server.write_all(&TLS_REQUEST).await.map_err(broken)?;
        if server.read_u8().await.map_err(broken)? != SPEAKS_TLS {
            let why = "the server offers none; turn it on there (ssl = on), or leave out postgres.tls and set postgres.sslmode \
                       to disable";
            return Err(Fault::Insecure(why.to_owned()));
        }
        let stream = TlsConnector::from(client).connect(name, server).await.map_err(broken)?;
        Ok(Box::new(stream))
    }
}
