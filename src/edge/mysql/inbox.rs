//! The built-in inbox: `t_inbox` in MySQL or MariaDB, one connection a writer thread.
//!
//! Promises that what is answered with `Ok` is committed, that a row which is there already is good, and that a user whose
//! row is not there byte for byte (owner, session, message) is told as a conflict: another message holds the place, or the
//! table's collation holds the names of two users for one. Promises that neither a refused row, nor a locked one, nor one
//! that is slow keeps the others from being stored ([`sql::inbox`](super::super::sql::inbox)). `INSERT IGNORE` is not used: it would also ignore names
//! that are cut, and other errors.
//!
//! A lock is waited for no longer than a part of the client's read timeout, a statement no longer than most of it: both
//! end as an answer of the server on a good connection, so that nothing of ours goes on waiting in the server. MySQL has no
//! limit for a statement that writes: there the client's patience ends, the statement is ended over the next connection
//! ([`live`](super::super::sql::live)), and while a slow row is looked for the client's patience is short.
//!
//! Refuses to tell a lost connection in mid-commit from a failed one: such a batch is answered as unavailable and is
//! stored again, which changes nothing when it was committed. Refuses to read back all that the server proves to be new
//! ([`proof`]), since that would cost a query a batch: a BEFORE INSERT trigger that rewrites some owners is not seen.

mod content;
mod proof;
mod rows;
mod values;

use std::sync::Arc;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use self::proof::Trust;
use self::rows::transaction;
use super::link::{MysqlLink, live_for_writes};
use crate::config::{Current, MysqlConfig};
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::inbox::row::Row;
use crate::edge::sql::inbox::suspects::Suspects;
use crate::edge::sql::inbox::{Batches, InboxServer, RowStore, SqlInbox, Times};
use crate::edge::sql::live::Live;
use crate::ports::{ContentReader, InboxWriter, LookupError};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that mysql.database holds t_inbox(owner_username, session_id, msg_id, seq_id, is_read, \
                      created_at) with its unique key, and the user may SELECT, INSERT and UPDATE it";
/// The longest that a statement may take while a slow one is looked for, where only we can end it: longer than a server without shorter ones waits for a lock.
const HASTY_LIMIT: Duration = Duration::from_millis(1250);
/// As near to a write as it gets without one: shows a server that is read-only, rights that are missing (UPDATE as well, which
/// a row that is there already takes), a proxy without a writer.
const PROBE_WRITE: &str = "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) \
                           SELECT owner_username, session_id, msg_id, seq_id, is_read, created_at FROM t_inbox AS old \
                           WHERE 1 = 0 ON DUPLICATE KEY UPDATE id = t_inbox.id";

/// Where messages for users who could not be reached are remembered, in MySQL.
pub type MysqlInbox = SqlInbox<Current<MysqlConfig>>;

impl InboxServer for Current<MysqlConfig> {
    fn writer(&self, suspects: Arc<Suspects>) -> Box<dyn InboxWriter> {
        let live =
            live_for_writes(self, SCHEMA, |settings| (settings.clone(), Some(Limits::new(settings.timeout).patient)));
        let limits = Limits::new(live.place().timeout);
        let server = self.clone();
        Box::new(Batches(Writer { live, trust: Trust::default(), hasty: None, server, limits, suspects }))
    }

    fn contents(&self) -> Box<dyn ContentReader> {
        Box::new(content::reader(self))
    }
}

/// Sessions that give up at once, by themselves or by us.
fn hasty(server: &Current<MysqlConfig>) -> Live<MysqlLink> {
    live_for_writes(server, SCHEMA, |settings| {
        let careful = Limits::new(settings.timeout).careful;
        (MysqlConfig { timeout: settings.timeout.min(HASTY_LIMIT), ..settings.clone() }, Some(careful))
    })
}

struct Writer {
    live: Live<MysqlLink>,
    trust: Trust,
    /// A connection with a short patience of ours, while there are suspects at a server that ends nothing by itself.
    hasty: Option<Box<(Live<MysqlLink>, Trust)>>,
    server: Current<MysqlConfig>,
    limits: Limits,
    suspects: Arc<Suspects>,
}

impl RowStore for Writer {
    const LOCKS_IN: &str = "information_schema.innodb_trx";

    fn transaction<'a>(
        &mut self,
        rows: &[Row<'a>],
        is_careful: bool,
        was_connected: &mut bool,
    ) -> Result<Vec<Row<'a>>, Fault> {
        if self.limits.read_timeout != self.live.place().timeout {
            self.limits = Limits::new(self.live.place().timeout);
        }
        let Self { live, trust, hasty, server, limits, suspects } = self;
        if is_careful && suspects.are_unlimited() {
            // What was given up over that one holds its locks until it is over.
            live.ready()?;
            let (live, trust) = &mut **hasty.get_or_insert_with(|| Box::new((self::hasty(server), Trust::default())));
            return live.attempt(|conn, number| {
                *was_connected = true;
                trust.over(number);
                transaction(conn, rows, trust)
            });
        }
        live.attempt(|conn, number| {
            *was_connected = true;
            trust.over(number);
            match is_careful {
                true => limits.careful(conn, |conn| transaction(conn, rows, trust)),
                false => transaction(conn, rows, trust),
            }
        })
    }

    fn probe(&mut self) -> Result<(), LookupError> {
        self.live.attempt(|conn, _| probe(conn)).map_err(|fault| self.in_words(fault, None))
    }

    fn is_over(&mut self) {
        if !self.suspects.are_unlimited() {
            self.hasty = None;
        }
    }

    fn place(&self) -> &Place {
        self.live.place()
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.live.explain(fault)
    }

    fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    fn search_limit(&self) -> Duration {
        self.limits.times.search
    }
}

/// Reads a row, and comes as near to writing one as it gets.
pub(super) fn probe(conn: &mut Conn) -> Result<(), Fault> {
    conn.query_first::<mysql::Row, _>("SELECT owner_username FROM t_inbox LIMIT 1")?;
    Ok(conn.query_drop(PROBE_WRITE)?)
}

/// What a session waits for, as statements. MariaDB alone reads the comments that begin with `M!`.
#[derive(Clone, Debug)]
struct Limits {
    /// What all of it follows from.
    read_timeout: Duration,
    /// As a session begins: below the read timeout, so that the server ends what takes too long, not we.
    patient: String,
    /// While the one is looked for that holds up a set. MySQL's shortest wait for a lock is a second.
    careful: String,
    times: Times,
}

impl Limits {
    fn new(read_timeout: Duration) -> Self {
        let times = Times::of(read_timeout);
        let lock = lock_wait(&times);
        let (patient, careful) = (times.statement.as_secs_f64(), times.careful_statement.as_secs_f64());
        Self {
            read_timeout,
            patient: format!(
                "SET SESSION innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock} \
                 /*M!100300 , max_statement_time = {patient:.3} */"
            ),
            careful: format!(
                "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1 /*M!100300 , \
                 innodb_lock_wait_timeout = 0, lock_wait_timeout = 0, max_statement_time = {careful:.3} */"
            ),
            times,
        }
    }

    /// Runs `work` in a session that gives up at once, and leaves it patient.
    fn careful<T>(&self, conn: &mut Conn, work: impl FnOnce(&mut Conn) -> Result<T, Fault>) -> Result<T, Fault> {
        conn.query_drop(&self.careful)?;
        let done = work(conn);
        if matches!(done, Ok(_) | Err(Fault::Server(_))) {
            conn.query_drop(&self.patient)?;
        }
        done
    }
}

/// In whole seconds, one at least: InnoDB knows no parts of them.
fn lock_wait(times: &Times) -> u64 {
    times.lock.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_a_lock_ends_before_the_clients_patience() {
        for (read_timeout, expected) in [(2, 1), (3, 1), (8, 2), (30, 2)] {
            assert_eq!(lock_wait(&Times::of(Duration::from_secs(read_timeout))), expected);
        }
        let limits = Limits::new(Duration::from_secs(20));
        assert!(limits.patient.contains("innodb_lock_wait_timeout = 2, lock_wait_timeout = 2 "), "{}", limits.patient);
        assert!(limits.patient.contains("max_statement_time = 15.000"), "{}", limits.patient);
        assert!(limits.careful.contains("max_statement_time = 0.500"), "{}", limits.careful);
    }
}
