//! The window of events that were taken: an outbox that publishes twice is the normal case, so the second copy of an
//! event (same session, same message) ends without a push.
//!
//! Promises at most [`REPEAT_WINDOW_EVENTS`] entries of 16 bytes, none older than [`REPEAT_WINDOW_AGE`]. The session is
//! kept as a 64-bit hash: with a full window, the chance that a fresh event is taken for a repeat is below 1e-14.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::ids::Nanos;
use crate::limits::{REPEAT_WINDOW_AGE, REPEAT_WINDOW_EVENTS};

type Key = (u64, i64);

/// The window.
#[derive(Debug, Default)]
pub struct Repeats {
    taken: HashSet<Key, FixedState>,
    by_age: VecDeque<(Key, Nanos)>,
    hasher: FixedState,
}

impl Repeats {
    /// Notes an event; false when it was noted before.
    pub fn is_first(&mut self, session_id: &str, msg_id: i64, now: Nanos) -> bool {
        while let Some((key, at)) = self.by_age.front() {
            if self.by_age.len() < REPEAT_WINDOW_EVENTS && now.since(*at) < REPEAT_WINDOW_AGE {
                break;
            }
            self.taken.remove(key);
            self.by_age.pop_front();
        }
        let key = (self.hasher.hash_one(session_id), msg_id);
        let is_first = self.taken.insert(key);
        if is_first {
            self.by_age.push_back((key, now));
        }
        is_first
    }

    /// An event that ended without being pushed may come again.
    pub fn forget(&mut self, session_id: &str, msg_id: i64) {
        self.taken.remove(&(self.hasher.hash_one(session_id), msg_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_until_it_is_old_or_forgotten() {
        let mut repeats = Repeats::default();
        let later = Nanos(0).after(REPEAT_WINDOW_AGE);
        assert!(repeats.is_first("a", 1, Nanos(0)));
        assert!(!repeats.is_first("a", 1, Nanos(1)));
        assert!(repeats.is_first("b", 1, Nanos(1)) && repeats.is_first("a", 2, Nanos(1)));
        repeats.forget("b", 1);
        assert!(repeats.is_first("b", 1, Nanos(2)));
        assert!(repeats.is_first("a", 1, later), "older than the window");
    }

    #[test]
    fn the_window_is_bounded() {
        let mut repeats = Repeats::default();
        for msg_id in 0..2 * REPEAT_WINDOW_EVENTS as i64 {
            assert!(repeats.is_first("a", msg_id, Nanos(0)));
        }
        assert!(repeats.taken.len() <= REPEAT_WINDOW_EVENTS);
    }
}
