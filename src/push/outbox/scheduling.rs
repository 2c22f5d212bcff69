//! Whose turn it is: a session of 50,000 does not make the others of its gateway wait until all of it is read.
//!
//! Promises that a small group goes before the parts of other sessions' large groups that are not on their way yet, and that
//! few of those are on their way while small ones come; that a session's own order holds; and that a part older than
//! [`PARTS_GIVE_WAY`] gives way no more. Refuses to hold back anything where there are only large groups.

use crate::model::ids::Nanos;
use crate::model::limits::{
    PARTS_GIVE_WAY, PARTS_GIVE_WAY_PART, PARTS_UNANSWERED_MAX, SMALL_BETWEEN_PARTS_MAX, SMALL_GROUPS_WITHIN,
    STREAM_UNSENT_BYTES_MAX, UNARY_PART_CALLS_MAX,
};
use crate::model::priority::Priority;
use crate::push::bundle::{Bundle, SessionKey};
use crate::push::outbox::{Item, Outbox};

/// What is known of the queue's parts of large groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scheduling {
    /// How many there are.
    parts: usize,
    /// How many of those are written whole.
    parts_written: usize,
    /// The last small group.
    small_at: Option<Nanos>,
}

impl Scheduling {
    /// An item has left the front.
    #[inline]
    pub(super) fn popped(&mut self, is_part: bool, was_written: bool) {
        self.parts -= usize::from(is_part);
        // Calls are not counted: they have a bound of their own.
        self.parts_written = self.parts_written.saturating_sub(usize::from(is_part && was_written));
    }

    /// An item that had left waits to be written again.
    pub(super) fn queued_again(&mut self, is_part: bool) {
        self.parts += usize::from(is_part);
    }

    /// An item is written whole.
    #[inline]
    pub(super) fn written(&mut self, is_part: bool) {
        self.parts_written += usize::from(is_part);
    }

    /// Nothing counts as written any more, and this is what is left of the queue.
    pub(super) fn begin_anew<'a>(&mut self, items: impl Iterator<Item = &'a Item>) {
        self.parts = items.filter(|item| item.bundle.group.is_part).count();
        self.parts_written = 0;
    }
}

impl Outbox {
    /// Puts a bundle where its turn is. Inlined, and the bundle is lent to nobody, so that its item is made where it will stand.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, bundle: Bundle, now: Nanos) {
        let is_part = bundle.group.is_part;
        if is_part {
            self.queue.turns.parts += 1;
        } else {
            self.queue.turns.small_at = Some(now);
        }
        if bundle.class == Priority::Urgent && self.queue.passing.is_some() {
            return self.enqueue_urgent(Item::new(bundle), now);
        }
        let is_last = is_part || !self.has_parts_waiting();
        let at = if is_last { self.queue.queued().len() } else { self.place_before(bundle.session_key(), now) };
        self.queue.insert_queued(at, Item::new(bundle));
    }

    /// Before the parts that an item may overtake: none behind which something of its own session stands, or a part that gives
    /// way no more. Few small groups may stand between: those of the parts' own sessions do. None of those that a broken
    /// stream is put down to: which of them breaks it is told by their order.
    fn place_before(&self, key: SessionKey, now: Nanos) -> usize {
        let queued = self.queue.queued();
        let first = if self.is_suspecting() { queued.len() } else { self.queue.fixed() };
        let (mut place, mut between) = (queued.len(), 0);
        for (index, other) in queued.range(first..).enumerate().rev() {
            let is_own = other.bundle.session_key() == key;
            let gives_way = self.gives_way(other, now);
            between += usize::from(!gives_way);
            if is_own || between > SMALL_BETWEEN_PARTS_MAX || (other.bundle.group.is_part && !gives_way) {
                break;
            }
            if gives_way {
                place = first + index;
            }
        }
        place
    }

    /// How many of the items that are not written whole may be written now: while small groups come, few parts. What the stream
    /// has no room for now is not looked at.
    pub(super) fn in_turn(&mut self, now: Nanos) -> usize {
        let most = self.parts_in_turn(now);
        if self.queue.passing.is_some() { self.in_window(most, now) } else { most }
    }

    fn parts_in_turn(&self, now: Nanos) -> usize {
        let most = self.writable().saturating_sub(self.queue.sent().len());
        if !self.is_shared(now) || !self.has_parts_waiting() {
            return most;
        }
        let room = STREAM_UNSENT_BYTES_MAX.saturating_sub(self.stream.unsent_bytes);
        let mut left = PARTS_UNANSWERED_MAX.saturating_sub(self.queue.turns.parts_written);
        let mut bytes = 0;
        for (index, item) in self.queue.queued().iter().take(most).enumerate() {
            // One that urgent items let go first stands before all of those that come now.
            let is_held = left == 0 && !item.is_begun() && !item.is_ahead && self.gives_way(item, now);
            if is_held || bytes > room {
                return index;
            }
            left = left.saturating_sub(usize::from(item.bundle.group.is_part));
            bytes += item.bundle.message.len();
        }
        most
    }

    /// How many calls about parts may be open, that about this one among them.
    pub(super) fn part_calls_max(&self, part: &Item, now: Nanos) -> usize {
        if self.is_shared(now) && self.gives_way(part, now) { PARTS_UNANSWERED_MAX } else { UNARY_PART_CALLS_MAX }
    }

    /// Whether there are parts that are not written: they may be held back, and then time alone lets them go.
    pub(super) fn has_parts_waiting(&self) -> bool {
        self.queue.turns.parts != self.queue.turns.parts_written
    }

    fn is_shared(&self, now: Nanos) -> bool {
        self.queue.turns.small_at.is_some_and(|at| now.since(at) < SMALL_GROUPS_WITHIN)
    }

    fn gives_way(&self, item: &Item, now: Nanos) -> bool {
        let at_most = PARTS_GIVE_WAY.min(self.settings.delivery_timeout / PARTS_GIVE_WAY_PART);
        let is_urgent = item.bundle.class == Priority::Urgent;
        item.bundle.group.is_part && !is_urgent && now.since(item.bundle.made_at) < at_most
    }
}
