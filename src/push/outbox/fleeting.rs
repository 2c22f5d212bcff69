//! Ends fleeting bundles that have waited in the outbox for as long as their events are worth anything.
//!
//! Promises that a fleeting event is not begun to be written later than `priority.fleeting_ttl` (and [`LOOK_EVERY`]) after it came, and
//! that none ends so that a gateway may have read.

use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::Priority;
use crate::push::bundle::Bundle;
use crate::push::outbox::{Effects, Item, Outbox};

/// The queue is looked through no more often: it may be long.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// When fleeting bundles may be too late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FleetingDue {
    /// The first of them; `None`: none is waiting.
    first: Option<Nanos>,
    looked_at: Nanos,
}

impl FleetingDue {
    fn note(&mut self, over_at: Nanos) {
        self.first = Some(self.first.map_or(over_at, |first| first.min(over_at)));
    }

    fn is_over(&self, now: Nanos) -> bool {
        self.first.is_some_and(|first| first < now) && now >= self.looked_at.after(LOOK_EVERY)
    }
}

impl Outbox {
    /// A bundle comes. Inlined: nearly all are of other classes.
    #[inline(always)]
    pub(super) fn note_fleeting(&mut self, bundle: &Bundle) {
        if bundle.class == Priority::Fleeting
            && let Some(over_at) = over_at(bundle, self.settings.fleeting_ttl)
            && let Some(passing) = &mut self.queue.passing
        {
            passing.fleeting.note(over_at);
        }
    }

    /// Drops those that are too late.
    #[inline]
    pub(super) fn shed_late(&mut self, now: Nanos, effects: &mut Effects) {
        if self.queue.passing.as_ref().is_some_and(|passing| passing.fleeting.is_over(now)) {
            self.look_for_late(now, effects);
        }
    }

    #[cold]
    fn look_for_late(&mut self, now: Nanos, effects: &mut Effects) {
        let ttl = self.settings.fleeting_ttl;
        let mut due = FleetingDue { first: None, looked_at: now };
        let mut is_late = |item: &Item| match over_at(&item.bundle, ttl).filter(|_| item.is_untouched()) {
            Some(over_at) if over_at < now => true,
            Some(over_at) => {
                due.note(over_at);
                false
            }
            None => false,
        };
        // With unary calls an item that was passed over keeps its place.
        for index in 0..self.queue.sent().len() {
            if is_late(&self.queue[index]) {
                let item = self.queue.leave_place(index, false);
                self.end_item(item, RecipientOutcome::Shed, effects);
            }
        }
        for item in self.queue.take_queued(is_late) {
            self.end_item(item, RecipientOutcome::Shed, effects);
        }
        self.pop_ended(effects);
        if let Some(passing) = &mut self.queue.passing {
            passing.fleeting = due;
        }
    }
}

/// When a bundle's event is worth nothing any more; `None`: never.
fn over_at(bundle: &Bundle, ttl: Duration) -> Option<Nanos> {
    let is_bounded = bundle.class == Priority::Fleeting && !ttl.is_zero();
    is_bounded.then(|| bundle.made_at.after(ttl.saturating_sub(Duration::from_millis(bundle.age_millis.into()))))
}
