//! The built-in inbox: `t_inbox` in MySQL or MariaDB, one connection a writer thread.
//!
//! Promises that what is answered with `Ok` is committed, that a row which is there already is good, and that a user whose
//! row is not there byte for byte (owner, session, message) is told as a conflict: another message holds the place, or the
//! table's collation holds the names of two users for one. Promises that neither a refused row, nor a locked one, nor one
//! that is slow keeps the others from being stored ([`walk`]). `INSERT IGNORE` is not used: it would also ignore names
//! that are cut, and other errors.
//!
//! A lock is waited for no longer than a part of the client's read timeout, a statement no longer than most of it: both
//! end as an answer of the server on a good connection, so that nothing of ours goes on waiting in the server. MySQL has no
//! limit for a statement that writes: there the client's patience ends, the statement is ended over the next connection
//! ([`live`](super::live)), and while a slow row is looked for the client's patience is short.
//!
//! Refuses to tell a lost connection in mid-commit from a failed one: such a batch is answered as unavailable and is
//! stored again, which changes nothing when it was committed. Refuses to read back all that the server proves to be new
//! ([`proof`]), since that would cost a query a batch: a BEFORE INSERT trigger that rewrites some owners is not seen.

mod content;
mod proof;
mod row;
mod rows;
mod suspects;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use self::proof::Trust;
use self::row::Row;
use self::rows::transaction;
use self::suspects::Suspects;
use self::walk::Walk;
use super::fault::{Fault, place_of};
use super::live::Live;
use crate::config::MysqlConfig;
use crate::model::names::NameList;
use crate::ports::{ContentReader, Inbox, InboxRows, InboxWriter, LookupError};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that mysql.database holds t_inbox(owner_username, session_id, msg_id, seq_id, is_read, \
                      created_at) with its unique key, and the user may SELECT, INSERT and UPDATE it";
/// The longest that a lock is waited for: whoever reads inboxes holds theirs for milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// The longest that a statement may take while the one is looked for that makes a set slow.
const CAREFUL_LIMIT: Duration = Duration::from_millis(500);
/// The same where only we can end it: longer than a server without shorter ones waits for a lock.
const HASTY_LIMIT: Duration = Duration::from_millis(1250);
/// How long the search may take at least: a few times what one slow row costs, once for each time a set is cut in two.
const SEARCH_MIN: Duration = Duration::from_secs(20);
/// As near to a write as it gets without one: shows a server that is read-only, rights that are missing (UPDATE as well, which
/// a row that is there already takes), a proxy without a writer.
const PROBE_WRITE: &str = "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) \
                           SELECT owner_username, session_id, msg_id, seq_id, is_read, created_at FROM t_inbox AS old \
                           WHERE 1 = 0 ON DUPLICATE KEY UPDATE id = t_inbox.id";

/// Where messages for users who could not be reached are remembered, in MySQL.
#[derive(Clone)]
pub struct MysqlInbox {
    settings: MysqlConfig,
    /// Shared by all writers: what one found out the others need not.
    suspects: Arc<Suspects>,
}

impl MysqlInbox {
    /// The inbox on this server; connects when first used.
    pub fn new(settings: MysqlConfig) -> Self {
        Self { settings, suspects: Arc::default() }
    }
}

impl fmt::Debug for MysqlInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MysqlInbox").field(&self.settings).finish()
    }
}

impl Inbox for MysqlInbox {
    fn open(&self) -> Box<dyn InboxWriter> {
        let limits = Limits::new(self.settings.timeout);
        Box::new(Writer {
            live: Live::new(self.settings.clone(), SCHEMA).for_writes(limits.patient.clone()),
            trust: Trust::default(),
            hasty: None,
            settings: self.settings.clone(),
            limits,
            place: place_of(&self.settings),
            suspects: self.suspects.clone(),
        })
    }

    fn open_contents(&self) -> Option<Box<dyn ContentReader>> {
        Some(Box::new(content::Reader::new(self.settings.clone())))
    }
}

struct Writer {
    live: Live,
    trust: Trust,
    /// A connection with a short patience of ours, while there are suspects at a server that ends nothing by itself.
    hasty: Option<Box<(Live, Trust)>>,
    settings: MysqlConfig,
    limits: Limits,
    /// In words.
    place: String,
    suspects: Arc<Suspects>,
}

impl InboxWriter for Writer {
    fn store(&mut self, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>> {
        // By itself, so that it cannot be the reason that others fail.
        let probe = if batch.iter().any(|ask| ask.users.is_empty()) { self.ping() } else { Ok(()) };
        let mut answers = Walk::store(self, batch);
        for (answer, _) in answers.iter_mut().zip(batch).filter(|(_, ask)| ask.users.is_empty()) {
            *answer = probe.clone().map(|()| NameList::new());
        }
        answers
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        self.live.attempt(|conn, _| probe(conn)).map_err(|fault| self.in_words(fault, None))
    }
}

impl Writer {
    /// One transaction; `is_careful`: it gives up at once. Says whether it got as far as the server.
    fn transaction<'a>(
        &mut self,
        rows: &[Row<'a>],
        is_careful: bool,
        was_connected: &mut bool,
    ) -> Result<Vec<Row<'a>>, Fault> {
        let Self { live, trust, hasty, settings, limits, suspects, .. } = self;
        if is_careful && suspects.are_unlimited() {
            // What was given up over that one holds its locks until it is over.
            live.ready()?;
            let (live, trust) =
                &mut **hasty.get_or_insert_with(|| Box::new((limits.hasty(settings), Trust::default())));
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

    /// A fault in words; `row` is the user and session it concerns, if that is known.
    fn in_words(&self, fault: Fault, row: Option<(&str, &InboxRows)>) -> LookupError {
        if !fault.is_lock_conflict() {
            return self.live.explain(fault);
        }
        let row = row.map(|(user, rows)| format!(" the row of user {user:?} in session {:?}", rows.session));
        let what = row.map_or_else(|| " rows".to_owned(), |row| format!("{row} or its neighbours"));
        let said = self.live.explain(fault);
        LookupError::Rejected(format!(
            "{}: a lock that another transaction holds on t_inbox or on{what} is in the way; it is asked again; see \
             information_schema.innodb_trx for the transaction ({said})",
            self.place
        ))
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
    /// As a session begins: below the read timeout, so that the server ends what takes too long, not we.
    patient: String,
    /// While the one is looked for that holds up a set. MySQL's shortest wait for a lock is a second.
    careful: String,
    /// How long the search may take.
    search: Duration,
}

impl Limits {
    fn new(read_timeout: Duration) -> Self {
        let lock = lock_wait(read_timeout);
        let statement = read_timeout.mul_f64(0.75);
        let (patient, careful) = (statement.as_secs_f64(), statement.min(CAREFUL_LIMIT).as_secs_f64());
        Self {
            patient: format!(
                "SET SESSION innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock} \
                 /*M!100300 , max_statement_time = {patient:.3} */"
            ),
            careful: format!(
                "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1 /*M!100300 , \
                 innodb_lock_wait_timeout = 0, lock_wait_timeout = 0, max_statement_time = {careful:.3} */"
            ),
            search: read_timeout.max(SEARCH_MIN),
        }
    }

    /// Whose sessions give up at once, by themselves or by us.
    fn hasty(&self, settings: &MysqlConfig) -> Live {
        let settings = MysqlConfig { timeout: settings.timeout.min(HASTY_LIMIT), ..settings.clone() };
        Live::new(settings, SCHEMA).for_writes(self.careful.clone())
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

/// In seconds: a quarter of the read timeout, from one to [`LOCK_WAIT_MAX`].
fn lock_wait(read_timeout: Duration) -> u64 {
    (read_timeout / 4).min(LOCK_WAIT_MAX).as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_a_lock_ends_before_the_clients_patience() {
        for (read_timeout, expected) in [(2, 1), (3, 1), (8, 2), (30, 2)] {
            assert_eq!(lock_wait(Duration::from_secs(read_timeout)), expected);
        }
        let limits = Limits::new(Duration::from_secs(20));
        assert!(limits.patient.contains("innodb_lock_wait_timeout = 2, lock_wait_timeout = 2 "), "{}", limits.patient);
        assert!(limits.patient.contains("max_statement_time = 15.000"), "{}", limits.patient);
        assert!(limits.careful.contains("max_statement_time = 0.500"), "{}", limits.careful);
    }
}
