//! How long mariadbd took for each statement, by its own log of slow queries with a bound of nothing.
//!
//! Refuses to be free: each statement is a row of a table more, so it is for rates of some hundred a second.

use ::mysql::prelude::Queryable;
use ::mysql::{Conn, OptsBuilder};
use hdrhistogram::Histogram;

use super::Maria;
use crate::error::{Error, Result};

/// Statements told apart by what stands in them; the first that fits.
const KINDS: [(&str, &[&str]); 5] = [
    ("members of some sessions", &["t_session_member WHERE session_id IN"]),
    ("sums of a page of members", &["CRC32(", "t_session_member"]),
    ("a page of members", &["SELECT", "t_session_member WHERE session_id ="]),
    ("rows of the inbox", &["INSERT", "t_inbox"]),
    ("contents", &["t_message_content"]),
];

/// The log, over a connection of its own.
pub struct QueryTimes(Conn);

/// The statements of one kind.
#[derive(Clone, Debug)]
pub struct TimesOfKind {
    /// Its name.
    pub kind: &'static str,
    /// What they took, in nanoseconds.
    pub nanos: Histogram<u64>,
}

impl QueryTimes {
    /// From now on whoever connects is logged.
    ///
    /// # Errors
    /// What the server says.
    pub fn start(maria: &Maria) -> Result<Self> {
        let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(maria.port()).user(Some("root"));
        let set = "SET GLOBAL log_output = 'TABLE', GLOBAL long_query_time = 0, GLOBAL slow_query_log = 1";
        let started =
            Conn::new(root.prefer_socket(false)).and_then(|mut conn| conn.query_drop(set).map(|()| Self(conn)));
        started.map_err(|cause| Error::of("cannot log the queries of MariaDB", cause))
    }

    /// What was logged so far, by kind; statements of other kinds are left out.
    ///
    /// # Errors
    /// What the server says.
    pub fn take(&mut self) -> Result<Vec<TimesOfKind>> {
        let failed = |cause| Error::of("cannot read the log of MariaDB's queries", cause);
        let sql = "SELECT LEFT(CONVERT(sql_text USING utf8mb4), 400), \
                   CAST(TIME_TO_SEC(query_time) * 1000000000 AS UNSIGNED) FROM mysql.slow_log WHERE db = 'resonance'";
        let empty = |(kind, _): &(&'static str, &[&str])| {
            let nanos = Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("constants that the crate takes");
            TimesOfKind { kind, nanos }
        };
        let mut times: Vec<_> = KINDS.iter().map(empty).collect();
        for (text, nanos) in self.0.query::<(String, u64), _>(sql).map_err(failed)? {
            if let Some(at) = kind_of(&text) {
                times[at].nanos.saturating_record(nanos);
            }
        }
        times.retain(|of| !of.nanos.is_empty());
        Ok(times)
    }
}

fn kind_of(statement: &str) -> Option<usize> {
    KINDS.iter().position(|(_, parts)| parts.iter().all(|part| statement.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        for (statement, kind) in [
            ("SELECT session_id, username FROM t_session_member WHERE session_id IN (?,?)", Some(0)),
            ("SELECT COUNT(*), SUM(CRC32(CONCAT(username))) FROM t_session_member WHERE session_id = ?", Some(1)),
            ("SELECT session_id, username FROM t_session_member WHERE session_id = ? AND username > ?", Some(2)),
            ("INSERT INTO t_inbox (owner_username) VALUES (?)", Some(3)),
            ("DELETE FROM t_session_member WHERE session_id = 'session-1'", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(kind_of(statement), kind, "{statement}");
        }
    }
}
