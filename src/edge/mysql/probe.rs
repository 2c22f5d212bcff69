//! Whether the member table answers, by reading a real row of it.
//!
//! Promises that a server, proxy or view that cannot answer for any session does not pass; and that one which refuses or is
//! slow for some sessions does, as soon as another one is found: the session that answered last, else the first of the
//! table, else one somewhere in it. Refuses to take a query that reads no row for an answer while others fail.

use std::time::Duration;

use mysql::prelude::Queryable;

use super::fault::Fault;
use super::{Reader, select};
use crate::config::MysqlConfig;
use crate::edge::random::random;
use crate::model::ids::SessionId;
use crate::ports::LookupError;

/// What begins a name that lies somewhere in the table.
const BEGINNINGS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which row is read.
#[derive(Clone, Debug)]
enum Row {
    Of(SessionId),
    First,
    Last,
    /// The first one whose session is not before this.
    From(String),
}

impl Row {
    /// Another one than those that were tried; which is by chance, so that a few tries find one that answers.
    fn somewhere() -> Self {
        let chance = random() as usize;
        if chance.is_multiple_of(2) {
            return Self::Last;
        }
        Self::From(char::from(BEGINNINGS[chance / 2 % BEGINNINGS.len()]).to_string())
    }

    /// The query for it, and the session that it names.
    fn query(self) -> (&'static str, Option<String>) {
        match self {
            Self::Of(session) => ("FROM t_session_member WHERE session_id = ? LIMIT 1", Some(session.to_string())),
            Self::First => ("FROM t_session_member LIMIT 1", None),
            Self::Last => ("FROM t_session_member ORDER BY session_id DESC LIMIT 1", None),
            Self::From(name) => ("FROM t_session_member WHERE session_id >= ? ORDER BY session_id LIMIT 1", Some(name)),
        }
    }
}

/// A probe takes two queries at most: a table that hangs for both is not answered for in less.
fn statement_limit(settings: &MysqlConfig) -> Duration {
    settings.timeout / 2
}

impl Reader {
    /// Reads one row; an empty table answers as well.
    pub(super) fn probe(&mut self) -> Result<(), LookupError> {
        let good = self.shared.good().clone();
        let mut read = self.read_row(good.map_or(Row::First, Row::Of));
        if matches!(read, Ok(false)) {
            // A session that has lost its rows tells nothing of others.
            read = self.read_row(Row::First);
        }
        let Err(fault) = read else { return Ok(()) };
        if fault.may_be_the_rows() && self.read_row(Row::somewhere()).is_ok_and(|has_row| has_row) {
            return Ok(());
        }
        Err(self.live.explain(fault))
    }

    /// Whether there is such a row; its session is the one that is asked for from now on.
    fn read_row(&mut self, row: Row) -> Result<bool, Fault> {
        let (from, name) = row.query();
        let statement = select(statement_limit(&self.shared.settings), from);
        let values: Vec<mysql::Value> = name.iter().map(|name| name.as_str().into()).collect();
        // The row is read: an error in place of it would be passed over with a result that is dropped.
        let read =
            self.live.attempt(|conn, _| Ok(conn.exec_first::<mysql::Row, _, _>(&*statement, values.clone())?))?;
        let Some(row) = read else { return Ok(false) };
        if let Some(mysql::Value::Bytes(session)) = row.as_ref(0) {
            *self.shared.good() = std::str::from_utf8(session).ok().map(SessionId::from);
        }
        Ok(true)
    }
}
