//! Third step: where each member is connected. What is known is used; what is not is asked for, each user once however
//! many sessions wait, many users an MGET.
//!
//! Promises that an ask that a store refuses, or cannot take now, goes again by itself, and that nobody waits for an
//! ask that was never sent.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::ids::{GatewayIx, Nanos, SessionIx, UserIx};
use crate::limits::{MGET_KEYS, MGETS_IN_FLIGHT, STORE_AWAY_PAUSE};
use crate::names::{Route, RouteList};
use crate::ports::LookupError;
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::facts::{AskNo, Output};
use crate::push::users::Known;

#[derive(Debug, Default)]
struct RouteAsk {
    users: Vec<UserIx>,
    sessions: Vec<SessionIx>,
    holds: Vec<(SessionIx, UserIx)>,
    tries: u32,
}

/// The lookups of routes.
#[derive(Debug, Default)]
pub struct RouteAsks {
    asks: HashMap<u32, RouteAsk>,
    /// The ask that is being filled, and its number.
    open: RouteAsk,
    open_no: u32,
    unsent: VecDeque<u32>,
    later: VecDeque<(Nanos, u32)>,
    sent: usize,
    store_away_until: Nanos,
}

impl RouteAsks {
    /// The number that an ask made from now on has at least.
    pub fn open_no(&self) -> u32 {
        self.open_no
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
            self.asks.insert(self.open_no, std::mem::take(&mut self.open));
            self.unsent.push_back(self.open_no);
            self.open_no = self.open_no.wrapping_add(1);
        }
    }
}

impl Push {
    /// Whether the routes of all members are known well enough for the event at the front of its session; if not, they
    /// are being asked for. Held members do not count: their messages wait by themselves.
    pub(super) fn has_routes(&mut self, at: SessionIx, event: EventIx) -> bool {
        let must_be_asked_since = (!self.is_tracking).then(|| self.ledger[event].first_ask);
        if must_be_asked_since.is_none() && self.is_laid_out(at) {
            return true;
        }
        let session = &mut self.sessions[at];
        let members = session.members.take().expect("members come before routes");
        let held = std::mem::take(&mut session.held);
        for user in members.users.iter() {
            if !held.is_empty() && held.binary_search(user).is_ok() {
                continue;
            }
            let is_old =
                must_be_asked_since.is_some_and(|ask| (self.users.asked_in(*user).wrapping_sub(ask) as i32) < 0);
            match self.users.route(*user) {
                Known::Asked => self.await_ask(self.users.asked_in(*user), at),
                Known::Unknown => self.ask_route(*user, at),
                _ if is_old || self.users.is_doubted(*user) => self.ask_route(*user, at),
                _ => {}
            }
        }
        let session = &mut self.sessions[at];
        session.members = Some(members);
        session.held = held;
        session.awaited_asks == 0
    }

    fn ask_route(&mut self, user: UserIx, at: SessionIx) {
        let no = self.put_into_open_ask(user);
        self.await_ask(no, at);
    }

    fn put_into_open_ask(&mut self, user: UserIx) -> u32 {
        self.users.hold(user);
        if self.routes.open.users.len() == MGET_KEYS {
            self.routes.close_open();
        }
        self.routes.open.users.push(user);
        self.users.set_asked(user, self.routes.open_no);
        self.routes.open_no
    }

    fn await_ask(&mut self, no: u32, at: SessionIx) {
        let ask = self.routes.ask(no);
        if ask.sessions.last() != Some(&at) {
            ask.sessions.push(at);
            self.sessions[at].awaited_asks += 1;
        }
    }

    /// Asks again for the route of a held user, or waits for the ask that is under way.
    pub(super) fn await_route_of_held(&mut self, at: SessionIx, user: UserIx) {
        let no = match self.users.route(user) {
            Known::Asked => self.users.asked_in(user),
            _ => self.put_into_open_ask(user),
        };
        let ask = self.routes.ask(no);
        if !ask.holds.contains(&(at, user)) {
            ask.holds.push((at, user));
        }
    }

    /// Sends the asks that are due, bounded in number.
    pub(super) fn ask_routes(&mut self) {
        self.routes.close_open();
        while self.routes.later.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, no) = self.routes.later.pop_front().expect("looked at above");
            self.routes.unsent.push_back(no);
        }
        while self.routes.sent < MGETS_IN_FLIGHT && self.now >= self.routes.store_away_until {
            let Some(no) = self.routes.unsent.pop_front() else { break };
            self.routes.sent += 1;
            let users = self.routes.asks[&no].users.iter().map(|user| self.users.text(*user)).collect();
            self.activity.mgets += 1;
            self.activity.mget_keys += self.routes.asks[&no].users.len() as u64;
            self.out.push(Output::AskRoutes { ask: AskNo::from(no), users });
        }
    }

    /// Takes an answer.
    pub(super) fn routes_answered(&mut self, ask: AskNo, answer: Result<RouteList, LookupError>) {
        let no = ask as u32;
        if !self.routes.asks.contains_key(&no) {
            return;
        }
        self.routes.sent -= 1;
        let asked_for = self.routes.asks[&no].users.len();
        match answer {
            Ok(routes) if routes.len() == asked_for => self.take_routes(no, &routes),
            Ok(routes) => {
                let why = format!("the route store answered {} routes to {asked_for} users", routes.len());
                self.routes_refused(no, &why);
            }
            Err(LookupError::Unavailable(why)) => {
                self.warn("routes_unavailable", || why);
                self.routes.store_away_until = self.now.after(STORE_AWAY_PAUSE);
                self.routes.unsent.push_front(no);
            }
            Err(LookupError::Rejected(why)) => self.routes_refused(no, &why),
        }
    }

    fn take_routes(&mut self, no: u32, routes: &RouteList) {
        let ask = self.routes.asks.remove(&no).expect("looked at by the caller");
        for (user, route) in ask.users.iter().zip(routes.iter()) {
            let known = match route {
                Route::Gateway(id) => self.gateway_of_route(id),
                Route::Offline => Known::Offline,
                Route::Bad => Known::Bad,
            };
            if known == Known::Bad {
                let name = self.users.text(*user).to_owned();
                self.warn("bad_route", || format!("user {name}: the route in the store is no JSON with a gateway_id"));
            }
            self.users.set_route(*user, known);
        }
        self.users.unname(&ask.users);
        self.wake(ask.sessions, ask.holds);
    }

    fn gateway_of_route(&mut self, id: &str) -> Known {
        match self.gateways.place_of(id, self.now) {
            Some(gateway) => Known::At(gateway),
            None => {
                self.warn_table_full(id);
                Known::NoPlace
            }
        }
    }

    fn routes_refused(&mut self, no: u32, why: &str) {
        self.warn("routes_refused", || why.to_owned());
        let ask = self.routes.asks.get_mut(&no).expect("looked at by the caller");
        ask.tries += 1;
        if ask.tries <= self.settings.max_retry {
            self.routes.later.push_back((self.now.after(self.settings.retry_interval), no));
            return;
        }
        let ask = self.routes.asks.remove(&no).expect("looked at above");
        for user in &ask.users {
            self.users.set_route(*user, Known::Unknown);
        }
        for at in &ask.sessions {
            self.sessions[*at].tries = self.settings.max_retry;
            self.lookup_refused(*at, why);
        }
        for (at, user) in &ask.holds {
            self.end_hold(*at, *user);
        }
        self.users.unname(&ask.users);
        self.wake(ask.sessions, Vec::new());
    }

    fn wake(&mut self, sessions: Vec<SessionIx>, holds: Vec<(SessionIx, UserIx)>) {
        for (at, user) in holds {
            self.try_release(at, user);
        }
        for at in sessions {
            self.sessions[at].awaited_asks -= 1;
            if self.sessions[at].awaited_asks == 0 {
                self.advance(at);
            }
        }
    }

    /// A gateway said that the user is not connected to it: if that is what the route says, it is forgotten.
    pub(super) fn forget_route_to(&mut self, user: UserIx, gateway: GatewayIx) {
        if self.users.route(user) == Known::At(gateway) {
            self.users.forget_route(user);
        }
    }
}
