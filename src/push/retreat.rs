//! What a shard does when a store that events wait for stays away.
//!
//! Promises that during a retreat no event waits for a store that is away for longer than a tick, or than its session's
//! pushes are under way: it ends as `given_back`, in the order of arrival, its repeats with it, and is forgotten, so that it
//! is new when it comes again. So end events that wait for lookups; those of which nothing is left but rows, while the inbox
//! is away; and those whose recipients are held until Redis tells their routes, while that is away. Kept is an event that
//! reached somebody, who would be told again; kept is also one with held recipients that is older than such a one of its
//! session, for they would get it after the younger. What comes during a retreat is given back at once, but for what has to
//! stand in line behind events of its session, so nothing is overtaken. Refuses to give back an event while pushes of its
//! session, or rows of an earlier event of it, are under way: those have deadlines, and what they leave may have to be given
//! back first. Asks no rows of an inbox that is away: a probe tells when it is back. Also tells, for a stop, whether all that
//! is in flight waits for nothing but stores that are away.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::model::ids::SessionIx;
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::ingest;

/// Which stores are away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// Members or routes.
    pub lookups: bool,
    /// The inbox.
    pub inbox: bool,
    /// The dead letters.
    pub letters: bool,
}

impl Away {
    /// Whether any is.
    pub fn is_any(self) -> bool {
        self.lookups || self.inbox || self.letters
    }

    /// As a number, for an atomic.
    pub fn bits(self) -> u8 {
        u8::from(self.lookups) | u8::from(self.inbox) << 1 | u8::from(self.letters) << 2
    }

    /// What [`bits`](Self::bits) made a number of.
    pub fn of_bits(bits: u8) -> Self {
        Self { lookups: bits & 1 > 0, inbox: bits & 2 > 0, letters: bits & 4 > 0 }
    }
}

impl Push {
    pub(super) fn retreat(&mut self, is_retreating: bool) {
        self.cx.is_retreating = is_retreating;
        self.give_back_waiting();
    }

    /// Whether an event that comes in a retreat stands in line behind others of its session, which wait for pushes that are
    /// under way: then it is given back with them, and not before them.
    pub(super) fn stands_in_line(&self, payload: &Bytes) -> bool {
        let Ok(arrival) = ingest::read(payload.clone()) else { return false };
        let sessions = &self.resolve.sessions;
        let session = sessions.find(arrival.session_id_bytes(), sessions.hash(arrival.session_id_bytes()));
        self.room() > 0 && session.is_some_and(|at| !sessions[at].waiting.is_empty())
    }

    /// Whether events that wait are given back, and those that come.
    pub fn is_retreating(&self) -> bool {
        self.cx.is_retreating
    }

    /// Gives back what can go on only when a store is there again, if this is a retreat.
    pub(super) fn give_back_waiting(&mut self) {
        if !self.cx.is_retreating || self.cx.is_cut_off {
            return;
        }
        self.give_all_back(self.to_give_back());
    }

    /// Gives these back; of each session without a gap, in the order of arrival.
    pub(super) fn give_all_back(&mut self, all: Vec<EventIx>) {
        self.let_go(&all);
        let mut without_members = Vec::new();
        for at in all {
            if self.ledger[at].progress.is_bundled {
                let open = self.ledger[at].progress.open;
                self.ledger.end_recipients(at, RecipientOutcome::GivenBack, open);
                self.end_event(at, EventOutcome::GivenBack);
                continue;
            }
            let session = self.ledger[at].session;
            if self.resolve.leave_empty(session) {
                without_members.push(session);
            }
            if self.take_from_queue(at) {
                self.end_event(at, EventOutcome::GivenBack);
            }
        }
        for session in without_members {
            self.resolve.enter_empty(session, &self.ledger);
        }
    }

    /// What is given back now, in the order of arrival; nothing later of a session goes before what may have to go as well.
    fn to_give_back(&self) -> Vec<EventIx> {
        let are_routes_away = self.resolve.routes.is_away();
        let at_store = self.ledger.at_store();
        let mut busy = HashMap::new();
        let mut all = self.ledger.in_order();
        let kept = self.newest_kept(&all);
        all.retain(|at| {
            let event = &self.ledger[*at];
            let is_busy = busy.entry(event.session).or_insert_with(|| self.has_bundles(event.session));
            let goes = !*is_busy
                && match &event.owed {
                    _ if !event.progress.is_bundled => true,
                    // Whoever has it would be told again. The source no longer reports it as in work: its broker decides.
                    // And one whose gateway may still read it would be told again.
                    _ if event.progress.has_reached || event.progress.on_streams > 0 => false,
                    // No bundle of its session is under way, so these are held recipients. What is kept for them goes to them later.
                    _ if event.progress.pending > 0 => are_routes_away && kept.get(&event.session) < Some(&event.order),
                    Some(owed) => self.ledger.is_keeper_away(owed) && owed.letters == 0 && !at_store.contains(at),
                    None => false,
                };
            let is_pushed = event.progress.pending > 0 || event.progress.on_streams > 0;
            *is_busy |= !goes && (is_pushed || at_store.contains(at));
            goes
        });
        all
    }

    /// Of each session the newest event that reached somebody and has held recipients: it is kept.
    fn newest_kept(&self, in_order: &[EventIx]) -> HashMap<SessionIx, u64> {
        let events = in_order.iter().map(|at| &self.ledger[*at]);
        let kept = events
            .filter(|event| event.progress.is_bundled && event.progress.has_reached && event.progress.pending > 0);
        kept.map(|event| (event.session, event.order)).collect()
    }

    /// Nothing refers any more to those of these events that are bundled.
    fn let_go(&mut self, events: &[EventIx]) {
        let bundled = events.iter().copied().filter(|at| self.ledger[*at].progress.is_bundled);
        let bundled: HashSet<EventIx> = bundled.collect();
        if bundled.is_empty() {
            return;
        }
        self.ledger.inbox.forget(&bundled);
        self.ledger.content.forget(&bundled);
        let held =
            bundled.iter().filter(|at| self.ledger[**at].progress.pending > 0).map(|at| self.ledger[*at].session);
        let sessions: HashSet<SessionIx> = held.collect();
        for session in sessions {
            self.leave_holds(session, &bundled);
        }
    }

    /// Takes an event out of its session's queue; false when it is not there, but on its way to the dead letters.
    fn take_from_queue(&mut self, at: EventIx) -> bool {
        let session = &mut self.resolve.sessions[self.ledger[at].session];
        // In the order of arrival each is the front of what is left.
        if session.waiting.front() != Some(&at) {
            return false;
        }
        session.waiting.pop_front();
        session.lookups.tries = 0;
        true
    }

    /// Whether something is in flight, and all of it waits for nothing but these stores.
    pub fn waits_only_for(&self, away: Away) -> bool {
        let mut letters = self.ledger.has_refused();
        let (mut lookups, mut inbox) = (false, false);
        let (mut unbundled, mut sessions) = (0, HashSet::new());
        for event in self.ledger.events() {
            match &event.owed {
                _ if event.progress.on_streams > 0 => return false,
                _ if event.progress.pending > 0 && self.has_bundles(event.session) => return false,
                // One of its users is held until the route is known.
                _ if event.progress.pending > 0 => lookups = true,
                Some(owed) if owed.letters > 0 => letters = true,
                Some(_) => inbox = true,
                None => {
                    unbundled += 1;
                    sessions.insert(event.session);
                }
            }
        }
        let queued: usize = sessions.into_iter().map(|at| self.resolve.sessions[at].waiting.len()).sum();
        lookups |= queued > 0;
        letters |= unbundled > queued;
        let is_covered = (!lookups || away.lookups) && (!inbox || away.inbox) && (!letters || away.letters);
        is_covered && (lookups || inbox || letters)
    }

    /// Whether a bundle of this session has not come home.
    pub(super) fn has_bundles(&self, at: SessionIx) -> bool {
        self.resolve.sessions[at].lanes.iter().any(|lane| lane.sent != lane.done)
    }
}

#[cfg(test)]
#[path = "retreat_tests.rs"]
pub(super) mod tests;
