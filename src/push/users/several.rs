//! Users who are connected to several gateways.

use std::collections::HashSet;

use crate::model::ids::{GatewayIx, Nanos, UserIx};
use crate::model::limits::GATEWAY_SETS_SWEPT;
use crate::push::users::{NOWHERE, RouteState, SetIx, Users};

impl Users {
    /// Notes an answer that names several gateways, the newest first; one or more of them may have found no place (`lacks`).
    /// False when there is no room for this set: the user is at the newest alone then.
    pub fn set_gateways(&mut self, user: UserIx, gateways: &[GatewayIx], lacks: bool) -> bool {
        let mut set = gateways.to_vec();
        set.sort_unstable();
        set.dedup();
        let number = if set.len() > 1 { self.sets.number(&set) } else { None };
        let route = match (number, gateways.first()) {
            (Some(set), _) => RouteState::AtEach(set),
            (None, Some(newest)) => RouteState::At(*newest),
            (None, None) => RouteState::NoPlace,
        };
        let is_full = set.len() > 1 && number.is_none();
        self.are_sets_full |= is_full;
        self.set_route(user, route);
        if lacks || is_full {
            self.lacking.insert(user);
        }
        !is_full
    }

    /// The gateways of a set.
    #[inline]
    pub fn gateways_of(&self, set: SetIx) -> &[GatewayIx] {
        self.sets.gateways(set)
    }

    /// Where a user is connected.
    pub fn gateways(&self, user: UserIx) -> Vec<GatewayIx> {
        match self.route(user) {
            RouteState::At(gateway) => vec![gateway],
            RouteState::AtEach(set) => self.gateways_of(set).to_vec(),
            _ => Vec::new(),
        }
    }

    /// Whether a gateway is one of those.
    #[inline]
    pub fn is_at(&self, user: UserIx, gateway: GatewayIx) -> bool {
        self.leads_to(self.route[user.0 as usize], |at| at == gateway)
    }

    /// Whether a code is one of such gateways, or of a set with one.
    #[inline]
    pub(super) fn leads_to(&self, code: u32, is_one: impl Fn(GatewayIx) -> bool) -> bool {
        match RouteState::from_code(code) {
            RouteState::At(gateway) => is_one(gateway),
            RouteState::AtEach(set) => self.sets.gateways(set).iter().any(|gateway| is_one(*gateway)),
            _ => false,
        }
    }

    /// What is remembered of a user from before a loss holds no longer for such gateways. True when it was at others as well.
    pub(super) fn was_not_at(&mut self, user: UserIx, is_one: impl Fn(GatewayIx) -> bool) -> bool {
        let code = self.before_loss[user.0 as usize];
        if !self.leads_to(code, &is_one) {
            return false;
        }
        let RouteState::AtEach(set) = RouteState::from_code(code) else {
            self.before_loss[user.0 as usize] = NOWHERE;
            return false;
        };
        let left: Vec<_> = self.sets.gateways(set).iter().copied().filter(|gateway| !is_one(*gateway)).collect();
        let route = match left[..] {
            [] => None,
            [gateway] => Some(RouteState::At(gateway)),
            _ => self.sets.number(&left).map(RouteState::AtEach),
        };
        self.before_loss[user.0 as usize] = route.map_or(NOWHERE, RouteState::code);
        route.is_some()
    }

    /// Whether anybody was ever at several gateways, as far as is known.
    pub fn has_sets(&self) -> bool {
        !self.sets.is_empty()
    }

    /// Gateways are forgotten, and nothing refers to a set with one of them.
    pub fn forget_sets_with(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        self.sets.forget_gateways(is_one);
    }

    /// Whether there was no room for a set, and it is time to look for some.
    pub fn are_sets_to_be_swept(&mut self, now: Nanos) -> bool {
        let is_due = self.are_sets_full && self.sets_swept.is_none_or(|at| now.since(at) >= GATEWAY_SETS_SWEPT);
        if is_due {
            (self.are_sets_full, self.sets_swept) = (false, Some(now));
        }
        is_due
    }

    /// Makes room for sets: those that neither a user is at, nor anybody else uses, are forgotten.
    pub fn sweep_sets(&mut self, mut used: HashSet<SetIx>) {
        for code in self.route.iter().chain(&self.before_loss) {
            if let RouteState::AtEach(set) = RouteState::from_code(*code) {
                used.insert(set);
            }
        }
        self.sets.forget_unused(&used);
        self.forget_no_place();
    }
}
