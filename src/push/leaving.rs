//! Partitions that go to another shard or instance: what of their events is left to whoever takes them.
//!
//! Promises that an event of which no recipient was pushed, or may have been, is given back at once, however long what it waits
//! for would take; also one that is still on its way to this shard. So only what is half done holds up a partition: it ends as
//! ever, and nothing of it is repeated. What reached nobody and waits for a store that is away is given back as in a retreat.
//! Order is not this shard's to keep any more: whoever takes the partition gets all that was given back, in the stream's order.

use std::collections::{HashMap, HashSet};

use crate::model::delivery::DeliveryTag;
use crate::model::ids::Partition;
use crate::push::Push;
use crate::push::bundle::EventIx;

/// The events of the partitions that go.
#[derive(Debug, Default)]
pub(super) struct Leaving(HashMap<Partition, HashSet<DeliveryTag>>);

impl Leaving {
    /// Whether an event that comes is of one of them.
    #[inline]
    pub(super) fn has(&self, tag: DeliveryTag) -> bool {
        !self.0.is_empty() && self.0.values().any(|tags| tags.contains(&tag))
    }

    /// It is gone, or stays.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.0.remove(&partition);
    }
}

impl Push {
    /// See [`Input::Leave`](crate::push::facts::Input::Leave).
    pub(super) fn leave(&mut self, partition: Partition, tags: Vec<DeliveryTag>) {
        self.leaving.0.insert(partition, tags.into_iter().collect());
        self.give_back_leaving();
    }

    /// Gives back what need not end here.
    pub(super) fn give_back_leaving(&mut self) {
        if self.leaving.0.is_empty() || self.cx.is_cut_off {
            return;
        }
        let all = self.to_leave_behind();
        if !all.is_empty() {
            self.give_all_back(all);
        }
    }

    fn to_leave_behind(&self) -> Vec<EventIx> {
        let are_routes_away = self.resolve.routes.is_away();
        let at_store = self.ledger.at_store();
        let mut all = self.ledger.in_order();
        all.retain(|at| {
            let event = &self.ledger[*at];
            let progress = &event.progress;
            let is_untouched = match &event.owed {
                _ if !progress.is_bundled => true,
                _ if progress.has_reached || progress.on_streams > 0 => false,
                // Bundles, sent or not, or recipients that are held until their route is known.
                _ if progress.pending > 0 => are_routes_away && !self.has_bundles(event.session),
                Some(owed) => self.ledger.is_keeper_away(owed) && owed.letters == 0 && !at_store.contains(at),
                None => false,
            };
            is_untouched && self.leaving.has(event.source.tag)
        });
        all
    }
}

#[cfg(test)]
#[path = "leaving_tests.rs"]
mod tests;
