//! What is told of the trip of one event when it is traced: the publisher's context, and instants from which spans are made.

use std::time::Duration;

use super::ids::{GatewayId, Nanos};
use super::outcome::{EventOutcome, RecipientOutcome, labelled};
use super::priority::Priority;

/// Pushes of one event that are told one by one; of further ones only the number is.
pub const TRACED_PUSHES_MAX: usize = 64;

/// The span of the publisher that an event belongs to, as `traceparent` says (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Of the whole trace; not all zero.
    pub trace_id: [u8; 16],
    /// Of the publisher's span; not all zero.
    pub span_id: [u8; 8],
    /// The publisher records its part of the trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the value of `traceparent`: small letters only, ids that are not all zero, any version but `ff`. A version later than
    /// `00` may say more behind the flags, which is not read.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(55)?;
        let version = hex::<1>(&known[..2])?[0];
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let ends = more.is_empty() || (version > 0 && more[0] == b'-');
        if version == 0xff || !dashes || !ends {
            return None;
        }
        let (trace_id, span_id) = (hex::<16>(&known[3..35])?, hex::<8>(&known[36..52])?);
        let [flags] = hex::<1>(&known[53..55])?;
        let is_known = trace_id != [0; 16] && span_id != [0; 8];
        is_known.then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

labelled! {
    /// Why spans were dropped that a shard had told of.
    SpanLoss {
        /// Too many waited to be sent: the collector is slow.
        Queue = "queue",
        /// The collector was away, too slow, or answered with an error.
        Collector = "collector",
        /// The collector took the others of their batch.
        Refused = "refused",
    }
}

/// The trip of one push of an event to one group of users at one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedPush {
    /// Where it went.
    pub gateway: GatewayId,
    /// To how many users.
    pub recipients: u32,
    /// How many of them the gateway did not take it for.
    pub missed: u32,
    /// When it was made.
    pub made_at: Nanos,
    /// When it was written; nothing when it was not.
    pub written_at: Option<Nanos>,
    /// When it had its answer, or its end without one.
    pub ended_at: Nanos,
    /// Its end, where that was none of the gateway.
    pub unanswered: Option<RecipientOutcome>,
    /// How long after the event's publication it was answered, as it was recorded.
    pub latency: Option<Duration>,
}

/// An event that has ended and is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTrace {
    /// The publisher's span; nothing when it named none.
    pub parent: Option<TraceParent>,
    /// The event's session,
    pub session: Box<str>,
    /// its id,
    pub msg_id: i64,
    /// and its number in the session.
    pub seq_id: i64,
    /// Its class.
    pub class: Priority,
    /// How it ended.
    pub end: EventOutcome,
    /// When its shard took it.
    pub arrived: Nanos,
    /// When its members were known, and when their routes were; nothing when it ended before.
    pub resolved: Option<(Nanos, Nanos)>,
    /// When it ended.
    pub ended_at: Nanos,
    /// A recipient who was connected could not be reached.
    pub has_missed: bool,
    /// Its pushes; of one that is told of only since it was slow, those that were answered since.
    pub pushes: Vec<TracedPush>,
    /// How many there were beyond [`TRACED_PUSHES_MAX`].
    pub pushes_left_out: u32,
}

impl EndedTrace {
    /// How many spans it becomes: the event; members and routes; of each push the outbox, and the gateway where it was written.
    pub fn spans(&self) -> u32 {
        let resolved = if self.resolved.is_some() { 2 } else { 0 };
        let pushes = self.pushes.iter().map(|push| 1 + u32::from(push.written_at.is_some())).sum::<u32>();
        1 + resolved + pushes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let read = TraceParent::read(GOOD.as_bytes()).expect("a parent");
        assert_eq!((read.trace_id[0], read.trace_id[15], read.span_id[1], read.is_sampled), (0x4b, 0x36, 0xf0, true));
        for (value, sampled) in [
            (GOOD.replace("-01", "-00"), Some(false)),
            (GOOD.replace("-01", "-03"), Some(true)),
            (GOOD.replace("-01", "-fe"), Some(false)),
            (GOOD.replacen("00-", "01-", 1), Some(true)),
            (GOOD.replacen("00-", "cc-", 1) + "-more", Some(true)),
            (GOOD.replacen("00-", "cc-", 1) + "more", None),
            (GOOD.to_owned() + "-more", None),
            (GOOD.to_owned() + "-", None),
            (GOOD.replacen("00-", "ff-", 1), None),
            (GOOD.to_uppercase(), None),
            (GOOD.replace("4bf92f35", "4BF92F35"), None),
            (GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), None),
            (GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), None),
            (GOOD.replace("4bf92f35", "4bf92f3g"), None),
            (GOOD.replace('-', "_"), None),
            (GOOD[..54].to_owned(), None),
            (String::new(), None),
            ("é".repeat(28), None),
        ] {
            let read = TraceParent::read(value.as_bytes());
            assert_eq!(read.map(|parent| parent.is_sampled), sampled, "{value}");
        }
    }
}
