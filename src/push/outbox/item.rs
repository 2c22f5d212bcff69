//! A bundle on its way, by itself: what is asked of it, and how it ends where its place is kept.

use std::ops::Range;

use thin_vec::ThinVec;

use crate::push::bundle::Bundle;
use crate::push::outbox::Item;
use crate::push::outbox::encode::place_in_wire;
use crate::push::outbox::groups::Written;

impl Item {
    /// Nothing of it is written. Inlined, so that it is made where it will stand.
    #[inline(always)]
    pub(super) fn new(bundle: Bundle) -> Self {
        Self {
            bundle,
            write_place: 0,
            write_at: 0,
            answer_place: 0,
            refused: ThinVec::new(),
            written_after: 0,
            failures: 0,
            completed_before: 0,
            is_done: false,
            is_owed: false,
            is_ahead: false,
            written: Written::default(),
        }
    }

    /// The same, to be ended: its place is kept.
    pub(super) fn leave_place(&mut self, is_owed: bool) -> Self {
        let (bundle, refused) = (self.bundle.clone(), std::mem::take(&mut self.refused));
        let ended = Self { bundle, refused, written: Written::default(), is_owed, ..*self };
        (self.is_done, self.is_owed) = (true, is_owed);
        ended
    }

    /// How many recipients have an answer.
    pub(super) fn answered(&self) -> u32 {
        self.recipients_in(0..self.answer_place)
    }

    /// How many have none.
    pub(super) fn unanswered(&self) -> u32 {
        self.recipients_in(self.answer_place..self.end_place())
    }

    /// How many of those are written.
    pub(super) fn awaited(&self) -> u32 {
        self.recipients_in(self.answer_place..self.write_place)
    }

    /// How many stand in these places of the group: all but who is left out.
    fn recipients_in(&self, places: Range<u32>) -> u32 {
        let is_skip_there = places.contains(&self.bundle.skip);
        places.end.saturating_sub(places.start) - u32::from(is_skip_there)
    }

    /// Whether something of it is on the stream without an answer.
    pub(super) fn is_written(&self) -> bool {
        self.write_place > self.answer_place
    }

    /// Whether something of it was ever written: nothing may go between, for of a push's answers only the first is read, and the
    /// others are compared with it.
    pub(super) fn is_begun(&self) -> bool {
        self.write_place > 0
    }

    /// Whether nothing of it was ever on a stream, and it has no end.
    pub(super) fn is_untouched(&self) -> bool {
        !self.is_done && self.written_after == 0 && self.write_place == 0
    }

    pub(super) fn end_place(&self) -> u32 {
        self.bundle.group.users.len() as u32
    }

    /// Nothing of what is unanswered counts as written any more; what an answer that did not fit said of it is void.
    pub(super) fn rewind(&mut self) {
        if self.is_begun() {
            self.written_after = self.written_after.max(1);
        }
        let answered = self.answer_place;
        self.refused.retain(|(place, _)| *place < answered);
        self.write_place = self.answer_place;
        // The next stream may be of a protocol that has no notices.
        self.written.is_notice = false;
        self.write_at = place_in_wire(&self.bundle.group.wire, self.answer_place);
    }
}
