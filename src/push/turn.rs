//! What one turn may do, so that a session of 50,000 never holds up the others of its shard: recipients bundled, names of
//! answered member lists made known, bytes of frames written. What is beyond waits for the next turn, in order.
//!
//! Promises that a turn goes past a bound by one event, one name, or one gateway's share at the most; that whoever had
//! nothing of a turn goes before whoever had; and that [`Push::has_more`] says so when work waits for no fact. Refuses to
//! cut one event's bundles over turns: they are shared, and 196 for 50,000 users of one gateway.

use std::collections::VecDeque;

use crate::model::ids::SessionIx;
use crate::model::limits::{TURN_FRAME_BYTES_MAX, TURN_NAMES_MAX, TURN_RECIPIENTS_MAX};
use crate::push::Push;

/// What is left of a turn.
#[derive(Debug)]
pub struct Budget {
    /// Recipients whose routes may still be looked at, and who may be bundled.
    pub recipients_left: usize,
    /// Names that may still be made known.
    pub names_left: usize,
    /// Bytes of frames that may still be written.
    pub frame_bytes_left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            recipients_left: TURN_RECIPIENTS_MAX,
            names_left: TURN_NAMES_MAX,
            frame_bytes_left: TURN_FRAME_BYTES_MAX as u64,
        }
    }
}

/// Sessions that wait for a turn.
#[derive(Debug, Default)]
pub struct Line {
    /// Sessions that may go on.
    pub resumed: VecDeque<SessionIx>,
    /// Sessions that had nothing of this turn.
    deferred: VecDeque<SessionIx>,
    /// Sessions that had, and have more.
    deferred_last: VecDeque<SessionIx>,
}

impl Line {
    /// The session's next event waits for the next turn.
    fn defer(&mut self, at: SessionIx, has_advanced: bool) {
        if has_advanced { &mut self.deferred_last } else { &mut self.deferred }.push_back(at);
    }

    fn end_turn(&mut self) {
        self.resumed.append(&mut self.deferred);
        self.resumed.append(&mut self.deferred_last);
    }
}

impl Push {
    /// Whether something waits for a turn and for no fact: whoever turns the core must not sleep.
    pub fn has_more(&self) -> bool {
        !self.dispatch.line.resumed.is_empty()
            || self.resolve.members.is_learning()
            || self.delivery.gateways.is_any_changed()
    }

    /// Whether nothing is under way and nothing is due soon, so that [`TICK`](crate::model::limits::TICK) may be
    /// [`REST_TICK`](crate::model::limits::REST_TICK) until the next fact. It is found at a tick before which nothing came for
    /// another one, so that a shard that works pays nothing for it.
    pub fn is_at_rest(&self) -> bool {
        self.is_resting && !self.has_heard
    }

    /// Whether time alone has something to do here within a second. What is due in minutes may be late by a rest's tick.
    pub(super) fn is_anything_due_soon(&self) -> bool {
        self.has_more()
            || self.cx.is_retreating
            || self.ledger.in_flight() > 0
            || !self.ledger.inbox.is_at_rest()
            || !self.ledger.content.is_at_rest()
            || !self.resolve.members.is_at_rest()
            || !self.resolve.routes.is_at_rest()
            || !self.delivery.gateways.are_at_rest()
    }

    /// Sessions that waited for a turn, or until nothing of them was in flight, go on.
    pub(super) fn resume_sessions(&mut self) {
        while let Some(at) = self.dispatch.line.resumed.pop_front() {
            self.resolve.sessions[at].pauses.is_deferred = false;
            if !self.cx.is_cut_off {
                self.advance(at);
            }
        }
    }

    /// The session's next event waits for the next turn.
    pub(super) fn defer(&mut self, at: SessionIx, has_advanced: bool) {
        if std::mem::replace(&mut self.resolve.sessions[at].pauses.is_deferred, true) {
            return;
        }
        self.dispatch.line.defer(at, has_advanced);
    }

    /// The next turn has its whole share again.
    pub(super) fn end_turn(&mut self) {
        self.dispatch.line.end_turn();
        self.cx.budget = Budget::default();
    }
}
