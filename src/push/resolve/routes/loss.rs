//! What was known is lost with a connection, or with all that the store had: then an absent route is no fact.
//!
//! Promises that a user who had a route before a loss and has none after it is pushed where it was, for at most
//! [`LOST_ROUTES_KEPT`], until the store tells a change, or that gateway says that the user is not connected, does not answer
//! in time or leaves the registry; and that whoever had none is offline at once.

use crate::model::ids::{Nanos, UserIx};
use crate::model::limits::LOST_ROUTES_KEPT;
use crate::push::context::Context;
use crate::push::resolve::Resolve;

/// The latest loss.
#[derive(Debug, Default)]
pub(in crate::push) struct Loss {
    /// Until when what was known before it is remembered.
    until: Option<Nanos>,
}

impl Resolve {
    /// Any route may have changed unseen, and the store may not have those any more that it had.
    pub(in crate::push) fn lose_routes(&mut self, now: Nanos) {
        self.routes.hurry(now);
        self.routes.loss.until = Some(now.after(LOST_ROUTES_KEPT));
        self.users.lose_all_routes();
    }

    /// The store has no route of this user. True when the user is taken to be where it was before a loss.
    pub(in crate::push) fn keeps_route(&mut self, user: UserIx, cx: &mut Context) -> bool {
        if self.routes.loss.until.is_none() || !self.users.keep_route(user) {
            return false;
        }
        cx.activity.routes_kept += 1;
        let name = self.users.text(user);
        cx.warn("routes_vanished", || {
            format!(
                "user {name}: the route store has no route since its connection was lost, and had one before: the user is \
                 pushed at its last known gateway for up to {} min while that answers; look whether the store came back empty",
                LOST_ROUTES_KEPT.as_secs() / 60
            )
        });
        true
    }

    /// What the store does not say in all that time is so.
    pub(in crate::push) fn end_loss(&mut self, now: Nanos) {
        if self.routes.loss.until.is_some_and(|until| until <= now) {
            self.routes.loss.until = None;
            self.users.forget_kept_routes();
        }
    }
}
