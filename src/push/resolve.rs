//! The resolve stage: who is in a session, and where each is connected.

use crate::model::ids::SessionIx;
use crate::push::members::MemberAsks;
use crate::push::routes::RouteAsks;
use crate::push::sessions::Sessions;
use crate::push::users::Users;

/// What is known of sessions and users, and what is being asked about them.
#[derive(Debug, Default)]
pub(super) struct Resolve {
    pub(super) sessions: Sessions,
    pub(super) users: Users,
    pub(super) members: MemberAsks,
    pub(super) routes: RouteAsks,
    /// The route store tells each change: a known route holds until it does.
    pub(super) is_tracking: bool,
}

impl Resolve {
    /// A bundled event of a session has ended. True when its events waited for that and may go on.
    pub(super) fn event_ended(&mut self, at: SessionIx) -> bool {
        self.sessions[at].in_flight -= 1;
        self.sessions.release_retired(at, &mut self.users);
        let session = &mut self.sessions[at];
        session.in_flight == 0 && std::mem::take(&mut session.is_paused)
    }
}
