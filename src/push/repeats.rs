//! The events a shard knows: those in flight, and a window of those that were settled. An outbox that publishes twice is
//! the normal case, so the second copy of an event (same session, same message) is never pushed.
//!
//! Promises that an event in flight is always known, and at most [`REPEAT_WINDOW_EVENTS`] settled ones, none settled
//! longer than [`REPEAT_WINDOW_AGE`] ago: with a full shard and a full window 10 MiB (256 k table places of 25 bytes, 128 k
//! queue places of 24). What ended in the dead letters is forgotten, so that a replay of the letter is a new event. The
//! session is kept as a 64-bit hash: the chance that a fresh event is taken for a repeat is below 1e-14.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ids::Nanos;
use crate::limits::{REPEAT_WINDOW_AGE, REPEAT_WINDOW_EVENTS};
use crate::push::bundle::EventIx;

/// What tells events apart: the session, hashed, and the msg_id.
pub type Key = (u64, i64);

/// What is known of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    First,
    /// The same event is in flight.
    InFlight(EventIx),
    /// The same event was settled.
    Settled,
}

/// A value of the table that is no place in the ledger.
const SETTLED: u32 = u32::MAX;

/// The table and the window.
#[derive(Debug, Default)]
pub struct Repeats {
    known: HashMap<Key, u32, FixedState>,
    settled: VecDeque<(Key, Nanos)>,
}

impl Repeats {
    /// What is known of an event.
    pub fn look(&mut self, key: Key, now: Nanos) -> Seen {
        while self.settled.front().is_some_and(|(_, at)| now.since(*at) >= REPEAT_WINDOW_AGE) {
            self.forget_oldest();
        }
        match self.known.get(&key) {
            None => Seen::First,
            Some(&SETTLED) => Seen::Settled,
            Some(&at) => Seen::InFlight(EventIx(at)),
        }
    }

    /// A new event is in flight.
    pub fn entered(&mut self, key: Key, event: EventIx) {
        self.known.insert(key, event.0);
    }

    /// An event in flight was settled.
    pub fn settled(&mut self, key: Key, now: Nanos) {
        if self.settled.len() >= REPEAT_WINDOW_EVENTS {
            self.forget_oldest();
        }
        self.known.insert(key, SETTLED);
        self.settled.push_back((key, now));
    }

    /// An event in flight ended so that it may come again.
    pub fn forget(&mut self, key: Key) {
        self.known.remove(&key);
    }

    /// Nothing is known any more.
    pub fn forget_all(&mut self) {
        self.known.clear();
        self.settled.clear();
    }

    /// A key is in the queue once at most: while it is, it is known, and so never entered again.
    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.settled.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_in_flight_for_ever_and_settled_until_it_is_old() {
        let mut repeats = Repeats::default();
        let long = |times| Nanos(0).after(REPEAT_WINDOW_AGE * times);
        let (a, b) = ((1, 1), (2, 1));
        assert_eq!(repeats.look(a, Nanos(0)), Seen::First);
        repeats.entered(a, EventIx(7));
        repeats.entered(b, EventIx(8));
        assert_eq!(repeats.look(a, long(5)), Seen::InFlight(EventIx(7)));
        repeats.settled(a, long(5));
        repeats.forget(b);
        assert_eq!((repeats.look(a, long(5)), repeats.look(b, long(5))), (Seen::Settled, Seen::First));
        assert_eq!(repeats.look(a, long(6)), Seen::First, "older than the window");
    }

    #[test]
    fn the_window_is_bounded_and_never_costs_one_in_flight_its_place() {
        let mut repeats = Repeats::default();
        let old = (1, 0);
        repeats.entered(old, EventIx(1));
        for msg_id in 0..2 * REPEAT_WINDOW_EVENTS as i64 {
            let key = (2, msg_id);
            repeats.entered(key, EventIx(2));
            repeats.settled(key, Nanos(0));
        }
        assert_eq!((repeats.settled.len(), repeats.known.len()), (REPEAT_WINDOW_EVENTS, REPEAT_WINDOW_EVENTS + 1));
        assert_eq!(repeats.look(old, Nanos(0)), Seen::InFlight(EventIx(1)));
        let buckets = repeats.known.allocation_size() + repeats.settled.capacity() * size_of::<(Key, Nanos)>();
        assert!(buckets <= 10 << 20, "{buckets} bytes");
    }
}
