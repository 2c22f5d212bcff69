//! Urgent bundles pass others that are not on their way yet.
//!
//! Promises that none passes a bundle of its own session, one that is begun, another urgent one, one that is old, or more than
//! [`URGENT_PASSES_MAX`]; and that an urgent one may still be queued where others find the outbox full.

use crate::model::ids::Nanos;
use crate::model::limits::{
    BULK_YIELDS_PART, OUTBOX_BYTES_SOFT, OUTBOX_RECIPIENTS_MAX, OUTBOX_RECIPIENTS_SOFT, URGENT_PASSES_MAX,
    URGENT_PASSES_WITHIN, URGENT_PASSES_WITHIN_PART, URGENT_RESERVE_PART,
};
use crate::model::priority::Priority;
use crate::push::bundle::Bundle;
use crate::push::outbox::{Item, Outbox};

impl Outbox {
    /// The place among what is not written whole of an urgent item that comes. None is passed of those that a broken stream is put down
    /// to: which of them breaks it is told by their order.
    pub(super) fn place_of_urgent(&self, item: &Item, now: Nanos) -> usize {
        let queued = self.queue.queued();
        if self.is_suspecting() {
            return queued.len();
        }
        let at_most = URGENT_PASSES_WITHIN.min(self.settings.delivery_timeout / URGENT_PASSES_WITHIN_PART);
        let is_passed = |other: &&Item| {
            let is_own = (other.bundle.home, other.bundle.session) == (item.bundle.home, item.bundle.session);
            let is_young = now.since(other.bundle.made_at) < at_most;
            !is_own && is_young && !other.is_begun() && other.bundle.class != Priority::Urgent
        };
        queued.len() - queued.iter().rev().take(URGENT_PASSES_MAX).take_while(is_passed).count()
    }

    /// What the outbox may hold for a bundle of this class: recipients at the most, and recipients and bytes while it does not move.
    #[inline]
    pub(super) fn bounds_of(bundle: &Bundle) -> (usize, usize, usize) {
        let (most, recipients, bytes) = (OUTBOX_RECIPIENTS_MAX, OUTBOX_RECIPIENTS_SOFT, OUTBOX_BYTES_SOFT);
        match bundle.class {
            Priority::Normal => (most, recipients, bytes),
            Priority::Urgent => (most + most / URGENT_RESERVE_PART, most, usize::MAX),
            Priority::Bulk | Priority::Fleeting => {
                (most / BULK_YIELDS_PART, recipients / BULK_YIELDS_PART, bytes / BULK_YIELDS_PART)
            }
        }
    }
}
