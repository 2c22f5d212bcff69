//! Second step: who is in the session. One lookup a session in flight however many events wait, many sessions a query.
//!
//! Promises that a store that is away costs its waiters time and nothing else, whatever it says; that a set of sessions
//! never waits or falls for one of them: what fails as a set is asked again in parts, and nobody joins it; and that a
//! session which fails alone is asked alone, on a lane of its own, and blamed only by [`Evidence`](crate::push::evidence::Evidence) ([`failing`]). See
//! [`super::outage`] for what is asked while nothing succeeds, and [`super::empty_lists`] for lists that are empty.

mod failing;
mod learning;
mod wanted;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::delivery::LookupError;
use crate::model::ids::{Nanos, SessionIx};
use crate::model::limits::{
    MEMBER_LARGE_IN_FLIGHT, MEMBER_QUERIES_IN_FLIGHT, MEMBER_SINGLES_IN_FLIGHT, STORE_AWAY_PAUSE, SUSPECT_PAUSE_MAX,
    SUSPECT_PAUSE_TIMES,
};
use crate::model::names::NameList;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::evidence::Blame;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Ledger;
use crate::push::resolve::Resolve;
use crate::push::resolve::empty_lists::EmptyLists;
use crate::push::resolve::members::learning::Learning;
use crate::push::resolve::outage::Signs;
use crate::push::sessions::MemberList;
use crate::push::urgent_first::UrgentFirst;

/// Queries under way, answers that are being learned included, from which on none is made ahead of events.
const AHEAD_BELOW: usize = MEMBER_QUERIES_IN_FLIGHT / 2;

/// Sessions that are to be asked for.
#[derive(Debug, Default)]
struct Waiting {
    /// Sessions that never failed since they last succeeded.
    wanted: UrgentFirst<SessionIx>,
    /// The same, of so many members that they are asked for alone.
    large: UrgentFirst<SessionIx>,
    /// Sets that failed; nobody joins them.
    parts: VecDeque<Part>,
    /// Sessions out of a set that failed, which are asked for one by one, and when it did.
    singles: VecDeque<(SessionIx, Nanos)>,
    /// Sessions that failed alone, and when each is asked for again; one at a time.
    suspects: BTreeSet<(Nanos, SessionIx)>,
}

/// The lookups of members.
#[derive(Debug, Default)]
pub struct MemberAsks {
    waiting: Waiting,
    /// Sessions without members, and those whose lookups are refused.
    pub(in crate::push) empty: EmptyLists,
    /// Failures that are the session's own if the store is seen alive after them.
    charges: Vec<Charge>,
    asked: HashMap<AskNo, Asked>,
    /// Asks that never left, and until when each waits before it goes back to where it was.
    not_reached: VecDeque<(Nanos, Lane, Part)>,
    /// Asks under way, by [`Lane`].
    under_way: [usize; 5],
    /// Answers whose names are not all known yet; these and what is asked are bounded together.
    learning: VecDeque<Learning>,
    signs: Signs,
    /// When the latest failure came.
    failed_at: Nanos,
    /// Nothing is asked until then: the queue before the store's threads was full.
    full_until: Nanos,
    next_no: AskNo,
}

/// A set of sessions that failed.
#[derive(Debug)]
struct Part {
    sessions: Vec<SessionIx>,
    failed_at: Option<Nanos>,
    /// How often just this set did.
    failures: u32,
}

/// On which way an ask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// A set, or a session that never failed.
    Set,
    /// A large session that never failed.
    Large,
    /// A session out of a set that failed.
    Single,
    /// A session that failed alone.
    Suspect,
    /// No session: is the store there?
    Probe,
}

/// An ask under way.
#[derive(Debug)]
struct Asked {
    part: Part,
    lane: Lane,
    at: Nanos,
    /// When it was sent, others had succeeded since it failed: if it fails again it is to blame.
    is_contradicted: bool,
}

/// A failure of a session alone that is to be blamed on it, unless the store was away by then.
#[derive(Debug)]
struct Charge {
    session: SessionIx,
    asked_at: Nanos,
    failed_at: Nanos,
    why: String,
}

impl MemberAsks {
    /// Whether names wait for a turn.
    pub fn is_learning(&self) -> bool {
        !self.learning.is_empty()
    }

    /// Whether nobody's members can be read.
    pub(in crate::push) fn is_away(&self) -> bool {
        self.signs.outage.is_away()
    }

    /// Whether nobody waits to be asked for, and few sets are under way.
    pub(super) fn may_ask_ahead(&self) -> bool {
        let Waiting { wanted, parts, .. } = &self.waiting;
        wanted.is_empty() && parts.is_empty() && self.under_way(Lane::Set) + self.learning.len() < AHEAD_BELOW
    }

    fn under_way(&self, lane: Lane) -> usize {
        self.under_way[lane as usize]
    }

    /// Whether an answer is to come that will tell whether the store is there.
    fn will_tell(&self) -> bool {
        self.asked.values().any(|asked| asked.lane != Lane::Suspect && asked.at >= self.failed_at)
    }
}

/// What an event needs of its session's list. An empty one is never good for another event.
pub(super) fn is_fresh(list: &MemberList, arrived: Nanos, now: Nanos, ttl: Duration) -> bool {
    !list.users.is_empty() && (list.asked_at >= arrived || now.since(list.asked_at) <= ttl)
}

/// How long an ask that fails alone waits after so many failures, the latest of which took so long: it grows, and what is
/// slow costs its store little.
pub(in crate::push) fn suspect_pause(failures: u32, took: Duration) -> Duration {
    let grown = STORE_AWAY_PAUSE.after(failures);
    let of_slow = took * failures.saturating_sub(1).min(SUSPECT_PAUSE_TIMES);
    grown.max(of_slow.min(SUSPECT_PAUSE_MAX * 2))
}

impl Resolve {
    /// Whether the session's members are known well enough for an event; if not, they are being asked for.
    pub(in crate::push) fn has_members(
        &mut self,
        at: SessionIx,
        event: EventIx,
        ledger: &Ledger,
        cx: &Context,
    ) -> bool {
        let session = &mut self.sessions[at];
        let arrived = ledger[event].arrived;
        if session.members.as_ref().is_some_and(|list| is_fresh(list, arrived, cx.now, cx.settings.members_ttl)) {
            return true;
        }
        let trouble = session.lookups.trouble.as_ref();
        let has_failed = trouble.is_some_and(|trouble| trouble.failed_at.is_some());
        let is_uncounted = trouble.is_some_and(|trouble| trouble.refused.is_some() && trouble.waits_as.is_none());
        if !std::mem::replace(&mut session.lookups.is_asking, true) {
            if has_failed {
                self.members.waiting.suspects.insert((cx.now, at));
            } else {
                self.want_members(at);
            }
        }
        if is_uncounted {
            self.enter_empty(at, ledger);
        }
        false
    }

    /// Sends the asks that are due, bounded in number and size.
    pub(in crate::push) fn ask_members(&mut self, cx: &mut Context) {
        if cx.is_cut_off || cx.now < self.members.full_until {
            return;
        }
        while self.members.not_reached.front().is_some_and(|(due, ..)| *due <= cx.now)
            && let Some((_, lane, part)) = self.members.not_reached.pop_front()
        {
            self.put_members_back(lane, part, cx.now);
        }
        while let Some(at) = self.members.empty.next_due(cx.now) {
            match self.sessions[at].waiting.is_empty() {
                true => self.forget_empty(at),
                false => self.want_members(at),
            }
        }
        if self.members.signs.outage.is_away() {
            self.ask_members_of_store_that_is_away(cx);
        } else {
            while self.members.under_way(Lane::Set) + self.members.learning.len() < MEMBER_QUERIES_IN_FLIGHT
                && self.ask_next_set(cx)
            {}
            while self.members.under_way(Lane::Large) < MEMBER_LARGE_IN_FLIGHT && self.ask_next_large(cx) {}
            while self.members.under_way(Lane::Single) < MEMBER_SINGLES_IN_FLIGHT && self.ask_next_single(cx) {}
        }
        self.ask_suspect(cx);
        self.ask_ahead(cx);
        self.renew_lists(cx);
        let asks = &mut self.members;
        if asks.signs.wants_probe && !asks.will_tell() && asks.signs.outage.may_probe() {
            self.probe_members(cx);
        }
    }

    /// One of each kind a round, so that whoever was never asked for is not held up by who fails.
    fn ask_members_of_store_that_is_away(&mut self, cx: &mut Context) {
        let is_over = [Lane::Set, Lane::Large, Lane::Probe].iter().all(|lane| self.members.under_way(*lane) == 0);
        if !is_over || !self.members.signs.outage.begins_round(cx.now) {
            return;
        }
        match self.members.waiting.parts.pop_front() {
            Some(part) => self.send_members(part, Lane::Set, cx),
            None if self.members.under_way(Lane::Single) < MEMBER_SINGLES_IN_FLIGHT => _ = self.ask_next_single(cx),
            None => {}
        }
        self.ask_newcomers(cx);
        self.ask_next_large(cx);
        self.probe_members(cx);
    }

    fn ask_next_set(&mut self, cx: &mut Context) -> bool {
        match self.members.waiting.parts.pop_front() {
            Some(part) => {
                self.send_members(part, Lane::Set, cx);
                true
            }
            None => self.ask_newcomers(cx),
        }
    }

    fn ask_newcomers(&mut self, cx: &mut Context) -> bool {
        let sessions = self.next_wanted_set();
        if sessions.is_empty() {
            return false;
        }
        self.send_newcomers(sessions, cx);
        true
    }

    /// Asks for sessions that never failed, as one set.
    pub(super) fn send_newcomers(&mut self, sessions: Vec<SessionIx>, cx: &mut Context) {
        self.send_members(Part { sessions, failed_at: None, failures: 0 }, Lane::Set, cx);
    }

    fn ask_next_large(&mut self, cx: &mut Context) -> bool {
        let Some(at) = self.next_wanted(true) else { return false };
        self.send_members(Part { sessions: vec![at], failed_at: None, failures: 0 }, Lane::Large, cx);
        true
    }

    fn ask_next_single(&mut self, cx: &mut Context) -> bool {
        let Some((at, failed_at)) = self.members.waiting.singles.pop_front() else { return false };
        self.send_members(Part { sessions: vec![at], failed_at: Some(failed_at), failures: 0 }, Lane::Single, cx);
        true
    }

    /// One at a time: however many fail alone, they hold one thread of their lane.
    fn ask_suspect(&mut self, cx: &mut Context) {
        while self.members.under_way(Lane::Suspect) == 0
            && let Some(&(due, at)) = self.members.waiting.suspects.first()
            && due <= cx.now
        {
            if self.sessions[at].waiting.is_empty() {
                self.sessions[at].lookups.is_asking = false;
            } else {
                let failed_at = self.sessions[at].lookups.trouble.as_ref().and_then(|trouble| trouble.failed_at);
                self.send_members(Part { sessions: vec![at], failed_at, failures: 0 }, Lane::Suspect, cx);
            }
            self.members.waiting.suspects.pop_first();
        }
    }

    fn probe_members(&mut self, cx: &mut Context) {
        self.members.signs.wants_probe = false;
        cx.activity.lookup_probes += 1;
        self.send_members(Part { sessions: Vec::new(), failed_at: None, failures: 0 }, Lane::Probe, cx);
    }

    fn send_members(&mut self, part: Part, lane: Lane, cx: &mut Context) {
        let asks = &mut self.members;
        let ask = asks.next_no;
        asks.next_no += 1;
        cx.activity.member_queries += 1;
        cx.activity.member_query_sessions += part.sessions.len() as u64;
        cx.activity.lookups_alone += u64::from(matches!(lane, Lane::Single | Lane::Suspect));
        let sessions = part.sessions.iter().map(|at| self.sessions[*at].id.clone()).collect();
        let is_contradicted =
            asks.signs.evidence.blame(part.failed_at, asks.waiting.suspects.len().max(1)) == Blame::Ask;
        asks.under_way[lane as usize] += 1;
        asks.asked.insert(ask, Asked { part, lane, at: cx.now, is_contradicted });
        let is_suspect = matches!(lane, Lane::Large | Lane::Single | Lane::Suspect);
        cx.out.push(Output::AskMembers { ask, sessions, is_suspect });
    }

    /// Takes an answer. True when there are lists to be made known: see [`learn_next`](Self::learn_next).
    pub(in crate::push) fn members_answered(
        &mut self,
        ask: AskNo,
        answer: Result<Vec<NameList>, LookupError>,
        ledger: &mut Ledger,
        cx: &mut Context,
    ) -> bool {
        let Some(asked) = self.members.asked.remove(&ask) else { return false };
        self.members.under_way[asked.lane as usize] -= 1;
        match answer {
            Ok(lists) if lists.len() == asked.part.sessions.len() => {
                self.member_store_answered(&asked, ledger, cx);
                if asked.lane != Lane::Probe {
                    let (sessions, asked_at) = (asked.part.sessions, asked.at);
                    self.members.learning.push_back(Learning { sessions, lists, asked_at, ..Learning::default() });
                    return true;
                }
            }
            Ok(lists) => {
                let asked_for = asked.part.sessions.len();
                let why = format!("the member store answered {} lists to {asked_for} sessions", lists.len());
                self.members_failed(asked, &why, true, cx);
            }
            Err(LookupError::NotReached(why)) => self.members_not_reached(asked, &why, cx),
            Err(LookupError::Unavailable(why)) => self.members_failed(asked, &why, false, cx),
            Err(LookupError::Rejected(why)) => self.members_failed(asked, &why, true, cx),
        }
        false
    }

    fn member_store_answered(&mut self, asked: &Asked, ledger: &mut Ledger, cx: &mut Context) {
        match asked.lane {
            Lane::Probe => self.members.signs.evidence.probe_answered(asked.at),
            _ => self.members.signs.evidence.answered(asked.at),
        }
        // Who was answered is charged with nothing.
        self.members.charges.retain(|charge| !asked.part.sessions.contains(&charge.session));
        self.confirm_charges(ledger, cx);
        let asks = &mut self.members;
        asks.signs.wants_probe &= asks.signs.evidence.is_away();
        // What failed only because nothing worked need not wait for its time.
        if asks.signs.outage.answered(asked.at) || asked.lane == Lane::Suspect {
            let sessions = &self.sessions;
            let waiting = std::mem::take(&mut asks.waiting.suspects);
            let due = |due: Nanos, at: SessionIx| if sessions[at].lookups.tries == 0 { due.min(cx.now) } else { due };
            asks.waiting.suspects = waiting.into_iter().map(|(at_time, at)| (due(at_time, at), at)).collect();
        }
    }

    fn members_are_known(&mut self, at: SessionIx) {
        if self.sessions[at].lookups.trouble.is_some() {
            self.leave_empty(at);
            self.sessions[at].lookups.trouble = None;
        }
        let session = &mut self.sessions[at];
        session.lookups.is_asking = false;
        session.lookups.tries = 0;
    }
}
