//! What was given back, or dropped, as it came: where it stands when it comes again.

use std::collections::{HashMap, HashSet};

use task_engine::model::ids::Nanos;

use super::{Event, Oracle};

impl Oracle {
    /// An event was given back without being taken.
    pub fn turned_away(&mut self, key: (usize, i64), order: u64) {
        // A repeat is not pushed, and what was taken before has its order.
        if self.by_key.get(&key).is_none_or(|event| !self.is_of_this_engine(*event)) {
            self.kept_orders.entry(key).or_insert(order);
        }
    }

    /// An event was dropped as it came. A copy of it that comes later, when there is room, is a new event where the copy stands.
    pub fn dropped(&mut self, tag: usize, key: (usize, i64)) {
        self.kept_orders.remove(&key);
        self.dropped.insert(key);
        (self.tags[tag].is_shed, self.tags[tag].event) = (true, None);
    }

    /// A retreat begins.
    pub fn retreats(&mut self, now: Nanos) {
        self.retreated_at = now;
    }

    /// What was given back comes again, these first and in this order, or in any: only in the first case must what is
    /// taken then be pushed in the order in which it was taken first. Nor where that was another one, or where a later event
    /// of the session was kept, since it or an earlier one had rows at the store: whom the first owed a row gets it later.
    /// So it does when the later one was pushed and done before the retreat was over.
    pub fn comes_again(&mut self, keys: Option<&[(usize, i64)]>) {
        let Some(keys) = keys else { return self.kept_orders.clear() };
        let (mut seen, mut newest) = (HashSet::new(), HashMap::new());
        let is_kept =
            |event: &&Event| event.engine == self.engine && !event.is_settled && event.arrived <= self.retreated_at;
        let mut is_other: HashSet<usize> = self.events.iter().filter(is_kept).map(|event| event.session).collect();
        for key in keys.iter().filter(|key| seen.insert(**key)) {
            let order = self.kept_orders.get(key).copied().unwrap_or(u64::MAX);
            let before = newest.insert(key.0, order).unwrap_or(0);
            if order < before {
                is_other.insert(key.0);
            }
        }
        let is_done_since = |event: &&Event| {
            event.engine == self.engine
                && event.is_done
                && event.arrived <= self.retreated_at
                && event.settled_at >= self.retreated_at
        };
        let done: Vec<_> = self.events.iter().filter(is_done_since).map(|event| (event.session, event.order)).collect();
        let is_passed = |(of, order)| done.iter().any(|(session, later)| *session == of && *later > order);
        self.kept_orders.retain(|(session, _), order| !is_other.contains(session) && !is_passed((*session, *order)));
    }
}
