//! Third step: where each member is connected. What is known is used; what is not is asked for, each user once however
//! many sessions wait, many users an MGET.
//!
//! Promises that an ask that fails goes again by itself, that nobody waits for an ask that was never sent, that a set of
//! users never waits or falls for one of them, and that a user whose route the store refuses while it answers others ends
//! as one without a route, and is asked for again alone until the store answers: the others of the event are pushed.

mod failing;
mod loss;
mod several;
mod urgent;

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use crate::model::delivery::LookupError;
use crate::model::ids::{GatewayIx, Nanos, SessionIx, UserIx};
use crate::model::limits::{MGET_KEYS, MGETS_IN_FLIGHT};
use crate::model::names::{Route, RouteList};
use crate::push::context::Context;
use crate::push::delivery::Delivery;
use crate::push::evidence::Blame;
use crate::push::facts::{AskNo, Output};
use crate::push::resolve::Resolve;
use crate::push::resolve::outage::Signs;
use crate::push::resolve::routes::failing::Charge;
use crate::push::resolve::routes::loss::Loss;
use crate::push::users::RouteState;

/// Probes have numbers from here on; asks are numbered in 32 bits.
const PROBES: AskNo = 1 << 32;
/// One place is for a probe, one for a user who failed alone.
const SETS_IN_FLIGHT: usize = MGETS_IN_FLIGHT - 2;

#[derive(Debug, Default)]
struct RouteAsk {
    users: Vec<UserIx>,
    sessions: Vec<SessionIx>,
    fenced: Vec<(SessionIx, UserIx)>,
    /// Failures that it was blamed for.
    tries: u32,
    /// Failures in a row, and when the latest came.
    failures: u32,
    failed_at: Option<Nanos>,
    sent_at: Option<Nanos>,
    /// When it was sent, others had succeeded since it failed: if it fails again it is to blame.
    is_contradicted: bool,
    /// A session with an urgent event waits for it.
    is_urgent: bool,
    /// It is of one user and failed: when it is asked again.
    due: Option<Nanos>,
}

/// Who waited for an ask that has ended.
#[derive(Debug, Default)]
pub(in crate::push) struct Woken {
    /// Sessions, each of which waits for one ask less.
    pub(in crate::push) sessions: Vec<SessionIx>,
    /// Users whose messages wait, of these sessions.
    pub(in crate::push) fenced: Vec<(SessionIx, UserIx)>,
}

/// Asks under way.
#[derive(Debug, Default)]
struct Sent {
    sets: usize,
    suspect: bool,
    probe_at: Option<Nanos>,
}

/// The lookups of routes.
#[derive(Debug, Default)]
pub struct RouteAsks {
    asks: HashMap<u32, RouteAsk>,
    /// The ask that is being filled, and its number.
    open: RouteAsk,
    open_no: u32,
    unsent: VecDeque<u32>,
    /// Some of those may be urgent.
    has_urgent: bool,
    /// Sets that failed; nobody joins them.
    parts: VecDeque<u32>,
    /// Asks of one user that failed, and when each is sent again; one at a time.
    suspects: BTreeSet<(Nanos, u32)>,
    /// The ask of each user who failed alone.
    alone: HashMap<UserIx, u32>,
    charges: Vec<Charge>,
    sent: Sent,
    /// Whether the probe asks for a user whose route is known, and where the next one is looked for.
    has_witness: bool,
    witness_from: usize,
    /// Since when more fail than a probe is trusted with.
    crowded_since: Option<Nanos>,
    signs: Signs,
    loss: Loss,
}

impl RouteAsks {
    /// The number that an ask made from now on has at least.
    pub fn open_no(&self) -> u32 {
        self.open_no
    }

    /// Whether nothing is asked, and nothing is to be.
    pub fn is_at_rest(&self) -> bool {
        let waits = !self.open.users.is_empty() || !self.suspects.is_empty() || !self.charges.is_empty();
        !waits && self.asks.is_empty() && self.sent.probe_at.is_none() && self.signs.are_calm()
    }

    /// Whether nothing has succeeded since it began to fail, and that more than once.
    pub fn is_away(&self) -> bool {
        self.signs.outage.is_away()
    }

    /// The store may be back.
    pub fn hurry(&mut self, now: Nanos) {
        self.signs.outage.hurry(now);
    }

    /// The ask of a number that users are noted with.
    fn ask(&mut self, no: u32) -> &mut RouteAsk {
        if no == self.open_no {
            return &mut self.open;
        }
        self.asks.get_mut(&no).expect("a user is asked for in an ask that is kept")
    }

    fn close_open(&mut self) {
        if !self.open.users.is_empty() {
            let open = std::mem::take(&mut self.open);
            let no = self.enter(open);
            self.unsent.push_back(no);
        }
    }

    /// Keeps an ask under the next number; the open one has no users.
    fn enter(&mut self, ask: RouteAsk) -> u32 {
        let no = self.open_no;
        self.asks.insert(no, ask);
        self.open_no = no.wrapping_add(1);
        no
    }
}

impl Resolve {
    /// Whether the routes of all members are known well enough for the event at the front of its session; if not, they
    /// are being asked for. `first_ask` is the first ask that was not sent before the event arrived. Held members do not count: their
    /// messages wait by themselves. It looks at each member, so where routes are tracked it is not asked about a session that
    /// [is laid out](Self::is_laid_out).
    pub(in crate::push) fn has_routes(&mut self, at: SessionIx, first_ask: u32, cx: &Context) -> bool {
        let must_be_asked_since = (!self.is_tracking).then_some(first_ask);
        let session = &mut self.sessions[at];
        let members = session.members.take().expect("members come before routes");
        let held = std::mem::take(&mut session.held);
        for user in members.users.iter() {
            if !held.is_empty() && held.binary_search(user).is_ok() {
                continue;
            }
            let (is_known, is_stale) = (self.users.knows(*user), self.users.is_stale(*user));
            let is_old =
                must_be_asked_since.is_some_and(|ask| (self.users.known_in(*user).wrapping_sub(ask) as i32) < 0);
            if is_known && !is_stale && !is_old {
                continue;
            }
            let no = match self.users.is_asked(*user) {
                true => self.users.asked_in(*user),
                // What is only too old for this event is not for others, who may have waited for it.
                false => self.put_into_open_ask(*user, is_known && !is_stale, cx),
            };
            self.await_ask(no, at);
        }
        let session = &mut self.sessions[at];
        session.members = Some(members);
        session.held = held;
        session.lookups.awaited_asks == 0
    }

    /// `keeps_route`: what is known of the user holds meanwhile.
    fn put_into_open_ask(&mut self, user: UserIx, keeps_route: bool, cx: &Context) -> u32 {
        if !self.routes.alone.is_empty()
            && let Some(&no) = self.routes.alone.get(&user)
        {
            return self.join_alone(user, no, keeps_route, cx);
        }
        self.users.hold(user);
        if self.routes.open.users.len() == MGET_KEYS {
            self.routes.close_open();
        }
        self.routes.open.users.push(user);
        self.users.set_asked_in(user, self.routes.open_no, keeps_route);
        self.routes.open_no
    }

    fn await_ask(&mut self, no: u32, at: SessionIx) {
        if self.is_hurried(at) {
            self.routes.hurry_ask(no);
        }
        let ask = self.routes.ask(no);
        if ask.sessions.last() != Some(&at) {
            ask.sessions.push(at);
            self.sessions[at].lookups.awaited_asks += 1;
        }
    }

    /// Asks again for the route of a held user, or waits for the ask that is under way.
    pub(in crate::push) fn await_route_of_held(&mut self, at: SessionIx, user: UserIx, cx: &Context) {
        let no = match self.users.is_asked(user) {
            true => self.users.asked_in(user),
            false => self.put_into_open_ask(user, false, cx),
        };
        if self.is_hurried(at) {
            self.routes.hurry_ask(no);
        }
        let ask = self.routes.ask(no);
        if !ask.fenced.contains(&(at, user)) {
            ask.fenced.push((at, user));
        }
    }

    /// Sends the asks that are due, bounded in number.
    pub(in crate::push) fn ask_routes(&mut self, cx: &mut Context) {
        self.routes.close_open();
        if cx.is_cut_off {
            return;
        }
        if self.routes.signs.outage.is_away() {
            self.ask_routes_of_store_that_is_away(cx);
        } else {
            while self.routes.sent.sets < SETS_IN_FLIGHT {
                let asks = &mut self.routes;
                let Some(no) = asks.parts.pop_front().or_else(|| asks.next_unsent()) else { break };
                self.send_set(no, cx);
            }
        }
        if !self.routes.sent.suspect
            && let Some(&(due, no)) = self.routes.suspects.first()
            && due <= cx.now
        {
            self.routes.sent.suspect = true;
            self.send_routes(no, cx);
            self.routes.suspects.pop_first();
        }
        let asks = &mut self.routes;
        if asks.signs.wants_probe
            && asks.sent.sets == 0
            && asks.sent.probe_at.is_none()
            && asks.signs.outage.may_probe()
        {
            self.probe_routes(cx);
        }
    }

    /// One of each kind a round, so that whoever was never asked for is not held up by who fails.
    fn ask_routes_of_store_that_is_away(&mut self, cx: &mut Context) {
        let asks = &mut self.routes;
        if asks.sent.sets > 0 || asks.sent.probe_at.is_some() || !asks.signs.outage.begins_round(cx.now) {
            return;
        }
        let round = [asks.parts.pop_front(), asks.next_unsent()];
        round.into_iter().flatten().for_each(|no| self.send_set(no, cx));
        self.probe_routes(cx);
    }

    fn probe_routes(&mut self, cx: &mut Context) {
        self.routes.signs.wants_probe = false;
        self.routes.sent.probe_at = Some(cx.now);
        cx.activity.lookup_probes += 1;
        cx.activity.mgets += 1;
        let users = self.witness(cx.now).map(|user| self.users.text(user)).into_iter().collect();
        cx.out.push(Output::AskRoutes { ask: PROBES, users });
    }

    fn send_set(&mut self, no: u32, cx: &mut Context) {
        self.routes.sent.sets += 1;
        self.send_routes(no, cx);
    }

    fn send_routes(&mut self, no: u32, cx: &mut Context) {
        let RouteAsks { asks, signs: Signs { evidence, .. }, suspects, .. } = &mut self.routes;
        let ask = asks.get_mut(&no).expect("kept until it is answered");
        ask.sent_at = Some(cx.now);
        ask.is_contradicted = evidence.blame(ask.failed_at, suspects.len().max(1)) == Blame::Ask;
        let users = ask.users.iter().map(|user| self.users.text(*user)).collect();
        cx.activity.mgets += 1;
        cx.activity.mget_keys += ask.users.len() as u64;
        cx.activity.lookups_alone += u64::from(ask.due.is_some());
        cx.out.push(Output::AskRoutes { ask: AskNo::from(no), users });
    }

    /// Takes an answer: who waits no longer, and whether the store is seen alive by it.
    pub(in crate::push) fn routes_answered(
        &mut self,
        ask: AskNo,
        answer: Result<RouteList, LookupError>,
        delivery: &mut Delivery,
        cx: &mut Context,
    ) -> (Woken, bool) {
        if ask == PROBES {
            return (Woken::default(), self.probe_of_routes_answered(answer, cx));
        }
        let no = ask as u32;
        let Some(asked) = self.routes.asks.get_mut(&no) else { return Default::default() };
        let Some(sent_at) = asked.sent_at.take() else { return Default::default() };
        let (asked_for, is_suspect) = (asked.users.len(), asked.due.is_some());
        match is_suspect {
            true => self.routes.sent.suspect = false,
            false => self.routes.sent.sets -= 1,
        }
        let woken = match answer {
            Ok(routes) if routes.len() == asked_for => {
                if let Some(why) = routes.refusal()
                    && routes.iter().all(|route| route == Route::Unread)
                {
                    return (self.routes_failed(no, sent_at, why, true, cx), false);
                }
                self.routes.signs.evidence.answered(sent_at);
                self.route_store_answered(sent_at, is_suspect, cx);
                let read = routes.refusal().map(|why| self.users_failed_in(no, &routes, why, cx));
                return (self.take_routes(no, read.as_ref().unwrap_or(&routes), delivery, cx), true);
            }
            Ok(routes) => {
                let why = format!("the route store answered {} routes to {asked_for} users", routes.len());
                self.routes_failed(no, sent_at, &why, true, cx)
            }
            Err(LookupError::NotReached(why)) => self.routes_not_reached(no, &why, cx),
            Err(LookupError::Unavailable(why)) => self.routes_failed(no, sent_at, &why, false, cx),
            Err(LookupError::Rejected(why)) => self.routes_failed(no, sent_at, &why, true, cx),
        };
        (woken, false)
    }

    /// True when the probe was answered.
    fn probe_of_routes_answered(&mut self, answer: Result<RouteList, LookupError>, cx: &mut Context) -> bool {
        let Some(sent_at) = self.routes.sent.probe_at.take() else { return false };
        match answer.and_then(|routes| self.checked_witness(&routes).map_err(LookupError::Rejected)) {
            Ok(()) => {
                match self.routes.has_witness {
                    true => self.routes.signs.evidence.answered(sent_at),
                    false => self.routes.signs.evidence.probe_answered(sent_at),
                }
                self.route_store_answered(sent_at, false, cx);
                true
            }
            Err(error) => {
                self.routes.charges.clear();
                self.routes.signs.evidence.failed(cx.now);
                self.routes.signs.outage.failed(cx.now);
                self.routes.signs.wants_probe = true;
                cx.warn("routes_unavailable", || error.to_string());
                false
            }
        }
    }

    fn route_store_answered(&mut self, sent_at: Nanos, is_suspect: bool, cx: &Context) {
        let asks = &mut self.routes;
        asks.signs.wants_probe &= asks.signs.evidence.is_away();
        // What failed only because nothing worked need not wait for its time.
        if asks.signs.outage.answered(sent_at) || is_suspect {
            let waiting = std::mem::take(&mut asks.suspects);
            for (due, no) in waiting {
                let ask = asks.asks.get_mut(&no).expect("kept until it succeeds");
                let is_charged = || asks.charges.iter().any(|charge| ask.users.first() == Some(&charge.user));
                let due = if ask.tries == 0 && !is_charged() { due.min(cx.now) } else { due };
                ask.due = Some(due);
                asks.suspects.insert((due, no));
            }
        }
    }

    fn take_routes(&mut self, no: u32, routes: &RouteList, delivery: &mut Delivery, cx: &mut Context) -> Woken {
        let ask = self.routes.asks.remove(&no).expect("looked at by the caller");
        for (user, route) in ask.users.iter().zip(routes.iter()) {
            if ask.due.is_some() {
                self.routes.alone.remove(user);
                if !self.routes.is_crowded() {
                    self.routes.crowded_since = None;
                }
            }
            if route == Route::Offline && self.keeps_route(*user, cx) {
                continue;
            }
            let known = match route {
                Route::Gateways(ids) => {
                    self.take_gateways(*user, ids, delivery, cx);
                    continue;
                }
                Route::Gateway(id) => delivery.place_of_route(id, cx).map_or(RouteState::NoPlace, RouteState::At),
                Route::Offline => RouteState::Offline,
                Route::Bad => RouteState::Bad,
                // Those have asks of their own by now; whoever had none would be asked for again.
                Route::Unread => RouteState::Unknown,
            };
            if known == RouteState::Bad {
                let name = self.users.text(*user).to_owned();
                cx.warn("bad_route", || format!("user {name}: the route in the store is not JSON with a gateway_id"));
            }
            self.users.set_route(*user, known);
        }
        for (at, fault) in routes.faults() {
            self.warn_of_list(ask.users.get(at).copied(), fault, cx);
        }
        self.users.unname(&ask.users);
        Woken { sessions: ask.sessions, fenced: ask.fenced }
    }

    /// The charges that [`confirm_route_charge`](Self::confirm_route_charge) is to look at.
    pub(in crate::push) fn take_route_charges(&mut self) -> Vec<Charge> {
        std::mem::take(&mut self.routes.charges)
    }

    /// An ask that a session waited for has ended. True when it waits for none any more.
    pub(in crate::push) fn ask_ended(&mut self, at: SessionIx) -> bool {
        self.sessions[at].lookups.awaited_asks -= 1;
        self.sessions[at].lookups.awaited_asks == 0
    }

    /// A user's route changed; one of whom nothing is known needs no note.
    pub(in crate::push) fn forget_route(&mut self, name: &str) {
        if let Some(user) = self.users.find(name) {
            self.users.forget_route(user);
        }
    }

    /// A gateway said that the user is not connected to it: if that is what the route says or said, it is forgotten.
    pub(in crate::push) fn forget_route_to(&mut self, user: UserIx, gateway: GatewayIx) {
        self.users.is_not_at(user, gateway);
    }
}
