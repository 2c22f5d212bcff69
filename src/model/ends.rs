//! How a recipient, or an event for all of its recipients, ended: what is remembered of it, and what is asked.

use crate::model::ids::{GatewayId, Nanos};
use crate::model::outcome::{EventOutcome, RecipientOutcome};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A recipient.
    Recipient(RecipientOutcome),
    /// An event, and with it all recipients that had no end of their own.
    Event(EventOutcome),
}

impl End {
    /// Its label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Recipient(end) => end.label(),
            Self::Event(end) => end.label(),
        }
    }

    /// Whether it is a recipient's.
    pub const fn is_recipients(self) -> bool {
        matches!(self, Self::Recipient(_))
    }
}

/// Which ends are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsAsked {
    /// Of this session.
    pub session: Box<str>,
    /// Of this user, or of all recipients of an event.
    pub user: Box<str>,
    /// Of this message; none: of any.
    pub msg_id: Option<i64>,
}

/// One end that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedEnd {
    /// The message.
    pub msg_id: i64,
    /// How it ended.
    pub end: End,
    /// The gateway that it was to be pushed at, where one was known.
    pub gateway: Option<GatewayId>,
    /// When the event arrived.
    pub arrived: Nanos,
    /// When it ended.
    pub ended: Nanos,
}
