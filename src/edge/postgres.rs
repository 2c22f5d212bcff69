//! The built-in stores in PostgreSQL: members (`t_session_member`) here, the inbox (`t_inbox`) and contents (`t_message_content`) in
//! files of their own; one connection a thread. What they share with MySQL is in [`sql`](super::sql).
//!
//! Promises an answer or an error within the timeouts, and that a connection which died unused is replaced without the caller
//! noticing. The server is asked to end what takes longer than most of `postgres.timeout`, also what writes.
//!
//! Refuses to print the password.

mod conn;
mod contents;
mod fault;
mod inbox;
pub mod inspect;
mod link;
pub mod once;

use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use self::conn::Raw;
pub use self::inbox::PostgresInbox;
use self::link::{PostgresLink, live};
use super::sql::fault::Fault;
use super::sql::live::Live;
use super::sql::members::{
    Found, MemberQueries, MemberServer, Range, Row, Shared, SqlMembers, Sums, place_in, probe, rows_max,
};
use crate::config::{Current, PostgresConfig};
use crate::model::ids::SessionId;
use crate::model::names::NameList;
use crate::ports::LookupError;

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that postgres.database holds t_session_member(session_id, username) in the user's search_path and \
                      the user may SELECT it";
/// Each session's rows are read in its own turn, so that none is sorted and a large one is not read to its end.
const FEW: &str = "SELECT asked.at, list.username FROM unnest($1::text[]) WITH ORDINALITY AS asked (id, at) CROSS JOIN LATERAL \
                   (SELECT username FROM t_session_member WHERE session_id = asked.id LIMIT $2) AS list LIMIT $2";

/// Who is in a session, out of PostgreSQL.
pub type PostgresMembers = SqlMembers<Current<PostgresConfig>>;

impl MemberServer for Current<PostgresConfig> {
    type Queries = Queries;

    fn queries(&self) -> Queries {
        Queries { live: live(self, SCHEMA) }
    }
}

/// One thread's queries for members.
pub struct Queries {
    live: Live<PostgresLink>,
}

/// No text of PostgreSQL's holds this byte, and a query that names one is refused whole.
fn may_be_there(text: &str) -> bool {
    !text.contains('\0')
}

impl MemberQueries for Queries {
    fn few(&mut self, sessions: &[SessionId], shared: &Shared) -> Result<Found, Fault> {
        let asked: Vec<(usize, &str)> =
            sessions.iter().map(|id| &**id).enumerate().filter(|(_, id)| may_be_there(id)).collect();
        let ids: Vec<&str> = asked.iter().map(|(_, id)| *id).collect();
        let rows_max = rows_max(sessions.len());
        let values: [&(dyn ToSql + Sync); 2] = [&ids, &(rows_max as i64)];
        let rows = self.live.attempt(|conn, _| conn.query(FEW, &[Type::TEXT_ARRAY, Type::INT8], &values))?;
        let mut lists = vec![NameList::new(); sessions.len()];
        let mut last = None;
        for row in &rows {
            let place = row.try_get::<_, i64>(0).ok().and_then(|at| asked.get((at as usize).wrapping_sub(1)));
            let (Some((place, _)), Ok(Raw(name))) = (place, row.try_get(1)) else {
                shared.skip("a row that is not two texts");
                continue;
            };
            last = Some(*place);
            if let Some(name) = shared.name(name) {
                lists[*place].push(name);
            }
        }
        let cut = last.filter(|_| rows.len() == rows_max).map(|place| sessions[place].as_bytes().to_vec());
        Ok(Found { lists, cut })
    }

    fn sums(&mut self, session: &SessionId, range: &Range, limit: Duration) -> Result<Sums, Fault> {
        let what = "COUNT(*), COALESCE(SUM(hashtext(username)), 0), \
                    COALESCE(SUM((hashtextextended(username, 1) >> 32)::int), 0)";
        let sql = format!("SELECT {what} {}", place_in(range, ["$1", "$2", "$3"]));
        let row = self.of_range(&sql, session, range, limit)?.into_iter().next();
        let sum = |at: usize| row.as_ref().and_then(|row| row.try_get::<_, i64>(at).ok()).unwrap_or_default() as u64;
        Ok((sum(0), sum(1), sum(2)))
    }

    fn page(&mut self, session: &SessionId, range: &Range, rows: usize, limit: Duration) -> Result<Vec<Row>, Fault> {
        let place = place_in(range, ["$1", "$2", "$3"]);
        let rows =
            self.of_range(&format!("SELECT username {place} ORDER BY username LIMIT {rows}"), session, range, limit)?;
        let names = rows.iter().filter_map(|row| row.try_get::<_, Raw<'_>>(0).ok());
        Ok(names.map(|Raw(name)| (session.as_bytes().to_vec(), name.to_vec())).collect())
    }

    fn row(&mut self, row: probe::Row) -> Result<Option<Vec<u8>>, Fault> {
        let (from, name) = row.query("$1");
        let sql = format!("SELECT session_id, username {from}");
        let values: Vec<&(dyn ToSql + Sync)> = name.iter().map(|name| name as &(dyn ToSql + Sync)).collect();
        let read = self.live.attempt(|conn, _| conn.query(&sql, &[Type::TEXT][..values.len()], &values))?;
        Ok(read.first().map(|row| row.try_get(0).map_or_else(|_| Vec::new(), |Raw(session)| session.to_vec())))
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.live.explain(fault)
    }

    fn timeout(&self) -> Duration {
        self.live.place().timeout
    }
}

impl Queries {
    /// The rows of a query for a part of a session's list.
    fn of_range(
        &mut self,
        sql: &str,
        session: &SessionId,
        (after, until): &Range,
        limit: Duration,
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        // They came out of the table as texts.
        let names = [after, until].into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned());
        let values: Vec<String> = std::iter::once(session.to_string()).chain(names).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let types = vec![Type::TEXT; values.len()];
        self.live.attempt(|conn, _| conn.query_within(limit, sql, &types, &values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_password_is_never_shown() {
        let settings = PostgresConfig { password: Secret::new("hunter2"), ..PostgresConfig::default() };
        let shown = format!("{:?} {:?}", PostgresMembers::new(settings.clone()), PostgresInbox::new(settings));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
