//! The events a shard knows: those in flight, and a window of those that were settled. An outbox that publishes twice is
//! the normal case, so the second copy of an event (same session, msg_id, seq_id and type) is never pushed. A recall or an
//! edit under the id of its message is of another type, so another event. An event without an id (msg_id 0: somebody
//! types) is never a repeat: it has no key, and is not entered.
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
use crate::model::ids::Nanos;
use crate::model::limits::{REPEAT_WINDOW_AGE, REPEAT_WINDOW_EVENTS};
use crate::push::bundle::EventIx;

/// What tells events apart, hashed: session, msg_id, seq_id and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

/// Where an event stands among the repeats, as far as its session and msg_id tell: the low bits of its key, so that it can
/// be asked for before the rest of the event is read.
#[derive(Clone, Copy, Debug)]
pub struct Home(u64);

impl Home {
    /// The bits of a key that are its home's: over those of the largest table that a shard's bounds allow.
    const BITS: u64 = (1 << 24) - 1;

    /// Of an event whose session id has this hash.
    #[inline]
    pub fn of(session_hash: u64, msg_id: i64) -> Self {
        Self(FixedState::default().hash_one((session_hash, msg_id)))
    }
}

impl Key {
    /// Of an event that is never a repeat: one without an id, or a replay for some members, which is no repeat of its event
    /// nor makes later copies of that repeats.
    pub const NONE: Self = Self(0);

    /// Of an event whose session id has this hash.
    #[inline]
    pub fn of(session_hash: u64, msg_id: i64, seq_id: i64, kind: &[u8]) -> Self {
        if msg_id == 0 {
            return Self::NONE;
        }
        let Home(home) = Home::of(session_hash, msg_id);
        let whole = FixedState::default().hash_one((home, seq_id, kind));
        // Zero is a free place of the table.
        Self((whole & !Home::BITS | home & Home::BITS).max(1))
    }
}

/// What the recipients of an event would see, in 32 bits.
#[inline]
pub fn fingerprint(message: &[u8]) -> u32 {
    FixedState::default().hash_one(message) as u32
}

/// What is known of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    First,
    /// The same event is in flight.
    InFlight(EventIx),
    /// The same event, with a message of this [`fingerprint`], was settled.
    Settled(u32),
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
    #[inline]
    pub fn look(&mut self, key: Key, now: Nanos, is_there: impl FnOnce(EventIx) -> bool) -> Seen {
        while self.settled.front().is_some_and(|(_, at)| now.since(*at) >= REPEAT_WINDOW_AGE) {
            self.forget_oldest();
        }
        if key == Key::NONE {
            return Seen::First;
        }
        match self.known.get(key.0) {
            None => Seen::First,
            Some((at, _)) if is_there(EventIx(at)) => Seen::InFlight(EventIx(at)),
            Some((_, fingerprint)) => Seen::Settled(fingerprint),
        }
    }

    /// Asks for the memory that a look for an event that is at home there reads, and its entry writes.
    pub fn prefetch(&self, Home(home): Home) {
        self.known.prefetch(home);
    }

    /// A new event, with a message of this [`fingerprint`], is in flight.
    #[inline]
    pub fn entered(&mut self, key: Key, event: EventIx, fingerprint: u32) {
        if key != Key::NONE {
            self.known.insert(key.0, (event.0, fingerprint));
        }
    }

    /// An event in flight was settled.
    #[inline]
    pub fn settled(&mut self, key: Key, now: Nanos) {
        if key == Key::NONE {
            return;
        }
        if self.settled.len() >= REPEAT_WINDOW_EVENTS {
            (0..FORGOTTEN_AT_ONCE).for_each(|_| self.forget_oldest());
            // For the next run, which is as many settled events away.
            self.settled.iter().take(FORGOTTEN_AT_ONCE).for_each(|(key, _)| self.known.prefetch(key.0));
        }
        if self.settled.capacity() == 0 {
            // All at once, so that no turn pays for moving it.
            self.settled.reserve_exact(REPEAT_WINDOW_EVENTS);
        }
        self.settled.push_back((key, now));
    }

    /// An event was settled before this shard had its partition: it is known from now on like one that is settled now, unless
    /// it is known already.
    pub fn know(&mut self, key: Key, fingerprint: u32, now: Nanos) {
        if key == Key::NONE || self.known.get(key.0).is_some() {
            return;
        }
        self.known.insert(key.0, (EventIx::NOWHERE.0, fingerprint));
        self.settled(key, now);
    }

    /// An event in flight ended so that it may come again.
    pub fn forget(&mut self, key: Key) {
        if key != Key::NONE {
            self.known.remove(key.0);
        }
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
        let (a, b) = (Key::of(1, 1, 1, b"text"), Key::of(2, 1, 1, b"text"));
        assert_eq!(repeats.look(a, Nanos(0), |_| false), Seen::First);
        repeats.entered(a, EventIx(7), 77);
        repeats.entered(b, EventIx(8), 88);
        assert_eq!(repeats.look(a, long(5), |at| at == EventIx(7)), Seen::InFlight(EventIx(7)));
        repeats.settled(a, long(5));
        repeats.forget(b);
        let looks = [a, b].map(|key| repeats.look(key, long(5), |_| false));
        assert_eq!(looks, [Seen::Settled(77), Seen::First]);
        assert_eq!(repeats.look(a, long(6), |_| false), Seen::First, "older than the window");
    }

    #[test]
    fn session_msg_id_seq_id_and_type_tell_events_apart_and_all_are_at_home_in_one_place() {
        let keys = [
            Key::of(1, 7, 1, b"text"),
            Key::of(1, 7, 1, b"recall"),
            Key::of(1, 7, 1, b"Text"),
            Key::of(1, 7, 1, b""),
            Key::of(1, 7, 2, b"text"),
            Key::of(1, -7, 1, b"text"),
            Key::of(2, 7, 1, b"text"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key) && *key != Key::NONE, "{at}");
        }
        let Home(home) = Home::of(1, 7);
        assert!(keys[..5].iter().all(|key| (key.0 ^ home) & Home::BITS == 0));
        assert_eq!(Key::of(1, 7, 1, b"text"), keys[0]);
    }

    #[test]
    fn what_was_settled_elsewhere_is_known_and_changes_nothing_of_what_is_in_flight() {
        let mut repeats = Repeats::default();
        let (here, there) = (Key::of(1, 1, 1, b"text"), Key::of(1, 2, 2, b"text"));
        repeats.entered(here, EventIx(7), 77);
        for key in [here, there, there, Key::NONE] {
            repeats.know(key, 88, Nanos(5));
        }
        assert_eq!(repeats.look(here, Nanos(5), |at| at == EventIx(7)), Seen::InFlight(EventIx(7)));
        assert_eq!(repeats.look(there, Nanos(5), |at| at == EventIx(7)), Seen::Settled(88));
        assert_eq!(repeats.settled.len(), 1, "once, however often it is told");
        let old = Nanos(5).after(REPEAT_WINDOW_AGE);
        assert_eq!(repeats.look(there, old, |_| false), Seen::First);
    }

    #[test]
    fn an_event_without_an_id_is_never_known() {
        let mut repeats = Repeats::default();
        let none = Key::of(1, 0, 5, b"typing");
        assert_eq!(repeats.look(none, Nanos(0), |_| true), Seen::First);
        repeats.entered(none, EventIx(1), 3);
        assert_eq!(repeats.look(none, Nanos(0), |_| true), Seen::First, "in flight");
        repeats.settled(none, Nanos(0));
        assert_eq!(repeats.look(none, Nanos(0), |_| false), Seen::First, "settled");
        repeats.forget(none);
        assert!(repeats.settled.is_empty() && repeats.known.len() == 0);
    }

    #[test]
    fn the_window_is_bounded_and_never_costs_one_in_flight_its_place() {
        let mut repeats = Repeats::default();
        let old = Key::of(1, 1, 1, b"");
        repeats.entered(old, EventIx(1), 0);
        for msg_id in 1..=2 * REPEAT_WINDOW_EVENTS as i64 {
            let key = Key::of(2, msg_id, 1, b"");
            repeats.entered(key, EventIx(2), 0);
            repeats.settled(key, Nanos(0));
            assert!(repeats.settled.len() <= REPEAT_WINDOW_EVENTS && repeats.known.len() == repeats.settled.len() + 1);
        }
        assert!(repeats.settled.len() > REPEAT_WINDOW_EVENTS - FORGOTTEN_AT_ONCE, "and not much smaller");
        assert_eq!(repeats.look(old, Nanos(0), |at| at == EventIx(1)), Seen::InFlight(EventIx(1)));
        let bytes = repeats.known.bytes() + repeats.settled.capacity() * size_of::<(Key, Nanos)>();
        assert!(bytes <= 6 << 20, "{bytes} bytes");
    }
}
