//! Messages that say themselves which one they are: `<number>:<instant>:<checksum>` and padding, each part of fixed width.
//!
//! Promises that any other content is told from what was published: the checksum is over session, number and instant, the
//! rest is known. Hands nothing to the heap when it reads: that is done for each push.

use std::io::Write as _;

use crate::rng::Rng;
use crate::workload::CONTENT_BYTES_MIN;

const NUMBER: usize = 10;
const INSTANT: usize = 20;
const CHECKSUM: usize = 16;
const _: () = assert!(NUMBER + 1 + INSTANT + 1 + CHECKSUM == CONTENT_BYTES_MIN);
/// Bytes of an event besides its content, about.
const EVENT_REST_BYTES: usize = 96;
const TEXT: u64 = 2;
/// Every message's type.
pub(super) const KIND: &str = "text";

/// What a content says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The message's number in its session, from 0.
    pub number: u32,
    /// When it was meant to be sent.
    pub intended_nanos: u64,
}

/// Writes and reads messages of one length.
#[derive(Debug)]
pub(super) struct Messages {
    padding: Box<[u8]>,
}

/// The id of a session's message.
pub(super) fn msg_id(session: usize, number: u32) -> i64 {
    ((session as i64) << 32) + i64::from(number) + 1
}

/// The msg_id and seq_id of a session's message.
pub fn key_of(session: usize, number: u32) -> (i64, i64) {
    (msg_id(session, number), i64::from(number) + 1)
}

/// The number of a session's message by its id.
pub(super) fn number_of(session: usize, msg_id: i64) -> Option<u32> {
    u32::try_from(msg_id - ((session as i64) << 32) - 1).ok()
}

/// A message's timestamp: its instant in milliseconds.
pub(super) fn timestamp(intended_nanos: u64) -> i64 {
    (intended_nanos / 1_000_000) as i64
}

impl Messages {
    pub fn new(content_bytes: usize) -> Self {
        let letter = |at: usize| b'a' + (at % 26) as u8;
        Self { padding: (0..content_bytes.saturating_sub(CONTENT_BYTES_MIN)).map(letter).collect() }
    }

    /// Writes a PushEvent, field by field: a struct of six strings per event would be most of the publisher's work.
    pub fn encode(&self, session: usize, sender: u32, number: u32, intended_nanos: u64, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(CONTENT_BYTES_MIN + self.padding.len() + EVENT_REST_BYTES);
        put_number(out, 1, msg_id(session, number) as u64);
        put_number(out, 2, u64::from(number) + 1);
        put_name(out, 3, format_args!("session-{session}"));
        put_name(out, 4, format_args!("user-{sender}"));
        put_varint(out, 6 << 3 | TEXT);
        put_varint(out, (CONTENT_BYTES_MIN + self.padding.len()) as u64);
        out.extend_from_slice(&head(session, number, intended_nanos));
        out.extend_from_slice(&self.padding);
        put_name(out, 7, format_args!("{KIND}"));
        put_number(out, 8, timestamp(intended_nanos) as u64);
    }

    /// Reads a content.
    ///
    /// # Errors
    /// What about it is not as it was published.
    pub fn read(&self, session: usize, content: &str) -> Result<Read, &'static str> {
        let content = content.as_bytes();
        let (given, padding) = content.split_at_checked(CONTENT_BYTES_MIN).ok_or("its content is too short")?;
        if padding.len() != self.padding.len() {
            return Err("its content has another length");
        }
        if *padding != *self.padding {
            return Err("its content was changed behind the checksum");
        }
        let number = digits(&given[..NUMBER]).and_then(|number| u32::try_from(number).ok());
        let instant = digits(&given[NUMBER + 1..NUMBER + 1 + INSTANT]);
        match (number, instant) {
            (Some(number), Some(intended_nanos)) if *given == head(session, number, intended_nanos) => {
                Ok(Read { number, intended_nanos })
            }
            _ => Err("its content does not match its checksum"),
        }
    }
}

/// A content without its padding.
fn head(session: usize, number: u32, intended_nanos: u64) -> [u8; CONTENT_BYTES_MIN] {
    let mut head = [b':'; CONTENT_BYTES_MIN];
    put_digits(&mut head[..NUMBER], number.into());
    put_digits(&mut head[NUMBER + 1..NUMBER + 1 + INSTANT], intended_nanos);
    let mut checksum = checksum(session, number, intended_nanos);
    for place in head[CONTENT_BYTES_MIN - CHECKSUM..].iter_mut().rev() {
        *place = b"0123456789abcdef"[(checksum & 15) as usize];
        checksum >>= 4;
    }
    head
}

fn checksum(session: usize, number: u32, intended_nanos: u64) -> u64 {
    let message = Rng::new((session as u64) << 32 | u64::from(number)).next();
    Rng::new(message ^ intended_nanos).next()
}

fn put_digits(places: &mut [u8], mut number: u64) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    })
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

/// A text of fewer than 128 bytes.
fn put_name(out: &mut Vec<u8>, field: u64, name: std::fmt::Arguments<'_>) {
    put_varint(out, field << 3 | TEXT);
    let at = out.len();
    out.push(0);
    // A vector takes all that is written.
    let _ = out.write_fmt(name);
    out[at] = (out.len() - at - 1) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use prost::Message as _;
    use task_engine::model::proto::event::PushEvent;

    fn event(bytes: usize, session: usize, number: u32, intended: u64) -> PushEvent {
        let mut payload = b"what was there".to_vec();
        Messages::new(bytes).encode(session, 4_000_000_000, number, intended, &mut payload);
        PushEvent::decode(payload.as_slice()).expect("an event")
    }

    #[test]
    fn what_is_written_is_an_event_and_is_read_back() {
        for bytes in [48, 49, 128, 20_000] {
            for (session, number, intended) in [(0, 0, 0), (7, 99, 1_234_567_890), (1 << 30, u32::MAX - 1, u64::MAX)] {
                let event = event(bytes, session, number, intended);
                assert_eq!(event.msg_id, msg_id(session, number));
                assert_eq!(event.seq_id, i64::from(number) + 1);
                assert_eq!(event.session_id, World::session_name(session));
                assert_eq!(event.from_username, World::user_name(4_000_000_000));
                assert_eq!((event.r#type.as_str(), event.timestamp), ("text", (intended / 1_000_000) as i64));
                assert_eq!(event.content.len(), bytes);
                let read = Messages::new(bytes).read(session, &event.content);
                assert_eq!(read, Ok(Read { number, intended_nanos: intended }));
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed_and_so_are_a_cut_a_tail_and_another_session() {
        let (messages, content) = (Messages::new(80), event(80, 3, 5, 77).content);
        for at in 0..content.len() {
            for change in [1, 2, 16, 32] {
                let mut bytes = content.clone().into_bytes();
                bytes[at] ^= change;
                let changed = String::from_utf8(bytes).expect("ASCII");
                assert!(messages.read(3, &changed).is_err(), "{at} {change}");
            }
            assert!(messages.read(3, &content[..at]).is_err());
        }
        assert!(messages.read(3, &format!("{content}a")).is_err());
        assert!(messages.read(4, &content).is_err());
        assert!(messages.read(3, &content).is_ok());
    }
}
