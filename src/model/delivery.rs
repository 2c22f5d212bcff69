//! What travels between the core, the stores and the source: events' tags and settlements, rows, dead letters, and why a
//! lookup has no answer.

use std::fmt;

use bytes::Bytes;

use crate::model::ids::SessionId;
use crate::model::names::NameList;

/// Why a lookup has no answer. It only says what happened: whose fault that is, the core decides by what happens to other
/// asks of the same store. Where one is refused for good (a letter, rows), its port says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// The ask never left: no connection could be opened, or it was refused before it could be asked anything. That says
    /// nothing of what was to be asked, which is asked again and charged with nothing.
    NotReached(String),
    /// No answer came: too slow, the connection broke.
    Unavailable(String),
    /// The store answered with an error, whatever it says.
    Rejected(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(why) | Self::Unavailable(why) | Self::Rejected(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LookupError {}

/// What a source is told of an event it handed in: the reader it came through and the reader's own number for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    /// Which of the source's readers.
    pub reader: u16,
    /// The reader's number for the event.
    pub number: u64,
}

/// What an event's end means to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Each of its recipients has its end: the source may forget it.
    Ack,
    /// It can never be pushed and is in the dead letters: it must not come again.
    Term,
    /// The engine stops before it could end: it is to come again, here or elsewhere.
    Nak,
}

/// The settlement of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which event.
    pub tag: DeliveryTag,
    /// How it ended.
    pub how: Disposition,
}

/// Where an event came from, for its dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The subject it was published on.
    pub subject: String,
    /// Its sequence number in its stream; none when the broker keeps nothing.
    pub stream_sequence: Option<u64>,
    /// How often the broker delivered it; 1 the first time, 0 when it does not say.
    pub deliveries: u64,
    /// When the broker took it, in nanoseconds since 1970 by the broker's clock; none when it does not say.
    pub published_unix_nanos: Option<u64>,
}

/// Rows for the inbox: one message that these users have not got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRows {
    /// Its session.
    pub session: SessionId,
    /// Its id.
    pub msg_id: i64,
    /// Its sequence number in the session.
    pub seq_id: i64,
    /// Whose inboxes, each once.
    pub users: NameList,
}

/// A message as its content is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageKey {
    /// Its session.
    pub session: SessionId,
    /// Its id.
    pub msg_id: i64,
    /// Its sequence number in the session.
    pub seq_id: i64,
}

/// An event, or one recipient of it, that can never be pushed or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, as the metric's label.
    pub reason: &'static str,
    /// More, for a person.
    pub detail: String,
    /// The event's bytes as they came.
    pub payload: Bytes,
    /// When only this recipient is concerned.
    pub recipient: Option<Box<str>>,
    /// How often the engine tried.
    pub tries: u32,
}
