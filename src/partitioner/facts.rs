//! What the partitioner is told, and what it says.

use std::time::Duration;

use bytes::Bytes;

use super::event::Carried;
use crate::model::ids::Partition;

/// How it works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `consumer.partitions`.
    pub partitions: u32,
    /// How often an event that its stream refuses alone is tried again.
    pub max_retry: u32,
    /// The first pause between these tries.
    pub retry_interval: Duration,
    /// How long a publish may be without an answer.
    pub answer_within: Duration,
}

/// What the input stream, its consumer and the server say when a connection is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// When the input stream was made, in letters and digits: its sequence numbers mean nothing in another one.
    pub created: String,
    /// Bytes of headers and payload together that the server and the partitioned stream take.
    pub message_bytes_max: usize,
    /// The first sequence number that the input stream still has.
    pub first: u64,
    /// Everything up to this sequence number is settled.
    pub floor: u64,
    /// The highest sequence number that the consumer delivered.
    pub delivered: u64,
    /// The highest sequence number of the input stream.
    pub newest: u64,
    /// The highest sequence number of the partitioned stream.
    pub last: u64,
    /// How long it is good that something was looked for and not found: less than the stream knows message ids. What is still on
    /// its way may be stored after the look.
    pub look_is_good_for: Duration,
}

/// An event of the input stream.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The reader's number for it; its end is told by it.
    pub key: u64,
    /// Its sequence number in the input stream.
    pub seq: u64,
    /// The event as it came.
    pub payload: Bytes,
    /// The headers that it came with.
    pub carried: Carried,
}

/// What is to be published.
#[derive(Debug)]
pub struct Publish<'a> {
    /// Its answer comes back with these three.
    pub ticket: Ticket,
    /// Where to.
    pub partition: Partition,
    /// The whole header block.
    pub head: &'a [u8],
    /// The event.
    pub payload: &'a Bytes,
}

/// What an answer to a publish is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The slot of its session.
    pub slot: u16,
    /// The event's sequence number in the input stream.
    pub seq: u64,
    /// How often the event was published, this time included.
    pub attempt: u32,
}

/// What the server said to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It is stored, under this sequence number of the partitioned stream; or it was there already.
    Stored {
        /// The number.
        seq: u64,
        /// The stream knew its id, and has the first one.
        is_copy: bool,
    },
    /// The stream refuses it, and why.
    Refused(&'a str),
    /// Nobody takes the subject, or somebody else does; why. It says nothing of the event.
    Nobody(&'a str),
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that the partitioned stream has.
    pub moved: u64,
    /// Copies that were not published, or that the stream knew.
    pub copies: u64,
    /// Publishes that were refused.
    pub refused: u64,
    /// Events that became letters.
    pub letters: u64,
    /// Events that the input stream dropped before they were delivered.
    pub gap: u64,
    /// Messages in the partitioned stream that somebody else put there meanwhile.
    pub foreign: u64,
    /// Events that were published without their publisher's headers, as these were too much.
    pub stripped: u64,
}
