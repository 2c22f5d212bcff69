//! One connection to MySQL that is there when it is needed.
//!
//! Promises that a connection which died unused is replaced without the caller noticing, that each step ends within its
//! timeout, and that none is used for longer than `mysql.conn_max_lifetime` while a new one can be had: a server that moved
//! is found although the old one lives on. Refuses to keep a connection whose state is not known.

use std::hash::{BuildHasher, RandomState};
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use mysql::{Conn, OptsBuilder};

use super::MysqlSettings;
use super::fault::Fault;
use crate::logging::warn_limited;
use crate::ports::LookupError;

/// Statements a connection keeps prepared: lists come in powers of two, so this is plenty for all lengths.
const STATEMENTS_MAX: usize = 32;
/// A connection that is to be replaced, and for which no new one can be had, is used on for a tenth of its life, and no
/// longer than this, before the next try.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long an ask may be held up by the connect of a connection that is to replace one which works.
const REPLACE_CONNECT_MAX: Duration = Duration::from_secs(1);

/// What each session begins with.
const SESSION: [&str; 2] =
    ["SET NAMES utf8mb4", "SET autocommit = 1, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"];

/// One thread's connection.
pub(super) struct Live {
    settings: MysqlSettings,
    /// What to check when a table is not as expected.
    schema: &'static str,
    conn: Option<Conn>,
    /// When it is to be replaced, if ever.
    due: Option<Instant>,
    /// What a session begins with, besides what all begin with.
    init: Option<String>,
}

impl Live {
    /// Connects when first used.
    pub(super) fn new(settings: MysqlSettings, schema: &'static str) -> Self {
        Self { settings, schema, conn: None, due: None, init: None }
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
        let mut conn = match self.conn.take() {
            Some(conn) if self.due.is_none_or(|due| Instant::now() < due) => conn,
            Some(old) => self.replace(old),
            None => self.connect(self.settings.connect_timeout)?,
        };
        let started = Instant::now();
        let outcome = work(&mut conn).map_err(|fault| fault.after(started.elapsed(), &self.settings));
        if outcome.as_ref().err().is_none_or(Fault::leaves_connection_good) {
            self.conn = Some(conn);
        }
        outcome
    }

    fn connect(&mut self, limit: Duration) -> Result<Conn, Fault> {
        let started = Instant::now();
        let conn = connect(&self.settings, limit, self.init.as_deref())
            .map_err(|fault| fault.after(started.elapsed(), &self.settings))?;
        self.due = due(self.settings.max_lifetime, Instant::now());
        Ok(conn)
    }

    /// A new connection for one that is too old. While none can be had the old one is better than nothing: a name server
    /// that is away must not take away a database that answers.
    fn replace(&mut self, old: Conn) -> Conn {
        self.connect(self.settings.connect_timeout.min(REPLACE_CONNECT_MAX)).unwrap_or_else(|fault| {
            let again = (self.settings.max_lifetime / 10).clamp(Duration::from_millis(100), REPLACE_AGAIN_AFTER);
            self.due = Some(Instant::now() + again);
            let why = self.explain(fault);
            warn_limited("mysql_not_replaced", format_args!("{why}; the connection that is open is used on"));
            old
        })
    }
}

/// When a connection made now is to be replaced: up to a fifth earlier than it might, so that those of all threads and
/// instances are not replaced at once.
fn due(lifetime: Duration, now: Instant) -> Option<Instant> {
    let part = RandomState::new().hash_one(0) % 1000;
    (!lifetime.is_zero()).then(|| now + lifetime - lifetime / 5 * part as u32 / 1000)
}

/// Tries each address of the host, each for so long: the client by itself stops at the first that fails.
fn connect(settings: &MysqlSettings, limit: Duration, init: Option<&str>) -> Result<Conn, Fault> {
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
            .tcp_connect_timeout(Some(limit))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_due_after_four_fifths_to_all_of_its_life_and_never_without_one() {
        let (now, lifetime) = (Instant::now(), Duration::from_secs(3600));
        let dues: Vec<_> = (0..200).map(|_| due(lifetime, now).expect("a life that ends") - now).collect();
        assert!(dues.iter().all(|due| *due > lifetime * 4 / 5 && *due <= lifetime), "{dues:?}");
        let spread = *dues.iter().max().expect("some") - *dues.iter().min().expect("some");
        assert!(spread > lifetime / 10, "{spread:?}");
        assert_eq!(due(Duration::ZERO, now), None);
    }
}
