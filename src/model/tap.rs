//! What somebody is told who looks on at the events of one session, or to one user, for a while.

use std::time::Duration;

use bytes::Bytes;

use crate::model::ids::{GatewayId, Nanos};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::Priority;

/// Events that are told per second, by one shard and by all; the others are counted.
pub const TAPPED_A_SECOND: u32 = 100;
/// Bytes of a content that are told.
pub const TAPPED_CONTENT_BYTES: usize = 4 * 1024;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapRules {
    /// Which tap it is.
    pub number: u64,
    /// Events of this session; of any where there is none.
    pub session: Option<Box<str>>,
    /// Events to this user; to anybody where there is none.
    pub user: Option<Box<str>>,
    /// For so long, unless it is said again.
    pub lasts: Duration,
    /// What the messages say is told as well.
    pub wants_content: bool,
}

/// One push of an event that is told, to users at one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedPush {
    /// Where it went.
    pub gateway: GatewayId,
    /// To how many users.
    pub recipients: u32,
    /// How many of them it did not reach.
    pub missed: u32,
    /// Until it was written; none when it was not. From the event's arrival, as the next.
    pub written_after: Option<Duration>,
    /// Until it had its answer, or its end without one.
    pub ended_after: Duration,
}

/// Recipients that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedMiss {
    /// Why.
    pub why: RecipientOutcome,
    /// Where, when a gateway was known.
    pub gateway: Option<GatewayId>,
    /// How many.
    pub recipients: u32,
}

/// An event that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedEvent {
    /// Which tap it is for.
    pub tap: u64,
    /// Its session.
    pub session: Box<str>,
    /// Its id.
    pub msg_id: i64,
    /// Who sent it.
    pub from: Box<str>,
    /// Its class.
    pub class: Priority,
    /// How it ended.
    pub end: EventOutcome,
    /// When it arrived, in nanoseconds since 1970.
    pub arrived_unix_nanos: u64,
    /// When it ended, by the time of its engine.
    pub ended: Nanos,
    /// How long it took.
    pub took: Duration,
    /// Its pushes, as far as they are looked at.
    pub pushes: Vec<TappedPush>,
    /// Those that it could not reach, as far as they are looked at.
    pub misses: Vec<TappedMiss>,
    /// The beginning of what it says, where that is wanted.
    pub content: Option<Bytes>,
    /// Events since the last one that were too many to be told.
    pub left_out: u64,
}
