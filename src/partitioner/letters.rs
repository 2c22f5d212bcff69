//! Events that cannot be moved, on their way to the dead letters.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::model::ids::Nanos;
use crate::model::limits::LETTER_ASKS_IN_FLIGHT;
use crate::model::outcome::NotMoved;

/// The pause after a letter that was not kept: its store is away.
const PAUSE: Duration = Duration::from_secs(1);

/// A letter to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its answer comes back with this number.
    pub ask: u64,
    /// The reader's number for its event.
    pub key: u64,
    /// The event's sequence number in the input stream.
    pub seq: u64,
    /// Why.
    pub reason: NotMoved,
    /// More, for a person.
    pub detail: String,
    /// The event.
    pub payload: Bytes,
    /// How often it was published.
    pub tries: u32,
}

#[derive(Debug, Default)]
pub(super) struct Letters {
    wanted: VecDeque<Letter>,
    asked: HashMap<u64, Letter, std::hash::BuildHasherDefault<super::known::KeyHasher>>,
    next_ask: u64,
    away_until: Option<Nanos>,
}

impl Letters {
    pub(super) fn want(&mut self, letter: Letter) {
        self.wanted.push_back(letter);
    }

    /// All were given back; whether there were any. Answers that come still are of none that is asked later.
    pub(super) fn forget(&mut self) -> bool {
        let had_some = self.waiting() > 0;
        *self = Self { next_ask: self.next_ask, ..Self::default() };
        had_some
    }

    pub(super) fn waiting(&self) -> usize {
        self.wanted.len() + self.asked.len()
    }

    pub(super) fn next_try(&self) -> Option<Nanos> {
        self.away_until.filter(|_| !self.wanted.is_empty())
    }

    pub(super) fn next(&mut self, now: Nanos) -> Option<Letter> {
        if self.asked.len() >= LETTER_ASKS_IN_FLIGHT || self.away_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut letter = self.wanted.pop_front()?;
        letter.ask = self.next_ask;
        self.next_ask += 1;
        self.asked.insert(letter.ask, letter.clone());
        Some(letter)
    }

    /// The letter, when it is kept.
    pub(super) fn answered(&mut self, ask: u64, is_kept: bool, now: Nanos) -> Option<Letter> {
        let letter = self.asked.remove(&ask)?;
        if is_kept {
            self.away_until = None;
            return Some(letter);
        }
        self.wanted.push_back(letter);
        self.away_until = Some(now.after(PAUSE));
        None
    }
}
