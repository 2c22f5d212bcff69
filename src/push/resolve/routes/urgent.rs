//! Asks for routes for which sessions with urgent events wait go before others.

use crate::model::ids::SessionIx;
use crate::push::pauses::LineOf;
use crate::push::resolve::Resolve;
use crate::push::resolve::routes::RouteAsks;

impl RouteAsks {
    /// The next set that was never asked for: an urgent one, if there is one. Sets are few, and each is sent within some round trips.
    pub(super) fn next_unsent(&mut self) -> Option<u32> {
        if self.has_urgent {
            let at = self.unsent.iter().position(|no| self.asks.get(no).is_some_and(|ask| ask.is_urgent));
            self.has_urgent = at.is_some();
            return self.unsent.remove(at.unwrap_or(0));
        }
        self.unsent.pop_front()
    }

    /// An urgent event waits for this ask.
    pub(super) fn hurry_ask(&mut self, no: u32) {
        self.has_urgent = true;
        self.ask(no).is_urgent = true;
    }
}

impl Resolve {
    /// Whether an urgent event waits in a session.
    pub(in crate::push) fn is_hurried(&self, at: SessionIx) -> bool {
        self.sessions[at].pauses.line == LineOf::FIRST
    }

    /// A session has an urgent event from now on: the asks that it waits for go before others.
    pub(in crate::push) fn hurry_routes(&mut self, at: SessionIx) {
        let session = &self.sessions[at];
        let awaited = session.members.iter().filter(|_| session.lookups.awaited_asks > 0);
        for user in awaited.flat_map(|list| list.users.iter()).chain(&session.held) {
            if self.users.is_asked(*user) {
                self.routes.hurry_ask(self.users.asked_in(*user));
            }
        }
    }
}
