//! Member lists of sessions with urgent events are read again before they are old, so that an urgent event waits for no store.
//!
//! Promises that a session is renewed only while it had an urgent event within [`RENEWED_FOR`] lifetimes of a list, and that nobody waits
//! for it: what may be asked is what [`Warm`](super::warm) may. A list that is not renewed in time grows old as any other, and the
//! next event asks. Refuses to keep more than [`RENEWED_SESSIONS_MAX`] sessions, and to read large ones ahead.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::ids::{Nanos, SessionIx};
use crate::model::limits::{MEMBER_LARGE, MEMBER_QUERY_SESSIONS, RENEWED_FOR, RENEWED_SESSIONS_MAX, TICK};
use crate::push::context::Context;
use crate::push::resolve::Resolve;

/// A list is asked for again at this part of its lifetime: the other part is for the store.
const RENEWED_AT_PART: u32 = 2;
/// So often in a lifetime it is looked for lists to ask for, so that one query asks for many.
const LOOKED_IN_LIFETIME: u32 = 10;

/// Sessions whose lists are renewed.
#[derive(Debug, Default)]
pub(in crate::push) struct Renewal {
    /// When each had its last urgent event.
    urgent_at: HashMap<SessionIx, Nanos>,
    /// When each is looked at; each is there once. The place may be another session's by then, which costs a query at the most.
    by_due: BTreeSet<(Nanos, SessionIx)>,
    looked_at: Nanos,
}

impl Renewal {
    /// Whether there is none.
    pub(in crate::push) fn is_empty(&self) -> bool {
        self.by_due.is_empty()
    }

    fn clear(&mut self) {
        self.urgent_at.clear();
        self.by_due.clear();
    }
}

impl Resolve {
    /// The session has an urgent event.
    pub(in crate::push) fn keep_renewed(&mut self, at: SessionIx, cx: &mut Context) {
        let ttl = cx.settings.members_ttl;
        if ttl.is_zero() {
            return;
        }
        let renewal = &mut self.renewal;
        if let Some(urgent_at) = renewal.urgent_at.get_mut(&at) {
            *urgent_at = cx.now;
        } else if renewal.urgent_at.len() < RENEWED_SESSIONS_MAX {
            renewal.urgent_at.insert(at, cx.now);
            renewal.by_due.insert((cx.now.after(ttl / RENEWED_AT_PART), at));
        } else {
            cx.activity.lists_not_renewed += 1;
        }
    }

    /// Asks for the lists that are old soon, while nobody waits for any.
    pub(super) fn renew_lists(&mut self, cx: &mut Context) {
        if self.renewal.is_empty() {
            return;
        }
        let ttl = cx.settings.members_ttl;
        if ttl.is_zero() || self.members.is_away() || cx.is_retreating {
            return self.renewal.clear();
        }
        let every = (ttl / LOOKED_IN_LIFETIME).max(TICK);
        if cx.now.since(self.renewal.looked_at) < every || !self.members.may_ask_ahead() {
            return;
        }
        let sessions = self.next_renewed(ttl, cx);
        // A query takes so many; the others are due at once.
        if sessions.len() < MEMBER_QUERY_SESSIONS {
            self.renewal.looked_at = cx.now;
        }
        if !sessions.is_empty() {
            cx.activity.lists_renewed += sessions.len() as u64;
            self.send_newcomers(sessions, cx);
        }
    }

    fn next_renewed(&mut self, ttl: Duration, cx: &Context) -> Vec<SessionIx> {
        let mut sessions = Vec::new();
        while sessions.len() < MEMBER_QUERY_SESSIONS
            && let Some(&(due, at)) = self.renewal.by_due.first()
            && due <= cx.now
        {
            self.renewal.by_due.pop_first();
            if cx.now.since(self.renewal.urgent_at[&at]) > ttl * RENEWED_FOR {
                self.renewal.urgent_at.remove(&at);
                continue;
            }
            let mut next = self.asked_at_if_renewable(at, cx.now).after(ttl / RENEWED_AT_PART);
            if next <= cx.now {
                self.sessions[at].lookups.begin_ahead();
                sessions.push(at);
                next = cx.now.after(ttl / RENEWED_AT_PART);
            }
            self.renewal.by_due.insert((next, at));
        }
        sessions
    }

    /// When its list was asked for; now, where it has none that could be asked for again by itself: its events ask for that.
    fn asked_at_if_renewable(&self, at: SessionIx, now: Nanos) -> Nanos {
        let session = &self.sessions[at];
        let list = session.members.as_ref().filter(|list| list.users.len() <= MEMBER_LARGE);
        list.filter(|_| session.may_be_asked_ahead()).map_or(now, |list| list.asked_at)
    }
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
