//! Member lists out of `t_session_member`: what both databases have in common.
//!
//! Promises one query for all sessions of an ask (when they are large, some, and none that is long on the server: [`large`]), and an
//! answer or an error within the timeouts. Session ids match by bytes: a column's collation may call `A` and `a` the same (or `a`
//! and `a `), the rows of such a neighbour are passed over.
//!
//! Refuses names no event could carry (empty, over 64 characters, not UTF-8): skipped, counted, said once a while.

mod large;
pub mod probe;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::large::{LargeLists, PAGE_ROWS, PAGE_ROWS_MAX};
pub use self::large::{Range, Sums, place_in};
use super::fault::Fault;
use crate::model::ids::SessionId;
use crate::model::limits::{MEMBER_QUERY_SESSIONS, NAME_BYTES_MAX, NAME_CHARS_MAX};
use crate::model::names::NameList;
use crate::ports::{LookupError, MemberReader, Members};
use crate::telemetry::log_limiter::LogLimiter;

/// Rows of a query for so many sessions at the most: what is beyond is read by others.
pub const fn rows_max(sessions: usize) -> usize {
    if sessions == 1 { PAGE_ROWS_MAX } else { 4 * PAGE_ROWS }
}

/// What opens the readers of members: the section of a database.
pub trait MemberServer: Clone + fmt::Debug + Send + Sync + 'static {
    /// One thread's queries.
    type Queries: MemberQueries + 'static;
    /// Opens them; connects when first used.
    fn queries(&self) -> Self::Queries;
}

/// The queries for members. Each has its own deadline.
pub trait MemberQueries: Send {
    /// The members of some sessions, in one query of at most [`rows_max`] rows.
    ///
    /// # Errors
    /// Why there is no answer.
    fn few(&mut self, sessions: &[SessionId], shared: &Shared) -> Result<Found, Fault>;
    /// What the server says of a part of a session's list without sending it, within `limit`.
    ///
    /// # Errors
    /// Why there is no answer.
    fn sums(&mut self, session: &SessionId, range: &Range, limit: Duration) -> Result<Sums, Fault>;
    /// So many rows of a part of a session's list, in order, within `limit`: a session and a name each.
    ///
    /// # Errors
    /// Why there is no answer.
    fn page(&mut self, session: &SessionId, range: &Range, rows: usize, limit: Duration) -> Result<Vec<Row>, Fault>;
    /// The session of this row, if there is one.
    ///
    /// # Errors
    /// Why there is no answer.
    fn row(&mut self, row: probe::Row) -> Result<Option<Vec<u8>>, Fault>;
    /// A fault in words.
    fn explain(&self, fault: Fault) -> LookupError;
    /// How long the server may take to answer.
    fn timeout(&self) -> Duration;
}

/// A session and a name, as they stand in the table.
pub type Row = (Vec<u8>, Vec<u8>);

/// What a query found.
pub struct Found {
    /// One for each session, in the order asked.
    pub lists: Vec<NameList>,
    /// There were more rows; the session of the last one that came.
    pub cut: Option<Vec<u8>>,
}

/// Who is in a session, out of a database.
#[derive(Clone, Debug)]
pub struct SqlMembers<S> {
    server: S,
    shared: Arc<Shared>,
}

/// What the readers of all threads share.
#[derive(Debug, Default)]
pub struct Shared {
    /// A session that had members when it was last asked for.
    good: Mutex<Option<SessionId>>,
    large: Mutex<LargeLists>,
    pages_checked: AtomicU64,
    pages_read: AtomicU64,
    skipped: AtomicU64,
    skipped_warning: LogLimiter,
}

impl<S> SqlMembers<S> {
    /// Members from this server; connects on the first lookup.
    pub fn new(server: impl Into<S>) -> Self {
        Self { server: server.into(), shared: Arc::default() }
    }
}

impl<S: MemberServer> Members for SqlMembers<S> {
    fn open(&self) -> Box<dyn MemberReader> {
        Box::new(Reader { queries: self.server.queries(), shared: self.shared.clone() })
    }

    fn rows_skipped(&self) -> u64 {
        self.shared.skipped.load(Ordering::Relaxed)
    }

    fn pages_checked(&self) -> u64 {
        self.shared.pages_checked.load(Ordering::Relaxed)
    }

    fn pages_read(&self) -> u64 {
        self.shared.pages_read.load(Ordering::Relaxed)
    }
}

struct Reader<Q> {
    queries: Q,
    shared: Arc<Shared>,
}

impl<Q: MemberQueries> MemberReader for Reader<Q> {
    fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
        if sessions.len() > MEMBER_QUERY_SESSIONS {
            return Err(LookupError::Rejected(format!("more than {MEMBER_QUERY_SESSIONS} sessions in one ask")));
        }
        if sessions.is_empty() {
            return self.probe().map(|()| Vec::new());
        }
        let lists = self.lists(sessions).map_err(|fault| self.queries.explain(fault))?;
        if let Some(at) = lists.iter().position(|list| !list.is_empty()) {
            self.shared.good().replace(sessions[at].clone());
        }
        Ok(lists)
    }
}

impl<Q: MemberQueries> Reader<Q> {
    /// Large sessions by pages, the others together, in more than one query when one would be long on the server.
    fn lists(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, Fault> {
        let mut lists = vec![NameList::new(); sessions.len()];
        let (large, mut rest): (Vec<usize>, Vec<usize>) =
            (0..sessions.len()).partition(|at| self.shared.is_large(&sessions[*at]));
        for at in large {
            lists[at] = self.large_list(&sessions[at])?;
        }
        while !rest.is_empty() {
            let asked: Vec<SessionId> = rest.iter().map(|at| sessions[*at].clone()).collect();
            let found = self.queries.few(&asked, &self.shared)?;
            let Some(last) = found.cut else {
                rest.iter().zip(found.lists).for_each(|(at, list)| lists[*at] = self.whole(&sessions[*at], list));
                break;
            };
            let mut left = Vec::new();
            for (at, list) in rest.into_iter().zip(found.lists) {
                if may_be_equal(sessions[at].as_bytes(), &last) {
                    lists[at] = self.large_list(&sessions[at])?;
                } else if list.is_empty() {
                    left.push(at);
                } else {
                    lists[at] = self.whole(&sessions[at], list);
                }
            }
            if left.len() == asked.len() {
                // What is in the way is no session that was asked for.
                for at in std::mem::take(&mut left) {
                    lists[at] = self.large_list(&sessions[at])?;
                }
            }
            rest = left;
        }
        Ok(lists)
    }

    /// A list that came in one query. A large one is good for now, and not read like this again.
    fn whole(&self, session: &SessionId, list: NameList) -> NameList {
        if list.len() > PAGE_ROWS {
            self.shared.note_large(session);
        }
        list
    }
}

/// Whether some collation may hold two sessions for one, so that their rows come mixed: sooner yes than no.
fn may_be_equal(one: &[u8], other: &[u8]) -> bool {
    let is_plain = |id: &[u8]| id.iter().all(|byte| (b' '..=b'~').contains(byte));
    !is_plain(one) || !is_plain(other) || one.trim_ascii().eq_ignore_ascii_case(other.trim_ascii())
}

/// A name that an event could carry; else why not.
fn checked_name(bytes: &[u8]) -> Result<&str, &'static str> {
    let name = std::str::from_utf8(bytes).map_err(|_| "a username is not UTF-8")?;
    if name.is_empty() {
        return Err("a username is empty");
    }
    if name.len() > NAME_BYTES_MAX || (name.len() > NAME_CHARS_MAX && name.chars().count() > NAME_CHARS_MAX) {
        return Err("a username is over 64 characters");
    }
    Ok(name)
}

impl Shared {
    fn good(&self) -> MutexGuard<'_, Option<SessionId>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name of the table, if an event could carry it; else it is skipped.
    pub fn name<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        checked_name(name).inspect_err(|why| self.skip(why)).ok()
    }

    /// Passes over a row.
    pub fn skip(&self, why: &'static str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.skipped_warning.allow() {
            tracing::warn!(left_out, "members: {why}; the row is skipped");
        }
    }
}

/// Puts rows, which come mostly grouped by session, into the lists of the sessions asked.
pub struct Sorter<'a> {
    sessions: &'a [SessionId],
    lists: Vec<NameList>,
    places: HashMap<&'a [u8], usize, foldhash::fast::RandomState>,
    latest: usize,
}

impl<'a> Sorter<'a> {
    /// For these.
    pub fn new(sessions: &'a [SessionId]) -> Self {
        let mut places = HashMap::with_capacity_and_hasher(sessions.len(), foldhash::fast::RandomState::default());
        for (place, session) in sessions.iter().enumerate() {
            places.entry(session.as_bytes()).or_insert(place);
        }
        Self { sessions, lists: vec![NameList::new(); sessions.len()], places, latest: 0 }
    }

    /// Adds a row.
    pub fn add(&mut self, session: &[u8], name: &str) {
        if self.sessions[self.latest].as_bytes() != session {
            let Some(&place) = self.places.get(session) else { return };
            self.latest = place;
        }
        self.lists[self.latest].push(name);
    }

    /// A session that was asked twice gets its list twice.
    pub fn finish(mut self) -> Vec<NameList> {
        for (place, session) in self.sessions.iter().enumerate() {
            let first = self.places[session.as_bytes()];
            if first != place {
                self.lists[place] = self.lists[first].clone();
            }
        }
        self.lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_the_session_of_the_same_bytes() {
        let sessions: Vec<SessionId> = ["b", "a", "B", "none", "a"].map(Into::into).into();
        let mut sorter = Sorter::new(&sessions);
        for (session, name) in [("A", "no"), ("a", "x"), ("a", "y"), ("B", "p"), ("b", "q"), ("B", "r"), ("a ", "no")] {
            sorter.add(session.as_bytes(), name);
        }
        let lists = sorter.finish();
        let expected: [&[&str]; 5] = [&["q"], &["x", "y"], &["p", "r"], &[], &["x", "y"]];
        for (list, expected) in lists.iter().zip(expected) {
            assert_eq!(list.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn names_no_event_could_carry_are_refused() {
        let (longest, too_long) = ("\u{1f600}".repeat(64), "a".repeat(65));
        for (name, good) in
            [("u", true), (longest.as_str(), true), ("", false), (too_long.as_str(), false), ("a b'\\\"%", true)]
        {
            assert_eq!(checked_name(name.as_bytes()).is_ok(), good, "{name:?}");
        }
        assert!(checked_name(b"\xff").is_err());
    }

    #[test]
    fn ids_that_a_collation_may_hold_for_one_are_told_from_others() {
        for (one, other, may) in
            [("a", "A", true), ("a", "a ", true), ("a", "b", false), ("\u{e9}", "e", true), ("a\u{0}", "x", true)]
        {
            assert_eq!(may_be_equal(one.as_bytes(), other.as_bytes()), may, "{one:?} {other:?}");
        }
    }
}
