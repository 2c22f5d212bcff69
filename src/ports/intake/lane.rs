//! What goes beside events, and the shard's end of its lane.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, TrySendError};

use super::{Intake, Passage, Ways};
use crate::model::ids::ShardId;
use crate::model::priority::Said;
use crate::ports::DeliveryTag;
use crate::ports::permit::Permit;
use crate::push::facts::Input;

/// An event that was handed in.
#[derive(Debug)]
pub struct Handed {
    /// Its bytes.
    pub payload: Bytes,
    /// How its source knows it.
    pub tag: DeliveryTag,
    /// The way on which it came, and what was said of its class.
    pub passage: Passage,
    /// When its reader had it. Neighbours that a reader had at once carry the same instant: at the most the time that handing in
    /// `WAKE_EVERY` of them takes is counted too much.
    pub received: Instant,
}

/// The shard's end of its lane.
#[derive(Debug)]
pub struct IntakeLane {
    pub(super) events: Receiver<Handed>,
    pub(super) urgent: Receiver<Handed>,
    pub(super) ways: Option<Arc<Ways>>,
    pub(super) facts: Receiver<Input>,
}

impl IntakeLane {
    /// The next event, if there is one.
    pub fn try_take(&self) -> Option<(Bytes, DeliveryTag)> {
        self.try_take_timed().map(|(payload, tag, ..)| (payload, tag))
    }

    /// The next event, if there is one, an urgent one first; what was said of its class, and when its reader had it.
    pub fn try_take_timed(&self) -> Option<(Bytes, DeliveryTag, Said, Instant)> {
        let Handed { payload, tag, passage, received } = self.try_urgent().or_else(|| self.try_plain())?;
        self.arrived(passage);
        Some((payload, tag, passage.said, received))
    }

    /// The next event that goes first, if there is one. The core is to have it before [`arrived`](Self::arrived).
    #[inline]
    pub fn try_urgent(&self) -> Option<Handed> {
        if self.ways.is_none() { None } else { self.urgent.try_recv().ok() }
    }

    /// The same of the others.
    #[inline]
    pub fn try_plain(&self) -> Option<Handed> {
        self.events.try_recv().ok()
    }

    /// The core has an event that came on this way: what follows of its session may be on the other one.
    #[inline]
    pub fn arrived(&self, passage: Passage) {
        if let Some(ways) = &self.ways {
            ways.leave(passage);
        }
    }

    /// The next fact, if there is one. Whoever has an event of the lane looks here before the event is used: what was told
    /// before it is here then.
    #[inline]
    pub fn try_fact(&self) -> Option<Input> {
        if self.facts.is_empty() { None } else { self.facts.try_recv().ok() }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events.len() + self.urgent.len()
    }

    /// Whether nothing that waits may be taken when there is room for so many events, and for so many urgent ones.
    pub fn is_held_up(&self, room: usize, urgent_room: usize) -> bool {
        (room == 0 || self.events.is_empty()) && (urgent_room == 0 || self.urgent.is_empty())
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.urgent.is_empty()
    }

    /// Whether a fact waits.
    pub fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// Whether there is no room for another that is not urgent: who has one waits.
    pub fn is_full(&self) -> bool {
        self.events.is_full()
    }
}

impl Intake {
    /// Tells a shard a fact, before all events that are handed in after it.
    ///
    /// # Errors
    /// Gives it back while too many wait.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn tell(&self, shard: ShardId, fact: Input) -> Result<(), Input> {
        let lane = &self.0.lanes[usize::from(shard.0)];
        match lane.facts.try_send(fact) {
            Err(TrySendError::Full(fact)) => Err(fact),
            // A shard that is gone takes everything and forgets it.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                lane.wake.wake();
                Ok(())
            }
        }
    }

    /// Whether a shard has taken all facts that it was told, and has done what follows from them if the asker runs on it.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn has_heard_all(&self, shard: ShardId) -> bool {
        self.0.lanes[usize::from(shard.0)].facts.is_empty()
    }

    /// Until when events may be acknowledged.
    pub fn permit(&self) -> &Arc<Permit> {
        &self.0.permit
    }

    /// Counts a partition that was opened without all of its repeat window.
    pub fn note_partial_window(&self) {
        self.0.counts.partial_windows.fetch_add(1, Ordering::Release);
    }
}
