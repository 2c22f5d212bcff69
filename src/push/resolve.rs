//! The resolve stage: who is in a session, and where each is connected.

mod empty_lists;
mod members;
mod outage;
mod renewal;
pub(super) mod routes;
mod warm;

use crate::model::ids::{SessionIx, UserIx};
use crate::push::resolve::members::MemberAsks;
use crate::push::resolve::renewal::Renewal;
use crate::push::resolve::routes::RouteAsks;
use crate::push::resolve::warm::Warm;
use crate::push::sessions::{Session, Sessions};
use crate::push::users::Users;

/// What is known of sessions and users, and what is being asked about them.
#[derive(Debug, Default)]
pub(super) struct Resolve {
    pub(super) sessions: Sessions,
    pub(super) users: Users,
    pub(super) members: MemberAsks,
    pub(super) routes: RouteAsks,
    warm: Warm,
    pub(super) renewal: Renewal,
    /// The route store tells each change: a known route holds until it does.
    pub(super) is_tracking: bool,
}

impl Resolve {
    /// A bundled event of a session has ended. True when its events waited for that and may go on.
    #[inline]
    pub(super) fn event_ended(&mut self, at: SessionIx) -> bool {
        self.sessions[at].in_flight -= 1;
        self.sessions.release_retired(at, &mut self.users);
        let session = &mut self.sessions[at];
        session.in_flight == 0 && std::mem::take(&mut session.pauses.is_paused)
    }

    /// Whether the session's layout is what it would be made again: no route has changed since, or, where the changes
    /// are few against its members, none of a member; and gateways keep lists of users as they did at this epoch.
    #[inline]
    pub(super) fn is_laid_out(&mut self, at: SessionIx, lists_epoch: u32) -> bool {
        let Session { layout: Some(layout), members: Some(members), .. } = &mut self.sessions[at] else {
            return false;
        };
        if layout.is_stale || !layout.is_cut_for(lists_epoch) {
            return false;
        }
        if layout.epoch == self.users.epoch() {
            return true;
        }
        let Some(mut changed) = self.users.changed_since(layout.epoch) else { return false };
        if changed.len() * 2 > members.users.len() || changed.any(|user| members.users.binary_search(&user).is_ok()) {
            return false;
        }
        layout.epoch = self.users.epoch();
        true
    }

    /// The sender, if it is a member.
    #[inline]
    pub(super) fn sender(&self, at: SessionIx, name: &[u8]) -> Option<UserIx> {
        let user = self.users.find(name)?;
        let members = self.sessions[at].members.as_ref()?;
        members.users.binary_search(&user).is_ok().then_some(user)
    }
}
