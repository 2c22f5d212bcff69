//! Order for users that move: once a user's next message would go to another gateway than one that is still unanswered,
//! its messages of that session wait here, in arrival order, until all earlier ones have ended; then they go together.
//!
//! Promises that only that user waits, not the session. Refuses a third try: what was refused once goes to a gateway
//! that the route names now, if it is another one, and ends there.

use std::collections::HashSet;

use crate::model::ids::{GatewayIx, SessionIx, UserIx};
use crate::model::outcome::RecipientOutcome;
use crate::push::Push;
use crate::push::bundle::{EventIx, SKIP_NONE};
use crate::push::dispatch::fences::{Behind, Fence, Held};
use crate::push::layout::{KnownGateways, group_of_one};
use crate::push::users::RouteState;

impl Push {
    /// From here on the user's messages of this session wait until the session's bundles to the gateways that it left have ended.
    pub(super) fn hold_behind(&mut self, at: SessionIx, user: UserIx, left: &[GatewayIx]) {
        let layout = self.resolve.sessions[at].layout.as_ref();
        let others = layout.filter(|layout| layout.may_have_several());
        let others = others.map(|layout| layout.gateways_of(user)).unwrap_or_default();
        self.hold(at, user, left, &others);
    }

    /// The same; `others` are gateways to which something was sent for the user as well: they are waited for if the user is no longer
    /// there when its messages go on.
    pub(super) fn hold(&mut self, at: SessionIx, user: UserIx, left: &[GatewayIx], others: &[GatewayIx]) {
        if self.dispatch.fences.has(at, user) {
            return;
        }
        // What waits for an answer is older than what the user waits for, and on no lane.
        self.send_all_waiting(at);
        let session = &mut self.resolve.sessions[at];
        let is_open = |gateway: &GatewayIx| {
            let lane = session.lanes.iter().find(|lane| lane.gateway == *gateway && lane.sent != lane.done);
            lane.map(|lane| (lane.gateway, lane.sent))
        };
        let of_left = left.iter().filter_map(is_open).map(|(gateway, until)| Behind { gateway, until, is_left: true });
        let others = others.iter().filter(|gateway| !left.contains(gateway)).filter_map(is_open);
        let behind = of_left.chain(others.map(|(gateway, until)| Behind { gateway, until, is_left: false })).collect();
        let place = session.held.binary_search(&user).unwrap_or_else(|place| place);
        session.held.insert(place, user);
        if let Some(layout) = &mut session.layout {
            layout.is_stale = true;
        }
        self.resolve.users.hold(user);
        self.dispatch.fences.raise(at, user, behind);
    }

    /// A new event of the session for a held user.
    pub(super) fn hold_event(&mut self, at: SessionIx, user: UserIx, event: EventIx) {
        self.put_into_hold(at, user, event, None);
    }

    /// A recipient that `gateway` did not take, with the end it has unless its user is elsewhere now.
    pub(super) fn hold_refused(
        &mut self,
        at: SessionIx,
        user: UserIx,
        event: EventIx,
        tried: (GatewayIx, RecipientOutcome),
    ) {
        if self.was_offered_elsewhere(at, user, event) {
            return self.end_unreached(event, &[user], tried.1, Some(tried.0));
        }
        self.hold_behind(at, user, &[tried.0]);
        self.wait_for_refusing(at, user, tried.0);
        self.put_into_hold(at, user, event, Some(tried));
        self.cx.activity.rerouted_recipients += 1;
    }

    /// Whether a gateway at which the user is now may have had a later event of the session, or this one after a refusal.
    fn was_offered_elsewhere(&self, at: SessionIx, user: UserIx, event: EventIx) -> bool {
        let is_rerouted = self.ledger.copies_of(event, user).is_some_and(|(_, is_rerouted)| is_rerouted);
        is_rerouted || self.resolve.sessions[at].is_before_joining(user, self.ledger[event].order)
    }

    /// A gateway refuses a user for whom a fence was raised before: what it still has is waited for, whether the user is there or not.
    fn wait_for_refusing(&mut self, at: SessionIx, user: UserIx, gateway: GatewayIx) {
        let fence = self.dispatch.fences.get_mut(at, user).expect("raised before");
        let behind = fence.behind.iter_mut().find(|behind| behind.gateway == gateway);
        behind.into_iter().for_each(|behind| behind.is_left = true);
    }

    /// A bundle to this gateway ended before older ones of its lane. What waits for those waits for one more, as far as there are so many:
    /// ends are counted, not told apart.
    #[cold]
    pub(super) fn wait_for_one_more(&mut self, at: SessionIx, gateway: GatewayIx) {
        let session = &self.resolve.sessions[at];
        let Some(lane) = session.lanes.iter().find(|lane| lane.gateway == gateway) else { return };
        for user in &session.held {
            let fence = self.dispatch.fences.get_mut(at, *user).into_iter();
            let of_lane = fence.flat_map(|fence| &mut fence.behind).filter(|behind| behind.gateway == gateway);
            of_lane.filter(|behind| behind.until != lane.sent).for_each(|behind| {
                behind.until = behind.until.wrapping_add(1);
            });
        }
    }

    fn put_into_hold(
        &mut self,
        at: SessionIx,
        user: UserIx,
        event: EventIx,
        tried: Option<(GatewayIx, RecipientOutcome)>,
    ) {
        self.ledger[event].progress.pending += 1;
        self.dispatch.fences.hold(at, user, Held { order: self.ledger[event].order, event, tried });
    }

    /// These events, of which nothing but held recipients is pending, wait for nobody any more.
    pub(super) fn leave_holds(&mut self, at: SessionIx, events: &HashSet<EventIx>) {
        for user in self.resolve.sessions[at].held.clone() {
            let Some(fence) = self.dispatch.fences.get_mut(at, user) else { continue };
            for event in fence.take_out(events) {
                self.ledger[event].progress.pending -= 1;
            }
            if fence.waiting.is_empty() {
                self.release(at, user, &[], RecipientOutcome::Offline);
            }
        }
    }

    /// Looks at all holds of a session after some of its bundles ended.
    #[inline]
    pub(super) fn try_release_all(&mut self, at: SessionIx) {
        if !self.resolve.sessions[at].held.is_empty() {
            self.try_release_held(at);
        }
    }

    #[inline(never)]
    fn try_release_held(&mut self, at: SessionIx) {
        for user in self.resolve.sessions[at].held.clone() {
            self.try_release(at, user);
        }
    }

    /// Lets a held user's messages go if nothing earlier is under way and the route is known.
    pub(super) fn try_release(&mut self, at: SessionIx, user: UserIx) {
        let Some(fence) = self.dispatch.fences.get_mut(at, user) else { return };
        let session = &self.resolve.sessions[at];
        fence.behind.retain(|behind| !session.has_done(behind.gateway, behind.until));
        if fence.behind.iter().any(|behind| behind.is_left) {
            return;
        }
        if fence.waiting.is_empty() {
            if fence.behind.is_empty() {
                self.release(at, user, &[], RecipientOutcome::Offline);
            }
            return;
        }
        match self.resolve.users.route(user) {
            RouteState::Unknown | RouteState::Asked => self.resolve.await_route_of_held(at, user, &self.cx),
            RouteState::At(_) | RouteState::AtEach(_) if self.resolve.users.is_stale(user) => {
                self.resolve.await_route_of_held(at, user, &self.cx)
            }
            RouteState::Offline => self.release(at, user, &[], RecipientOutcome::Offline),
            RouteState::Bad => self.release(at, user, &[], RecipientOutcome::BadRoute),
            RouteState::NoPlace => self.release(at, user, &[], RecipientOutcome::GatewayTableFull),
            RouteState::At(gateway) => self.release_to(at, user, &[gateway]),
            RouteState::AtEach(_) => self.release_to(at, user, &self.resolve.users.gateways(user)),
        }
    }

    /// Where the user is now is known: its messages go there, unless something is under way at a gateway that it left.
    fn release_to(&mut self, at: SessionIx, user: UserIx, gateways: &[GatewayIx]) {
        let Some(fence) = self.dispatch.fences.get_mut(at, user) else { return };
        if fence.behind.iter().any(|behind| !gateways.contains(&behind.gateway)) {
            return;
        }
        if !fence.behind.is_empty() {
            // What is refused there from now on must not come to the others after what goes to them.
            let new = fence.waiting.iter().find(|held| held.tried.is_none()).map(|held| held.order);
            let order = new.unwrap_or(self.ledger.newest_order() + 1);
            self.resolve.sessions[at].note_joined([user], order);
        }
        self.release(at, user, gateways, RecipientOutcome::Offline);
    }

    fn release(&mut self, at: SessionIx, user: UserIx, gateways: &[GatewayIx], otherwise: RecipientOutcome) {
        let Some(Fence { waiting, .. }) = self.dispatch.fences.lower(at, user) else { return };
        let session = &mut self.resolve.sessions[at];
        if let Ok(place) = session.held.binary_search(&user) {
            session.held.remove(place);
        }
        if let Some(layout) = &mut session.layout {
            layout.is_stale = true;
            layout.released.extend(gateways.iter().map(|gateway| (user, *gateway)));
        }
        for held in waiting {
            let end = match held.tried {
                Some((_, end)) if !gateways.is_empty() => end,
                _ => otherwise,
            };
            match &self.targets(user, &held, gateways)[..] {
                [] => self.end_held(user, &held, end),
                targets => self.bundle_held(at, user, held, targets),
            }
        }
        self.resolve.users.unname(&[user]);
    }

    /// The gateways that a message goes to: those that have not had it.
    fn targets(&self, user: UserIx, held: &Held, gateways: &[GatewayIx]) -> Vec<GatewayIx> {
        let Some((refused_by, _)) = held.tried else { return gateways.to_vec() };
        let had = match self.ledger.copies_of(held.event, user) {
            Some((_, true)) => return Vec::new(),
            Some((set, false)) => self.resolve.users.gateways_of(set),
            None => &[],
        };
        let is_new = |gateway: &&GatewayIx| **gateway != refused_by && !had.contains(gateway);
        gateways.iter().filter(is_new).copied().collect()
    }

    fn bundle_held(&mut self, at: SessionIx, user: UserIx, held: Held, targets: &[GatewayIx]) {
        let Held { event, tried, .. } = held;
        let set = match self.resolve.users.route(user) {
            RouteState::AtEach(set) => Some(set),
            _ => None,
        };
        self.ledger.open_copies(event, user, set, targets.len() as u8, tried.is_some());
        self.ledger[event].progress.pending += targets.len() as u32 - 1;
        for gateway in targets {
            self.bundle_one(at, user, event, *gateway, u8::from(tried.is_some()));
        }
    }

    fn end_held(&mut self, user: UserIx, held: &Held, end: RecipientOutcome) {
        let by = held.tried.filter(|(_, of)| *of == end).map(|(gateway, _)| gateway);
        self.end_unreached(held.event, &[user], end, by);
        self.bundle_ended(held.event);
    }

    fn bundle_one(&mut self, at: SessionIx, user: UserIx, event: EventIx, gateway: GatewayIx, attempt: u8) {
        let lane = self.resolve.sessions[at].lane(gateway, 0);
        let is_several = self.ledger.has_copies(event, user);
        let id = self.delivery.gateways.id(gateway);
        let group = group_of_one(user, &self.resolve.users, id, gateway, lane, is_several);
        self.send_bundle(event, group, SKIP_NONE, attempt);
    }
}
