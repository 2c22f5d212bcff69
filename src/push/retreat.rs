//! What a shard does when a store that events wait for stays away.
//!
//! Promises that during a retreat no event waits for a lookup for longer than a tick: it ends as `given_back`, in the order
//! of arrival, its repeats with it, and is forgotten, so that it is new when it comes again. What is bundled is kept: its
//! pushes are on their way. Of one session that is the earlier part, and nothing is taken until the retreat is over, so
//! nothing of it is overtaken. Also tells, for a stop, whether all that is in flight waits for nothing but stores that are
//! away.

use std::collections::HashSet;

use crate::ids::SessionIx;
use crate::outcome::EventEnd;
use crate::push::Push;
use crate::push::bundle::EventIx;

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
        self.is_retreating = is_retreating;
        self.give_back_waiting();
    }

    /// Whether events that wait are given back, and all that come.
    pub fn is_retreating(&self) -> bool {
        self.is_retreating
    }

    /// Gives back what waits in its session's queue, if this is a retreat.
    pub(super) fn give_back_waiting(&mut self) {
        if !self.is_retreating || self.is_cut_off {
            return;
        }
        let mut without_members = Vec::new();
        for at in self.ledger.unbundled() {
            let session = self.ledger[at].session;
            if self.leave_empty(session) {
                without_members.push(session);
            }
            if self.take_from_queue(at) {
                self.end_event(at, EventEnd::GivenBack);
            }
        }
        for session in without_members {
            self.enter_empty(session);
        }
    }

    /// Takes an event out of its session's queue; false when it is not there, but on its way to the dead letters.
    fn take_from_queue(&mut self, at: EventIx) -> bool {
        let session = &mut self.sessions[self.ledger[at].session];
        // In the order of arrival each is the front of what is left.
        if session.waiting.front() != Some(&at) {
            return false;
        }
        session.waiting.pop_front();
        session.tries = 0;
        true
    }

    /// Whether something is in flight, and all of it waits for nothing but these stores.
    pub fn waits_only_for(&self, away: Away) -> bool {
        let mut letters = self.ledger.has_refused();
        let (mut lookups, mut inbox) = (false, false);
        let (mut unbundled, mut sessions) = (0, HashSet::new());
        for event in self.ledger.events() {
            match &event.owed {
                _ if event.pending > 0 && self.has_bundles(event.session) => return false,
                // One of its users is held until the route is known.
                _ if event.pending > 0 => lookups = true,
                Some(owed) if owed.letters > 0 => letters = true,
                Some(_) => inbox = true,
                None => {
                    unbundled += 1;
                    sessions.insert(event.session);
                }
            }
        }
        let queued: usize = sessions.into_iter().map(|at| self.sessions[at].waiting.len()).sum();
        lookups |= queued > 0;
        letters |= unbundled > queued;
        let is_covered = (!lookups || away.lookups) && (!inbox || away.inbox) && (!letters || away.letters);
        is_covered && (lookups || inbox || letters)
    }

    /// Whether a bundle of this session has not come home.
    fn has_bundles(&self, at: SessionIx) -> bool {
        self.sessions[at].lanes.iter().any(|lane| lane.sent != lane.done)
    }
}

#[cfg(test)]
#[path = "retreat_tests.rs"]
mod tests;
