//! One shard's numbers at one instant, and their fixed flattening to words.
//!
//! Promises that a row of the [table](super::table) is read, written and shown on the metric page without a line
//! anywhere else. Refuses labels that come from outside: every array is as long as a closed list of `outcome`.

pub use super::table::{Activity, ShardSnapshot};
use crate::model::outcome::{EventOutcome, Lane, RecipientOutcome};

/// How many words a snapshot is.
pub const WORDS: usize = size_of::<ShardSnapshot>() / size_of::<u64>();
// All of it is numbers, and each has a word.
const _: () = assert!(WORDS > 2 + EventOutcome::COUNT + 2 * RecipientOutcome::COUNT + Lane::COUNT);

impl ShardSnapshot {
    /// All numbers as words.
    pub fn flatten(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (word, number) in words.iter_mut().zip(self.numbers()) {
            *word = *number;
        }
        words
    }

    /// Reads what [`flatten`](Self::flatten) wrote.
    pub fn unflatten(words: &[u64; WORDS]) -> Self {
        let mut snapshot = Self::default();
        for (number, word) in snapshot.numbers_mut().zip(words) {
            *number = *word;
        }
        snapshot
    }

    /// Checks the conservation law: arrivals = endings + in flight, for events and for recipients.
    ///
    /// # Errors
    /// Both sides of the one that does not hold.
    pub fn check_conservation(&self) -> Result<(), String> {
        let counts = &self.counts;
        let sides = [
            ("events", counts.events_arrived, counts.events_ended.iter().sum::<u64>(), self.events_in_flight),
            ("recipients", counts.recipients_arrived, counts.recipients_ended.iter().sum(), self.recipients_in_flight),
        ];
        for (what, arrived, ended, in_flight) in sides {
            if arrived != ended + in_flight {
                return Err(format!("{what}: {arrived} arrived, but {ended} ended and {in_flight} are in flight"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_own_word() {
        let words: [u64; WORDS] = std::array::from_fn(|at| at as u64 + 1);
        let mut snapshot = ShardSnapshot::unflatten(&words);
        assert_eq!(snapshot.flatten(), words);
        assert_eq!((snapshot.numbers().count(), snapshot.numbers_mut().count()), (WORDS, WORDS));
        assert_eq!((snapshot.counts.events_arrived, snapshot.counts.recipients_arrived), (1, 2));
        assert_eq!(snapshot.turns, WORDS as u64);
    }

    #[test]
    fn an_imbalance_is_named_with_both_sides() {
        let mut snapshot = ShardSnapshot::default();
        assert_eq!(snapshot.check_conservation(), Ok(()));
        snapshot.counts.recipients_arrived = 3;
        snapshot.counts.recipients_ended[RecipientOutcome::Offline as usize] = 1;
        snapshot.recipients_in_flight = 1;
        let error = snapshot.check_conservation().unwrap_err();
        assert_eq!(error, "recipients: 3 arrived, but 1 ended and 1 are in flight");
    }
}
