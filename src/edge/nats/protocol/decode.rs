//! Finds the frames at the front of the bytes that were read.
//!
//! A frame is handed out when it is there whole. Until then the decoder says how many bytes it must see at the least, and remembers
//! how far it has looked: a line that comes byte by byte is searched once.

use memchr::{memchr, memchr2};

use super::fault::{Fault, ProtocolError};

/// The longest INFO: it names all servers of a cluster.
const INFO_BYTES_MAX: usize = 1 << 20;
/// The longest other line. A client's line has 4 KiB by the server's default; JetStream sends two subjects in one, and an error
/// repeats a subject with its unprintable bytes spelled out.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// The longest message, headers and payload: what a server can be configured for. The `max_payload` of its INFO is no bound of
/// what it sends, for a stream may hold messages from before it was lowered.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Digits of a number that is read in place.
const SHORT_DIGITS: usize = 9;
/// Words after HMSG at the most.
const WORDS_MAX: usize = 5;

/// Bounds of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an INFO with its line end.
    pub info_bytes: usize,
    /// Bytes of any other line with its end.
    pub line_bytes: usize,
    /// Bytes of headers and payload together.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { info_bytes: INFO_BYTES_MAX, line_bytes: LINE_BYTES_MAX, message_bytes: MESSAGE_BYTES_MAX }
    }
}

/// What was found at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame, and how many bytes it took.
    Frame(Frame<'a>, usize),
    /// The frame is not whole.
    More {
        /// It cannot be whole before so many bytes are there, those that are there included.
        at_least: usize,
    },
}

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The server says what it is, in JSON ([`ServerInfo`](super::ServerInfo)).
    Info(&'a [u8]),
    /// A message of a subscription.
    Message(Message<'a>),
    /// The server wants a PONG.
    Ping,
    /// The answer to a PING.
    Pong,
    /// The server has done what it was asked.
    Ok,
    /// The server complains ([`ServerError`](super::ServerError)).
    Error(&'a [u8]),
}

/// A message of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where it was published.
    pub subject: &'a [u8],
    /// The subscription that it is for.
    pub sid: u64,
    /// Where an answer, or an acknowledgement, is awaited.
    pub reply: Option<&'a [u8]>,
    /// The whole block of headers ([`Headers`](super::Headers)).
    pub headers: Option<&'a [u8]>,
    /// The bytes.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Info,
    Message,
    MessageWithHeaders,
    Ping,
    Pong,
    Ok,
    Error,
}

const OPERATIONS: [(&[u8], Operation); 7] = [
    (b"MSG", Operation::Message),
    (b"HMSG", Operation::MessageWithHeaders),
    (b"PING", Operation::Ping),
    (b"PONG", Operation::Pong),
    (b"INFO", Operation::Info),
    (b"+OK", Operation::Ok),
    (b"-ERR", Operation::Error),
];

/// Reads one connection.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    limits: Limits,
    /// So many bytes at the front hold no line end.
    searched: usize,
    /// The frame at the front takes so many bytes, as far as it is known.
    wanted: usize,
    /// A message was read: an unknown line may be a part of one.
    has_read_messages: bool,
}

impl Decoder {
    /// For a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The frame that `bytes` begin with. They begin where the last frame ended, and grow only at their end while there is more
    /// to come.
    ///
    /// # Errors
    /// When they begin with something else: the connection is of no more use.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, ProtocolError> {
        if bytes.len() < self.wanted {
            return Ok(Step::More { at_least: self.wanted });
        }
        self.find(bytes).map_err(|fault| {
            let is_shown = fault != Fault::UnknownOperation || !self.has_read_messages;
            ProtocolError::new(fault, bytes, is_shown)
        })
    }

    #[inline]
    fn find<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Fault> {
        let Some((operation, after)) = operation(bytes)? else {
            return Ok(Step::More { at_least: bytes.len() + 1 });
        };
        let Some(newline) = self.line_end(bytes, operation)? else {
            return Ok(Step::More { at_least: bytes.len() + 1 });
        };
        let line = &bytes[after..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let frame = match operation {
            Operation::Message => return self.message(bytes, line, newline + 1, false),
            Operation::MessageWithHeaders => return self.message(bytes, line, newline + 1, true),
            Operation::Info => Frame::Info(line.trim_ascii()),
            Operation::Error => Frame::Error(line.trim_ascii()),
            Operation::Ping => Frame::Ping,
            Operation::Pong => Frame::Pong,
            Operation::Ok => Frame::Ok,
        };
        self.searched = 0;
        Ok(Step::Frame(frame, newline + 1))
    }

    #[inline]
    fn line_end(&mut self, bytes: &[u8], operation: Operation) -> Result<Option<usize>, Fault> {
        let max = if operation == Operation::Info { self.limits.info_bytes } else { self.limits.line_bytes };
        let within = &bytes[..bytes.len().min(max)];
        let from = self.searched.min(within.len());
        match memchr(b'\n', &within[from..]) {
            Some(at) => Ok(Some(from + at)),
            None if bytes.len() >= max => Err(Fault::LineTooLong { max }),
            None => {
                self.searched = bytes.len();
                Ok(None)
            }
        }
    }

    /// A message whose line is `line` and whose headers and payload begin at `body`.
    #[inline]
    fn message<'a>(
        &mut self,
        bytes: &'a [u8],
        line: &'a [u8],
        body: usize,
        has_headers: bool,
    ) -> Result<Step<'a>, Fault> {
        let Line { subject, sid, reply, head, total } = match Line::plain(line, has_headers) {
            Some(line) => line,
            None => Line::any(line, has_headers)?,
        };
        if head > total {
            return Err(Fault::HeadersTooLong { headers: head, total });
        }
        if total > self.limits.message_bytes as u64 {
            return Err(Fault::MessageTooLong { total, max: self.limits.message_bytes });
        }
        let (head, total) = (head as usize, total as usize);
        let end = body + total;
        let Some(ending) = bytes.get(end..end + 2) else {
            (self.searched, self.wanted) = (body - 1, end + 2);
            return Ok(Step::More { at_least: self.wanted });
        };
        if ending != b"\r\n" {
            return Err(Fault::LengthLies { total });
        }
        let (headers, payload) = bytes[body..end].split_at(head);
        (self.searched, self.wanted, self.has_read_messages) = (0, 0, true);
        let headers = has_headers.then_some(headers);
        Ok(Step::Frame(Frame::Message(Message { subject, sid, reply, headers, payload }), end + 2))
    }
}

/// The operation that `bytes` begin with, and where what follows its name begins; none while it may be one.
#[inline]
fn operation(bytes: &[u8]) -> Result<Option<(Operation, usize)>, Fault> {
    if bytes.starts_with(b"MSG ") {
        return Ok(Some((Operation::Message, 4)));
    }
    if bytes.starts_with(b"HMSG ") {
        return Ok(Some((Operation::MessageWithHeaders, 5)));
    }
    any_operation(bytes)
}

fn any_operation(bytes: &[u8]) -> Result<Option<(Operation, usize)>, Fault> {
    let mut is_begun = false;
    for (name, operation) in OPERATIONS {
        let there = bytes.len().min(name.len());
        if !bytes[..there].eq_ignore_ascii_case(&name[..there]) {
            continue;
        }
        match bytes.get(name.len()) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => return Ok(Some((operation, name.len()))),
            Some(_) => {}
            None => is_begun = true,
        }
    }
    if is_begun { Ok(None) } else { Err(Fault::UnknownOperation) }
}

/// What a message's line says.
struct Line<'a> {
    subject: &'a [u8],
    sid: u64,
    reply: Option<&'a [u8]>,
    head: u64,
    total: u64,
}

impl<'a> Line<'a> {
    /// A line as servers write it: one blank between two words (2.9 writes two before the lengths). None: it must be read with
    /// more care.
    #[inline]
    fn plain(line: &'a [u8], has_headers: bool) -> Option<Self> {
        let (mut rest, total) = last_number(line)?;
        let mut head = 0;
        if has_headers {
            (rest, head) = last_number(rest)?;
        }
        rest = rest.strip_suffix(b" ").unwrap_or(rest);
        let subject = &rest[..memchr2(b' ', b'\t', rest)?];
        let sid_on = &rest[subject.len() + 1..];
        let digits = sid_on.iter().take(SHORT_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let sid = short_number(&sid_on[..digits])?;
        let reply = match &sid_on[digits..] {
            [] => None,
            [b' ', reply @ ..] if !reply.is_empty() && memchr2(b' ', b'\t', reply).is_none() => Some(reply),
            _ => return None,
        };
        (!subject.is_empty()).then_some(Self { subject, sid, reply, head, total })
    }

    /// Any line.
    #[cold]
    fn any(line: &'a [u8], has_headers: bool) -> Result<Self, Fault> {
        let (words, count) = words(line).ok_or(Fault::WrongWords)?;
        let reply = match count.checked_sub(3 + usize::from(has_headers)) {
            Some(0) => None,
            Some(1) => Some(words[2]),
            _ => return Err(Fault::WrongWords),
        };
        let sid = number(words[1]).ok_or(Fault::BadSubscription)?;
        let total = number(words[count - 1]).ok_or(Fault::BadLength)?;
        let head = if has_headers { number(words[count - 2]).ok_or(Fault::BadLength)? } else { 0 };
        Ok(Self { subject: words[0], sid, reply, head, total })
    }
}

/// The number after the last blank, and what stands before that blank.
#[inline]
fn last_number(line: &[u8]) -> Option<(&[u8], u64)> {
    let digits = line.iter().rev().take(SHORT_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = line.split_at(line.len() - digits);
    Some((rest.strip_suffix(b" ")?, short_number(digits)?))
}

/// One that cannot overflow.
#[inline]
fn short_number(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    (1..=SHORT_DIGITS).contains(&digits.len()).then_some(value)
}

/// The words of a line, and how many; none when there are too many.
fn words(mut line: &[u8]) -> Option<([&[u8]; WORDS_MAX], usize)> {
    let (mut words, mut count) = ([&[][..]; WORDS_MAX], 0);
    loop {
        let end = memchr2(b' ', b'\t', line).unwrap_or(line.len());
        if end > 0 {
            *words.get_mut(count)? = &line[..end];
            count += 1;
        }
        match line.get(end + 1..) {
            Some(rest) => line = rest,
            None => return Some((words, count)),
        }
    }
}

/// A decimal number without a sign.
fn number(digits: &[u8]) -> Option<u64> {
    // So many digits cannot overflow.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts<'a>(line: &Line<'a>) -> (&'a [u8], u64, Option<&'a [u8]>, u64, u64) {
        (line.subject, line.sid, line.reply, line.head, line.total)
    }

    #[test]
    fn lines_of_servers_are_read_in_place() {
        for line in ["a.b 1 5", "a.b 1  5", "a.b 1 $JS.ACK.S.C.1.1.1.1795891722604023414.1 3", "a 12 r 0", "a 12 r  0"]
        {
            assert!(Line::plain(line.as_bytes(), false).is_some(), "{line}");
        }
        for line in ["inbox.x 1  28 28", "inbox.x 1 28 28", "a 1 r  28 31"] {
            assert!(Line::plain(line.as_bytes(), true).is_some(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_line_that_is_read_in_place_is_read_the_same(
            line in prop::collection::vec(prop::sample::select(b"   \ta1290$-".to_vec()), 0..40),
            has_headers in any::<bool>(),
        ) {
            if let Some(plain) = Line::plain(&line, has_headers) {
                prop_assert_eq!(Ok(parts(&plain)), Line::any(&line, has_headers).map(|line| parts(&line)));
            }
        }
    }
}
