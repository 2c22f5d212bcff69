//! What goes beside events, and the shard's end of its lane.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, TrySendError};

use super::Intake;
use crate::model::ids::ShardId;
use crate::model::priority::Said;
use crate::ports::DeliveryTag;
use crate::ports::permit::Permit;
use crate::push::facts::Input;

/// An event in a lane.
#[derive(Debug)]
pub(super) struct InLane {
    pub(super) payload: Bytes,
    pub(super) tag: DeliveryTag,
    pub(super) said: Said,
    pub(super) received: Instant,
}

/// The shard's end of its lane.
#[derive(Debug)]
pub struct IntakeLane {
    pub(super) events: Receiver<InLane>,
    pub(super) facts: Receiver<Input>,
}

impl IntakeLane {
    /// The next event, if there is one.
    pub fn try_take(&self) -> Option<(Bytes, DeliveryTag)> {
        self.try_take_timed().map(|(payload, tag, ..)| (payload, tag))
    }

    /// The next event, if there is one, what was said of its class, and when its reader had it. Neighbours that a reader had at once carry the same
    /// instant: at the most the time that handing in `WAKE_EVERY` of them takes is counted too much.
    pub fn try_take_timed(&self) -> Option<(Bytes, DeliveryTag, Said, Instant)> {
        self.events.try_recv().ok().map(|event| (event.payload, event.tag, event.said, event.received))
    }

    /// The next fact, if there is one. Whoever has an event of the lane looks here before the event is used: what was told
    /// before it is here then.
    #[inline]
    pub fn try_fact(&self) -> Option<Input> {
        if self.facts.is_empty() { None } else { self.facts.try_recv().ok() }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether a fact waits.
    pub fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }

    /// Whether there is no room for another: who has one waits.
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
