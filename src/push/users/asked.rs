//! Who is being asked for, and what is known meanwhile.
//!
//! Promises that a user who is asked for again keeps the route that is known: an event that came before that route was asked for goes
//! on with it, however often others have the same user asked for. Refuses to say which routes are too old: that is the event's to know.

use super::{ASKED, UNKNOWN, Users};
use crate::model::ids::UserIx;

impl Users {
    /// The number of the ask that its route is from.
    #[inline]
    pub fn known_in(&self, user: UserIx) -> u32 {
        self.known_in[user.0 as usize]
    }

    /// Whether there is a route, or the word that there is none.
    #[inline]
    pub fn knows(&self, user: UserIx) -> bool {
        !matches!(self.route[user.0 as usize], ASKED | UNKNOWN)
    }

    /// Whether its route is being asked for, known or not.
    #[inline]
    pub fn is_asked(&self, user: UserIx) -> bool {
        self.route[user.0 as usize] == ASKED || self.is_asked_again(user.0 as usize)
    }

    #[inline]
    pub(super) fn is_asked_again(&self, at: usize) -> bool {
        self.asked_in[at] != self.known_in[at]
    }

    fn set_asked_again(&mut self, user: UserIx, ask: u32) {
        self.remember(user);
        self.asked_in[user.0 as usize] = ask;
    }

    /// Notes that a user's route is being asked for; `keeps_route`: what is known of it holds meanwhile.
    pub fn set_asked_in(&mut self, user: UserIx, ask: u32, keeps_route: bool) {
        match keeps_route {
            true => self.set_asked_again(user, ask),
            false => self.set_asked(user, ask),
        }
    }

    /// The same ask of a user has another number now.
    pub fn renumber_ask(&mut self, user: UserIx, ask: u32) {
        self.set_asked_in(user, ask, self.route[user.0 as usize] != ASKED);
    }
}
