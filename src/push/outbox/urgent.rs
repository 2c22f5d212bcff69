//! Urgent bundles pass others that are not on their way yet, and of the others no more is on its way than is answered soon.
//!
//! Promises that none passes a bundle of its own session, one that is begun or was written before, or another urgent one; that of what
//! is written while urgent ones pass, the others have their part ([`TURN_PARTS`]); and that some urgent ones may still be queued where others
//! find the outbox full. The bundles that urgent ones do not pass stand first: those `ahead`.

use hashbrown::HashMap;

use crate::model::ids::Nanos;
use crate::model::limits::{
    BULK_YIELDS_PART, OUTBOX_BYTES_SOFT, OUTBOX_RECIPIENTS_MAX, OUTBOX_RECIPIENTS_SOFT, PAYLOAD_BYTES_IN_FLIGHT_MAX,
    RECIPIENTS_IN_FLIGHT_MAX, TURN_PARTS, URGENT_BRINGS_MAX, URGENT_LOOKED_AT, URGENT_PASS_FREELY, URGENT_PASSES_MAX,
    URGENT_PASSES_WITHIN, URGENT_PASSES_WITHIN_PART, URGENT_RESERVE_PART,
};
use crate::model::priority::Priority;
use crate::push::bundle::SessionKey;
use crate::push::outbox::queue::Queue;
use crate::push::outbox::{Item, Outbox};

impl Queue {
    /// How many of those that are not written whole stay where they are.
    pub(super) fn fixed(&self) -> usize {
        let begun = usize::from(self.queued().front().is_some_and(Item::is_begun));
        self.passing.as_ref().map_or(begun, |passing| begun.max(passing.ahead))
    }

    /// The item after this one, which is not late, that may be late nevertheless: urgent ones stand before older ones.
    pub(super) fn next_that_may_be_older(&self, index: usize) -> Option<usize> {
        let (passing, sent) = (self.passing.as_ref()?, self.sent().len());
        let is_urgent = self[index].bundle.class == Priority::Urgent;
        match index.checked_sub(sent) {
            Some(queued) if queued >= passing.ahead => None,
            _ if is_urgent => Some(index + 1),
            Some(_) => Some(sent + passing.ahead),
            None => Some(sent),
        }
    }

    /// The first of those that are not written whole stays the first.
    pub(super) fn fix_front(&mut self) {
        if let (Some(passing), Some(front)) = (&mut self.passing, self.queued.front_mut()) {
            passing.goes_ahead(front);
        }
    }

    /// An urgent item passes all that may be passed, and the others get their part for it.
    fn insert_ahead(&mut self, mut item: Item) {
        if self.queued().front().is_some_and(Item::is_begun) {
            self.fix_front();
        }
        let Some(passing) = &mut self.passing else { return self.queued.push_back(item) };
        let (urgent, others) = (TURN_PARTS[0], TURN_PARTS[1] + TURN_PARTS[2]);
        passing.owed += others * item.bundle.recipients();
        let at = passing.ahead;
        passing.stands_ahead(&mut item);
        self.queued.insert(at, item);
        while let Some(passed) = self.queued.get_mut(passing.ahead) {
            let part = urgent * passed.bundle.recipients();
            if passing.owed < part + others * URGENT_PASS_FREELY {
                return;
            }
            passing.owed -= part;
            passing.goes_ahead(passed);
        }
        passing.owed = 0;
    }

    /// The items of a session that an urgent one of it would have to pass go ahead with it, in their order. False when there are many,
    /// or they stand far behind.
    fn bring_ahead(&mut self, key: SessionKey) -> bool {
        let waiting =
            self.passing.as_ref().and_then(|passing| passing.behind.get(&key)).map_or(0, |count| *count as usize);
        if waiting == 0 {
            return true;
        }
        if waiting > URGENT_BRINGS_MAX {
            return false;
        }
        let from = self.fixed();
        let behind = self.queued().range(from..).take(URGENT_LOOKED_AT).enumerate();
        let places: Vec<_> =
            behind.filter(|(_, item)| item.bundle.session_key() == key).map(|(at, _)| from + at).collect();
        if places.len() < waiting {
            return false;
        }
        for at in places {
            // What those before it made go ahead stands behind them already. Each is put before those that are still to come.
            if self.queued[at].is_ahead {
                continue;
            }
            let Some(item) = self.queued.remove(at) else { break };
            if let Some(passing) = &mut self.passing {
                passing.left(&item);
            }
            self.insert_ahead(item);
        }
        true
    }
}

impl Outbox {
    /// Puts an urgent item where its turn is.
    pub(super) fn enqueue_urgent(&mut self, item: Item, now: Nanos) {
        match self.queue.bring_ahead(item.bundle.session_key()) {
            true => self.queue.insert_ahead(item),
            false => {
                let at = self.place_behind_own(&item, now);
                self.queue.insert_queued(at, item);
            }
        }
    }

    /// The place of an urgent item of whose session much waits: behind that, and before few that came later and are not old.
    fn place_behind_own(&self, item: &Item, now: Nanos) -> usize {
        let queued = self.queue.queued();
        let at_most = URGENT_PASSES_WITHIN.min(self.settings.delivery_timeout / URGENT_PASSES_WITHIN_PART);
        let is_passed = |other: &&Item| {
            let is_young = now.since(other.bundle.made_at) < at_most;
            other.bundle.session_key() != item.bundle.session_key()
                && is_young
                && other.bundle.class != Priority::Urgent
        };
        let behind = queued.range(self.queue.fixed()..);
        queued.len() - behind.rev().take(URGENT_PASSES_MAX).take_while(is_passed).count()
    }

    /// How many of the next items, `most` at the most, the window has room for. Those ahead do not ask for it.
    pub(super) fn in_window(&mut self, most: usize, now: Nanos) -> usize {
        let room = self.queue.passing.as_ref().and_then(|passing| passing.window.room(now));
        let Some(mut room) = room else { return most };
        let mut fits = self.queue.fixed().min(most);
        for item in self.queue.queued().range(fits..most) {
            if room == 0 {
                break;
            }
            room = room.saturating_sub(item.bundle.recipients());
            fits += 1;
        }
        if let Some(passing) = &mut self.queue.passing {
            passing.is_held = fits < most;
        }
        fits
    }

    /// A turn has written what it may.
    pub(super) fn note_flushed(&mut self, now: Nanos) {
        let items = self.queue.sent().len();
        let begun = self.queue.queued().front().filter(|item| item.is_begun());
        let begun = begun.map_or(0, |item| item.bundle.recipients());
        if let Some(passing) = &mut self.queue.passing {
            let is_held = std::mem::take(&mut passing.is_held);
            passing.window.note_turn(items, begun, is_held, now);
        }
    }

    /// Answers were read.
    pub(super) fn note_answers_read(&mut self, now: Nanos) {
        if self.queue.passing.is_none() {
            return;
        }
        // On a stream only the first may be answered in part.
        let of_front = self.queue.front().map_or(0, |front| front.answered() as usize);
        if let Some(passing) = &mut self.queue.passing {
            passing.window.note_answers(of_front, now);
        }
    }

    /// What the outbox may hold for bundles of a class: recipients at the most, and recipients and bytes while it does not move.
    #[inline]
    pub(super) fn bounds_of(class: Priority) -> (usize, usize, usize) {
        let (most, recipients, bytes) = (OUTBOX_RECIPIENTS_MAX, OUTBOX_RECIPIENTS_SOFT, OUTBOX_BYTES_SOFT);
        match class {
            Priority::Normal => (most, recipients, bytes),
            // What one home shard may have at a gateway that does not move, and its reserve.
            Priority::Urgent => (
                most + most / URGENT_RESERVE_PART,
                recipients + RECIPIENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART,
                bytes + PAYLOAD_BYTES_IN_FLIGHT_MAX / URGENT_RESERVE_PART,
            ),
            Priority::Bulk | Priority::Fleeting => {
                (most / BULK_YIELDS_PART, recipients / BULK_YIELDS_PART, bytes / BULK_YIELDS_PART)
            }
        }
    }

    /// Whether what is known of the order agrees with what is there, for the simulator.
    #[doc(hidden)]
    pub fn has_order_in_its_books(&self) -> bool {
        let Some(passing) = &self.queue.passing else { return true };
        let queued = self.queue.queued();
        let mut behind: HashMap<SessionKey, u32> = HashMap::new();
        for item in queued.range(passing.ahead.min(queued.len())..) {
            *behind.entry(item.bundle.session_key()).or_default() += 1;
        }
        let is_ahead = queued.iter().enumerate().all(|(at, item)| item.is_ahead == (at < passing.ahead));
        let sent = self.queue.sent().iter().map(|item| item.bundle.recipients()).sum::<usize>();
        is_ahead && behind == passing.behind && passing.window.unanswered() == sent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::model::ids::UserIx;
    use crate::model::limits::OUTBOX_MOVING_WITHIN;
    use crate::push::bundle::{Bundle, Group};
    use crate::push::outbox::{OutboxSettings, answers_tests};

    #[test]
    fn an_outbox_that_does_not_move_takes_the_reserve_of_one_shard_besides() {
        let (many, large) = (256, 64 * 1024);
        let cases = [
            (many, 1, OUTBOX_RECIPIENTS_SOFT / many, RECIPIENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART / many),
            // The one that comes to a bound of bytes is taken whole.
            (1, large, OUTBOX_BYTES_SOFT / large + 1, PAYLOAD_BYTES_IN_FLIGHT_MAX / URGENT_RESERVE_PART / large),
        ];
        for (recipients, bytes, normal, urgent) in cases {
            let stream_target = Some(Duration::from_millis(2));
            let settings = OutboxSettings { stream_target, ..OutboxSettings::patient() };
            let mut outbox = Outbox::new("gateway".into(), settings);
            let of = answers_tests::bundle(1);
            let users = (0..recipients as u32).map(UserIx).collect();
            let group = Arc::new(Group::new("gateway".into(), of.group.gateway, 0, users, Box::default()));
            let bundle = Bundle { group, message: Bytes::from(vec![0; bytes]), ..of };
            let later = bundle.made_at.after(OUTBOX_MOVING_WITHIN);
            let mut taken = |class| {
                (0..9_999).take_while(|_| outbox.put(Bundle { class, ..bundle.clone() }, later).is_ok()).count()
            };
            assert_eq!((taken(Priority::Normal), taken(Priority::Urgent)), (normal, urgent));
        }
    }
}
