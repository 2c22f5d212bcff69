//! Sessions that are to be asked for: those with an urgent event first.

use crate::model::ids::SessionIx;
use crate::model::limits::MEMBER_QUERY_SESSIONS;
use crate::push::pauses::LineOf;
use crate::push::resolve::Resolve;

impl Resolve {
    /// A session is to be asked for.
    pub(super) fn want_members(&mut self, at: SessionIx) {
        let session = &mut self.sessions[at];
        let is_urgent = session.pauses.line == LineOf::FIRST;
        (session.lookups.is_wanted, session.lookups.is_hurried) = (true, is_urgent);
        self.members.waiting.wanted.push_back(at, is_urgent);
    }

    /// The same, before all that are not urgent: it had been taken out.
    pub(super) fn want_members_again(&mut self, at: SessionIx) {
        self.sessions[at].lookups.is_wanted = true;
        self.members.waiting.wanted.push_front(at);
    }

    /// An urgent event waits in a session: if that is to be asked for, it goes before the others. Its old place stays and is passed over.
    pub(in crate::push) fn hurry_members(&mut self, at: SessionIx) {
        let lookups = &mut self.sessions[at].lookups;
        if lookups.is_wanted && !std::mem::replace(&mut lookups.is_hurried, true) {
            self.members.waiting.wanted.push_back(at, true);
        }
    }

    /// Those of the next query; none when nobody waits.
    pub(super) fn next_wanted(&mut self) -> Vec<SessionIx> {
        let mut next = Vec::new();
        while next.len() < MEMBER_QUERY_SESSIONS
            && let Some(at) = self.members.waiting.wanted.pop_front()
        {
            let lookups = &mut self.sessions[at].lookups;
            if std::mem::take(&mut lookups.is_wanted) {
                lookups.is_hurried = false;
                next.push(at);
            }
        }
        next
    }
}
