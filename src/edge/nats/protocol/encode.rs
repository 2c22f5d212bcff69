//! Lines that a client writes.
//!
//! Promises that what is refused leaves the buffer as it was. Refuses what a server would read as another line or close the
//! connection for: a subject that is empty, has blanks or line ends, or is too long.

use std::fmt;

/// Wants a PONG.
pub const PING: &[u8] = b"PING\r\n";
/// Answers a PING.
pub const PONG: &[u8] = b"PONG\r\n";

/// The longest line that a server takes, by its default.
const LINE_BYTES_MAX: usize = 4096;
const VERSION: &[u8] = b"NATS/1.0\r\n";

/// What cannot be written, and was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// A subject or queue without a byte.
    Empty,
    /// A subject or queue with a blank, a line end or another control byte.
    Blank,
    /// A line that servers do not take.
    TooLong,
    /// A header whose name or value would break the block.
    Header,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the subject is empty",
            Self::Blank => "the subject contains a blank or a line end",
            Self::TooLong => "the subjects are longer than a NATS server takes (4,096 bytes)",
            Self::Header => "a header's name or value contains a line end, or its name a blank or a colon",
        })
    }
}

impl std::error::Error for Unwritable {}

/// Asks for the messages of a subject under the number `sid`; with a queue, for this member's share.
///
/// # Errors
/// See [`Unwritable`].
pub fn subscribe(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>, sid: u64) -> Result<(), Unwritable> {
    check(subject, queue)?;
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(queue) = queue {
        out.extend_from_slice(queue);
        out.push(b' ');
    }
    digits(out, sid);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Ends a subscription: at once, or when `max` messages were sent for it.
pub fn unsubscribe(out: &mut Vec<u8>, sid: u64, max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    digits(out, sid);
    if let Some(max) = max {
        out.push(b' ');
        digits(out, max);
    }
    out.extend_from_slice(b"\r\n");
}

/// Publishes.
///
/// # Errors
/// See [`Unwritable`].
#[inline]
pub fn publish(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) -> Result<(), Unwritable> {
    check(subject, reply)?;
    out.reserve(subject.len() + reply.map_or(0, <[u8]>::len) + payload.len() + 32);
    out.extend_from_slice(b"PUB ");
    subjects(out, subject, reply);
    digits(out, payload.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Publishes with headers; without any it is [`publish`].
///
/// # Errors
/// See [`Unwritable`].
pub fn publish_with_headers<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    headers: &[(N, V)],
    payload: &[u8],
) -> Result<(), Unwritable> {
    if headers.is_empty() {
        return publish(out, subject, reply, payload);
    }
    check(subject, reply)?;
    let is_good = |(name, value): &(N, V)| {
        let name = name.as_ref().as_bytes();
        let is_name = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':');
        is_name && !value.as_ref().contains(['\r', '\n'])
    };
    if !headers.iter().all(is_good) {
        return Err(Unwritable::Header);
    }
    let head = header_bytes(headers);
    out.extend_from_slice(b"HPUB ");
    subjects(out, subject, reply);
    digits(out, head as u64);
    out.push(b' ');
    digits(out, (head + payload.len()) as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(VERSION);
    for (name, value) in headers {
        out.extend_from_slice(name.as_ref().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_ref().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Publishes with a block of headers that is whole already: its version, its fields, and the empty line behind them.
///
/// # Errors
/// See [`Unwritable`]; of the block only how it begins and ends is looked at.
#[inline]
pub fn publish_with_block(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    block: &[u8],
    payload: &[u8],
) -> Result<(), Unwritable> {
    check(subject, reply)?;
    if !block.starts_with(VERSION) || !block.ends_with(b"\r\n\r\n") {
        return Err(Unwritable::Header);
    }
    out.reserve(subject.len() + reply.map_or(0, <[u8]>::len) + block.len() + payload.len() + 48);
    out.extend_from_slice(b"HPUB ");
    subjects(out, subject, reply);
    digits(out, block.len() as u64);
    out.push(b' ');
    digits(out, (block.len() + payload.len()) as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(block);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// What headers add to a payload; the server's `max_payload` is for both.
pub fn header_bytes<N: AsRef<str>, V: AsRef<str>>(headers: &[(N, V)]) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let field = |(name, value): &(N, V)| name.as_ref().len() + value.as_ref().len() + 4;
    VERSION.len() + headers.iter().map(field).sum::<usize>() + 2
}

#[inline]
fn subjects(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>) {
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
}

#[inline]
fn digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[inline]
fn check(subject: &[u8], other: Option<&[u8]>) -> Result<(), Unwritable> {
    // Room for the operation, the lengths and the blanks.
    if subject.len() + other.map_or(0, <[u8]>::len) > LINE_BYTES_MAX - 64 {
        return Err(Unwritable::TooLong);
    }
    one(subject)?;
    other.map_or(Ok(()), one)
}

#[inline]
fn one(subject: &[u8]) -> Result<(), Unwritable> {
    // All bytes are looked at, so that the compiler looks at many at once.
    let has_blank = subject.iter().fold(false, |has, byte| has | (*byte <= b' ') | (*byte == 0x7f));
    match (subject.is_empty(), has_blank) {
        (true, _) => Err(Unwritable::Empty),
        (_, true) => Err(Unwritable::Blank),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&mut Vec<u8>) -> Result<(), Unwritable>;
    const NONE: &[(&str, &str)] = &[];

    #[test]
    fn each_line_is_written_as_servers_read_it() {
        let cases: &[(Write, &str)] = &[
            (|out| subscribe(out, b"events.>", None, 1), "SUB events.> 1\r\n"),
            (|out| subscribe(out, b"events.*", Some(b"task"), u64::MAX), "SUB events.* task 18446744073709551615\r\n"),
            (|out| publish(out, b"a.b", None, b"hello"), "PUB a.b 5\r\nhello\r\n"),
            (|out| publish(out, b"a.b", Some(b"_INBOX.1"), b""), "PUB a.b _INBOX.1 0\r\n\r\n"),
            (|out| publish_with_headers(out, b"a", None, NONE, b"x"), "PUB a 1\r\nx\r\n"),
            (
                |out| publish_with_block(out, b"a", Some(b"r"), b"NATS/1.0\r\nB: 7\r\n\r\n", b"xyz"),
                "HPUB a r 18 21\r\nNATS/1.0\r\nB: 7\r\n\r\nxyz\r\n",
            ),
            (
                |out| publish_with_headers(out, b"a", Some(b"r"), &[("Nats-Msg-Id", "7"), ("B", "")], b"xyz"),
                "HPUB a r 33 36\r\nNATS/1.0\r\nNats-Msg-Id: 7\r\nB: \r\n\r\nxyz\r\n",
            ),
        ];
        for (write, line) in cases {
            let mut out = b"before".to_vec();
            assert_eq!(write(&mut out), Ok(()));
            assert_eq!(String::from_utf8_lossy(&out), format!("before{line}"));
        }
        let mut out = Vec::new();
        unsubscribe(&mut out, 3, None);
        unsubscribe(&mut out, 3, Some(0));
        assert_eq!(out, b"UNSUB 3\r\nUNSUB 3 0\r\n");
    }

    #[test]
    fn what_would_be_read_as_another_line_is_not_written() {
        let mut out = b"before".to_vec();
        let long = vec![b'a'; 4096];
        for (subject, want) in [
            (&b""[..], Unwritable::Empty),
            (b"a b", Unwritable::Blank),
            (b" ", Unwritable::Blank),
            (b"a\tb", Unwritable::Blank),
            (b"a\r\nPUB b 0", Unwritable::Blank),
            (b"a\0", Unwritable::Blank),
            (&long, Unwritable::TooLong),
        ] {
            assert_eq!(publish(&mut out, subject, None, b""), Err(want));
            assert_eq!(publish(&mut out, b"good", Some(subject), b""), Err(want));
            assert_eq!(publish_with_headers(&mut out, subject, None, &[("a", "b")], b""), Err(want));
            assert_eq!(subscribe(&mut out, subject, None, 1), Err(want));
            assert_eq!(subscribe(&mut out, b"good", Some(subject), 1), Err(want));
        }
        for block in [&b""[..], b"NATS/1.0\r\nB: 7\r\n", b"B: 7\r\n\r\n"] {
            assert_eq!(publish_with_block(&mut out, b"a", None, block, b""), Err(Unwritable::Header));
        }
        for header in [("", "x"), ("a b", "x"), ("a:", "x"), ("a\r", "x"), ("a", "x\r\ny"), ("a", "\n")] {
            assert_eq!(publish_with_headers(&mut out, b"a", None, &[header], b""), Err(Unwritable::Header));
        }
        assert_eq!(out, b"before");
    }

    #[test]
    fn headers_take_what_is_said_of_them() {
        assert_eq!(header_bytes(NONE), 0);
        let mut out = Vec::new();
        publish_with_headers(&mut out, b"a", None, &[("One", "1"), ("Two", "22")], b"").expect("written");
        let block = out.len() - "HPUB a 33 33\r\n".len() - "\r\n".len();
        assert_eq!(header_bytes(&[("One", "1"), ("Two", "22")]), block);
    }
}
