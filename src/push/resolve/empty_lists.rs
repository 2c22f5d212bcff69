//! Sessions whose member list was empty when it was asked for. That is no fact: the rows may be committed a moment later.
//!
//! Promises that an empty list is never kept, that the session is asked for again, with growing pauses, until its oldest
//! event has waited `members.empty_wait` since it arrived and was asked for after that, and that only then this event goes
//! to the dead letters; what stands behind it waits in order, each its own time. Promises that such events hold a bounded
//! part of what the shard may have in flight ([`EMPTY_WAITS_PART`]): past it the oldest of all ends at once. So do, apart
//! from these, the events of sessions whose lookups are refused ([`REFUSED_WAITS_PART`]), but not while the store is away.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::ids::{Nanos, SessionIx};
use crate::model::limits::{
    EMPTY_LIST_PAUSE, EMPTY_WAITS_PART, EVENTS_IN_FLIGHT_MAX, PAYLOAD_BYTES_IN_FLIGHT_MAX, REFUSED_WAITS_PART,
};
use crate::model::outcome::EventOutcome;
use crate::model::words::counted;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::ledger::Ledger;
use crate::push::resolve::Resolve;
use crate::push::sessions::MemberList;

/// Sessions whose events wait for members, counted.
#[derive(Debug, Default)]
struct Counted {
    /// By the order of their oldest event.
    by_age: BTreeSet<(u64, SessionIx)>,
    /// Their events, and the bytes of these.
    events: usize,
    bytes: usize,
}

impl Counted {
    fn is_over(&self, window: usize, part: usize) -> bool {
        let most = window.min(EVENTS_IN_FLIGHT_MAX) / part;
        self.events > most.max(1) || self.bytes > PAYLOAD_BYTES_IN_FLIGHT_MAX / part
    }
}

/// The sessions that wait for their first member, and those whose lookups are refused.
#[derive(Debug, Default)]
pub struct EmptyLists {
    empty: Counted,
    refused: Counted,
    /// When each empty one that is not being asked for is asked for again.
    later: BTreeSet<(Nanos, SessionIx)>,
}

impl EmptyLists {
    /// A session that is to be asked for again now.
    pub fn next_due(&mut self, now: Nanos) -> Option<SessionIx> {
        let (due, at) = *self.later.first()?;
        (due <= now).then(|| {
            self.later.pop_first();
            at
        })
    }

    /// Whether no session is to be asked for again.
    pub fn is_at_rest(&self) -> bool {
        self.later.is_empty()
    }

    /// Events that wait for a first member.
    pub fn events(&self) -> usize {
        self.empty.events
    }

    /// Events that wait although the lookups of their session are refused.
    pub fn refused_events(&self) -> usize {
        self.refused.events
    }

    fn counted(&mut self, is_refused: bool) -> &mut Counted {
        if is_refused { &mut self.refused } else { &mut self.empty }
    }
}

impl Resolve {
    /// The store answered an ask of this time, and the session has no members.
    pub(super) fn list_was_empty(&mut self, at: SessionIx, asked_at: Nanos, ledger: &mut Ledger, cx: &mut Context) {
        self.leave_empty(at);
        let session = &mut self.sessions[at];
        session.lookups.tries = 0;
        if session.members.as_ref().is_some_and(|list| !list.users.is_empty()) {
            // Who was in it gets nothing more.
            let members = MemberList { users: Arc::new([]), fingerprint: 0, asked_at };
            self.sessions.set_members(at, members, &mut self.users);
        }
        let session = &mut self.sessions[at];
        let trouble = session.lookups.trouble.get_or_insert_default();
        (trouble.failed_at, trouble.failures, trouble.refused) = (None, 0, None);
        trouble.empties += 1;
        let empties = trouble.empties;
        while let Some(&event) = self.sessions[at].waiting.front() {
            if asked_at < ledger[event].arrived.after(cx.settings.empty_wait) {
                break;
            }
            self.sessions[at].waiting.pop_front();
            self.end_without_members(at, event, empties, ledger, cx);
        }
        let Some(&event) = self.sessions[at].waiting.front() else { return self.forget_empty(at) };
        self.enter_empty(at, ledger);
        let deadline = ledger[event].arrived.after(cx.settings.empty_wait);
        let due = cx.now.after(EMPTY_LIST_PAUSE.after(empties)).min(deadline.max(cx.now.after(EMPTY_LIST_PAUSE.first)));
        self.members.empty.later.insert((due, at));
    }

    /// Nothing of the session waits any more.
    pub(super) fn forget_empty(&mut self, at: SessionIx) {
        self.leave_empty(at);
        let session = &mut self.sessions[at];
        session.lookups.is_asking = false;
        session.lookups.trouble = None;
    }

    /// An event stands behind others of its session.
    pub(in crate::push) fn waits_for_members(&mut self, at: SessionIx, event: EventIx, ledger: &Ledger) {
        let Some(trouble) = &mut self.sessions[at].lookups.trouble else { return };
        if trouble.waits_as.is_some() {
            let bytes = ledger[event].arrival.bytes();
            (trouble.events, trouble.bytes) = (trouble.events + 1, trouble.bytes + bytes);
            let counted = self.members.empty.counted(trouble.waits_as_refused);
            counted.events += 1;
            counted.bytes += bytes;
        }
    }

    /// The session's events are counted among those that wait for a first member, or as refused.
    pub(in crate::push) fn enter_empty(&mut self, at: SessionIx, ledger: &Ledger) {
        let session = &mut self.sessions[at];
        let (Some(trouble), Some(front)) = (&mut session.lookups.trouble, session.waiting.front()) else { return };
        let order = ledger[*front].order;
        trouble.waits_as = Some(order);
        trouble.waits_as_refused = trouble.refused.is_some();
        trouble.events = session.waiting.len();
        trouble.bytes = session.waiting.iter().map(|event| ledger[*event].arrival.bytes()).sum();
        let counted = self.members.empty.counted(trouble.waits_as_refused);
        (counted.events, counted.bytes) = (counted.events + trouble.events, counted.bytes + trouble.bytes);
        counted.by_age.insert((order, at));
    }

    /// They are not any more; whether they were.
    pub(in crate::push) fn leave_empty(&mut self, at: SessionIx) -> bool {
        let Some(trouble) = &mut self.sessions[at].lookups.trouble else { return false };
        let Some(order) = trouble.waits_as.take() else { return false };
        let counted = self.members.empty.counted(trouble.waits_as_refused);
        (counted.events, counted.bytes) = (counted.events - trouble.events, counted.bytes - trouble.bytes);
        counted.by_age.remove(&(order, at));
        true
    }

    /// Too many wait: the oldest end now. Those that are refused do not while the store is away: that may be why.
    pub(in crate::push) fn cut_empty_waits(&mut self, ledger: &mut Ledger, cx: &mut Context) {
        if cx.is_cut_off {
            return;
        }
        let window = cx.settings.events_window;
        while self.members.empty.empty.is_over(window, EMPTY_WAITS_PART) {
            let Some(&(_, at)) = self.members.empty.empty.by_age.first() else { break };
            cx.activity.empty_waits_cut += 1;
            let Some((event, empties)) = self.cut_front(at, ledger) else { break };
            self.end_without_members(at, event, empties, ledger, cx);
        }
        while self.members.empty.refused.is_over(window, REFUSED_WAITS_PART) && !self.members.is_away() {
            let Some(&(_, at)) = self.members.empty.refused.by_age.first() else { break };
            cx.activity.refused_waits_cut += 1;
            let Some((event, _)) = self.cut_front(at, ledger) else { break };
            let id = &self.sessions[at].id;
            let detail =
                format!("session {id}: its members cannot be read, those of others can, and too many events wait");
            ledger.publish_letter_of_event(
                event,
                EventOutcome::LookupFailed,
                detail,
                self.sessions[at].lookups.tries.max(1),
                cx,
            );
        }
    }

    /// The session's oldest event waits no longer, the others wait on; it, and how often the list was empty.
    fn cut_front(&mut self, at: SessionIx, ledger: &Ledger) -> Option<(EventIx, u32)> {
        let session = &mut self.sessions[at];
        let (Some(trouble), Some(&event)) = (&mut session.lookups.trouble, session.waiting.front()) else {
            return None;
        };
        let (empties, bytes) = (trouble.empties, ledger[event].arrival.bytes());
        let next = session.waiting.get(1).map(|next| ledger[*next].order);
        let counted = self.members.empty.counted(trouble.waits_as_refused);
        if let Some(order) = std::mem::replace(&mut trouble.waits_as, next) {
            counted.by_age.remove(&(order, at));
        }
        (trouble.events, trouble.bytes) = (trouble.events - 1, trouble.bytes - bytes);
        (counted.events, counted.bytes) = (counted.events - 1, counted.bytes - bytes);
        counted.by_age.extend(next.map(|order| (order, at)));
        session.waiting.pop_front();
        Some((event, empties))
    }

    /// An event that is not in its session's queue any more becomes a letter.
    fn end_without_members(
        &mut self,
        at: SessionIx,
        event: EventIx,
        empties: u32,
        ledger: &mut Ledger,
        cx: &mut Context,
    ) {
        let waited = cx.now.since(ledger[event].arrived);
        let id = &self.sessions[at].id;
        let detail = format!(
            "session {id} has no members in t_session_member, asked {}, waited {waited:.1?}",
            counted(empties, "time")
        );
        ledger.publish_letter_of_event(event, EventOutcome::NoMembers, detail, empties, cx);
    }
}
