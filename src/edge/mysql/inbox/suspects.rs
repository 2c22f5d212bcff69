//! Rows that failed by themselves a moment ago. They are asked apart from the others, without waiting, so that a row that is
//! locked for a minute holds up no batch each time that it is asked again.
//!
//! Promises to forget each after a while, so that it gets a full try again, and to keep no more than a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rows::Row;

/// How long a row is suspect.
const SUSPECT_FOR: Duration = Duration::from_secs(10);
/// How many are. Past that, a row that fails is asked with the others, at the price of one wait a batch.
const SUSPECTS_MAX: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Suspects {
    hasher: RandomState,
    /// Until when.
    known: Mutex<HashMap<u64, Instant>>,
}

impl Suspects {
    /// Takes the suspects out of the rows; the others stay.
    pub(super) fn take_out<'a>(&self, rows: &mut Vec<Row<'a>>) -> Vec<Row<'a>> {
        let mut known = self.known();
        if known.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        known.retain(|_, until| *until > now);
        rows.extract_if(.., |row| known.contains_key(&self.hash(row))).collect()
    }

    /// These rows failed by themselves. One that is known keeps its time: it is to get its full try.
    pub(super) fn add(&self, rows: &[Row<'_>]) {
        let until = Instant::now() + SUSPECT_FOR;
        let mut known = self.known();
        for row in rows {
            if known.len() >= SUSPECTS_MAX {
                return;
            }
            known.entry(self.hash(row)).or_insert(until);
        }
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
        let out: Vec<&str> = suspects.take_out(&mut some).iter().map(|row| row.user).collect();
        assert_eq!((out, some.len()), (vec!["u3"], 5));
        suspects.add(&rows);
        assert_eq!(suspects.take_out(&mut rows.clone()).len(), SUSPECTS_MAX);
    }
}
