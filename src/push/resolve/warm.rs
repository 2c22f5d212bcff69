//! Lookups ahead: who is in the sessions of a partition that comes here, and where they are, by the events that were settled of it lately.
//!
//! Promises that nobody waits for them: one query at a time, and only while no session with events waits to be asked for; the sessions
//! named last first. What had no turn within [`WARM_WITHIN`], or is past [`WARM_SESSIONS_MAX`], is left to its first event and counted. What
//! they bring is as old, and is void by the same, as what an event's own lookups bring.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::ids::{Nanos, SessionId, SessionIx};
use crate::model::limits::{MEMBER_LARGE, MEMBER_QUERY_SESSIONS};
use crate::push::context::Context;
use crate::push::resolve::Resolve;
use crate::push::resolve::members::is_fresh;
use crate::push::sessions::{Lookups, Session};

/// Sessions that one shard keeps for it.
const WARM_SESSIONS_MAX: usize = 1024;
/// A partition is here so soon after it was said to come, or its sessions have events by then.
const WARM_WITHIN: Duration = Duration::from_secs(1);

/// A session, and when it was named.
#[derive(Debug)]
struct Named {
    id: SessionId,
    at: Nanos,
}

/// Sessions that are to be looked up ahead.
#[derive(Debug, Default)]
pub(in crate::push) struct Warm {
    /// The one named last has the highest number.
    by_order: BTreeMap<u64, Named>,
    order_of: HashMap<SessionId, u64>,
    next_order: u64,
}

impl Warm {
    /// One more, which goes before the others; true when one had to go for it.
    fn name(&mut self, id: &str, now: Nanos) -> bool {
        let order = self.next_order;
        self.next_order += 1;
        match self.order_of.get_mut(id) {
            Some(before) => {
                self.by_order.remove(before);
                *before = order;
            }
            None => _ = self.order_of.insert(id.into(), order),
        }
        self.by_order.insert(order, Named { id: id.into(), at: now });
        self.by_order.len() > WARM_SESSIONS_MAX && self.pop(BTreeMap::pop_first).is_some()
    }

    fn pop(&mut self, end: impl FnOnce(&mut BTreeMap<u64, Named>) -> Option<(u64, Named)>) -> Option<Named> {
        let (_, named) = end(&mut self.by_order)?;
        self.order_of.remove(&named.id);
        Some(named)
    }

    /// Nobody waits any more; how many did.
    fn clear(&mut self) -> u64 {
        self.order_of.clear();
        std::mem::take(&mut self.by_order).len() as u64
    }
}

impl Session {
    /// Nobody asks for its members and no event waits for them, and nothing is wrong with it.
    pub(super) fn may_be_asked_ahead(&self) -> bool {
        !self.lookups.is_asking && self.lookups.trouble.is_none() && self.waiting.is_empty()
    }
}

impl Lookups {
    /// The members are asked for before an event needs them.
    pub(super) fn begin_ahead(&mut self) {
        (self.is_asking, self.is_ahead) = (true, true);
    }
}

impl Resolve {
    /// A partition comes here, and an event of this session (its id and that one's hash) was settled of it.
    pub(in crate::push) fn warm(&mut self, id: &str, hash: u64, cx: &mut Context) {
        // Where lists hold for no other event, nothing is won.
        if cx.settings.members_ttl.is_zero() || cx.is_retreating {
            return;
        }
        let known = self.sessions.find(id.as_bytes(), hash);
        if known.is_none_or(|at| self.is_cold(at, cx)) {
            cx.activity.sessions_left_cold += u64::from(self.warm.name(id, cx.now));
        }
    }

    /// Its members are not known and not asked for, and nothing is wrong with it. A large one is asked for alone, by its events.
    fn is_cold(&self, at: SessionIx, cx: &Context) -> bool {
        let session = &self.sessions[at];
        let is_known = session.members.as_ref().is_some_and(|list| {
            list.users.len() > MEMBER_LARGE || is_fresh(list, cx.now, cx.now, cx.settings.members_ttl)
        });
        session.may_be_asked_ahead() && !is_known
    }

    /// Whether sessions wait to be looked up ahead.
    pub(in crate::push) fn is_warming(&self) -> bool {
        !self.warm.by_order.is_empty()
    }

    /// Asks ahead for the members of sessions, while nobody waits for any.
    pub(super) fn ask_ahead(&mut self, cx: &mut Context) {
        if self.warm.by_order.is_empty() {
            return;
        }
        if self.members.is_away() || cx.is_retreating || !self.sessions.has_room() {
            cx.activity.sessions_left_cold += self.warm.clear();
            return;
        }
        while self.members.may_ask_ahead() {
            let sessions = self.next_cold(cx);
            if sessions.is_empty() {
                return;
            }
            cx.activity.sessions_warmed += sessions.len() as u64;
            self.send_newcomers(sessions, cx);
        }
    }

    fn next_cold(&mut self, cx: &mut Context) -> Vec<SessionIx> {
        let mut sessions = Vec::new();
        while sessions.len() < MEMBER_QUERY_SESSIONS
            && let Some(named) = self.warm.pop(BTreeMap::pop_last)
        {
            if cx.now.since(named.at) > WARM_WITHIN {
                // Those below were named before.
                cx.activity.sessions_left_cold += 1 + self.warm.clear();
                break;
            }
            let id = named.id.as_bytes();
            let at = self.sessions.of(id, self.sessions.hash(id), &mut self.users);
            if self.is_cold(at, cx) {
                self.sessions[at].lookups.begin_ahead();
                sessions.push(at);
            }
        }
        sessions
    }

    /// A session's members are known: if that was asked ahead, and no event has come, their routes are asked for as well, as far as the
    /// turn allows.
    pub(in crate::push) fn ask_routes_ahead(&mut self, at: SessionIx, cx: &mut Context) {
        let session = &mut self.sessions[at];
        let is_ahead = std::mem::take(&mut session.lookups.is_ahead);
        if !is_ahead || !session.waiting.is_empty() || !self.is_tracking || self.routes.is_away() {
            return;
        }
        let members = session.members.as_ref().map_or(0, |list| list.users.len());
        if members > 0 && members <= cx.budget.recipients_left {
            cx.budget.recipients_left -= members;
            let first_ask = self.routes.open_no();
            self.has_routes(at, first_ask, cx);
        }
    }
}
