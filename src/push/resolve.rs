//! The resolve stage: who is in a session, and where each is connected.

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
