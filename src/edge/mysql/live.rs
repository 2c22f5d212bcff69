//! One connection to MySQL that is there when it is needed.
//!
//! Promises that a connection which died unused is replaced without the caller noticing, and that each step ends
//! within its timeout. Refuses to keep a connection whose state is not known.

use std::net::ToSocketAddrs;
use std::time::Instant;

use mysql::{Conn, OptsBuilder};

use super::MysqlSettings;
use super::fault::Fault;
use crate::ports::LookupError;

/// Statements a connection keeps prepared: lists come in powers of two, so this is plenty for all lengths.
const STATEMENTS_MAX: usize = 32;

/// What each session begins with.
const SESSION: [&str; 2] =
    ["SET NAMES utf8mb4", "SET autocommit = 1, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"];

/// One thread's connection.
pub(super) struct Live {
    settings: MysqlSettings,
    /// What to check when a table is not as expected.
    schema: &'static str,
    conn: Option<Conn>,
    /// What a session begins with, besides what all begin with.
    init: Option<String>,
}

impl Live {
    /// Connects when first used.
    pub(super) fn new(settings: MysqlSettings, schema: &'static str) -> Self {
        Self { settings, schema, conn: None, init: None }
    }

    /// Each session begins with this statement, too.
    pub(super) fn with_init(mut self, statement: String) -> Self {
        self.init = Some(statement);
        self
    }

    /// [`attempt`](Self::attempt), in words.
    pub(super) fn run<T>(&mut self, work: impl FnMut(&mut Conn) -> Result<T, Fault>) -> Result<T, LookupError> {
        self.attempt(work).map_err(|fault| self.explain(fault))
    }

    /// A fault in words.
    pub(super) fn explain(&self, fault: Fault) -> LookupError {
        fault.explain(&self.settings, self.schema)
    }

    /// Runs `work`; once more on a new connection when the old one turns out to be dead (the server restarted, or
    /// closed it because it was idle). A timeout is not tried again: it cost its wait already.
    pub(super) fn attempt<T>(&mut self, mut work: impl FnMut(&mut Conn) -> Result<T, Fault>) -> Result<T, Fault> {
        let was_kept = self.conn.is_some();
        let outcome = self.once(&mut work);
        if was_kept && outcome.as_ref().is_err_and(Fault::is_dead_connection) {
            return self.once(&mut work);
        }
        outcome
    }

    fn once<T>(&mut self, work: &mut impl FnMut(&mut Conn) -> Result<T, Fault>) -> Result<T, Fault> {
        let started = Instant::now();
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => connect(&self.settings, self.init.as_deref())
                .map_err(|fault| fault.after(started.elapsed(), &self.settings))?,
        };
        let started = Instant::now();
        let outcome = work(&mut conn).map_err(|fault| fault.after(started.elapsed(), &self.settings));
        if outcome.as_ref().err().is_none_or(Fault::leaves_connection_good) {
            self.conn = Some(conn);
        }
        outcome
    }
}

/// Tries each address of the host: the client by itself stops at the first that fails.
fn connect(settings: &MysqlSettings, init: Option<&str>) -> Result<Conn, Fault> {
    let addresses = (settings.host.as_str(), settings.port).to_socket_addrs().map_err(Fault::Unresolved)?;
    let mut last = Fault::Unresolved(std::io::Error::other("the name has no address"));
    for address in addresses {
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(address.ip().to_string()))
            .tcp_port(address.port())
            .prefer_socket(false)
            .user(Some(&settings.username))
            .pass(Some(&settings.password))
            .db_name(Some(&settings.database).filter(|name| !name.is_empty()))
            .tcp_nodelay(true)
            .tcp_connect_timeout(Some(settings.connect_timeout))
            .read_timeout(Some(settings.read_timeout))
            .write_timeout(Some(settings.write_timeout))
            .stmt_cache_size(STATEMENTS_MAX)
            // A server that starts sessions without autocommit would show us the members of the first query for ever;
            // one whose mode is not strict would cut a name that is too long and store the rest.
            .init(SESSION.into_iter().chain(init).collect::<Vec<_>>());
        match Conn::new(options) {
            Ok(conn) => return Ok(conn),
            Err(error) => last = Fault::from(error),
        }
    }
    Err(last)
}
