//! Member asks that failed: sets are asked again in parts, and a session that fails alone is blamed by evidence.
//!
//! Promises that a failure is charged only when the store answered another ask that was sent after it, and was not away in
//! between; that what a session is charged with once too often ends all of its events that waited for that ask, each with a
//! letter, and that for a while after that one charge more ends the next ones; so that a session which always fails holds
//! few events, however many come for it.

use super::{Asked, Charge, Lane, MemberAsks, Part, Waiting, suspect_pause};
use crate::model::ids::{Nanos, SessionIx};
use crate::model::limits::{LOOKUP_DEAR_AFTER, NOT_REACHED_PAUSE, QUEUE_FULL_PAUSE, REFUSED_REMEMBERED};
use crate::model::outcome::EventOutcome;
use crate::push::context::Context;
use crate::push::evidence::Blame;
use crate::push::facts::AskNo;
use crate::push::ledger::Ledger;
use crate::push::resolve::Resolve;

impl MemberAsks {
    /// Whether nothing is asked, and nothing is to be.
    pub(in crate::push) fn is_at_rest(&self) -> bool {
        let Waiting { wanted, large, parts, singles, suspects } = &self.waiting;
        let waits =
            !wanted.is_empty() || !large.is_empty() || !parts.is_empty() || !singles.is_empty() || !suspects.is_empty();
        let is_asking = !self.asked.is_empty() || !self.not_reached.is_empty() || !self.learning.is_empty();
        !waits && !is_asking && self.charges.is_empty() && self.empty.is_at_rest() && self.signs.are_calm()
    }
}

impl Resolve {
    /// An ask failed. A set is asked again in parts: one by one when its failure was dear, else in halves; as it was while
    /// the store is away, or could not be reached and nothing says that it is the set's fault.
    pub(super) fn members_failed(&mut self, asked: Asked, why: &str, is_answer: bool, cx: &mut Context) {
        let Asked { mut part, lane, at, is_contradicted } = asked;
        let was_away = self.members.signs.outage.is_away();
        self.members.signs.evidence.failed(cx.now);
        (self.members.signs.wants_probe, self.members.failed_at) = (true, cx.now);
        if matches!(lane, Lane::Set | Lane::Large | Lane::Probe) {
            self.members.signs.outage.failed(cx.now);
        }
        if lane == Lane::Probe || self.members.signs.outage.is_away() {
            self.members.charges.clear();
        }
        if let [session] = part.sessions[..] {
            return self.session_failed(session, &part, at, is_contradicted, why, cx);
        }
        cx.warn("members_unavailable", || match part.sessions.len() {
            0 => why.to_owned(),
            asked => format!("a lookup of {asked} sessions failed: {why}"),
        });
        if lane == Lane::Probe {
            return;
        }
        part.failed_at = Some(cx.now);
        part.failures += 1;
        let is_dear = cx.now.since(at) >= LOOKUP_DEAR_AFTER;
        if is_dear && !was_away {
            self.members.waiting.singles.extend(part.sessions.into_iter().map(|at| (at, cx.now)));
        } else if (is_answer && !was_away) || is_contradicted || part.failures > 1 {
            let rest = part.sessions.split_off(part.sessions.len() / 2);
            for sessions in [part.sessions, rest] {
                self.members.waiting.parts.push_back(Part { sessions, failed_at: Some(cx.now), failures: 0 });
            }
        } else {
            self.members.waiting.parts.push_back(part);
        }
    }

    /// A session failed alone.
    fn session_failed(
        &mut self,
        at: SessionIx,
        part: &Part,
        asked_at: Nanos,
        is_contradicted: bool,
        why: &str,
        cx: &mut Context,
    ) {
        let asks = &self.members;
        let failing = asks.waiting.suspects.len() + asks.under_way(Lane::Suspect) + 1;
        let session = &mut self.sessions[at];
        let id = session.id.clone();
        let trouble = session.lookups.trouble.get_or_insert_default();
        // A set that failed before may have been another session's doing.
        let is_its_own = trouble.failed_at.replace(cx.now).is_some();
        let is_accused = is_its_own
            && is_contradicted
            && !asks.signs.outage.is_away()
            && asks.signs.evidence.blame(part.failed_at, failing) == Blame::Ask;
        trouble.failures = trouble.failures.saturating_add(1);
        let mut pause = suspect_pause(trouble.failures, cx.now.since(asked_at));
        if is_accused {
            pause = pause.max(cx.settings.retry_interval);
            let charge = Charge { session: at, asked_at, failed_at: cx.now, why: why.to_owned() };
            self.members.charges.push(charge);
        } else {
            cx.warn("members_unavailable", || format!("session {id}: {why}"));
        }
        if self.sessions[at].waiting.is_empty() {
            self.sessions[at].lookups.is_asking = false;
            return;
        }
        self.members.waiting.suspects.insert((cx.now.after(pause), at));
    }

    /// The store answered: what was charged before that answer was asked for was no outage's doing. A probe is enough here,
    /// however many fail: that others succeed was seen before.
    pub(super) fn confirm_charges(&mut self, ledger: &mut Ledger, cx: &mut Context) {
        for charge in std::mem::take(&mut self.members.charges) {
            match self.members.signs.evidence.blame(Some(charge.failed_at), 1) {
                Blame::Store => self.members.charges.push(charge),
                Blame::Ask => self.lookup_refused(&charge, ledger, cx),
            }
        }
    }

    /// Counts a refused lookup against its session; one too many, and all of its events that waited for it go to the dead
    /// letters. The session goes on without them.
    fn lookup_refused(
        &mut self,
        Charge { session: at, asked_at, failed_at, why }: &Charge,
        ledger: &mut Ledger,
        cx: &mut Context,
    ) {
        let (at, now, max_retry) = (*at, cx.now, cx.settings.max_retry);
        let is_its_latest = |failed: Option<Nanos>| failed == Some(*failed_at);
        if !self.sessions[at].lookups.trouble.as_ref().is_some_and(|trouble| is_its_latest(trouble.failed_at)) {
            // It was answered since, or failed again before anything could tell.
            return;
        }
        let id = self.sessions[at].id.clone();
        cx.warn("members_refused", || format!("session {id} fails, others do not: {why}"));
        self.leave_empty(at);
        let session = &mut self.sessions[at];
        session.lookups.tries += 1;
        let trouble = session.lookups.trouble.get_or_insert_default();
        let was_ended = *trouble.refused.get_or_insert(Nanos(0)) > now;
        if session.lookups.tries > max_retry || was_ended {
            trouble.refused = Some(now.after(REFUSED_REMEMBERED));
            let tries = std::mem::take(&mut session.lookups.tries);
            while let Some(&event) = self.sessions[at].waiting.front()
                && ledger[event].arrived <= *asked_at
            {
                self.sessions[at].waiting.pop_front();
                ledger.publish_letter_of_event(
                    event,
                    EventOutcome::LookupFailed,
                    format!("session {id}: {why}"),
                    tries,
                    cx,
                );
            }
        }
        self.enter_empty(at, ledger);
    }

    /// An ask found the queue full: it goes back to where it was, as it was.
    pub(in crate::push) fn members_not_asked(&mut self, ask: AskNo, cx: &mut Context) {
        let Some(Asked { part, lane, .. }) = self.members.asked.remove(&ask) else { return };
        let asks = &mut self.members;
        asks.under_way[lane as usize] -= 1;
        asks.full_until = cx.now.after(QUEUE_FULL_PAUSE);
        let due = asks.full_until;
        self.put_members_back(lane, part, due);
    }

    /// An ask never left, for want of a connection: that says nothing of whom it was about. It waits a while, so that one who
    /// has a connection takes it, and goes back to where it was, as it was; while nobody has one, the store is away.
    pub(super) fn members_not_reached(&mut self, asked: Asked, why: &str, cx: &mut Context) {
        let Asked { part, lane, .. } = asked;
        cx.warn("members_unavailable", || why.to_owned());
        let asks = &mut self.members;
        if matches!(lane, Lane::Set | Lane::Large | Lane::Probe) {
            asks.signs.outage.failed(cx.now);
        }
        if asks.signs.outage.is_away() {
            asks.charges.clear();
        }
        asks.not_reached.push_back((cx.now.after(NOT_REACHED_PAUSE), lane, part));
    }

    /// An ask that was not made goes back to where it was; one that failed alone is due then.
    pub(super) fn put_members_back(&mut self, lane: Lane, part: Part, due: Nanos) {
        let asks = &mut self.members;
        match (lane, part.failed_at, &part.sessions[..]) {
            (Lane::Probe, ..) => asks.signs.wants_probe = true,
            (Lane::Suspect, _, sessions) => asks.waiting.suspects.extend(sessions.iter().map(|at| (due, *at))),
            (Lane::Single, failed_at, sessions) => {
                sessions.iter().for_each(|at| asks.waiting.singles.push_front((*at, failed_at.unwrap_or(due))));
            }
            (Lane::Large, _, sessions) => sessions.iter().for_each(|at| self.want_members_again(*at)),
            (Lane::Set, None, sessions) => sessions.iter().rev().for_each(|at| self.want_members_again(*at)),
            (Lane::Set, Some(_), _) => asks.waiting.parts.push_front(part),
        }
    }
}
