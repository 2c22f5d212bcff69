//! Route asks that failed: sets are cut into halves down to one user, and a user who fails alone is asked for alone.

use std::time::Duration;

use super::{RouteAsk, RouteAsks};
use crate::model::backoff::Backoff;
use crate::model::ids::{Nanos, SessionIx, UserIx};
use crate::model::limits::{
    NOT_REACHED_PAUSE, REFUSED_USERS_MAX, ROUTES_PARTLY_AWAY, STORE_AWAY_PAUSE, SUSPECT_PAUSE_MAX,
};
use crate::model::names::{Route, RouteList};
use crate::push::context::Context;
use crate::push::evidence::{Blame, Evidence};
use crate::push::resolve::Resolve;
use crate::push::resolve::members::suspect_pause;
use crate::push::resolve::routes::Woken;
use crate::push::users::RouteState;

/// How long a user whose route was refused too often is left alone: longer each time.
const REFUSED_PAUSE: Backoff = Backoff::new(STORE_AWAY_PAUSE.longest, SUSPECT_PAUSE_MAX);

/// Members looked at one by one rather than searched for each user of a set.
const SEARCH_COST: usize = 16;
/// Places of users looked at for one whose route is known.
const WITNESSES_LOOKED_AT: usize = 4096;

/// A failure of a user alone that is the user's own if the store is seen alive after it.
#[derive(Debug)]
pub(in crate::push) struct Charge {
    pub(super) user: UserIx,
    failed_at: Nanos,
    why: String,
}

/// Who goes on without the route of a user who is refused.
#[derive(Debug)]
pub(in crate::push) struct GoneOn {
    pub(in crate::push) woken: Woken,
    /// There are too many such users: this one is to be forgotten when those have gone on.
    pub(in crate::push) forgotten: Option<UserIx>,
}

impl RouteAsks {
    /// Whether more users fail alone than a probe is trusted with. Two such outages of a part of the store are not one long one, also
    /// when no probe fell between.
    pub(super) fn is_crowded(&self) -> bool {
        !Evidence::trusts_probes(self.suspects.len() + usize::from(self.sent.suspect))
    }
}

impl Resolve {
    /// The user failed alone, and is asked for alone: whoever needs the route waits for that ask. It has a new number, so
    /// that its answer is as new as whoever waits.
    pub(super) fn join_alone(&mut self, user: UserIx, no: u32, keeps_route: bool, cx: &Context) -> u32 {
        self.users.set_asked_in(user, no, keeps_route);
        if self.routes.asks[&no].sent_at.is_some() {
            return no;
        }
        self.routes.close_open();
        let mut ask = self.routes.asks.remove(&no).expect("kept for as long as the user fails");
        let due = ask.due.expect("it failed, and is not under way");
        self.routes.suspects.remove(&(due, no));
        let due = if ask.sessions.is_empty() && ask.fenced.is_empty() { cx.now } else { due };
        ask.due = Some(due);
        let no = self.routes.enter(ask);
        self.routes.suspects.insert((due, no));
        self.routes.alone.insert(user, no);
        self.users.renumber_ask(user, no);
        no
    }

    /// An ask failed. A set that was refused is asked again in halves; one that had no answer as it was, unless others
    /// have succeeded since it failed before: a lost connection is nobody's fault.
    pub(super) fn routes_failed(
        &mut self,
        no: u32,
        sent_at: Nanos,
        why: &str,
        is_answer: bool,
        cx: &mut Context,
    ) -> Woken {
        let asks = &mut self.routes;
        let was_away = asks.signs.outage.is_away();
        asks.signs.evidence.failed(cx.now);
        asks.signs.wants_probe = true;
        let ask = asks.asks.get_mut(&no).expect("looked at by the caller");
        let before = ask.failed_at.replace(cx.now);
        ask.failures = ask.failures.saturating_add(1);
        let (is_contradicted, failures) = (ask.is_contradicted, ask.failures);
        if ask.due.is_none() {
            asks.signs.outage.failed(cx.now);
            if asks.signs.outage.is_away() {
                asks.charges.clear();
            }
        }
        if ask.users.len() == 1 {
            self.user_failed(no, before, cx.now.since(sent_at), why, cx);
            return Woken::default();
        }
        cx.warn("routes_unavailable", || why.to_owned());
        if is_contradicted || (is_answer && (!was_away || failures > 1)) {
            return self.split_routes(no);
        }
        self.routes.parts.push_back(no);
        Woken::default()
    }

    /// An ask never left, for want of a connection: that says nothing of its users. It goes again as it was; while there is no
    /// connection, the store is away.
    pub(super) fn routes_not_reached(&mut self, no: u32, why: &str, cx: &mut Context) -> Woken {
        cx.warn("routes_unavailable", || why.to_owned());
        let asks = &mut self.routes;
        let ask = asks.asks.get_mut(&no).expect("looked at by the caller");
        if let Some(due) = &mut ask.due {
            *due = cx.now.after(NOT_REACHED_PAUSE);
            asks.suspects.insert((*due, no));
            return Woken::default();
        }
        let is_part = ask.failed_at.is_some();
        if is_part { &mut asks.parts } else { &mut asks.unsent }.push_front(no);
        asks.signs.outage.failed(cx.now);
        if asks.signs.outage.is_away() {
            asks.charges.clear();
        }
        Woken::default()
    }

    /// The store answered a set but for some users: those are asked for alone from here on; what is left of the ask, and the
    /// answers given, are the others'. Sessions that need one of those wait for the new asks when the ask's end wakes them.
    pub(super) fn users_failed_in(&mut self, no: u32, routes: &RouteList, why: &str, cx: &mut Context) -> RouteList {
        self.routes.close_open();
        let asks = &mut self.routes;
        asks.signs.evidence.failed(cx.now);
        asks.signs.wants_probe = true;
        let ask = asks.asks.get_mut(&no).expect("looked at by the caller");
        let (users, fenced) = (std::mem::take(&mut ask.users), std::mem::take(&mut ask.fenced));
        let (mut read, mut unread) = (RouteList::new(), Vec::new());
        for (user, route) in users.into_iter().zip(routes.iter()) {
            if route == Route::Unread {
                unread.push(user);
            } else {
                ask.users.push(user);
                read.push(route);
            }
        }
        let due = cx.now.after(suspect_pause(1, Duration::ZERO));
        for user in &unread {
            let (users, failed_at, due_at) = (vec![*user], Some(cx.now), Some(due));
            let no = asks.enter(RouteAsk { users, failures: 1, failed_at, due: due_at, ..RouteAsk::default() });
            asks.suspects.insert((due, no));
            asks.alone.insert(*user, no);
            self.users.renumber_ask(*user, no);
        }
        let name = self.users.text(unread[0]).to_owned();
        cx.warn("routes_unavailable", || format!("user {name}: {why}"));
        for (at, user) in fenced {
            self.routes.ask(self.users.asked_in(user)).fenced.push((at, user));
        }
        read
    }

    /// A user failed alone.
    fn user_failed(&mut self, no: u32, before: Option<Nanos>, took: Duration, why: &str, cx: &mut Context) {
        let asks = &mut self.routes;
        let failing = asks.suspects.len() + usize::from(asks.sent.suspect) + 1;
        let ask = asks.asks.get_mut(&no).expect("looked at by the caller");
        let user = ask.users[0];
        // A set that failed before may have been another user's doing.
        let is_its_own = ask.due.is_some();
        let is_accused = is_its_own
            && ask.is_contradicted
            && !asks.signs.outage.is_away()
            && asks.signs.evidence.blame(before, failing) == Blame::Ask;
        let mut pause = suspect_pause(ask.failures, took);
        let tries = ask.tries.saturating_add(u32::from(is_accused));
        if is_accused {
            pause = pause.max(cx.settings.retry_interval);
        }
        if is_accused && tries > cx.settings.max_retry {
            // Nobody waits for it from here on: whoever needs it anew asks at once.
            pause = pause.max(REFUSED_PAUSE.after(tries - cx.settings.max_retry));
        }
        let due = cx.now.after(pause);
        ask.due = Some(due);
        asks.suspects.insert((due, no));
        asks.alone.insert(user, no);
        if is_accused {
            return asks.charges.push(Charge { user, failed_at: cx.now, why: why.to_owned() });
        }
        let name = self.users.text(user).to_owned();
        cx.warn("routes_unavailable", || format!("user {name}: {why}"));
    }

    /// The store answered: what was charged before that answer was asked for was no outage's doing. A probe is enough here,
    /// however many fail: that others succeed was seen before. Who is asked for again already is charged for that.
    pub(in crate::push) fn confirm_route_charge(&mut self, charge: Charge, cx: &mut Context) -> Option<GoneOn> {
        let Charge { user, failed_at, why } = charge;
        if self.routes.signs.evidence.blame(Some(failed_at), 1) == Blame::Store {
            self.routes.charges.push(Charge { user, failed_at, why });
            return None;
        }
        let &no = self.routes.alone.get(&user)?;
        let ask = self.routes.asks.get_mut(&no).expect("kept for as long as the user fails");
        if ask.failed_at != Some(failed_at) || ask.sent_at.is_some() {
            return None;
        }
        ask.tries = ask.tries.saturating_add(1);
        let is_over = ask.tries > cx.settings.max_retry;
        let name = self.users.text(user).to_owned();
        cx.warn("route_refused", || format!("user {name} fails, others do not: {why}"));
        is_over.then(|| self.go_on_without_route(no, user))
    }

    /// The store refuses this user's route and answers others: it counts as none until it is answered.
    fn go_on_without_route(&mut self, no: u32, user: UserIx) -> GoneOn {
        let asks = &mut self.routes;
        let ask = asks.asks.get_mut(&no).expect("looked at by the caller");
        let woken = Woken { sessions: std::mem::take(&mut ask.sessions), fenced: std::mem::take(&mut ask.fenced) };
        let is_one_too_many = asks.alone.len() > REFUSED_USERS_MAX;
        self.users.set_route(user, RouteState::Bad);
        if is_one_too_many {
            let ask = asks.asks.remove(&no).expect("looked at above");
            if let Some(due) = ask.due {
                asks.suspects.remove(&(due, no));
            }
            asks.alone.remove(&user);
        }
        GoneOn { woken, forgotten: is_one_too_many.then_some(user) }
    }

    /// Whom a probe asks for: while more fail than a probe is trusted with, somebody whose route is known. Where routes are
    /// cached nobody else would ask for one that can be read. Not at once: a part of the store that is away for a moment (one of
    /// the servers behind a proxy) is nobody's fault either. After one that was refused there is a probe without.
    pub(super) fn witness(&mut self, now: Nanos) -> Option<UserIx> {
        let asks = &mut self.routes;
        let was_refused = asks.has_witness && asks.signs.evidence.is_away();
        asks.crowded_since = asks.is_crowded().then(|| asks.crowded_since.unwrap_or(now));
        let is_old = asks.crowded_since.is_some_and(|since| now.since(since) >= ROUTES_PARTLY_AWAY);
        let witness = match was_refused || !is_old {
            true => None,
            false => self.users.next_routed(&mut asks.witness_from, WITNESSES_LOOKED_AT),
        };
        asks.has_witness = witness.is_some();
        witness
    }

    /// Whether a probe's answer has the route that was asked for, if one was.
    pub(super) fn checked_witness(&self, routes: &RouteList) -> Result<(), String> {
        match routes.iter().next() {
            _ if !self.routes.has_witness => Ok(()),
            Some(Route::Unread) => Err(routes.refusal().unwrap_or("refused").to_owned()),
            Some(_) if routes.len() == 1 => Ok(()),
            _ => Err(format!("the route store answered {} routes to one user", routes.len())),
        }
    }

    /// Nobody asks any more for the route of a user who is refused: there are too many.
    pub(in crate::push) fn forget_refused(&mut self, user: UserIx) {
        self.users.forget_route(user);
        self.users.unname(&[user]);
    }

    /// Halves of a set become sets of their own, each awaited by the sessions that have a member in it.
    fn split_routes(&mut self, no: u32) -> Woken {
        self.routes.close_open();
        let ask = self.routes.asks.remove(&no).expect("looked at by the caller");
        let (first, second) = ask.users.split_at(ask.users.len() / 2);
        let nos = [first, second].map(|users| {
            let half = RouteAsk { users: users.to_vec(), failed_at: ask.failed_at, ..RouteAsk::default() };
            let no = self.routes.enter(half);
            users.iter().for_each(|user| self.users.renumber_ask(*user, no));
            self.routes.parts.push_back(no);
            no
        });
        for (at, user) in ask.fenced {
            self.routes.ask(self.users.asked_in(user)).fenced.push((at, user));
        }
        let mut free = Vec::new();
        for at in ask.sessions {
            let awaited = self.awaits(at, nos, [first, second]);
            if awaited == [false, false] {
                free.push(at);
                continue;
            }
            self.sessions[at].lookups.awaited_asks += u32::from(awaited == [true, true]);
            for (no, _) in nos.into_iter().zip(awaited).filter(|(_, is_awaited)| *is_awaited) {
                self.routes.ask(no).sessions.push(at);
            }
        }
        Woken { sessions: free, fenced: Vec::new() }
    }

    /// In which of two sets a session has members.
    fn awaits(&self, at: SessionIx, nos: [u32; 2], sets: [&[UserIx]; 2]) -> [bool; 2] {
        let Some(members) = self.sessions[at].members.as_ref().map(|list| &list.users) else {
            return [false; 2];
        };
        if members.len() > (sets[0].len() + sets[1].len()) * SEARCH_COST {
            return sets.map(|set| set.iter().any(|user| members.binary_search(user).is_ok()));
        }
        let is_in = |no: u32| members.iter().any(|user| self.users.asked_in(*user) == no && self.users.is_asked(*user));
        nos.map(is_in)
    }
}
