//! What was wrong with the bytes of a peer, in words.
//!
//! Promises an excerpt of at most [`EXCERPT_BYTES_MAX`] bytes, printable, and none of a payload. Refuses to show one once a message was
//! read and the operation is unknown: after a length that lies, what looks like a line may be somebody's text.

use std::fmt;

/// Bytes of a line that an error shows.
pub(super) const EXCERPT_BYTES_MAX: usize = 64;

/// What was wrong. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The line begins with something else.
    UnknownOperation,
    /// A line goes on past its bound.
    LineTooLong {
        /// The bound.
        max: usize,
    },
    /// MSG or HMSG with too few or too many words.
    WrongWords,
    /// The subscription of a message.
    BadSubscription,
    /// A length of a message.
    BadLength,
    /// The headers would be longer than headers and payload together.
    HeadersTooLong {
        /// Bytes of the headers.
        headers: u64,
        /// Bytes of both.
        total: u64,
    },
    /// Headers and payload are over the bound.
    MessageTooLong {
        /// Bytes of both.
        total: u64,
        /// The bound.
        max: usize,
    },
    /// The bytes that were announced do not end where they should.
    LengthLies {
        /// Bytes that were announced.
        total: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownOperation => f.write_str("the peer does not speak the NATS protocol"),
            Self::LineTooLong { max } => write!(f, "a line of the server is longer than {max} bytes"),
            Self::WrongWords => f.write_str("a message's line has too few or too many words"),
            Self::BadSubscription => f.write_str("a message's subscription is not a number"),
            Self::BadLength => f.write_str("a message's length is not a number that can be read"),
            Self::HeadersTooLong { headers, total } => {
                write!(f, "a message's headers ({headers} bytes) are longer than the message ({total} bytes)")
            }
            Self::MessageTooLong { total, max } => {
                write!(f, "a message of {total} bytes is not read, at most {max} bytes are")
            }
            Self::LengthLies { total } => {
                write!(f, "a message does not end after the {total} bytes that its line announces")
            }
        }
    }
}

/// What was wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// What was wrong; the same however the bytes were cut.
    pub fault: Fault,
    /// The begin of the line, as much as had come; empty when it must not be shown.
    pub excerpt: String,
}

impl ProtocolError {
    /// A fault of the line that `bytes` begin with.
    #[cold]
    pub(super) fn new(fault: Fault, bytes: &[u8], is_shown: bool) -> Self {
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        let line = &bytes[..end.min(EXCERPT_BYTES_MAX)];
        let is_info = line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"INFO"));
        // All that there is to say of an INFO is in its name, and the rest is the server's.
        let line = if is_info { &line[..4] } else { line };
        Self { fault, excerpt: if is_shown { line.escape_ascii().to_string() } else { String::new() } }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.excerpt[..] {
            "" => self.fault.fmt(f),
            excerpt => write!(f, "{} (its line: `{excerpt}`)", self.fault),
        }
    }
}

impl std::error::Error for ProtocolError {}
