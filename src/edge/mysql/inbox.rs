//! The built-in inbox: `t_inbox` in MySQL or MariaDB, one connection a writer thread.
//!
//! Promises that what is answered with `Ok` is committed, that a row which is there already is good, that a place which
//! another message holds is told by its user, and that one element that the server refuses does not keep the others
//! from being stored. `INSERT IGNORE` is not used: it would also ignore names that are cut, and other errors.
//!
//! Places are compared by the table's own collation, as whoever reads the inbox does: where it holds `bob` and `Bob`
//! for the same owner, a message stored for one is there for the other.
//!
//! Refuses to tell a lost connection in mid-commit from a failed one: such a batch is answered as unavailable and is
//! stored again, which changes nothing when it was committed.

use std::fmt;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::MysqlSettings;
use super::fault::Fault;
use super::live::Live;
use crate::limits::INBOX_STATEMENT_ROWS;
use crate::names::NameList;
use crate::ports::{Inbox, InboxRows, InboxWriter, LookupError};

/// How often a transaction is run that others' locks broke; past it the core asks again, later.
const LOCK_TRIES: usize = 3;
/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that mysql.database holds t_inbox(owner_username, session_id, msg_id, seq_id, is_read, \
                      created_at) with its unique key, and the user may SELECT, INSERT and UPDATE it";

/// Where messages for users who could not be reached are remembered, in MySQL.
#[derive(Clone)]
pub struct MysqlInbox(MysqlSettings);

impl MysqlInbox {
    /// The inbox on this server; connects when first used.
    pub fn new(settings: MysqlSettings) -> Self {
        Self(settings)
    }
}

impl fmt::Debug for MysqlInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MysqlInbox").field(&self.0).finish()
    }
}

impl Inbox for MysqlInbox {
    fn open(&self) -> Box<dyn InboxWriter> {
        Box::new(Writer { live: Live::new(self.0.clone(), SCHEMA) })
    }
}

struct Writer {
    live: Live,
}

impl InboxWriter for Writer {
    fn store(&mut self, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>> {
        let mut answers = Vec::with_capacity(batch.len());
        self.store_range(batch, &mut answers);
        answers
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        // Also sees a table that is missing or may not be read, before the first row needs it.
        self.live.run(|conn| Ok(conn.query_drop("SELECT 1 FROM t_inbox LIMIT 0")?))
    }
}

impl Writer {
    /// Stores all in one transaction; when the server refuses that, each half in its own, down to the guilty element.
    fn store_range(&mut self, batch: &[InboxRows], answers: &mut Vec<Result<NameList, LookupError>>) {
        if batch.is_empty() {
            return;
        }
        let mut outcome = self.live.attempt(|conn| transaction(conn, batch));
        for _ in 1..LOCK_TRIES {
            if !outcome.as_ref().is_err_and(Fault::is_lock_conflict) {
                break;
            }
            outcome = self.live.attempt(|conn| transaction(conn, batch));
        }
        match outcome {
            Ok(conflicts) => answers.extend(conflicts.into_iter().map(Ok)),
            Err(fault) if fault.is_rejection() && batch.len() > 1 => {
                let (left, right) = batch.split_at(batch.len() / 2);
                self.store_range(left, answers);
                self.store_range(right, answers);
            }
            Err(fault) => {
                let error = self.live.explain(fault);
                answers.extend(batch.iter().map(|_| Err(error.clone())));
            }
        }
    }
}

/// One row: the element's place in the batch, and the user.
type Row<'a> = (&'a InboxRows, &'a str);

/// Inserts and commits; the users of each element whose place another message holds.
fn transaction(conn: &mut Conn, batch: &[InboxRows]) -> Result<Vec<NameList>, Fault> {
    conn.query_drop("START TRANSACTION")?;
    let done = insert_all(conn, batch);
    match done {
        Ok(conflicts) => {
            conn.query_drop("COMMIT")?;
            Ok(conflicts)
        }
        Err(fault) => {
            // A connection that cannot roll back is not used again: its fault is the one to tell.
            if fault.leaves_connection_good() {
                conn.query_drop("ROLLBACK")?;
            }
            Err(fault)
        }
    }
}

fn insert_all(conn: &mut Conn, batch: &[InboxRows]) -> Result<Vec<NameList>, Fault> {
    let mut rows: Vec<Row<'_>> =
        batch.iter().flat_map(|rows| rows.users.iter().map(move |user| (rows, user))).collect();
    // In the order of the unique key: its pages are touched once, and two writers lock in the same order. Among equals
    // the one asked first comes first, so that it gets the place.
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    let mut inserted = 0;
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(statement_rows(rest.len()));
        inserted += insert(conn, now)?;
        rest = later;
    }
    if inserted == rows.len() as u64 {
        return Ok(vec![NameList::new(); batch.len()]);
    }
    // The rows that are in the way are locked by the inserts that met them, so they cannot go before the commit.
    batch.iter().map(|rows| conflicts(conn, rows)).collect()
}

fn key<'a>(row: &Row<'a>) -> (&'a str, &'a str, i64) {
    (row.1, &row.0.session, row.0.seq_id)
}

/// The largest power of two that fits, so that few statements are prepared.
fn statement_rows(left: usize) -> usize {
    1 << left.min(INBOX_STATEMENT_ROWS).ilog2()
}

fn insert(conn: &mut Conn, rows: &[Row<'_>]) -> Result<u64, Fault> {
    let mut values = Vec::with_capacity(rows.len() * 4);
    for (of, user) in rows {
        values.extend([text(user), text(&of.session), Value::Int(of.msg_id), Value::Int(of.seq_id)]);
    }
    // Rows that are there already count as 0, new ones as 1.
    Ok(conn.exec_iter(insert_sql(rows.len()), values)?.affected_rows())
}

fn insert_sql(rows: usize) -> String {
    let marks = ",(?,?,?,?,0,NOW(3))".repeat(rows);
    let marks = &marks[1..];
    format!(
        "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) VALUES {marks} \
         ON DUPLICATE KEY UPDATE id = id"
    )
}

/// Those of the element's users whose place another message holds.
fn conflicts(conn: &mut Conn, rows: &InboxRows) -> Result<NameList, Fault> {
    let users: Vec<&str> = rows.users.iter().collect();
    let mut held = Vec::new();
    let mut rest = users.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(statement_rows(rest.len()));
        held.extend(held_by_others(conn, rows, now)?);
        rest = later;
    }
    if held.is_empty() {
        return Ok(NameList::new());
    }
    // An owner's name as it is stored may differ from ours in what the collation passes over: then each user is asked.
    if held.iter().all(|name| users.contains(&name.as_str())) {
        return Ok(users.into_iter().filter(|user| held.iter().any(|name| name == user)).collect());
    }
    let mut conflicts = NameList::new();
    for user in users {
        if !held_by_others(conn, rows, &[user])?.is_empty() {
            conflicts.push(user);
        }
    }
    Ok(conflicts)
}

/// The owners, as they are stored, whose place another message than this one holds.
fn held_by_others(conn: &mut Conn, rows: &InboxRows, users: &[&str]) -> Result<Vec<String>, Fault> {
    let marks = ",?".repeat(users.len());
    let marks = &marks[1..];
    let sql = format!(
        "SELECT owner_username FROM t_inbox WHERE session_id = ? AND seq_id = ? AND msg_id <> ? \
         AND owner_username IN ({marks})"
    );
    let fixed = [text(&rows.session), Value::Int(rows.seq_id), Value::Int(rows.msg_id)];
    let values: Vec<Value> = fixed.into_iter().chain(users.iter().map(|user| text(user))).collect();
    let held: Vec<Vec<u8>> = conn.exec(sql, values)?;
    Ok(held.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_powers_of_two() {
        let mut left = 2 * INBOX_STATEMENT_ROWS + 13;
        let mut cuts = Vec::new();
        while left > 0 {
            cuts.push(statement_rows(left));
            left -= cuts[cuts.len() - 1];
        }
        assert_eq!(cuts, [INBOX_STATEMENT_ROWS, INBOX_STATEMENT_ROWS, 8, 4, 1]);
        assert!(insert_sql(2).contains("VALUES (?,?,?,?,0,NOW(3)),(?,?,?,?,0,NOW(3)) ON DUPLICATE"));
    }
}
