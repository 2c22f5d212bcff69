//! The gateways one shard has heard of, by routes (as a home shard) or from the registry (as their owner).
//!
//! Promises that a gateway keeps its place while anything refers to it, that a turn touches only the outboxes that
//! something happened to and a tick only those with something to do, and that the table is bounded: whoever was not heard
//! of for long is forgotten ([`forget`]), and a full table refuses, by its own name. Refuses to give what is meant for one
//! gateway to another.

mod ahead;
mod forget;

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::gateway::GatewayRecord;
use crate::model::ids::{GatewayId, GatewayIx, Nanos, ShardId};
use crate::model::priority::PriorityRules;
use crate::push::Push;
use crate::push::bundle::{Group, Tenancy};
use crate::push::context::TableBounds;
use crate::push::gateways::forget::Forgetting;
use crate::push::layout::KnownGateways;
use crate::push::outbox::{Outbox, OutboxSettings};

/// A place, and the gateway that has it.
#[derive(Debug)]
struct Place {
    outbox: Outbox,
    /// Which gateway it is that has this place, counted over the place's life.
    tenancy: u32,
    /// The last time its id was looked up.
    named_at: Nanos,
    is_free: bool,
    is_listed: bool,
    /// It stands in the list of those that a tick looks at.
    is_awake: bool,
    /// It stands in the list of those that this shard ever had an outbox to use of.
    is_owned: bool,
    /// It is to be forgotten, unless it is named before nothing refers to it.
    is_condemned: bool,
    /// It left the registry in this turn.
    has_left: bool,
    /// Its gateway keeps lists of users, as its owner said last.
    keeps_lists: bool,
}

/// Places that are to be looked at.
#[derive(Debug, Default)]
struct Lists {
    /// When the turn ends.
    changed: VecDeque<GatewayIx>,
    /// At each tick.
    awake: Vec<GatewayIx>,
    /// Whose outbox was ever used.
    owned: Vec<GatewayIx>,
    /// That left the registry in this turn.
    left: Vec<GatewayIx>,
}

/// The table.
#[derive(Debug)]
pub struct Gateways {
    by_id: HashMap<GatewayId, GatewayIx>,
    places: Vec<Place>,
    free: Vec<GatewayIx>,
    lists: Lists,
    listed: usize,
    /// Listed gateways that found no place: as many as the registry may list.
    unplaced: HashMap<GatewayId, GatewayRecord>,
    bounds: TableBounds,
    forgetting: Forgetting,
    settings: OutboxSettings,
    is_stopping: bool,
    lists_epoch: u32,
    /// When streams were last opened ahead.
    opened_ahead: Option<Nanos>,
}

impl Gateways {
    /// An empty table.
    pub fn new(settings: OutboxSettings, bounds: TableBounds) -> Self {
        Self {
            by_id: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            lists: Lists::default(),
            listed: 0,
            unplaced: HashMap::new(),
            bounds,
            forgetting: Forgetting::default(),
            settings,
            is_stopping: false,
            lists_epoch: 0,
            opened_ahead: None,
        }
    }

    /// From now on outboxes let urgent pushes pass others, and drop fleeting ones that are late.
    pub fn heed_classes(&mut self, rules: &PriorityRules) {
        self.settings.stream_target = Some(rules.stream_target);
        self.settings.fleeting_ttl = rules.fleeting_ttl;
    }

    /// From now on a push may wait so long, and an address that is not listed any more is used for so long.
    pub(super) fn tune(&mut self, delivery_timeout: Duration, forget_after: Duration) {
        (self.settings.delivery_timeout, self.settings.forget_after) = (delivery_timeout, forget_after);
        for place in &mut self.places {
            place.outbox.tune(delivery_timeout, forget_after);
        }
    }

    /// How many are known.
    pub fn known(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The place of an id that a route names, made when new; none when there are too many.
    pub fn place_of(&mut self, id: &str, now: Nanos) -> Option<GatewayIx> {
        if let Some(at) = self.by_id.get(id).copied() {
            let place = &mut self.places[at.0 as usize];
            (place.named_at, place.is_condemned) = (now, false);
            return Some(at);
        }
        if self.known() - self.listed >= self.bounds.unlisted {
            return None;
        }
        self.make(id.into(), now)
    }

    fn make(&mut self, id: GatewayId, now: Nanos) -> Option<GatewayIx> {
        if self.known() >= 2 * self.bounds.unlisted {
            return None;
        }
        let mut outbox = Outbox::new(id.clone(), self.settings.clone());
        if self.is_stopping {
            outbox.stop();
        }
        let at = match self.free.pop() {
            Some(at) => {
                let place = &mut self.places[at.0 as usize];
                place.outbox = outbox.after(place.outbox.last_stream());
                (place.named_at, place.is_free, place.keeps_lists) = (now, false, false);
                at
            }
            None => {
                self.places.push(Place {
                    outbox,
                    tenancy: 0,
                    named_at: now,
                    is_free: false,
                    is_listed: false,
                    is_awake: false,
                    is_owned: false,
                    is_condemned: false,
                    has_left: false,
                    keeps_lists: false,
                });
                GatewayIx((self.places.len() - 1) as u32)
            }
        };
        self.by_id.insert(id, at);
        Some(at)
    }

    /// The place of the gateway that a group is at, which knows the way once it was here.
    #[inline(always)]
    pub(super) fn place_of_group(&mut self, group: &Group, now: Nanos) -> Option<GatewayIx> {
        match group.owner_place() {
            Some(Tenancy { place, number })
                if self.places.get(place.0 as usize).is_some_and(|known| known.tenancy == number) =>
            {
                Some(place)
            }
            _ => self.find_place_of(group, now),
        }
    }

    #[cold]
    fn find_place_of(&mut self, group: &Group, now: Nanos) -> Option<GatewayIx> {
        let at = self.place_of(&group.gateway_id, now)?;
        group.set_owner_place(Tenancy { place: at, number: self.places[at.0 as usize].tenancy });
        Some(at)
    }

    /// The shard that owns the gateway's stream.
    #[inline]
    pub fn owner(&self, at: GatewayIx, shards: u16) -> ShardId {
        if shards == 1 {
            return ShardId(0);
        }
        ShardId((self.places[at.0 as usize].outbox.id_hash() % u32::from(shards)) as u16)
    }

    /// The registry lists it. False when there is no place for it: it gets the next one.
    pub fn list(&mut self, record: GatewayRecord, now: Nanos) -> bool {
        let id = record.gateway_id.clone();
        let Some(at) = self.by_id.get(&id).copied().or_else(|| self.make(id.clone(), now)) else {
            self.unplaced.insert(id, record);
            return false;
        };
        let place = &mut self.places[at.0 as usize];
        place.is_condemned = false;
        if !std::mem::replace(&mut place.is_listed, true) {
            self.listed += 1;
        }
        self.outbox(at).list(record, now);
        true
    }

    /// Of a bundle that is back: whether its gateway keeps lists of users is known.
    #[inline]
    pub(super) fn note_lists(&mut self, group: &Group) {
        let place = &mut self.places[group.gateway.0 as usize];
        if let Some(keeps) = group.keeps_lists()
            && std::mem::replace(&mut place.keeps_lists, keeps) != keeps
        {
            self.lists_epoch = self.lists_epoch.wrapping_add(1);
        }
    }

    /// The registry lists it no longer. Routes to it are doubted when the turn ends, those to all that left at once: for each
    /// it takes a look at every user, and a registry may lose all it had.
    pub fn unlist(&mut self, id: &str, now: Nanos) {
        self.unplaced.remove(id);
        let Some(at) = self.by_id.get(id).copied() else { return };
        let place = &mut self.places[at.0 as usize];
        place.named_at = now;
        if !std::mem::replace(&mut place.has_left, true) {
            self.lists.left.push(at);
        }
        if std::mem::take(&mut place.is_listed) {
            self.listed -= 1;
            self.outbox(at).unlist(now);
        }
    }

    /// All streams end once they are empty, those of gateways not heard of yet as well.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.lists.changed = (0..self.places.len() as u32).map(GatewayIx).collect();
        for place in &mut self.places {
            place.outbox.stop();
        }
    }

    /// The outbox of a place; it is looked at when the turn ends, and at each tick until it has nothing to do.
    #[inline]
    pub(super) fn outbox(&mut self, at: GatewayIx) -> &mut Outbox {
        let place = &mut self.places[at.0 as usize];
        if place.outbox.note_change() {
            self.lists.changed.push_back(at);
            if !std::mem::replace(&mut place.is_awake, true) {
                self.lists.awake.push(at);
            }
            if !std::mem::replace(&mut place.is_owned, true) {
                self.lists.owned.push(at);
            }
        }
        &mut place.outbox
    }

    /// Those that have nothing to do are not looked at until something happens to them.
    pub(super) fn let_sleep(&mut self, mut looked_at: Vec<GatewayIx>) {
        looked_at.retain(|at| {
            let place = &mut self.places[at.0 as usize];
            place.is_awake = !place.outbox.may_sleep();
            place.is_awake
        });
        // Whoever woke up meanwhile.
        looked_at.append(&mut self.lists.awake);
        self.lists.awake = looked_at;
    }

    /// Whether a tick has nothing to do for any of them soon, and none is being forgotten.
    pub(super) fn are_at_rest(&self) -> bool {
        let mut awake = self.lists.awake.iter();
        self.lists.left.is_empty()
            && !self.forgetting.is_sweeping()
            && awake.all(|at| self.places[at.0 as usize].outbox.is_quiet())
    }

    /// The outbox of a place as it is: that it is looked at is no change.
    pub(super) fn outbox_as_it_is(&mut self, at: GatewayIx) -> &mut Outbox {
        &mut self.places[at.0 as usize].outbox
    }

    /// Those that a tick looks at; [`let_sleep`](Self::let_sleep) takes them back.
    pub(super) fn take_awake(&mut self) -> Vec<GatewayIx> {
        std::mem::take(&mut self.lists.awake)
    }

    /// Those that are looked at when the turn ends.
    pub(super) fn take_changed(&mut self) -> VecDeque<GatewayIx> {
        std::mem::take(&mut self.lists.changed)
    }

    /// Those that had nothing of this turn go first in the next one.
    pub(super) fn put_back_changed(&mut self, mut left: VecDeque<GatewayIx>) {
        left.append(&mut self.lists.changed);
        self.lists.changed = left;
    }

    /// Whether an outbox waits for a turn to write in.
    pub fn is_any_changed(&self) -> bool {
        !self.lists.changed.is_empty()
    }

    /// The outboxes that were ever used, of gateways that are not forgotten.
    pub fn owned(&self) -> impl Iterator<Item = &Outbox> {
        self.lists.owned.iter().map(|at| &self.places[at.0 as usize].outbox).filter(|outbox| outbox.is_used())
    }
}

impl KnownGateways for Gateways {
    fn id(&self, at: GatewayIx) -> GatewayId {
        self.places[at.0 as usize].outbox.id().clone()
    }

    #[inline]
    fn keeps_lists(&self, at: GatewayIx) -> bool {
        self.places[at.0 as usize].keeps_lists
    }

    #[inline]
    fn lists_epoch(&self) -> u32 {
        self.lists_epoch
    }
}

impl Push {
    pub(super) fn gateway_listed(&mut self, record: GatewayRecord) {
        let id = record.gateway_id.clone();
        if self.delivery.gateways.list(record, self.cx.now) {
            // It has a place now, whatever routes to it found before.
            self.resolve.users.forget_no_place();
        } else {
            self.delivery.warn_table_full(&id, &mut self.cx);
        }
    }

    /// A user may be elsewhere by now: whoever is routed to a gateway that left the registry is asked for before the next
    /// event.
    pub(super) fn doubt_routes_to_those_that_left(&mut self) {
        if self.delivery.gateways.lists.left.is_empty() {
            return;
        }
        self.resolve.users.mark_stale_to(|at| self.delivery.gateways.places[at.0 as usize].has_left);
        for at in std::mem::take(&mut self.delivery.gateways.lists.left) {
            self.delivery.gateways.places[at.0 as usize].has_left = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_shard_that_the_registry_tells() {
        let settings = OutboxSettings { delivery_timeout: Duration::from_secs(1), ..OutboxSettings::patient() };
        let mut gateways = Gateways::new(settings, TableBounds::default());
        for shards in [1, 2, 3, 5, 7] {
            for id in ["gateway-1", "gateway-service-437", "ä", ""] {
                let at = gateways.place_of(id, Nanos(0)).expect("there is room");
                assert_eq!(gateways.owner(at, shards), ShardId::of_gateway(id, shards), "{id} of {shards}");
            }
        }
    }
}
