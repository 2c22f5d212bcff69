//! Sessions that are to be asked for: those with an urgent event first.
//!
//! Promises that a session has one place at the most in each queue. A place at which it does not wait (any more) is passed over.

use crate::model::ids::SessionIx;
use crate::model::limits::{MEMBER_LARGE, MEMBER_QUERY_SESSIONS};
use crate::push::resolve::Resolve;
use crate::push::resolve::members::Waiting;
use crate::push::sessions::Lookups;
use crate::push::urgent_first::UrgentFirst;

impl Waiting {
    fn queue(&mut self, is_alone: bool) -> &mut UrgentFirst<SessionIx> {
        if is_alone { &mut self.large } else { &mut self.wanted }
    }
}

impl Lookups {
    const fn place(is_alone: bool, is_urgent: bool) -> u8 {
        1 << (2 * is_alone as u8 + is_urgent as u8)
    }

    /// It takes a place where it waits; false when it has one there.
    fn takes_place(&mut self, is_urgent: bool) -> bool {
        let place = Self::place(self.is_wanted_alone, is_urgent);
        let is_new = self.places & place == 0;
        self.places |= place;
        is_new
    }

    /// A place of it has its turn. Whether it waits there.
    fn leaves_place(&mut self, is_alone: bool, is_urgent: bool) -> bool {
        self.places &= !Self::place(is_alone, is_urgent);
        self.is_wanted_alone == is_alone && std::mem::take(&mut self.is_wanted)
    }
}

impl Resolve {
    /// A session is to be asked for, alone when it has many members.
    pub(super) fn want_members(&mut self, at: SessionIx) {
        let is_urgent = self.is_hurried(at);
        let session = &mut self.sessions[at];
        session.lookups.is_wanted = true;
        session.lookups.is_wanted_alone = session.members.as_ref().is_some_and(|list| list.users.len() > MEMBER_LARGE);
        self.take_place(at, is_urgent);
    }

    fn take_place(&mut self, at: SessionIx, is_urgent: bool) {
        let lookups = &mut self.sessions[at].lookups;
        if lookups.takes_place(is_urgent) {
            self.members.waiting.queue(lookups.is_wanted_alone).push_back(at, is_urgent);
        }
    }

    /// The same, before all that are not urgent: it had been taken out.
    pub(super) fn want_members_again(&mut self, at: SessionIx) {
        let lookups = &mut self.sessions[at].lookups;
        lookups.is_wanted = true;
        if lookups.takes_place(false) {
            self.members.waiting.queue(lookups.is_wanted_alone).push_front(at);
        }
    }

    /// An urgent event waits in a session: if that is to be asked for, it goes before the others.
    pub(in crate::push) fn hurry_members(&mut self, at: SessionIx) {
        if self.sessions[at].lookups.is_wanted {
            self.take_place(at, true);
        }
    }

    /// The next one, of those that are asked for alone or of the others.
    pub(super) fn next_wanted(&mut self, is_alone: bool) -> Option<SessionIx> {
        while let Some((at, is_urgent)) = self.members.waiting.queue(is_alone).pop_front_of() {
            if self.sessions[at].lookups.leaves_place(is_alone, is_urgent) {
                return Some(at);
            }
        }
        None
    }

    /// Those of the next query; none when nobody waits.
    pub(super) fn next_wanted_set(&mut self) -> Vec<SessionIx> {
        let next = std::iter::from_fn(|| self.next_wanted(false));
        next.take(MEMBER_QUERY_SESSIONS).collect()
    }
}
