//! One set of rows in one transaction: inserted, and compared byte for byte where fewer were new than asked.

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use crate::edge::mysql::fault::Fault;
use crate::limits::INBOX_STATEMENT_ROWS;
use crate::ports::InboxRows;

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Its element's place in the batch.
    pub ask: usize,
    /// The element.
    pub of: &'a InboxRows,
    pub user: &'a str,
}

impl<'a> Row<'a> {
    fn key(&self) -> (&'a str, &'a str, i64) {
        (self.user, &self.of.session, self.of.seq_id)
    }
}

/// Inserts and commits; the rows that are not there byte for byte, since something else has their place.
pub(super) fn transaction<'a>(conn: &mut Conn, rows: &[Row<'a>]) -> Result<Vec<Row<'a>>, Fault> {
    conn.query_drop("START TRANSACTION")?;
    let done = insert_all(conn, rows).and_then(|conflicts| Ok(conn.query_drop("COMMIT").map(|()| conflicts)?));
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

fn insert_all<'a>(conn: &mut Conn, rows: &[Row<'a>]) -> Result<Vec<Row<'a>>, Fault> {
    let mut sorted = rows.to_vec();
    // In the order of the unique key: its pages are touched once, and two writers lock in the same order. Among equals
    // the one asked first comes first, so that it gets the place.
    sorted.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut inserted = 0;
    let mut rest = sorted.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(statement_rows(rest.len()));
        inserted += insert(conn, now)?;
        rest = later;
    }
    if inserted == rows.len() as u64 {
        return Ok(Vec::new());
    }
    // The rows that are in the way are locked by the inserts that met them, so they cannot go before the commit.
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

fn insert(conn: &mut Conn, rows: &[Row<'_>]) -> Result<u64, Fault> {
    let mut values = Vec::with_capacity(rows.len() * 4);
    for Row { of, user, .. } in rows {
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
