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
use crate::push::dispatch::fences::{Fence, Held};
use crate::push::layout::group_of_one;
use crate::push::users::RouteState;

impl Push {
    /// From here on the user's messages of this session wait until the session's bundles to `gateway` have ended.
    pub(super) fn hold_behind(&mut self, at: SessionIx, user: UserIx, gateway: GatewayIx) {
        if self.dispatch.fences.has(at, user) {
            return;
        }
        let session = &mut self.resolve.sessions[at];
        let until = session.lanes.iter().find(|lane| lane.gateway == gateway).map(|lane| lane.sent);
        let place = session.held.binary_search(&user).unwrap_or_else(|place| place);
        session.held.insert(place, user);
        if let Some(layout) = &mut session.layout {
            layout.is_stale = true;
        }
        self.resolve.users.hold(user);
        self.dispatch.fences.raise(at, user, until.map(|until| (gateway, until)));
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
        self.hold_behind(at, user, tried.0);
        self.put_into_hold(at, user, event, Some(tried));
        self.cx.activity.rerouted_recipients += 1;
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
                self.release(at, user, None, RecipientOutcome::Offline);
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
        if let Some((gateway, until)) = fence.behind {
            if !self.resolve.sessions[at].has_done(gateway, until) {
                return;
            }
            fence.behind = None;
        }
        if fence.waiting.is_empty() {
            return self.release(at, user, None, RecipientOutcome::Offline);
        }
        match self.resolve.users.route(user) {
            RouteState::Unknown | RouteState::Asked => self.resolve.await_route_of_held(at, user, &self.cx),
            RouteState::At(_) if self.resolve.users.is_stale(user) => {
                self.resolve.await_route_of_held(at, user, &self.cx)
            }
            RouteState::Offline => self.release(at, user, None, RecipientOutcome::Offline),
            RouteState::Bad => self.release(at, user, None, RecipientOutcome::BadRoute),
            RouteState::NoPlace => self.release(at, user, None, RecipientOutcome::GatewayTableFull),
            RouteState::At(gateway) => self.release(at, user, Some(gateway), RecipientOutcome::Offline),
        }
    }

    fn release(&mut self, at: SessionIx, user: UserIx, gateway: Option<GatewayIx>, otherwise: RecipientOutcome) {
        let Some(Fence { waiting, .. }) = self.dispatch.fences.lower(at, user) else { return };
        let session = &mut self.resolve.sessions[at];
        if let Ok(place) = session.held.binary_search(&user) {
            session.held.remove(place);
        }
        if let Some(layout) = &mut session.layout {
            layout.is_stale = true;
            layout.released.extend(gateway.map(|gateway| (user, gateway)));
        }
        for held in waiting {
            match (gateway, held.tried) {
                (Some(gateway), Some((refused_by, end))) if gateway == refused_by => {
                    self.end_held(user, held.event, end)
                }
                (Some(gateway), tried) => self.bundle_one(at, user, held.event, gateway, u8::from(tried.is_some())),
                (None, _) => self.end_held(user, held.event, otherwise),
            }
        }
        self.resolve.users.unname(&[user]);
    }

    fn end_held(&mut self, user: UserIx, event: EventIx, end: RecipientOutcome) {
        self.ledger.end_unreached(event, &[user], end, &self.cx);
        self.bundle_ended(event);
    }

    fn bundle_one(&mut self, at: SessionIx, user: UserIx, event: EventIx, gateway: GatewayIx, attempt: u8) {
        let lane = self.resolve.sessions[at].lane(gateway, 0);
        let group = group_of_one(user, &self.resolve.users, self.delivery.gateways.id(gateway), gateway, lane);
        self.send_bundle(event, group, SKIP_NONE, attempt);
    }
}
