//! Forgets gateways that are heard of no longer, so that their places go to others.
//!
//! Promises that nothing refers to a place when it is given away. A gateway that is not listed and has had nothing to do
//! for long is condemned. Then what refers to it is taken away, a bounded part each tick: first the users' routes, then,
//! as nothing new can refer to it through them, the sessions' layouts. If it was named or used meanwhile it stays, also
//! while a held message remembers it. What a bundle under way remembers holds it as well (it is its home shard's share),
//! or is told apart by the place's tenancy (on its owner shard). Streams keep counting, so that a late fact finds none.

use std::collections::HashSet;
use std::time::Duration;

use crate::model::ids::{GatewayIx, Nanos};
use crate::model::limits::{FORGETTING_SESSIONS_A_TICK, FORGETTING_USERS_A_TICK, GATEWAYS_LOOKED_AT};
use crate::push::Push;
use crate::push::gateways::Gateways;
use crate::push::users::SetIx;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    /// Where to look next for some that are idle, and when it was last looked for them.
    hand: usize,
    looked_at: Nanos,
    condemned: Vec<GatewayIx>,
    sweep: Option<Sweep>,
}

/// What is looked at next for references to those that are condemned.
#[derive(Clone, Copy, Debug)]
enum Sweep {
    Users(usize),
    Sessions(usize),
}

impl Forgetting {
    /// Whether each tick does a part of it.
    pub(super) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }
}

impl Gateways {
    /// How long a gateway has to be idle.
    fn patience(&self) -> Duration {
        let is_crowded = (self.known() - self.listed) * 2 > self.bounds.unlisted;
        if is_crowded { self.bounds.forget_soon } else { self.bounds.forget_after }
    }

    fn is_condemned(&self, at: GatewayIx) -> bool {
        self.places[at.0 as usize].is_condemned
    }

    fn free(&mut self, gone: &[GatewayIx]) {
        for at in gone {
            let place = &mut self.places[at.0 as usize];
            self.by_id.remove(place.outbox.id());
            place.tenancy = place.tenancy.wrapping_add(1);
            (place.is_free, place.is_condemned, place.is_owned) = (true, false, false);
            self.free.push(*at);
        }
        self.lists.owned.retain(|at| !self.places[at.0 as usize].is_free);
    }
}

impl Push {
    /// A tick's part of it.
    pub(in crate::push) fn forget_gateways(&mut self) {
        let next = match self.delivery.gateways.forgetting.sweep {
            None => self.condemn_idle_gateways(),
            Some(Sweep::Users(from)) => {
                let is_one = |at| self.delivery.gateways.is_condemned(at);
                let next = self.resolve.users.forget_routes_to(from, FORGETTING_USERS_A_TICK, is_one);
                Some(next.map_or(Sweep::Sessions(0), Sweep::Users))
            }
            Some(Sweep::Sessions(from)) => {
                // One that was used since it was condemned stays: what layouts know of it is the order of what it holds.
                let (gateways, admission) = (&self.delivery.gateways, &self.dispatch.admission);
                let is_one = |at| gateways.is_condemned(at) && admission.empty_since(at).is_some();
                let (sessions, users) = (&mut self.resolve.sessions, &self.resolve.users);
                let next = sessions.forget_gateways(from, FORGETTING_SESSIONS_A_TICK, is_one, users);
                if next.is_none() {
                    self.forget_condemned_gateways();
                }
                next.map(Sweep::Sessions)
            }
        };
        self.delivery.gateways.forgetting.sweep = next;
    }

    fn condemn_idle_gateways(&mut self) -> Option<Sweep> {
        let state = &self.delivery.gateways.forgetting;
        if self.cx.now.since(state.looked_at) < self.delivery.gateways.bounds.forget_soon / 5 {
            return None;
        }
        let places = self.delivery.gateways.places.len();
        let from = state.hand;
        let looked_at = (0..places.min(GATEWAYS_LOOKED_AT)).map(|step| GatewayIx(((from + step) % places) as u32));
        let condemned = looked_at.filter(|at| self.is_gateway_idle(*at)).collect::<Vec<_>>();
        for at in &condemned {
            self.delivery.gateways.places[at.0 as usize].is_condemned = true;
        }
        let is_any = !condemned.is_empty();
        let state = &mut self.delivery.gateways.forgetting;
        state.hand = (from + GATEWAYS_LOOKED_AT.min(places)) % places.max(1);
        (state.looked_at, state.condemned) = (self.cx.now, condemned);
        is_any.then_some(Sweep::Users(0))
    }

    /// Whether nothing has happened to a gateway for long, and nothing is lost when it is forgotten.
    fn is_gateway_idle(&self, at: GatewayIx) -> bool {
        let place = &self.delivery.gateways.places[at.0 as usize];
        if place.is_free || place.is_listed || place.is_awake || !place.outbox.may_be_forgotten(self.cx.now) {
            return false;
        }
        let Some(empty_since) = self.dispatch.admission.empty_since(at) else { return false };
        let since = place.named_at.max(place.outbox.moved_at()).max(empty_since);
        self.cx.now.since(since) >= self.delivery.gateways.patience()
    }

    /// An event in flight that a user's other gateway has still to take knows to which it went.
    fn keep_gateways_of_copies(&mut self) {
        for set in self.ledger.sets_in_use() {
            for at in self.resolve.users.gateways_of(set) {
                self.delivery.gateways.places[at.0 as usize].is_condemned = false;
            }
        }
    }

    /// There was no room for a set of gateways: those that nobody uses any more make some.
    pub(in crate::push) fn sweep_gateway_sets(&mut self) {
        let users = &mut self.resolve.users;
        if !users.are_sets_to_be_swept(self.cx.now) {
            return;
        }
        let mut used: HashSet<SetIx> = self.ledger.sets_in_use().collect();
        used.extend(self.resolve.sessions.sets_in_use());
        users.sweep_sets(used);
    }

    /// Nothing new refers to them, and what did does so no longer, but for messages that are held.
    fn forget_condemned_gateways(&mut self) {
        if self.resolve.users.has_sets() {
            self.keep_gateways_of_copies();
        }
        for at in self.dispatch.fences.gateways() {
            self.delivery.gateways.places[at.0 as usize].is_condemned = false;
        }
        let mut gone = std::mem::take(&mut self.delivery.gateways.forgetting.condemned);
        gone.retain(|at| {
            let is_gone = self.delivery.gateways.is_condemned(*at) && self.is_gateway_idle(*at);
            self.delivery.gateways.places[at.0 as usize].is_condemned = is_gone;
            is_gone
        });
        if gone.is_empty() {
            return;
        }
        self.cx.forget_warnings(|at| self.delivery.gateways.is_condemned(at));
        self.resolve.users.forget_sets_with(|at| self.delivery.gateways.is_condemned(at));
        self.delivery.gateways.free(&gone);
        self.cx.activity.gateways_forgotten += gone.len() as u64;
        self.resolve.users.forget_no_place();
        for record in self.delivery.gateways.unplaced.drain().map(|(_, record)| record).collect::<Vec<_>>() {
            self.gateway_listed(record);
        }
    }
}
