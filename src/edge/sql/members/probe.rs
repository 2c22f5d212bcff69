//! Whether the member table answers, by reading a real row of it.
//!
//! Promises that a server, proxy or view that cannot answer for any session does not pass; and that one which refuses or is
//! slow for some sessions does, as soon as another one is found: the session that answered last, else the first of the
//! table, else one somewhere in it. Refuses to take a query that reads no row for an answer while others fail.

use super::{MemberQueries, Reader};
use crate::edge::random::random;
use crate::edge::sql::fault::Fault;
use crate::model::ids::SessionId;
use crate::ports::LookupError;

/// What begins a name that lies somewhere in the table.
const BEGINNINGS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which row is read.
#[derive(Clone, Debug)]
pub enum Row {
    /// One of this session.
    Of(SessionId),
    /// The first of the table.
    First,
    /// The last of the table.
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

    /// The query for it from its FROM on, and the session that it names, whose mark is `mark`.
    pub fn query(self, mark: &str) -> (String, Option<String>) {
        let from = "FROM t_session_member";
        match self {
            Self::Of(session) => (format!("{from} WHERE session_id = {mark} LIMIT 1"), Some(session.to_string())),
            Self::First => (format!("{from} LIMIT 1"), None),
            Self::Last => (format!("{from} ORDER BY session_id DESC LIMIT 1"), None),
            Self::From(name) => (format!("{from} WHERE session_id >= {mark} ORDER BY session_id LIMIT 1"), Some(name)),
        }
    }
}

impl<Q: MemberQueries> Reader<Q> {
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
        Err(self.queries.explain(fault))
    }

    /// Whether there is such a row; its session is the one that is asked for from now on.
    fn read_row(&mut self, row: Row) -> Result<bool, Fault> {
        let Some(session) = self.queries.row(row)? else { return Ok(false) };
        let session = std::str::from_utf8(&session).ok().filter(|session| !session.is_empty());
        *self.shared.good() = session.map(SessionId::from);
        Ok(true)
    }
}
