//! Reads the Redis protocol (RESP2 and RESP3) token by token, in place, from a buffer that never grows.
//!
//! Promises the same tokens however the bytes are cut on their way, and that a value too long to be a route costs no
//! memory: it is passed over and named [`Token::TooLong`]. Refuses (with a [`Broken`]) what is no RESP.

use std::ops::Range;

/// The buffer; it holds the longest token that is handed out whole.
const BUFFER_BYTES: usize = 64 * 1024;
/// A value longer than this is passed over: a route is some hundred bytes.
pub(super) const VALUE_BYTES_MAX: usize = 16 * 1024;
/// A line (a header, a status, an error) longer than this is no RESP.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// What is said of an error that is passed over.
const LONG_ERROR: &[u8] = b"an error too long to be shown";

/// One piece of a reply. The elements of an aggregate follow as tokens of their own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A status, number, truth value: whatever is one line.
    Line(&'a [u8]),
    /// An error: its code and text.
    Error(&'a [u8]),
    /// A string.
    Bulk(&'a [u8]),
    /// A string over [`VALUE_BYTES_MAX`], passed over.
    TooLong,
    /// Nothing is stored there.
    Null,
    /// So many elements follow.
    Array(u64),
    /// So many pairs follow.
    Map(u64),
    /// So many elements follow, and they are no reply to anything.
    Push(u64),
}

/// What came is no RESP: the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The buffer and the place in it.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of a value that is being passed over.
    skip: u64,
}

/// A token's place in the buffer.
enum Found {
    Line(u8, Range<usize>),
    Bulk(u8, Range<usize>),
    TooLong(u8),
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0, skip: 0 }
    }

    /// Room for more bytes; never empty, once [`next`](Self::next) said that it needs more.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < BUFFER_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put into the room.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next token; `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Token<'_>>, Broken> {
        let skipped = self.skip.min((self.end - self.start) as u64);
        self.skip -= skipped;
        self.start += skipped as usize;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(found) = self.find()? else { return Ok(None) };
        let (kind, range) = match found {
            Found::TooLong(b'!') => return Ok(Some(Token::Error(LONG_ERROR))),
            Found::TooLong(_) => return Ok(Some(Token::TooLong)),
            Found::Bulk(b'!', range) => return Ok(Some(Token::Error(&self.buffer[range]))),
            Found::Bulk(b'=', range) => {
                let text = self.buffer[range].get(4..).ok_or(Broken)?;
                return Ok(Some(Token::Bulk(text)));
            }
            Found::Bulk(_, range) => return Ok(Some(Token::Bulk(&self.buffer[range]))),
            Found::Line(kind, range) => (kind, range),
        };
        let line = &self.buffer[range];
        Ok(Some(match kind {
            b'+' | b':' | b',' | b'#' | b'(' => Token::Line(line),
            b'-' => Token::Error(line),
            b'_' | b'$' => Token::Null,
            b'*' if line == b"-1" => Token::Null,
            b'*' | b'~' => Token::Array(number(line)?),
            b'%' => Token::Map(number(line)?),
            b'>' => Token::Push(number(line)?),
            _ => return Err(Broken),
        }))
    }

    /// Finds the next whole token and steps over it.
    fn find(&mut self) -> Result<Option<Found>, Broken> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(&kind) = bytes.first() else { return Ok(None) };
        let Some(newline) = memchr::memchr(b'\n', bytes) else {
            return if bytes.len() > LINE_BYTES_MAX { Err(Broken) } else { Ok(None) };
        };
        if newline < 2 && kind != b'_' || newline < 1 || bytes[newline - 1] != b'\r' || newline > LINE_BYTES_MAX {
            return Err(Broken);
        }
        let line = &bytes[1..newline - 1];
        let after = self.start + newline + 1;
        if !matches!(kind, b'$' | b'!' | b'=') || line == b"-1" {
            let range = self.start + 1..after - 2;
            self.start = after;
            return Ok(Some(Found::Line(kind, range)));
        }
        let length = number(line)?;
        if length > VALUE_BYTES_MAX as u64 {
            self.start = after;
            // The token is handed out at once; what follows it is not looked at before these bytes are past.
            self.skip = length.checked_add(2).ok_or(Broken)?;
            return Ok(Some(Found::TooLong(kind)));
        }
        let range = after..after + length as usize;
        let Some(ending) = self.buffer[..self.end].get(range.end..range.end + 2) else { return Ok(None) };
        if ending != b"\r\n" {
            return Err(Broken);
        }
        self.start = range.end + 2;
        Ok(Some(Found::Bulk(kind, range)))
    }
}

/// A decimal number that is not negative.
fn number(digits: &[u8]) -> Result<u64, Broken> {
    if digits.is_empty() || digits.len() > 19 {
        return Err(Broken);
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0'))).ok_or(Broken),
        _ => Err(Broken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tokens as text, the bytes arriving in pieces of the sizes given (then the rest as fits).
    fn tokens(mut bytes: &[u8], sizes: &[usize]) -> Result<Vec<String>, Broken> {
        let mut reader = Reader::new();
        let mut sizes = sizes.iter().copied();
        let mut seen = Vec::new();
        loop {
            while let Some(token) = reader.next()? {
                seen.push(format!("{token:?}"));
            }
            if bytes.is_empty() {
                return Ok(seen);
            }
            let room = reader.room();
            assert!(!room.is_empty());
            let size = sizes.next().unwrap_or(usize::MAX).min(bytes.len()).min(room.len());
            room[..size].copy_from_slice(&bytes[..size]);
            reader.filled(size);
            bytes = &bytes[size..];
        }
    }

    fn sample() -> Vec<u8> {
        let mut bytes =
            b"+OK\r\n-ERR no\r\n:12\r\n$-1\r\n_\r\n$0\r\n\r\n*2\r\n$3\r\na\r\n\r\n#t\r\n%1\r\n+k\r\n,1.5\r\n*-1\r\n"
                .to_vec();
        bytes.extend_from_slice(
            b">2\r\n$10\r\ninvalidate\r\n*0\r\n!5\r\nERR x\r\n=7\r\ntxt:abc\r\n~1\r\n(99\r\n$100000\r\n",
        );
        bytes.extend(std::iter::repeat_n(b'x', 100_000));
        bytes.extend_from_slice(b"\r\n$16000\r\n");
        bytes.extend(std::iter::repeat_n(b'y', 16_000));
        bytes.extend_from_slice(b"\r\n+END\r\n");
        bytes
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let seen = tokens(&sample(), &[]).expect("valid RESP");
        let kinds: Vec<&str> = seen.iter().map(|token| token.split('(').next().unwrap_or_default()).collect();
        let expected = "Line Error Line Null Null Bulk Array Bulk Line Map Line Line Null Push Bulk Array Error Bulk \
                        Array Line TooLong Bulk Line";
        assert_eq!(kinds.join(" "), expected);
        assert_eq!(seen[17], format!("{:?}", Token::Bulk(b"abc")));
    }

    #[test]
    fn an_error_that_is_passed_over_is_one() {
        let bytes = format!("!100000\r\n{}\r\n+END\r\n", "x".repeat(100_000));
        let expected = [format!("{:?}", Token::Error(LONG_ERROR)), format!("{:?}", Token::Line(b"END"))];
        assert_eq!(tokens(bytes.as_bytes(), &[]), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for bad in ["?\r\n", "\r\n", "$x\r\n", "$3\r\nabcd\r\n", "*-2\r\n", "*\r\n", "+OK\n", "$-5\r\n", "=1\r\nx\r\n"]
        {
            assert_eq!(tokens(bad.as_bytes(), &[]), Err(Broken), "{bad:?}");
        }
        assert_eq!(tokens(&[b'+'; LINE_BYTES_MAX + 2], &[]), Err(Broken));
        assert_eq!(tokens(b"$99999999999999999999\r\n", &[]), Err(Broken));
    }

    #[test]
    fn fuzzed_resp() {
        crate::fuzz::run("resp", 10_000, |bytes| {
            let whole = tokens(bytes, &[]);
            // Pieces whose lengths follow from the bytes, so that a replay cuts at the same places.
            let pieces: Vec<usize> = bytes.iter().map(|byte| usize::from(byte % 13) + 1).collect();
            assert_eq!(tokens(bytes, &pieces), whole, "however it is cut");
            assert!(whole.is_err() || whole.is_ok_and(|seen| seen.len() <= bytes.len()));
        });
    }

    proptest! {
        #[test]
        fn tokens_do_not_depend_on_where_the_bytes_are_cut(sizes in prop::collection::vec(1_usize..40_000, 0..60)) {
            let whole = tokens(&sample(), &[]);
            prop_assert_eq!(tokens(&sample(), &sizes), whole.clone());
            let small: Vec<usize> = sizes.iter().map(|size| size % 7 + 1).collect();
            prop_assert_eq!(tokens(&sample(), &small), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"$*+-_>%\r\n0123456789ax".to_vec()), 0..200)) {
            let _ = tokens(&bytes, &[3, 1, 5]);
        }
    }
}
