//! Ends fleeting bundles that have waited in the outbox for as long as their events are worth anything.
//!
//! Promises that a fleeting event is not begun to be written later than `priority.fleeting_ttl` (and [`LOOK_EVERY`]) after it came, and
//! that none ends so that a gateway may have read: what was ever written stands first, with those that are not passed.

use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::Priority;
use crate::push::bundle::Bundle;
use crate::push::outbox::{Effects, Outbox};

/// The queue is looked through no more often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Outbox {
    /// A bundle comes. Inlined: nearly all are of other classes.
    #[inline(always)]
    pub(super) fn note_fleeting(&mut self, bundle: &Bundle) {
        if bundle.class == Priority::Fleeting
            && let Some(over_at) = self.over_at(bundle)
            && let Some(passing) = &mut self.queue.passing
        {
            passing.fleeting_due = Some(passing.fleeting_due.map_or(over_at, |due| due.min(over_at)));
        }
    }

    /// When a bundle's event is worth nothing any more; `None`: never.
    fn over_at(&self, bundle: &Bundle) -> Option<Nanos> {
        let ttl = self.settings.fleeting_ttl;
        let is_bounded = bundle.class == Priority::Fleeting && !ttl.is_zero();
        is_bounded.then(|| bundle.made_at.after(ttl.saturating_sub(Duration::from_millis(bundle.age_millis.into()))))
    }

    /// Drops those that are too late.
    #[inline]
    pub(super) fn shed_late(&mut self, now: Nanos, effects: &mut Effects) {
        if self.queue.passing.as_ref().is_some_and(|passing| passing.fleeting_due.is_some_and(|due| due < now)) {
            self.look_for_late(now, effects);
        }
    }

    #[cold]
    fn look_for_late(&mut self, now: Nanos, effects: &mut Effects) {
        let sent = self.queue.sent().len();
        let (mut at, mut due): (usize, Option<Nanos>) = (self.queue.fixed(), None);
        while let Some(item) = self.queue.queued().get(at) {
            match self.over_at(&item.bundle) {
                Some(over_at) if over_at < now => {
                    if let Some(item) = self.queue.remove_queued(sent + at) {
                        self.end_item(item, RecipientOutcome::Shed, effects);
                    }
                    continue;
                }
                Some(over_at) => due = Some(due.map_or(over_at, |due| due.min(over_at))),
                None => {}
            }
            at += 1;
        }
        if let Some(passing) = &mut self.queue.passing {
            passing.fleeting_due = due.map(|due| due.max(now.after(LOOK_EVERY)));
        }
    }
}
