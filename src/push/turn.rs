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

/// What is left of a turn, and who waits for the next one.
#[derive(Debug)]
pub struct Turn {
    /// Recipients whose routes may still be looked at, and who may be bundled.
    pub recipients_left: usize,
    /// Names that may still be made known.
    pub names_left: usize,
    /// Bytes of frames that may still be written.
    pub frame_bytes_left: u64,
    /// Sessions that may go on.
    pub resumed: VecDeque<SessionIx>,
    /// Sessions that had nothing of this turn.
    deferred: VecDeque<SessionIx>,
    /// Sessions that had, and have more.
    deferred_last: VecDeque<SessionIx>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            recipients_left: TURN_RECIPIENTS_MAX,
            names_left: TURN_NAMES_MAX,
            frame_bytes_left: TURN_FRAME_BYTES_MAX as u64,
            resumed: VecDeque::new(),
            deferred: VecDeque::new(),
            deferred_last: VecDeque::new(),
        }
    }
}

impl Push {
    /// Whether something waits for a turn and for no fact: whoever turns the core must not sleep.
    pub fn has_more(&self) -> bool {
        !self.turn.resumed.is_empty() || self.members.is_learning() || self.gateways.is_any_changed()
    }

    /// Sessions that waited for a turn, or until nothing of them was in flight, go on.
    pub(super) fn resume_sessions(&mut self) {
        while let Some(at) = self.turn.resumed.pop_front() {
            self.sessions[at].is_deferred = false;
            if !self.is_cut_off {
                self.advance(at);
            }
        }
    }

    /// The session's next event waits for the next turn.
    pub(super) fn defer(&mut self, at: SessionIx, has_advanced: bool) {
        if std::mem::replace(&mut self.sessions[at].is_deferred, true) {
            return;
        }
        let turn = &mut self.turn;
        if has_advanced { &mut turn.deferred_last } else { &mut turn.deferred }.push_back(at);
    }

    /// The next turn has its whole share again.
    pub(super) fn end_turn(&mut self) {
        let turn = &mut self.turn;
        turn.resumed.append(&mut turn.deferred);
        turn.resumed.append(&mut turn.deferred_last);
        turn.recipients_left = TURN_RECIPIENTS_MAX;
        turn.names_left = TURN_NAMES_MAX;
        turn.frame_bytes_left = TURN_FRAME_BYTES_MAX as u64;
    }
}
