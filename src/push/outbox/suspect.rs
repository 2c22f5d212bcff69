//! Finds the push that breaks its gateway's stream. After a break without any answer the push at the front goes alone, and
//! more goes only as it is answered; when the stream breaks at one push alone again and again, that one ends and the rest
//! goes on.
//!
//! Promises that a push which a gateway cannot handle costs the other users of that gateway a few reconnects, and that a
//! gateway which is only down loses nothing by this: only a stream that was open and had the push on it counts.

use crate::limits::{BREAKS_AT_ONE_PUSH_MAX, PROBE_WINDOW_MAX};
use crate::outcome::RecipientEnd;
use crate::push::outbox::{Effects, Outbox};

/// What is suspected of the push at the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    /// Its number, and the first of its recipients without an answer.
    front: (u64, u32),
    /// Streams that broke while it was alone on them.
    breaks: u8,
    /// How many pushes may be without an answer.
    window: usize,
}

impl Default for Suspect {
    fn default() -> Self {
        Self { front: (0, 0), breaks: 0, window: usize::MAX }
    }
}

impl Suspect {
    /// A push has all its answers.
    pub(super) fn answered(&mut self) {
        self.window = self.window.saturating_add(1);
        if self.window > PROBE_WINDOW_MAX {
            self.window = usize::MAX;
        }
    }
}

impl Outbox {
    /// How many items, from the front, may be on the stream.
    pub(super) fn writable(&self) -> usize {
        self.items.len().min(self.suspect.window)
    }

    /// Whether one of the items may be what breaks the stream.
    pub(super) fn is_suspecting(&self) -> bool {
        self.suspect.window != usize::MAX
    }

    /// An open stream broke; what to say when the push at the front ended for that.
    pub(super) fn suspect_front(&mut self, effects: &mut Effects) -> Option<String> {
        let item = self.items.front().filter(|item| item.is_written() && !item.is_done)?;
        let Suspect { front: before, breaks, window } = self.suspect;
        if self.has_answered && window == usize::MAX {
            return None;
        }
        let front = (self.front_no, item.answer_place);
        let breaks = if front == before && window == 1 { breaks + 1 } else { 0 };
        self.suspect = Suspect { front, breaks, window: 1 };
        if breaks < BREAKS_AT_ONE_PUSH_MAX {
            return None;
        }
        let msg_id = item.bundle.msg_id;
        self.end_front(RecipientEnd::BrokeStream, effects);
        Some(format!("its stream broke {breaks} times at msg_id {msg_id}, sent alone: that one is not pushed"))
    }

    /// Unary only: the gateway failed with this call itself; whether it has often.
    pub(super) fn has_failed_often(&mut self, index: usize) -> bool {
        let item = &mut self.items[index];
        item.failures += 1;
        item.failures >= BREAKS_AT_ONE_PUSH_MAX
    }
}
