//! How connections to MySQL and MariaDB are opened, and sessions of ours ended.
//!
//! Refuses to end what may be somebody else's: a session is known by its server's name for itself and by its number there, and by
//! how long it is at work.

use std::net::SocketAddr;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, OptsBuilder};

use super::fault::place_of;
use super::tunnel::Tunnel;
use crate::config::{Current, Held, MysqlConfig};
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::live::{Ended, Link, Live, Session, until_ended};
use crate::telemetry::logging::warn_limited;

/// Statements a connection keeps prepared: lists come in powers of two, so this is plenty for all lengths.
const STATEMENTS_MAX: usize = 32;

/// What each session begins with.
const SESSION: [&str; 2] =
    ["SET NAMES utf8mb4", "SET autocommit = 1, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"];

/// Which session a connection is, as its server calls it: a proxy may number connections in its own way.
const WHO: &str = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir), CONNECTION_ID()";
/// For how long it is at work.
const AT_WORK: &str = "SELECT CAST(time AS SIGNED) FROM information_schema.processlist WHERE id = ?";
/// There is no such session.
const ER_NO_SUCH_THREAD: u16 = 1094;

/// The way to a MySQL.
pub struct MysqlLink {
    held: Held<MysqlConfig>,
    manner: Manner,
    settings: MysqlConfig,
    place: Place,
    /// What the sessions of a writer begin with, besides what all begin with.
    init: Option<String>,
}

/// How one kind of user connects, by what the configuration says: with these settings, and for writes with this statement first.
pub(super) type Manner = fn(&MysqlConfig) -> (MysqlConfig, Option<String>);

impl MysqlLink {
    fn new(held: Held<MysqlConfig>, manner: Manner) -> Self {
        let (settings, init) = manner(&held);
        Self { held, manner, place: place_of(&settings), settings, init }
    }

    /// To this server, for reads.
    pub(super) fn for_reads(server: &Current<MysqlConfig>) -> Self {
        Self::new(server.hold(), |settings| (settings.clone(), None))
    }
}

/// A connection for reads.
pub(super) fn live(server: &Current<MysqlConfig>, schema: &'static str) -> Live<MysqlLink> {
    Live::new(MysqlLink::for_reads(server), schema)
}

/// A connection for writes, in this manner.
pub(super) fn live_for_writes(server: &Current<MysqlConfig>, schema: &'static str, manner: Manner) -> Live<MysqlLink> {
    Live::new(MysqlLink::new(server.hold(), manner), schema)
}

impl Link for MysqlLink {
    type Conn = Conn;

    fn place(&self) -> &Place {
        &self.place
    }

    fn reloaded(&self) -> Option<Self> {
        self.held.is_old().then(|| Self::new(self.held.renewed(), self.manner))
    }

    fn thread(&self) -> &'static str {
        "mysql-connect"
    }

    fn writes(&self) -> bool {
        self.init.is_some()
    }

    fn connect(&self, address: SocketAddr, limit: Duration) -> Result<Conn, Fault> {
        connect(address, &self.settings, self.init.as_deref(), limit)
    }

    fn who(&self, conn: &mut Conn) -> Result<Option<Session>, Fault> {
        who(conn)
    }

    fn end(&self, conn: &mut Conn, number: u64) -> Result<bool, Fault> {
        end(conn, number, &self.settings)
    }
}

/// Connects to this address, over TLS where that is wanted, and logs in.
fn connect(address: SocketAddr, settings: &MysqlConfig, init: Option<&str>, limit: Duration) -> Result<Conn, Fault> {
    let tunnel = settings.tls.is_written().then(|| Tunnel::open(address, settings, limit)).transpose()?;
    let socket = tunnel.as_ref().map(|tunnel| tunnel.socket.display().to_string());
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        .socket(socket)
        .prefer_socket(false)
        .user(Some(&settings.username))
        .pass(Some(settings.password.reveal()))
        .db_name(Some(&settings.database).filter(|name| !name.is_empty()))
        .tcp_nodelay(true)
        .tcp_connect_timeout(Some(limit))
        .read_timeout(Some(settings.timeout))
        .write_timeout(Some(settings.timeout))
        .stmt_cache_size(STATEMENTS_MAX)
        // A server that starts sessions without autocommit would show us the members of the first query for ever;
        // one whose mode is not strict would cut a name that is too long and store the rest.
        .init(SESSION.into_iter().chain(init).collect::<Vec<_>>());
    Conn::new(options).map_err(|error| tunnel.and_then(|tunnel| tunnel.fault()).unwrap_or_else(|| error.into()))
}

/// Which session this is; nothing where a proxy does not let the question through.
fn who(conn: &mut Conn) -> Result<Option<Session>, Fault> {
    match conn.query_first::<(String, u64), _>(WHO) {
        Ok(row) => Ok(row.map(|(server, number)| Session { server, number })),
        Err(Error::MySqlError(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends a session of ours in which a statement was given up; whether it is over.
fn end(conn: &mut Conn, number: u64, settings: &MysqlConfig) -> Result<bool, Fault> {
    let waited = settings.timeout.as_secs() as i64;
    // One that is so young is another's, after a restart. Of sessions in a trigger of another user's not all may see this.
    if conn.exec_first::<i64, _, _>(AT_WORK, (number,))?.is_some_and(|time| time + 1 < waited) {
        return Ok(true);
    }
    until_ended(|| match conn.query_drop(format!("KILL CONNECTION {number}")) {
        Err(Error::MySqlError(error)) if error.code == ER_NO_SUCH_THREAD => Ok(Ended::Yes),
        Err(Error::MySqlError(error)) => {
            let why = format_args!(
                "MySQL goes on with a statement of session {number} that was given up, and does not let user {:?} end \
                 it ({error}); let that user be the definer of triggers and views, or grant it CONNECTION_ADMIN \
                 (MariaDB: CONNECTION ADMIN)",
                settings.username
            );
            warn_limited("mysql_not_ended", why);
            Ok(Ended::Never)
        }
        done => Ok(done.map(|()| Ended::NotYet)?),
    })
}
