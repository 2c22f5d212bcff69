//! Answers to lookups: what becomes known lets sessions, and messages of users that moved, go on.
//!
//! Branches only: what an answer says is read by the resolve stage.

use crate::model::delivery::LookupError;
use crate::model::names::RouteList;
use crate::push::Push;
use crate::push::facts::AskNo;
use crate::push::resolve::routes::Woken;

impl Push {
    /// Makes known what was answered, as far as the turn allows; each session goes on as soon as its members are known.
    pub(super) fn learn_members(&mut self) {
        while let Some(at) = self.resolve.learn_next(&mut self.ledger, &mut self.cx) {
            self.advance(at);
            self.resolve.ask_routes_ahead(at, &mut self.cx);
        }
    }

    /// Takes an answer about routes.
    pub(super) fn routes_answered(&mut self, ask: AskNo, answer: Result<RouteList, LookupError>) {
        let (woken, is_alive) = self.resolve.routes_answered(ask, answer, &mut self.delivery, &mut self.cx);
        self.wake(woken);
        if !is_alive {
            return;
        }
        for charge in self.resolve.take_route_charges() {
            let Some(gone_on) = self.resolve.confirm_route_charge(charge, &mut self.cx) else { continue };
            self.wake(gone_on.woken);
            if let Some(user) = gone_on.forgotten {
                self.resolve.forget_refused(user);
            }
        }
    }

    fn wake(&mut self, Woken { sessions, fenced }: Woken) {
        for (at, user) in fenced {
            self.try_release(at, user);
        }
        for at in sessions {
            if self.resolve.ask_ended(at) {
                self.advance(at);
            }
        }
    }
}
