//! The events a shard knows: those in flight, and a window of those that were settled. An outbox that publishes twice is
//! the normal case, so the second copy of an event (same session, same message) is never pushed.
//!
//! Promises that an event in flight is always known, and at most [`REPEAT_WINDOW_EVENTS`] settled ones, none settled
//! longer than [`REPEAT_WINDOW_AGE`] ago: with a full shard and a full window 6 MiB (256 k table places and 128 k queue
//! places of 16 bytes). What ended in the dead letters is forgotten, so that a replay of the letter is a new event. An event
//! is known by 64 bits: the chance that a fresh one is taken for a repeat is some 1e-14.

mod table;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use self::table::Table;
use crate::ids::Nanos;
use crate::limits::{REPEAT_WINDOW_AGE, REPEAT_WINDOW_EVENTS};
use crate::push::bundle::EventIx;

/// What tells events apart: the session and the msg_id, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// Of an event whose session id has this hash.
    #[inline]
    pub fn of(session_hash: u64, msg_id: i64) -> Self {
        // Zero is a free place of the table.
        Self(FixedState::default().hash_one((session_hash, msg_id)).max(1))
    }
}

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

/// How many of the oldest leave the window together: each is a cache miss, and those of one run overlap.
const FORGOTTEN_AT_ONCE: usize = 16;

/// The table and the window.
#[derive(Debug, Default)]
pub struct Repeats {
    /// The place in the ledger that each event had when it came. An event that is not there any more was settled: to say
    /// so here would be one more cache miss an event.
    known: Table,
    settled: VecDeque<(Key, Nanos)>,
}

impl Repeats {
    /// What is known of an event; `is_there` tells whether it is at that place in the ledger.
    pub fn look(&mut self, key: Key, now: Nanos, is_there: impl FnOnce(EventIx) -> bool) -> Seen {
        while self.settled.front().is_some_and(|(_, at)| now.since(*at) >= REPEAT_WINDOW_AGE) {
            self.forget_oldest();
        }
        match self.known.get(key.0).map(EventIx) {
            None => Seen::First,
            Some(at) if is_there(at) => Seen::InFlight(at),
            Some(_) => Seen::Settled,
        }
    }

    /// Asks for the memory that a look for this event reads, and its entry writes.
    pub fn prefetch(&self, key: Key) {
        self.known.prefetch(key.0);
    }

    /// A new event is in flight.
    pub fn entered(&mut self, key: Key, event: EventIx) {
        self.known.insert(key.0, event.0);
    }

    /// An event in flight was settled.
    pub fn settled(&mut self, key: Key, now: Nanos) {
        if self.settled.len() >= REPEAT_WINDOW_EVENTS {
            (0..FORGOTTEN_AT_ONCE).for_each(|_| self.forget_oldest());
            // For the next run, which is as many settled events away.
            self.settled.iter().take(FORGOTTEN_AT_ONCE).for_each(|(key, _)| self.prefetch(*key));
        }
        self.settled.push_back((key, now));
    }

    /// An event in flight ended so that it may come again.
    pub fn forget(&mut self, key: Key) {
        self.known.remove(key.0);
    }

    /// Nothing is known any more.
    pub fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// A key is in the queue once at most: while it is, it is known, and so never entered again.
    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.settled.pop_front() {
            self.known.remove(key.0);
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
        let (a, b) = (Key::of(1, 1), Key::of(2, 1));
        assert_eq!(repeats.look(a, Nanos(0), |_| false), Seen::First);
        repeats.entered(a, EventIx(7));
        repeats.entered(b, EventIx(8));
        assert_eq!(repeats.look(a, long(5), |at| at == EventIx(7)), Seen::InFlight(EventIx(7)));
        repeats.settled(a, long(5));
        repeats.forget(b);
        let looks = [a, b].map(|key| repeats.look(key, long(5), |_| false));
        assert_eq!(looks, [Seen::Settled, Seen::First]);
        assert_eq!(repeats.look(a, long(6), |_| false), Seen::First, "older than the window");
    }

    #[test]
    fn the_window_is_bounded_and_never_costs_one_in_flight_its_place() {
        let mut repeats = Repeats::default();
        let old = Key::of(1, 0);
        repeats.entered(old, EventIx(1));
        for msg_id in 0..2 * REPEAT_WINDOW_EVENTS as i64 {
            let key = Key::of(2, msg_id);
            repeats.entered(key, EventIx(2));
            repeats.settled(key, Nanos(0));
            assert!(repeats.settled.len() <= REPEAT_WINDOW_EVENTS && repeats.known.len() == repeats.settled.len() + 1);
        }
        assert!(repeats.settled.len() > REPEAT_WINDOW_EVENTS - FORGOTTEN_AT_ONCE, "and not much smaller");
        assert_eq!(repeats.look(old, Nanos(0), |at| at == EventIx(1)), Seen::InFlight(EventIx(1)));
        let bytes = repeats.known.bytes() + repeats.settled.capacity() * size_of::<(Key, Nanos)>();
        assert!(bytes <= 6 << 20, "{bytes} bytes");
    }
}
