//! What of an event decides where it goes: its session, and the id under which it is stored.

use ring::digest::{SHA256, digest};

use crate::model::limits::REPLAY_HEADER;
use crate::model::protobuf::{Fields, Value};

/// The header with the event's sequence number in the input stream.
pub const IN_HEADER: &str = "Task-Engine-In";
/// What servers act on.
const SERVER_HEADERS: &str = "Nats-";

/// Fields of `resonance.mq.v1.PushEvent`.
const MSG_ID: u32 = 1;
const SESSION_ID: u32 = 3;
const ONLY_USERNAMES: u32 = 15;

/// What is read of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read<'a> {
    pub session: &'a [u8],
    /// It can be told from others by its bytes. A replay for some recipients cannot: each is wanted.
    pub has_id: bool,
}

impl<'a> Read<'a> {
    /// None: it is no event.
    pub(super) fn of(payload: &'a [u8]) -> Option<Self> {
        let (mut fields, mut session, mut msg_id, mut is_for_some) = (Fields::new(payload), &[][..], 0, false);
        // Of a field that stands there twice a decoder takes the last.
        while let Some(field) = fields.next_field().ok()? {
            match (field.number, field.value) {
                (SESSION_ID, Value::Bytes(bytes)) => session = bytes,
                (MSG_ID, Value::Varint(number)) => msg_id = number,
                (ONLY_USERNAMES, Value::Bytes(_)) => is_for_some = true,
                (SESSION_ID | MSG_ID, _) => return None,
                _ => {}
            }
        }
        std::str::from_utf8(session).ok()?;
        Some(Self { session, has_id: msg_id != 0 && !is_for_some })
    }
}

/// The id under which an event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageId {
    /// Made of all its bytes.
    Payload(u128),
    /// Made of its place in the input stream: the sequence number, and a hash of when the stream was made.
    Place(u64, u64),
}

impl MessageId {
    /// Of an event that can be told from others by its bytes. A hash that nobody can make collide: whoever could would have
    /// another's event dropped.
    pub fn of_payload(payload: &[u8]) -> Self {
        let hash = digest(&SHA256, payload);
        let (first, _) = hash.as_ref().split_first_chunk::<16>().expect("32 bytes");
        Self::Payload(u128::from_be_bytes(*first))
    }

    /// Of any other.
    pub fn of_place(seq: u64, created: &str) -> Self {
        Self::Place(seq, fnv1a64(created.as_bytes()))
    }

    /// Reads what [`write`](Self::write) wrote; none when that was somebody else, or of another input stream.
    pub fn parse(text: &[u8], created: &str) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(place) = text.strip_prefix("in-") {
            let seq = place.strip_prefix(created)?.strip_prefix('-')?.parse().ok()?;
            return Some(Self::of_place(seq, created));
        }
        let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| u128::from_str_radix(text, 16).ok().map(Self::Payload)).flatten()
    }

    /// As the value of a header.
    pub fn write(self, created: &str, out: &mut Vec<u8>) {
        match self {
            Self::Payload(hash) => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                for byte in hash.to_be_bytes() {
                    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
                }
            }
            Self::Place(seq, _) => {
                out.extend_from_slice(b"in-");
                out.extend_from_slice(created.as_bytes());
                out.push(b'-');
                out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
            }
        }
    }

    /// As what it is known by.
    pub(super) fn key(self) -> u128 {
        match self {
            Self::Payload(hash) => hash,
            Self::Place(seq, stream) => u128::from(stream) << 64 | u128::from(seq),
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The headers of an event that go with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    lines: Vec<u8>,
    is_replay: bool,
}

impl Carried {
    /// Adds one, unless it is one that servers act on, or ours.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let begins = |with: &str| name.get(..with.len()).is_some_and(|name| name.eq_ignore_ascii_case(with.as_bytes()));
        if begins(SERVER_HEADERS) || name.eq_ignore_ascii_case(IN_HEADER.as_bytes()) {
            return;
        }
        // It would be another line of the block.
        let is_good = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        if name.is_empty() || !name.iter().chain(value).all(is_good) {
            return;
        }
        self.is_replay |= name.eq_ignore_ascii_case(REPLAY_HEADER.as_bytes());
        self.lines.extend_from_slice(name);
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Whether the event was published again on purpose.
    pub fn is_replay(&self) -> bool {
        self.is_replay
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Leaves all out; that it is a replay stays known.
    pub(super) fn clear(&mut self) {
        self.lines = Vec::new();
    }

    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
}
