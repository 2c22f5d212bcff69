//! A message's block of headers: `NATS/1.0`, a status or none, and fields.
//!
//! Promises that a block which does not parse is a message without headers: whoever publishes writes them, and an event must not
//! be lost for it.

use memchr::memchr;

use crate::model::limits::REPLAY_HEADER;
use crate::model::priority::Said;
use crate::model::publication::{PUBLISHED_HEADER, Published};

const VERSION: &[u8] = b"NATS/1.0";

/// What a server says with a message of its own, as in `503` (nobody listens) and `409 Consumer Deleted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// Three digits.
    pub code: u16,
    /// The words after it; may be empty.
    pub description: &'a str,
}

/// The headers of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// The status, when there is one.
    pub status: Option<Status<'a>>,
    /// The lines of the fields, each with its end.
    fields: &'a [u8],
}

/// What is said of an event beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A person had it published again.
    pub is_replay: bool,
    /// What its publisher says of its class.
    pub said: Said,
}

impl Marks {
    /// Reads a block of headers, in one of which a publisher names the class; none when that is empty.
    #[inline]
    pub fn of(block: Option<&[u8]>, class_header: &str) -> Self {
        let Some(block) = block else { return Self::default() };
        let headers = Headers::of(block);
        let class = if class_header.is_empty() { None } else { headers.get(class_header) };
        Self { is_replay: headers.get(REPLAY_HEADER).is_some(), said: class.map_or(Said::Nothing, Said::of_header) }
    }
}

/// When an event was published, as its publisher says in a block of headers.
pub fn published(block: Option<&[u8]>) -> Published {
    let value = block.and_then(|block| Headers::of(block).get(PUBLISHED_HEADER));
    value.map_or(Published::UNKNOWN, Published::of_header)
}

impl<'a> Headers<'a> {
    /// Reads a whole block; all of it or nothing.
    pub fn of(block: &'a [u8]) -> Self {
        Self::read(block).unwrap_or_default()
    }

    fn read(block: &'a [u8]) -> Option<Self> {
        let (first, rest) = line(block)?;
        let status = match first.strip_prefix(VERSION)? {
            b"" => None,
            after => Self::status(after)?,
        };
        let fields = rest.strip_suffix(b"\r\n")?;
        let mut unread = fields;
        while !unread.is_empty() {
            let (field, after) = line(unread)?;
            name_and_value(field)?;
            unread = after;
        }
        Some(Self { status, fields })
    }

    /// What follows the version; `Some(None)`: blanks only.
    fn status(after: &'a [u8]) -> Option<Option<Status<'a>>> {
        if !after.starts_with(b" ") {
            return None;
        }
        let words = std::str::from_utf8(after.trim_ascii()).ok()?;
        if words.is_empty() {
            return Some(None);
        }
        let (code, description) = words.split_once(' ').unwrap_or((words, ""));
        let is_code = code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit());
        let code = is_code.then(|| code.parse().ok()).flatten()?;
        Some(Some(Status { code, description: description.trim() }))
    }

    /// The first value of this name, however it is written.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// All names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut unread = self.fields;
        std::iter::from_fn(move || {
            let (field, after) = line(unread)?;
            unread = after;
            name_and_value(field)
        })
    }
}

/// The first line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let newline = memchr(b'\n', bytes)?;
    Some((bytes[..newline].strip_suffix(b"\r")?, &bytes[newline + 1..]))
}

fn name_and_value(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', field)?;
    let name = &field[..colon];
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then(|| (name, field[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::priority::Priority;

    fn status(code: u16, description: &str) -> Option<Status<'_>> {
        Some(Status { code, description })
    }

    #[test]
    fn a_status_is_three_digits_and_words() {
        for (block, want) in [
            ("NATS/1.0 503\r\n\r\n", status(503, "")),
            ("NATS/1.0 404 No Messages\r\n\r\n", status(404, "No Messages")),
            ("NATS/1.0 409  Consumer Deleted \r\n\r\n", status(409, "Consumer Deleted")),
            ("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 7\r\n\r\n", status(100, "Idle Heartbeat")),
            ("NATS/1.0\r\nA: b\r\n\r\n", None),
            ("NATS/1.0 \r\nA: b\r\n\r\n", None),
        ] {
            let headers = Headers::of(block.as_bytes());
            assert_eq!(headers.status, want, "{block:?}");
            assert_eq!(headers.iter().count(), usize::from(block.contains(':')), "{block:?}");
        }
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        let headers =
            Headers::of(b"NATS/1.0\r\nNats-Msg-Id: one\r\nB:\r\nnats-msg-id:  two \r\nC: a:b\xff\r\nB: late\r\n\r\n");
        assert_eq!(headers.get("NATS-MSG-ID"), Some(&b"one"[..]));
        assert_eq!(headers.get("b"), Some(&b""[..]));
        assert_eq!(headers.get("c"), Some(&b"a:b\xff"[..]));
        assert_eq!(headers.get("d"), None);
        let all: Vec<_> = headers.iter().map(|(name, value)| [name, value].join(&b'=')).collect();
        assert_eq!(all.join(&b' '), b"Nats-Msg-Id=one B= nats-msg-id=two C=a:b\xff B=late");
    }

    #[test]
    fn what_is_said_of_an_event_is_read_however_its_header_is_written() {
        let block = |fields: &str| format!("NATS/1.0\r\n{fields}\r\n\r\n");
        let said = |fields: &str, header: &str| Marks::of(Some(block(fields).as_bytes()), header);
        let urgent = Marks { is_replay: false, said: Said::Class(Priority::Urgent) };
        assert_eq!(said("resonance-priority:  URGENT ", "Resonance-Priority"), urgent);
        assert_eq!(said("P: urgent\r\nP: bulk", "P"), urgent, "the first one counts");
        assert_eq!(said("P: urgent", ""), Marks::default(), "none is read");
        assert_eq!(said("P: at once", "P").said, Said::Unknown);
        assert_eq!(said("P:", "P").said, Said::Unknown);
        let both = Marks { is_replay: true, said: Said::Class(Priority::Fleeting) };
        assert_eq!(said("Task-Engine-Replay: 1\r\nP: fleeting", "P"), both);
        assert_eq!(Marks::of(None, "P"), Marks::default());
        assert_eq!(Marks::of(Some(b"NATS/1.0\r\nP urgent\r\n\r\n"), "P"), Marks::default(), "no headers");
    }

    #[test]
    fn when_it_was_published_is_read_however_the_header_is_written() {
        let said = |block: &str| published(Some(block.as_bytes()));
        let at = Published::at_nanos(1_700_000_000_123_000_000);
        assert_eq!(said("NATS/1.0\r\nA: b\r\nresonance-published:  1700000000123 \r\n\r\n"), at);
        assert_eq!(said("NATS/1.0\r\nResonance-Published: 1700000000123\r\nResonance-Published: 1\r\n\r\n"), at);
        assert_eq!(said("NATS/1.0\r\nResonance-Published: just now\r\n\r\n"), Published::UNKNOWN);
        assert_eq!(said("NATS/1.0\r\nA: b\r\n\r\n"), Published::UNKNOWN);
        assert_eq!(said("no block"), Published::UNKNOWN);
        assert_eq!(published(None), Published::UNKNOWN);
    }

    #[test]
    fn a_block_that_does_not_parse_says_nothing() {
        for block in [
            "",
            "\r\n",
            "\r\n\r\n",
            "NATS/1.0",
            "NATS/1.0\r\n",
            "NATS/1.0\n\n",
            "NATS/2.0 503\r\n\r\n",
            "NATS/1.0503\r\n\r\n",
            "NATS/1.0 50\r\n\r\n",
            "NATS/1.0 +50\r\n\r\n",
            "NATS/1.0 5033\r\n\r\n",
            "NATS/1.0 503\r\nno colon\r\n\r\n",
            "NATS/1.0\r\n: value\r\n\r\n",
            "NATS/1.0\r\nA b: value\r\n\r\n",
            "NATS/1.0\r\nA: value\r\n more\r\n\r\n",
            "NATS/1.0 503\r\nA: b\r\n",
            "NATS/1.0 503\r\nA: b\r\n\r\nrest",
        ] {
            assert_eq!(Headers::of(block.as_bytes()), Headers::default(), "{block:?}");
        }
        assert_eq!(Headers::of(b"NATS/1.0 503 \xff\r\n\r\n"), Headers::default());
        assert_eq!(Headers::default().iter().count(), 0);
    }
}
