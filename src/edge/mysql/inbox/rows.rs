//! One set of rows in one transaction: inserted, and compared byte for byte where the server's answer does not prove ([`proof`])
//! that each is new and is what was asked for.
//!
//! Promises that what is told as not there has left no row behind, be it under another's name: the transaction is rolled back, and
//! the others are stored in another one.

use std::collections::HashSet;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::proof::{self, Told, Trust};
use super::values::{text, values};
use crate::edge::sql::fault::Fault;
use crate::edge::sql::inbox::row::Row;
use crate::model::limits::INBOX_STATEMENT_ROWS;

/// How often a set is stored again without what was not there. Once is enough, unless others change the table meanwhile.
const ROUNDS_MAX: usize = 4;

/// What became of a set.
struct Stored<'a> {
    /// The rows that are not there byte for byte.
    not_there: Vec<Row<'a>>,
    /// Whether anything was changed.
    is_changed: bool,
}

/// Inserts and commits; the rows that are not there byte for byte, since something else has their place or the table gives them
/// back as something else. Nothing of these is committed.
pub(super) fn transaction<'a>(conn: &mut Conn, rows: &[Row<'a>], trust: &mut Trust) -> Result<Vec<Row<'a>>, Fault> {
    let mut gone: HashSet<(usize, &str)> = HashSet::new();
    let mut left = rows.to_vec();
    for _ in 0..ROUNDS_MAX {
        let Stored { not_there, is_changed } = attempt(conn, &left, trust)?;
        gone.extend(not_there.iter().map(|row| (row.ask, row.user)));
        left.retain(|row| !gone.contains(&(row.ask, row.user)));
        if not_there.is_empty() || !is_changed || left.is_empty() {
            // As they were asked.
            return Ok(rows.iter().filter(|row| gone.contains(&(row.ask, row.user))).copied().collect());
        }
    }
    Err(Fault::Broken("rows of t_inbox change while they are written".to_owned()))
}

/// One transaction; committed when there is nothing in it that must not stay.
fn attempt<'a>(conn: &mut Conn, rows: &[Row<'a>], trust: &mut Trust) -> Result<Stored<'a>, Fault> {
    conn.query_drop("START TRANSACTION")?;
    let done = insert_all(conn, rows, trust).and_then(|stored| {
        let must_not_stay = stored.is_changed && !stored.not_there.is_empty();
        conn.query_drop(if must_not_stay { "ROLLBACK" } else { "COMMIT" })?;
        Ok(stored)
    });
    if let Err(Fault::Server(_)) = done {
        // Also where the connection is not kept: until the server noticed that, its locks would be in our own way. One that
        // cannot roll back is not used again: its first fault is the one to tell.
        conn.query_drop("ROLLBACK").or_else(|error| match Fault::from(error) {
            Fault::Server(_) => Ok(()),
            broken => Err(broken),
        })?;
    }
    done
}

fn insert_all<'a>(conn: &mut Conn, rows: &[Row<'a>], trust: &mut Trust) -> Result<Stored<'a>, Fault> {
    let mut sorted = rows.to_vec();
    // In the order of the unique key: its pages are touched once, and two writers lock in the same order. Among equals
    // the one asked first comes first, so that it gets the place.
    sorted.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut is_changed = false;
    let (mut doubted, mut proven) = (Vec::new(), Vec::new());
    let mut rest = sorted.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(statement_rows(rest.len()));
        let told = insert(conn, now)?;
        is_changed |= told.affected > 0;
        if told.proves_new(now.len(), trust.is_exact()) && proof::says_nothing_of_rows(conn, told.warnings)? {
            trust.doubt(now, &mut doubted, &mut proven);
        } else {
            doubted.extend_from_slice(now);
        }
        rest = later;
    }
    let mut not_there = compare(conn, &mut doubted)?;
    // These were new, and are looked at all the same: it shows what the table does to names.
    let changed = compare(conn, &mut proven)?;
    trust.learn(conn, rows, &not_there, &changed)?;
    not_there.extend(changed);
    Ok(Stored { not_there, is_changed })
}

/// Those that are not there byte for byte. Rows that are in the way are locked by the inserts that met them, so they cannot go
/// before the commit.
fn compare<'a>(conn: &mut Conn, rows: &mut [Row<'a>]) -> Result<Vec<Row<'a>>, Fault> {
    rows.sort_by_key(|row| row.ask);
    let mut conflicts = Vec::new();
    for ask in rows.chunk_by(|a, b| a.ask == b.ask) {
        let mut rest = ask;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(statement_rows(rest.len()));
            conflicts.extend(not_there(conn, now)?);
            rest = later;
        }
    }
    Ok(conflicts)
}

/// The largest power of two that fits, so that few statements are prepared.
fn statement_rows(left: usize) -> usize {
    1 << left.min(INBOX_STATEMENT_ROWS).ilog2()
}

fn insert(conn: &mut Conn, rows: &[Row<'_>]) -> Result<Told, Fault> {
    let values: Vec<Value> = rows.iter().flat_map(values).collect();
    let result = conn.exec_iter(insert_sql(rows.len()), values)?;
    Ok(Told {
        affected: result.affected_rows(),
        warnings: result.warnings(),
        duplicates: proof::duplicates(&result.info_str()),
    })
}

fn insert_sql(rows: usize) -> String {
    let marks = ",(?,?,?,?,0,NOW(3))".repeat(rows);
    let marks = &marks[1..];
    format!(
        "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) VALUES {marks} \
         ON DUPLICATE KEY UPDATE id = id"
    )
}

/// Those rows of one element that are not in the table byte for byte. The columns' collations may find others, too: names
/// that differ in case, accents or trailing blanks only.
fn not_there<'a>(conn: &mut Conn, rows: &[Row<'a>]) -> Result<Vec<Row<'a>>, Fault> {
    let Some(of) = rows.first().map(|row| row.of) else { return Ok(Vec::new()) };
    let marks = ",?".repeat(rows.len());
    let marks = &marks[1..];
    let sql = format!(
        "SELECT owner_username, session_id FROM t_inbox WHERE session_id = ? AND seq_id = ? AND msg_id = ? \
         AND owner_username IN ({marks})"
    );
    let fixed = [text(&of.session), Value::Int(of.seq_id), Value::Int(of.msg_id)];
    let values: Vec<Value> = fixed.into_iter().chain(rows.iter().map(|row| text(row.user))).collect();
    let found: Vec<(Vec<u8>, Vec<u8>)> = conn.exec(sql, values)?;
    let session = of.session.as_bytes();
    let mut owners: Vec<&[u8]> =
        found.iter().filter(|(_, found)| found == session).map(|(owner, _)| owner.as_slice()).collect();
    owners.sort_unstable();
    Ok(rows.iter().filter(|row| owners.binary_search(&row.user.as_bytes()).is_err()).copied().collect())
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
