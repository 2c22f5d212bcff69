//! The built-in member store: `t_session_member` in MySQL or MariaDB, one connection a lookup thread. The inbox, in the
//! same database, is in its own file. What it shares with PostgreSQL is in [`sql`](super::sql).
//!
//! Promises an answer or an error within the timeouts, and that a connection which died unused is replaced without the caller
//! noticing.
//!
//! Speaks no connection charset but utf8mb4 (others would lose letters). Refuses to print the password.

mod fault;
mod inbox;
pub mod inspect;
mod link;
pub mod once;
mod tunnel;

use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, QueryResult, Value};

pub use self::inbox::MysqlInbox;
use self::link::{MysqlLink, live};
use super::sql::RESULT_READS;
use super::sql::fault::Fault;
use super::sql::live::Live;
use super::sql::members::{
    Found, MemberQueries, MemberServer, Range, Row, Shared, Sorter, SqlMembers, Sums, place_in, probe, rows_max,
};
use crate::config::{Current, MysqlConfig};
use crate::model::ids::SessionId;
use crate::model::limits::MEMBER_QUERY_SESSIONS;
use crate::ports::LookupError;

/// Rows between two looks at the clock.
const ROWS_A_LOOK: usize = 1024;

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str =
    "check that mysql.database holds t_session_member(session_id, username) and the user may SELECT it";

const _: () = assert!(MEMBER_QUERY_SESSIONS.is_power_of_two());

/// Who is in a session, out of MySQL.
pub type MysqlMembers = SqlMembers<Current<MysqlConfig>>;

impl MemberServer for Current<MysqlConfig> {
    type Queries = Queries;

    fn queries(&self) -> Queries {
        Queries { live: live(self, SCHEMA) }
    }
}

/// One thread's queries for members.
pub struct Queries {
    live: Live<MysqlLink>,
}

impl MemberQueries for Queries {
    fn few(&mut self, sessions: &[SessionId], shared: &Shared) -> Result<Found, Fault> {
        let limit = self.timeout() * RESULT_READS;
        self.live.attempt(|conn, _| query(conn, shared, sessions, limit))
    }

    fn sums(&mut self, session: &SessionId, range: &Range, limit: Duration) -> Result<Sums, Fault> {
        self.live.attempt(|conn, _| sums(conn, session, range, limit))
    }

    fn page(&mut self, session: &SessionId, range: &Range, rows: usize, limit: Duration) -> Result<Vec<Row>, Fault> {
        self.live.attempt(|conn, _| rows_of(conn, session, range, rows, limit))
    }

    fn row(&mut self, row: probe::Row) -> Result<Option<Vec<u8>>, Fault> {
        let (from, name) = row.query("?");
        // A probe takes two queries at most: a table that hangs for both is not answered for in less.
        let statement = select(self.timeout() / 2, &from);
        let values: Vec<Value> = name.iter().map(|name| name.as_str().into()).collect();
        // The row is read: an error in place of it would be passed over with a result that is dropped.
        let read =
            self.live.attempt(|conn, _| Ok(conn.exec_first::<mysql::Row, _, _>(&*statement, values.clone())?))?;
        Ok(read.map(|row| match row.as_ref(0) {
            Some(Value::Bytes(session)) => session.clone(),
            _ => Vec::new(),
        }))
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.live.explain(fault)
    }

    fn timeout(&self) -> Duration {
        self.live.place().timeout
    }
}

fn query(conn: &mut Conn, shared: &Shared, sessions: &[SessionId], limit: Duration) -> Result<Found, Fault> {
    let deadline = Instant::now() + limit;
    let places = sessions.len().next_power_of_two();
    let padding = sessions.last().into_iter().cycle().take(places - sessions.len());
    let values: Vec<Value> = sessions.iter().chain(padding).map(|id| Value::Bytes(id.as_bytes().to_vec())).collect();
    let mut result = conn.exec_iter(sql(places, limit), values)?;
    match collect(&mut result, shared, sessions, deadline) {
        Err(Fault::TooSlow) => {
            // Dropping a result reads the rest of it, however slow. The connection is dropped next, unread; the cost
            // is one small leak for each such timeout.
            std::mem::forget(result);
            Err(Fault::TooSlow)
        }
        done => done,
    }
}

/// Prepared rather than text, so that nothing has to be escaped. Measured (debug build, busy machine): no clear winner
/// in time; text took some 5 to 30 % less of our own CPU at most sizes.
///
/// A single session is not named in the order: our connection's collation is not the column's, and so MariaDB (10.11) would
/// sort its rows instead of reading them from the index in order, at ten times the cost of the query.
///
/// It asks to be given up by the server at the time at which we are gone for sure, so that queries that hang do not pile up
/// there.
fn sql(places: usize, limit: Duration) -> String {
    let marks = ",?".repeat(places);
    let marks = &marks[1..];
    let order = if places == 1 { "username" } else { "session_id, username" };
    let from = "FROM t_session_member WHERE session_id IN";
    select(limit, &format!("{from} ({marks}) ORDER BY {order} LIMIT {}", rows_max(places)))
}

/// Reads sessions and their members, and asks to be given up by the server after so long.
fn select(limit: Duration, from: &str) -> String {
    limited(limit, &format!("session_id, username {from}"))
}

/// A SELECT of these columns that asks to be given up by the server after so long. MariaDB reads the first comment, MySQL the
/// second one.
fn limited(limit: Duration, what: &str) -> String {
    let (seconds, millis) = (limit.as_secs_f64(), limit.as_millis());
    let mariadb = format!("/*M!100101 SET STATEMENT max_statement_time={seconds:.3} FOR */");
    let mysql = format!("/*+ MAX_EXECUTION_TIME({millis}) */");
    format!("{mariadb} SELECT {mysql} {what}")
}

fn collect<P: Protocol>(
    result: &mut QueryResult<'_, '_, '_, P>,
    shared: &Shared,
    sessions: &[SessionId],
    deadline: Instant,
) -> Result<Found, Fault> {
    let mut sorter = Sorter::new(sessions);
    let (mut cut, rows_max) = (None, rows_max(sessions.len()));
    for (number, row) in result.by_ref().enumerate() {
        let row = row?;
        if number % ROWS_A_LOOK == ROWS_A_LOOK - 1 && Instant::now() >= deadline {
            return Err(Fault::TooSlow);
        }
        let (Some(Value::Bytes(session)), Some(Value::Bytes(name))) = (row.as_ref(0), row.as_ref(1)) else {
            shared.skip("a row that is not two texts");
            continue;
        };
        cut = (number + 1 == rows_max).then(|| session.clone());
        if let Some(name) = shared.name(name) {
            sorter.add(session, name);
        }
    }
    Ok(Found { lists: sorter.finish(), cut })
}

fn values(session: &SessionId, (after, until): &Range) -> Vec<Value> {
    let names = [after, until].into_iter().flatten();
    std::iter::once(session.as_bytes())
        .chain(names.map(Vec::as_slice))
        .map(|text| Value::Bytes(text.to_vec()))
        .collect()
}

fn sums(conn: &mut Conn, session: &SessionId, range: &Range, limit: Duration) -> Result<Sums, Fault> {
    let hash = "CRC32(CONCAT(session_id, '/', username))";
    let what = format!(
        "COUNT(*), CAST(COALESCE(SUM({hash}), 0) AS UNSIGNED), CAST(COALESCE(BIT_XOR({hash} * 2654435761), 0) AS UNSIGNED) {}",
        place_in(range, ["?"; 3])
    );
    let sums: Option<Sums> = conn.exec_first(limited(limit_in_words(limit), &what), values(session, range))?;
    Ok(sums.unwrap_or_default())
}

fn rows_of(
    conn: &mut Conn,
    session: &SessionId,
    range: &Range,
    rows: usize,
    limit: Duration,
) -> Result<Vec<Row>, Fault> {
    let what = format!("session_id, username {} ORDER BY username LIMIT {rows}", place_in(range, ["?"; 3]));
    Ok(conn.exec(limited(limit_in_words(limit), &what), values(session, range))?)
}

/// In whole seconds, so that few statements are prepared.
fn limit_in_words(limit: Duration) -> Duration {
    Duration::from_secs(limit.as_secs() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_list_has_as_many_marks_as_places() {
        let limit = Duration::from_millis(1_500);
        assert!(sql(1, limit).contains("IN (?) ORDER BY username LIMIT "));
        assert!(sql(1, limit).contains("max_statement_time=1.500 FOR") && sql(1, limit).contains("TIME(1500)"));
        assert!(sql(4, limit).contains("IN (?,?,?,?) ORDER BY session_id, username LIMIT "));
        assert!(MEMBER_QUERY_SESSIONS.ilog2() < 32, "a connection keeps them all prepared");
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = MysqlConfig { password: Secret::new("hunter2"), ..MysqlConfig::default() };
        let members = MysqlMembers::new(settings);
        assert!(!format!("{members:?}").contains("hunter2"));
    }
}
