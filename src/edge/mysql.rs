//! The built-in member store: `t_session_member` in MySQL or MariaDB, one connection a lookup thread. The inbox, in the
//! same database, is in its own file.
//!
//! Promises one query for all sessions of an ask (when they are large, some, and none that is long on the server: [`large`]), an answer or an error within the timeouts, and that a connection
//! which died unused is replaced without the caller noticing. Session ids match by bytes: the column's collation may
//! call `A` and `a` the same (or `a` and `a `), the rows of such a neighbour are passed over.
//!
//! Refuses names no event could carry (empty, over 64 characters, not UTF-8): skipped, counted, said once a while.
//! Speaks no connection charset but utf8mb4 (others would lose letters). Refuses to print the password.

mod fault;
mod inbox;
pub mod inspect;
mod large;
mod live;
pub mod once;
mod probe;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, QueryResult, Value};

use self::fault::Fault;
pub use self::inbox::MysqlInbox;
use self::large::{LargeLists, PAGE_ROWS};
use self::live::Live;
use crate::config::MysqlConfig;
use crate::model::ids::SessionId;
use crate::model::limits::{MEMBER_QUERY_SESSIONS, NAME_BYTES_MAX, NAME_CHARS_MAX};
use crate::model::names::NameList;
use crate::ports::{LookupError, MemberReader, Members};
use crate::telemetry::log_limiter::LogLimiter;

/// How many times the read timeout a whole result may take: each read alone is bounded by the socket's timeout.
const RESULT_READS: u32 = 2;
/// Rows of a query for several sessions at the most: what is beyond is read by others.
const SET_ROWS: usize = 4 * PAGE_ROWS;
/// Rows between two looks at the clock.
const ROWS_A_LOOK: usize = 1024;

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str =
    "check that mysql.database holds t_session_member(session_id, username) and the user may SELECT it";

const _: () = assert!(MEMBER_QUERY_SESSIONS.is_power_of_two());

/// Who is in a session, out of MySQL.
#[derive(Clone, Debug)]
pub struct MysqlMembers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: MysqlConfig,
    /// A session that had members when it was last asked for.
    good: Mutex<Option<SessionId>>,
    large: Mutex<LargeLists>,
    pages_checked: AtomicU64,
    pages_read: AtomicU64,
    skipped: AtomicU64,
    skipped_warning: LogLimiter,
}

impl MysqlMembers {
    /// Members from this server; connects on the first lookup.
    pub fn new(settings: MysqlConfig) -> Self {
        Self(Arc::new(Shared {
            settings,
            good: Mutex::default(),
            large: Mutex::default(),
            pages_checked: AtomicU64::new(0),
            pages_read: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            skipped_warning: LogLimiter::new(),
        }))
    }
}

impl Members for MysqlMembers {
    fn open(&self) -> Box<dyn MemberReader> {
        Box::new(Reader { live: Live::new(self.0.settings.clone(), SCHEMA), shared: self.0.clone() })
    }

    fn rows_skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }

    fn pages_checked(&self) -> u64 {
        self.0.pages_checked.load(Ordering::Relaxed)
    }

    fn pages_read(&self) -> u64 {
        self.0.pages_read.load(Ordering::Relaxed)
    }
}

struct Reader {
    live: Live,
    shared: Arc<Shared>,
}

impl MemberReader for Reader {
    fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
        if sessions.len() > MEMBER_QUERY_SESSIONS {
            return Err(LookupError::Rejected(format!("more than {MEMBER_QUERY_SESSIONS} sessions in one ask")));
        }
        if sessions.is_empty() {
            return self.probe().map(|()| Vec::new());
        }
        let lists = self.lists(sessions).map_err(|fault| self.live.explain(fault))?;
        if let Some(at) = lists.iter().position(|list| !list.is_empty()) {
            self.shared.good().replace(sessions[at].clone());
        }
        Ok(lists)
    }
}

impl Reader {
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
            let found = self.live.attempt(|conn, _| query(conn, &self.shared, &asked))?;
            let Some(last) = found.cut else {
                rest.iter().zip(found.lists).for_each(|(at, list)| lists[*at] = list);
                break;
            };
            let mut left = Vec::new();
            for (at, list) in rest.into_iter().zip(found.lists) {
                if may_be_equal(sessions[at].as_bytes(), &last) {
                    lists[at] = self.large_list(&sessions[at])?;
                } else if list.is_empty() {
                    left.push(at);
                } else {
                    lists[at] = list;
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
}

/// Whether some collation may hold two sessions for one, so that their rows come mixed: sooner yes than no.
fn may_be_equal(one: &[u8], other: &[u8]) -> bool {
    let is_plain = |id: &[u8]| id.iter().all(|byte| (b' '..=b'~').contains(byte));
    !is_plain(one) || !is_plain(other) || one.trim_ascii().eq_ignore_ascii_case(other.trim_ascii())
}

/// What a query found.
struct Found {
    lists: Vec<NameList>,
    /// There were more rows; the session of the last one that came.
    cut: Option<Vec<u8>>,
}

fn query(conn: &mut Conn, shared: &Shared, sessions: &[SessionId]) -> Result<Found, Fault> {
    let deadline = Instant::now() + shared.settings.timeout * RESULT_READS;
    let places = sessions.len().next_power_of_two();
    let padding = sessions.last().into_iter().cycle().take(places - sessions.len());
    let values: Vec<Value> = sessions.iter().chain(padding).map(|id| Value::Bytes(id.as_bytes().to_vec())).collect();
    let mut result = conn.exec_iter(sql(places, shared.settings.timeout * RESULT_READS), values)?;
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
    select(limit, &format!("{from} ({marks}) ORDER BY {order} LIMIT {SET_ROWS}"))
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
    let mut cut = None;
    for (number, row) in result.by_ref().enumerate() {
        let row = row?;
        if number % ROWS_A_LOOK == ROWS_A_LOOK - 1 && Instant::now() >= deadline {
            return Err(Fault::TooSlow);
        }
        let (Some(Value::Bytes(session)), Some(Value::Bytes(name))) = (row.as_ref(0), row.as_ref(1)) else {
            shared.skip("a row that is not two texts");
            continue;
        };
        cut = (number + 1 == SET_ROWS).then(|| session.clone());
        match checked_name(name) {
            Ok(name) => sorter.add(session, name),
            Err(why) => shared.skip(why),
        }
    }
    Ok(Found { lists: sorter.finish(), cut })
}

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

    fn skip(&self, why: &'static str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.skipped_warning.allow() {
            tracing::warn!(left_out, "members: {why}; the row is skipped");
        }
    }
}

/// Puts rows, which come mostly grouped by session, into the lists of the sessions asked.
struct Sorter<'a> {
    sessions: &'a [SessionId],
    lists: Vec<NameList>,
    places: HashMap<&'a [u8], usize, foldhash::fast::RandomState>,
    latest: usize,
}

impl<'a> Sorter<'a> {
    fn new(sessions: &'a [SessionId]) -> Self {
        let mut places = HashMap::with_capacity_and_hasher(sessions.len(), foldhash::fast::RandomState::default());
        for (place, session) in sessions.iter().enumerate() {
            places.entry(session.as_bytes()).or_insert(place);
        }
        Self { sessions, lists: vec![NameList::new(); sessions.len()], places, latest: 0 }
    }

    fn add(&mut self, session: &[u8], name: &str) {
        if self.sessions[self.latest].as_bytes() != session {
            let Some(&place) = self.places.get(session) else { return };
            self.latest = place;
        }
        self.lists[self.latest].push(name);
    }

    /// A session that was asked twice gets its list twice.
    fn finish(mut self) -> Vec<NameList> {
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
    use crate::config::Secret;

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
    fn a_list_has_as_many_marks_as_places() {
        let limit = Duration::from_millis(1_500);
        assert!(sql(1, limit).contains("IN (?) ORDER BY username LIMIT "));
        assert!(sql(1, limit).contains("max_statement_time=1.500 FOR") && sql(1, limit).contains("TIME(1500)"));
        assert!(sql(4, limit).contains("IN (?,?,?,?) ORDER BY session_id, username LIMIT "));
        assert!(MEMBER_QUERY_SESSIONS.ilog2() < 32, "a connection keeps them all prepared");
    }

    #[test]
    fn ids_that_a_collation_may_hold_for_one_are_told_from_others() {
        for (one, other, may) in
            [("a", "A", true), ("a", "a ", true), ("a", "b", false), ("\u{e9}", "e", true), ("a\u{0}", "x", true)]
        {
            assert_eq!(may_be_equal(one.as_bytes(), other.as_bytes()), may, "{one:?} {other:?}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = MysqlConfig { password: Secret::new("hunter2"), ..MysqlConfig::default() };
        let members = MysqlMembers::new(settings);
        assert!(!format!("{members:?}").contains("hunter2"));
    }
}
