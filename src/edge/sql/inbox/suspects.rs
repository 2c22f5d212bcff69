//! Rows that failed by themselves a while ago. They are asked apart from the others, at first without waiting, so that a row that is
//! locked for a minute, or slow, holds up no batch each time that it is asked again.
//!
//! Promises that each gets a full try again after a while, still apart, and to keep no more than a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::row::Row;

/// How long a row is asked for without waiting.
const SUSPECT_FOR: Duration = Duration::from_secs(10);
/// How long it is asked for apart from others: longer than the longest pause after which the core asks again.
const APART_FOR: Duration = Duration::from_secs(120);
/// How many are. Past that, a row that fails is asked with the others, at the price of one wait a batch.
const SUSPECTS_MAX: usize = 8 * 1024;

#[derive(Debug, Default)]
pub struct Suspects {
    hasher: RandomState,
    /// Since when.
    known: Mutex<HashMap<u64, Instant>>,
    /// The server did not end a statement that took too long.
    is_unlimited: AtomicBool,
}

/// Suspects out of a batch.
#[derive(Debug, Default)]
pub struct TakenOut<'a> {
    /// They are asked without waiting.
    pub careful: Vec<Row<'a>>,
    /// They get a full try.
    pub full: Vec<Row<'a>>,
}

impl Suspects {
    /// Takes the suspects out of the rows; the others stay.
    pub fn take_out<'a>(&self, rows: &mut Vec<Row<'a>>) -> TakenOut<'a> {
        self.take_out_at(rows, Instant::now())
    }

    fn take_out_at<'a>(&self, rows: &mut Vec<Row<'a>>, now: Instant) -> TakenOut<'a> {
        let mut taken = TakenOut::default();
        let mut known = self.known();
        if known.is_empty() {
            return taken;
        }
        known.retain(|_, since| now.duration_since(*since) < APART_FOR);
        if known.is_empty() {
            self.is_unlimited.store(false, Ordering::Relaxed);
        }
        rows.retain(|row| {
            let Some(since) = known.get(&self.hash(row)) else { return true };
            let is_young = now.duration_since(*since) < SUSPECT_FOR;
            if is_young { &mut taken.careful } else { &mut taken.full }.push(*row);
            false
        });
        taken
    }

    /// These rows failed by themselves. One that is known keeps its time until it had its full try.
    pub fn add(&self, rows: &[Row<'_>]) {
        self.add_at(rows, Instant::now());
    }

    fn add_at(&self, rows: &[Row<'_>], now: Instant) {
        let mut known = self.known();
        for row in rows {
            let hash = self.hash(row);
            let is_young = known.get(&hash).is_some_and(|since| now.duration_since(*since) < SUSPECT_FOR);
            if !is_young && (known.len() < SUSPECTS_MAX || known.contains_key(&hash)) {
                known.insert(hash, now);
            }
        }
    }

    /// The server did not end a statement that took too long: we have to, while there are suspects.
    pub fn note_unlimited(&self) {
        self.is_unlimited.store(true, Ordering::Relaxed);
    }

    /// Whether statements that are not to wait need a limit of ours.
    pub fn are_unlimited(&self) -> bool {
        self.is_unlimited.load(Ordering::Relaxed)
    }

    fn hash(&self, row: &Row<'_>) -> u64 {
        self.hasher.hash_one((row.user, &*row.of.session, row.of.seq_id, row.of.msg_id))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::InboxRows;

    #[test]
    fn a_suspect_is_taken_out_and_the_bound_is_kept() {
        let users = (0..SUSPECTS_MAX + 5).map(|user| format!("u{user}")).collect();
        let of = InboxRows { session: "s".into(), msg_id: 1, seq_id: 1, users };
        let rows: Vec<Row<'_>> = of.users.iter().map(|user| Row { ask: 0, of: &of, user }).collect();
        let suspects = Suspects::default();
        suspects.add(&rows[3..4]);
        let mut some = rows[..6].to_vec();
        let out: Vec<&str> = suspects.take_out(&mut some).careful.iter().map(|row| row.user).collect();
        assert_eq!((out, some.len()), (vec!["u3"], 5));
        suspects.add(&rows);
        assert_eq!(suspects.take_out(&mut rows.clone()).careful.len(), SUSPECTS_MAX);
    }

    #[test]
    fn a_suspect_gets_full_tries_apart_from_the_others_until_it_is_forgotten() {
        let of = InboxRows { session: "s".into(), msg_id: 1, seq_id: 1, users: ["ann", "bob"].into_iter().collect() };
        let rows: Vec<Row<'_>> = of.users.iter().map(|user| Row { ask: 0, of: &of, user }).collect();
        let (suspects, start) = (Suspects::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let taken = |seconds| {
            let mut left = rows.clone();
            let taken = suspects.take_out_at(&mut left, at(seconds));
            (taken.careful.len(), taken.full.len(), left.len())
        };
        suspects.add_at(&rows[..1], at(0));
        suspects.note_unlimited();
        assert_eq!(taken(9), (1, 0, 1));
        suspects.add_at(&rows[..1], at(9));
        assert_eq!(taken(11), (0, 1, 1), "the first failure counts");
        assert_eq!(taken(100), (0, 1, 1));
        suspects.add_at(&rows[..1], at(100));
        assert_eq!(taken(109), (1, 0, 1), "the full try failed");
        assert!(suspects.are_unlimited());
        assert_eq!(taken(221), (0, 0, 2));
        assert!(!suspects.are_unlimited());
    }
}
