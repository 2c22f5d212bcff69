//! Large member lists: read in pages, and refreshed by the pages that changed.
//!
//! Promises that no query of one session, however large, reads more than [`PAGE_ROWS_MAX`] rows, so that none is on the server for
//! long; that a list of more than [`PAGE_ROWS`] names is not read in one query again once a query has found it;
//! that a page of which nothing changed is counted by the server and not sent; and that who was a member all the time is in
//! the list. What a page holds is summed up before it is read: a change in between shows at the next look.
//! Refuses to give the list of one instant: pages are read one after the other.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{MemberQueries, Reader, Row, Shared};
use crate::edge::sql::RESULT_READS;
use crate::edge::sql::fault::Fault;
use crate::model::ids::SessionId;
use crate::model::names::NameList;

/// Rows of a page when it is made.
pub const PAGE_ROWS: usize = 4096;
/// A page that has grown to so many rows is cut.
pub const PAGE_ROWS_MAX: usize = 2 * PAGE_ROWS;
/// Names of large lists that are kept; the lists longest unused go first.
const NAMES_KEPT_MAX: usize = 4 << 20;

/// What the server says of a page without sending it: rows, and two sums over their hashes.
pub type Sums = (u64, u64, u64);

/// Some members that follow each other by name.
#[derive(Debug)]
struct Page {
    /// The last name of the page before; none for the first page.
    after: Option<Vec<u8>>,
    /// Its own last name; none for the last page.
    until: Option<Vec<u8>>,
    names: NameList,
    /// As they were before the names were read; none when they were not asked for.
    sums: Option<Sums>,
}

/// One session's members; no pages while it is only known that they are many.
#[derive(Debug)]
struct List {
    pages: Vec<Page>,
    used: Instant,
}

impl List {
    fn names(&self) -> usize {
        self.pages.iter().map(|page| page.names.len()).sum()
    }

    fn all(&self) -> NameList {
        self.pages.iter().flat_map(|page| page.names.iter()).collect()
    }

    /// What it takes of [`NAMES_KEPT_MAX`]: a page at least, so that lists without pages are few too.
    fn weight(&self) -> usize {
        self.names().max(PAGE_ROWS)
    }

    /// There are no pages yet, or so many have left that fewer would do.
    fn is_sparse(&self) -> bool {
        self.names() <= self.pages.len() * PAGE_ROWS / 4
    }
}

/// The lists of large sessions, of all threads.
#[derive(Debug, Default)]
pub(super) struct LargeLists {
    lists: HashMap<SessionId, List>,
    weight: usize,
}

impl LargeLists {
    fn take(&mut self, session: &SessionId) -> Option<List> {
        let list = self.lists.remove(session)?;
        self.weight -= list.weight();
        Some(list)
    }

    fn keep(&mut self, session: &SessionId, list: List) {
        drop(self.take(session));
        self.weight += list.weight();
        self.lists.insert(session.clone(), list);
        while self.weight > NAMES_KEPT_MAX && self.lists.len() > 1 {
            let oldest = self.lists.iter().min_by_key(|(_, list)| list.used).map(|(session, _)| session.clone());
            drop(oldest.and_then(|session| self.take(&session)));
        }
    }
}

impl Shared {
    fn large(&self) -> MutexGuard<'_, LargeLists> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session was large when it was last read.
    pub(super) fn is_large(&self, session: &SessionId) -> bool {
        self.large().lists.contains_key(session)
    }

    /// From now on it is read in pages.
    pub(super) fn note_large(&self, session: &SessionId) {
        self.large().keep(session, List { pages: Vec::new(), used: Instant::now() });
    }
}

impl<Q: MemberQueries> Reader<Q> {
    /// A session's members by pages; the pages that are known and unchanged are not read.
    pub(super) fn large_list(&mut self, session: &SessionId) -> Result<NameList, Fault> {
        let timeout = self.queries.timeout() * RESULT_READS;
        let deadline = Instant::now() + timeout;
        let known = self.shared.large().take(session).filter(|list| !list.is_sparse());
        let (pages, failed) = match known {
            Some(list) => self.refreshed(session, list.pages, deadline),
            None => match self.read(session, (None, None), None, (PAGE_ROWS, deadline)) {
                Ok(pages) => (pages, None),
                Err(fault) => return Err(fault),
            },
        };
        let list = List { pages, used: Instant::now() };
        let all = list.all();
        if all.len() > PAGE_ROWS / 2 {
            self.shared.large().keep(session, list);
        }
        failed.map_or(Ok(all), Err)
    }

    /// The pages, those that changed read anew; and what kept from the rest.
    fn refreshed(&mut self, session: &SessionId, old: Vec<Page>, deadline: Instant) -> (Vec<Page>, Option<Fault>) {
        let mut pages = Vec::with_capacity(old.len());
        let mut failed = None;
        for page in old {
            if failed.is_some() {
                pages.push(page);
                continue;
            }
            match self.newer(session, &page, deadline) {
                Ok(None) => pages.push(page),
                Ok(Some(newer)) => pages.extend(newer),
                Err(fault) => {
                    failed = Some(fault);
                    pages.push(page);
                }
            }
        }
        (pages, failed)
    }

    /// What has come of a page; none when it is what it was.
    fn newer(&mut self, session: &SessionId, page: &Page, deadline: Instant) -> Result<Option<Vec<Page>>, Fault> {
        let range = (page.after.clone(), page.until.clone());
        let limit = self.limit_of(deadline)?;
        let sums = self.queries.sums(session, &range, limit)?;
        self.shared.pages_checked.fetch_add(1, Ordering::Relaxed);
        if page.sums == Some(sums) {
            return Ok(None);
        }
        self.read(session, range, Some(sums), (PAGE_ROWS_MAX, deadline)).map(Some)
    }

    /// Reads a range of names, so many rows a query; `sums` are those of the whole range.
    fn read(
        &mut self,
        session: &SessionId,
        (mut after, until): Range,
        sums: Option<Sums>,
        (rows, deadline): (usize, Instant),
    ) -> Result<Vec<Page>, Fault> {
        let mut pages = Vec::new();
        loop {
            let limit = self.limit_of(deadline)?;
            let range = (after.clone(), until.clone());
            let found = self.queries.page(session, &range, rows, limit)?;
            self.shared.pages_read.fetch_add(1, Ordering::Relaxed);
            if found.len() < rows {
                let (names, sums) = (self.names_of(session, &found), sums.filter(|_| pages.is_empty()));
                pages.push(Page { after, until, names, sums });
                return Ok(pages);
            }
            // A page that fills a query would be cut, and so read, at every look.
            for part in found.chunks(PAGE_ROWS) {
                let until = part.last().map(|(_, name)| name.clone());
                pages.push(Page { after, until: until.clone(), names: self.names_of(session, part), sums: None });
                after = until;
            }
        }
    }

    /// How long a query may take, when the list as a whole is to be there by then.
    fn limit_of(&self, deadline: Instant) -> Result<Duration, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Fault::TooSlow) } else { Ok(left.min(self.queries.timeout())) }
    }

    /// The table's collation may call other sessions the same.
    fn names_of(&self, session: &SessionId, rows: &[Row]) -> NameList {
        let mut names = NameList::new();
        for (_, name) in rows.iter().filter(|(of, _)| of == session.as_bytes()) {
            if let Some(name) = self.shared.name(name) {
                names.push(name);
            }
        }
        names
    }
}

/// After which name, and up to which.
pub type Range = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A part of a session's list; `marks` are those of the session, of its first and its last name.
pub fn place_in((after, until): &Range, marks: [&str; 3]) -> String {
    let [session, first, last] = marks;
    // Marks that are numbered are numbered without gaps.
    let last = if after.is_none() { first } else { last };
    let of = format!("FROM t_session_member WHERE session_id = {session}");
    match (after, until) {
        (None, None) => of,
        (Some(_), None) => format!("{of} AND username > {first}"),
        (None, Some(_)) => format!("{of} AND username <= {last}"),
        (Some(_), Some(_)) => format!("{of} AND username > {first} AND username <= {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: usize) -> List {
        let names = (0..names).map(|name| format!("u{name}")).collect();
        List { pages: vec![Page { after: None, until: None, names, sums: None }], used: Instant::now() }
    }

    #[test]
    fn lists_are_kept_within_their_bound_and_the_oldest_go_first() {
        let mut lists = LargeLists::default();
        let size = NAMES_KEPT_MAX / 4;
        for number in 0..6 {
            lists.keep(&SessionId::from(format!("s{number}").as_str()), list(size));
        }
        assert!(lists.weight <= NAMES_KEPT_MAX && lists.lists.len() == 4);
        assert!(!lists.lists.contains_key("s0") && lists.lists.contains_key("s5"));
        lists.keep(&"s5".into(), list(1));
        assert_eq!(lists.weight, 3 * size + PAGE_ROWS);
    }
}
