//! How a batch is stored of which some rows cannot be: all in one transaction; when that fails, each half in its own, down to
//! what is in the way.
//!
//! Promises that whatever error the server answers with, the others' rows are stored; that only the first try of a set waits
//! for locks and slow statements (in the halves the server gives up at once, or we do where it has no limit); that what another
//! transaction holds up, or is slow, is found down to the row, anything else down to the element; and that the work is bounded
//! when all fails.

use std::time::Instant;

use super::RowStore;
use super::row::Row;
use crate::edge::sql::fault::Fault;
use crate::model::names::NameList;
use crate::ports::{InboxRows, LookupError};

/// How often a transaction is run that was broken for the sake of another's; past it the core asks again, later.
const DEADLOCK_TRIES: usize = 3;
/// So many fail alone and none was stored: then samples of the whole set decide whether the others are asked at all.
const FAILED_MAX: usize = 8;

/// The store of one batch.
pub(super) struct Walk<'w, 'a, S> {
    store: &'w mut S,
    answers: Vec<Result<NameList, LookupError>>,
    /// Some of the whole set.
    samples: Vec<Row<'a>>,
    failed: usize,
    is_any_stored: bool,
    until: Option<Instant>,
    /// Why the rest is not asked.
    stopped: Option<LookupError>,
    /// The server goes on with what was given up: which row of the set made it slow cannot be found before that is over.
    is_left_behind: bool,
    /// Whether the last try got as far as the server.
    was_connected: bool,
}

impl<'w, 'a, S: RowStore> Walk<'w, 'a, S> {
    /// One answer for each element.
    pub(super) fn store(store: &'w mut S, batch: &'a [InboxRows]) -> Vec<Result<NameList, LookupError>> {
        let of_ask = |(ask, of): (usize, &'a InboxRows)| of.users.iter().map(move |user| Row { ask, of, user });
        let mut rows: Vec<Row<'a>> = batch.iter().enumerate().flat_map(of_ask).collect();
        let suspects = store.suspects().take_out(&mut rows);
        let mut walk = Walk {
            store,
            answers: vec![Ok(NameList::new()); batch.len()],
            samples: Vec::new(),
            failed: 0,
            is_any_stored: false,
            until: None,
            stopped: None,
            is_left_behind: false,
            was_connected: false,
        };
        walk.set(&rows, false);
        for (suspects, is_careful) in [(&suspects.careful, true), (&suspects.full, false)] {
            walk.samples.clear();
            walk.set(suspects, is_careful);
        }
        walk.answers
    }

    /// Stores these, in halves when they cannot be stored together. `is_careful`: the server gives up at once.
    fn set(&mut self, rows: &[Row<'a>], is_careful: bool) {
        if rows.is_empty() {
            return;
        }
        if let Some(error) = &self.stopped {
            let not_asked = match error {
                LookupError::NotReached(_) => error.clone(),
                _ => LookupError::Unavailable(format!("not asked, since all others of its batch failed: {error}")),
            };
            self.fail(rows, &not_asked);
            if self.is_left_behind {
                self.store.suspects().add(rows);
            }
            return;
        }
        match self.attempt(rows, is_careful) {
            Ok(conflicts) => {
                self.is_any_stored = true;
                for Row { ask, user, .. } in conflicts {
                    if let Ok(users) = &mut self.answers[ask] {
                        users.push(user);
                    }
                }
            }
            Err(fault) => self.failed(rows, fault, is_careful),
        }
    }

    fn failed(&mut self, rows: &[Row<'a>], fault: Fault, is_careful: bool) {
        // Whoever lets in and then is silent is no answer of the server, but it says as much of what was asked: where nothing else
        // can be had either, the next connect fails.
        let is_answered = self.was_connected && matches!(fault, Fault::Server(_) | Fault::Broken(_) | Fault::Silent(_));
        if is_answered && matches!(fault, Fault::Silent(_)) {
            self.store.suspects().note_unlimited();
        }
        if is_answered && let Some(at) = middle(rows, is_held_up(&fault)) {
            let limit = self.store.search_limit();
            self.until.get_or_insert_with(|| Instant::now() + limit);
            if self.samples.is_empty() {
                self.samples = [4, 2, 1, 3].map(|part| rows[rows.len() * part / 4 - usize::from(part == 4)]).into();
            }
            // A server that broke the connection may hold the locks of what it was asked for a moment: they are waited for.
            let is_careful = is_careful || matches!(fault, Fault::Server(_) | Fault::Silent(_));
            let (left, right) = rows.split_at(at);
            self.set(left, is_careful);
            return self.set(right, is_careful);
        }
        if matches!(fault, Fault::GoesOn(_)) {
            // All of the set, so that newcomers are not asked with the one that is meant.
            self.is_left_behind = true;
            self.store.suspects().add(rows);
        }
        let row = if let [row] = rows { Some((row.user, row.of)) } else { None };
        let error = self.store.in_words(fault, row);
        self.fail(rows, &error);
        if is_answered {
            self.store.suspects().add(rows);
            self.failed += 1;
        }
        if !is_answered || self.is_hopeless() {
            self.stopped = Some(error);
        }
    }

    /// Whether the rest would fail, too, or takes too long.
    fn is_hopeless(&mut self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return true;
        }
        if self.is_any_stored || self.failed < FAILED_MAX {
            return false;
        }
        // Their answers come with their elements'.
        let samples = std::mem::take(&mut self.samples);
        self.is_any_stored = samples.iter().any(|row| self.attempt(&[*row], true).is_ok());
        !self.is_any_stored
    }

    fn attempt(&mut self, rows: &[Row<'a>], is_careful: bool) -> Result<Vec<Row<'a>>, Fault> {
        let mut tries = 0;
        loop {
            self.was_connected = false;
            tries += 1;
            let outcome = self.store.transaction(rows, is_careful, &mut self.was_connected);
            let is_deadlock = outcome.as_ref().is_err_and(Fault::is_deadlock);
            if !is_deadlock || tries == DEADLOCK_TRIES {
                return outcome;
            }
        }
    }

    fn fail(&mut self, rows: &[Row<'a>], error: &LookupError) {
        for row in rows {
            let answer = &mut self.answers[row.ask];
            if answer.is_ok() {
                *answer = Err(error.clone());
            }
        }
    }
}

/// Whether others' transactions or the time it takes are in the way, and not what is asked.
fn is_held_up(fault: &Fault) -> bool {
    fault.is_lock_conflict() || fault.is_time_limit() || matches!(fault, Fault::Silent(_))
}

/// Where a set is cut in two: between two elements near its middle; within one only when `within`.
fn middle(rows: &[Row<'_>], within: bool) -> Option<usize> {
    let (first, last) = (rows.first()?, rows.last()?);
    let half = rows.len() / 2;
    if first.ask == last.ask {
        return (within && half > 0).then_some(half);
    }
    let ask = rows[half].ask;
    let start = rows.partition_point(|row| row.ask < ask);
    Some(if start > 0 { start } else { rows.partition_point(|row| row.ask <= ask) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_cut_between_elements_and_within_one_only_when_told() {
        let ask = |users: usize| InboxRows {
            session: "s".into(),
            msg_id: 1,
            seq_id: 1,
            users: (0..users).map(|user| format!("u{user}")).collect(),
        };
        let cut = |sizes: &[usize], within: bool| {
            let asks: Vec<InboxRows> = sizes.iter().map(|users| ask(*users)).collect();
            let mut rows = Vec::new();
            for (ask, of) in asks.iter().enumerate() {
                rows.extend(of.users.iter().map(|user| Row { ask, of, user }));
            }
            middle(&rows, within)
        };
        assert_eq!(cut(&[1, 1, 1, 1], false), Some(2));
        assert_eq!(cut(&[1, 1, 10], false), Some(2));
        assert_eq!(cut(&[10, 1, 1], false), Some(10));
        assert_eq!(cut(&[10], false), None);
        assert_eq!(cut(&[10], true), Some(5));
        assert_eq!(cut(&[1], true), None);
        assert_eq!(cut(&[], true), None);
    }
}
