//! Two ways to a shard: urgent events have a lane of their own, so that what waits for room does not hold them up.
//!
//! Promises that the order inside a session stays: of each session all that is on its way to its shard is on one way. Which one is
//! told by counters, one for a slice of sessions: while something of a slice waits in the plain lane, or with the reader for it, all
//! that comes for the slice goes there too. Sessions of one slice only share that. What comes over a subject of urgent events has the
//! urgent lane whatever waits elsewhere: nothing is promised of its order to what comes over another subject. Without rules of
//! classes there is one way, and nothing is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Intake;
use super::scan::{session_and_type, session_id};
use crate::model::ids::{ShardId, fnv1a32};
use crate::model::priority::{Priority, PriorityRules, Said};
use crate::model::publication::Published;

/// Slices of the sessions of a shard, as a power of two: some 10,000 sessions that wait fill a 26th of them.
const SLICE_BITS: u32 = 18;
/// What one urgent event counts; one on the plain way counts 1, and there are never so many.
const URGENT: u64 = 1 << 32;
/// Of an event that is not counted.
const NO_SLICE: u32 = u32::MAX;

/// On which way an event is to its shard, and what was said of its class and its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What its publisher said of its class.
    pub said: Said,
    /// It is in the lane of urgent events.
    pub goes_first: bool,
    /// When it was published, where that is [wanted](Intake::reads_published); what its bytes say of it is not looked at here.
    pub published: Published,
    slice: u32,
}

impl Passage {
    /// On the plain way, not counted.
    pub const fn plain(said: Said) -> Self {
        Self { said, goes_first: false, published: Published::UNKNOWN, slice: NO_SLICE }
    }

    /// The same of an event that was published then.
    #[must_use]
    pub fn published(self, published: Published) -> Self {
        Self { published, ..self }
    }
}

/// What is on its way to a shard, by slices of its sessions.
#[derive(Debug)]
pub(super) struct Ways(Box<[AtomicU64]>);

impl Ways {
    /// Of each of so many shards; none where all events are alike.
    pub(super) fn of_shards(shards: usize, rules: &PriorityRules) -> Vec<Option<Arc<Self>>> {
        let counters = || (0..1 << SLICE_BITS).map(|_| AtomicU64::new(0)).collect();
        (0..shards).map(|_| rules.is_on().then(|| Arc::new(Self(counters())))).collect()
    }

    fn enter(&self, session: &[u8], said: Said, is_urgent: bool) -> Passage {
        let slice = slice_of(session);
        let waiting = self.0[slice as usize].load(Ordering::Acquire);
        let (plain, urgent) = (waiting as u32, waiting >> 32);
        self.enter_on(slice, said, plain == 0 && (is_urgent || urgent > 0))
    }

    fn enter_on(&self, slice: u32, said: Said, goes_first: bool) -> Passage {
        self.0[slice as usize].fetch_add(if goes_first { URGENT } else { 1 }, Ordering::AcqRel);
        Passage { said, goes_first, published: Published::UNKNOWN, slice }
    }

    /// An event is at its shard, or will not come there.
    pub(super) fn leave(&self, passage: Passage) {
        if passage.slice != NO_SLICE {
            let one = if passage.goes_first { URGENT } else { 1 };
            self.0[passage.slice as usize].fetch_sub(one, Ordering::AcqRel);
        }
    }
}

fn slice_of(session: &[u8]) -> u32 {
    fnv1a32(session).wrapping_mul(0x9e37_79b1) >> (32 - SLICE_BITS)
}

impl Intake {
    /// From now on readers say when each event was published.
    pub fn read_published(&self) {
        self.0.reads_published.store(true, Ordering::Release);
    }

    /// Whether readers say when each event was published.
    #[inline]
    pub fn reads_published(&self) -> bool {
        self.0.reads_published.load(Ordering::Relaxed)
    }

    /// The header in which publishers name the class of an event; empty: none is read.
    pub fn class_header(&self) -> &str {
        &self.0.priorities.header
    }

    /// A reader has an event, of its own shard or of any: which way it is to go from now on. All of a session must have theirs in the
    /// order in which they are to reach the shard, and each is to be [handed in](super::Burst::on) or [left](Self::left).
    #[inline]
    pub fn passage(&self, own: Option<ShardId>, payload: &[u8], said: Said) -> Passage {
        if self.0.priorities.is_on() { self.counted_passage(own, payload, said) } else { Passage::plain(said) }
    }

    fn counted_passage(&self, own: Option<ShardId>, payload: &[u8], said: Said) -> Passage {
        let shard = own.unwrap_or_else(|| self.home_of(payload));
        match (&self.0.lanes[usize::from(shard.0)].ways, session_and_type(payload)) {
            (Some(ways), Some((session, kind))) => {
                let is_urgent = self.0.priorities.of_event(said, kind) == Some(Priority::Urgent);
                ways.enter(session, said, is_urgent)
            }
            // Its shard refuses it by name.
            _ => Passage::plain(said),
        }
    }

    /// The same for an event that came over a subject of urgent ones: it has the lane of these.
    pub fn urgent_passage(&self, own: Option<ShardId>, payload: &[u8]) -> Passage {
        let said = Said::Class(Priority::Urgent);
        let shard = own.unwrap_or_else(|| self.home_of(payload));
        match (&self.0.lanes[usize::from(shard.0)].ways, session_id(payload)) {
            (Some(ways), Some(session)) => ways.enter_on(slice_of(session), said, true),
            _ => Passage::plain(said),
        }
    }

    /// An event that had its passage will not be handed in.
    pub fn left(&self, own: Option<ShardId>, payload: &[u8], passage: Passage) {
        let shard = own.unwrap_or_else(|| self.home_of(payload));
        if let Some(ways) = &self.0.lanes[usize::from(shard.0)].ways {
            ways.leave(passage);
        }
    }
}

#[cfg(test)]
#[path = "ways_tests.rs"]
mod tests;
