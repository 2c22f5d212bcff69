//! Protobuf and gRPC bytes, read and written in place: varints, fields, five-byte frame heads.
//!
//! Promises to refuse malformed bytes with [`Malformed`] and never to panic or read outside the slice. Refuses to know
//! any message: which field means what is its callers' business.

/// Bytes of a gRPC frame's head: a compression flag and a big-endian length.
pub const GRPC_HEAD_BYTES: usize = 5;

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5 and groups: passed over.
    Other,
}

/// One field as it stands in the message.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Where its tag begins, in bytes from the start of the message.
    pub start: usize,
    /// Where its value ends.
    pub end: usize,
}

/// Walks the fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// From the first byte of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field, or none at the end.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are cut short or no protobuf.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let number = (tag >> 3) as u32;
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.take()?),
            kind => {
                self.pass_over(number, kind, 0)?;
                Value::Other
            }
        };
        Ok(Some(Field { number, value, start, end: self.at }))
    }

    /// Most are one byte: a tag, a length.
    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(first) if *first < 0x80 => {
                self.at += 1;
                Ok(u64::from(*first))
            }
            _ => match long_varint(self.bytes.get(self.at..).unwrap_or_default()) {
                (_, 0) => Err(Malformed),
                (value, used) => {
                    self.at += used;
                    Ok(value)
                }
            },
        }
    }

    #[inline(always)]
    fn take(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.at = self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len()).ok_or(Malformed)?;
        Ok(())
    }

    #[inline(never)]
    fn pass_over(&mut self, number: u32, kind: u64, depth: u32) -> Result<(), Malformed> {
        match kind {
            0 => self.varint().map(|_| ()),
            1 => self.skip(8),
            2 => self.take().map(|_| ()),
            5 => self.skip(4),
            3 if depth < 32 => loop {
                let tag = self.varint()?;
                let inner = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
                if tag & 7 == 4 {
                    return if inner == number { Ok(()) } else { Err(Malformed) };
                }
                self.pass_over(inner, tag & 7, depth + 1)?;
            },
            _ => Err(Malformed),
        }
    }
}

/// [`read_varint`] by a call; a length of 0 where there is none. So its answer fits two registers, and who walks fields keeps his
/// place in one.
#[inline(never)]
fn long_varint(bytes: &[u8]) -> (u64, usize) {
    read_varint(bytes).unwrap_or_default()
}

/// Reads a varint of at most ten bytes; gives its value and length.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    const MORE_BITS: u64 = 0x8080_8080_8080_8080;
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return read_varint_by_byte(bytes) };
    let word = u64::from_le_bytes(*head);
    let ends = !word & MORE_BITS;
    if ends != 0 {
        // All bits up to the first byte that has no other behind it.
        let kept = word & (ends ^ (ends - 1));
        return Some((squeeze(kept & !MORE_BITS), ends.trailing_zeros() as usize / 8 + 1));
    }
    let value = squeeze(word & !MORE_BITS);
    match rest {
        [ninth, ..] if *ninth < 0x80 => Some((value | u64::from(*ninth) << 56, 9)),
        [ninth, tenth @ ..=1, ..] => Some((value | u64::from(ninth & 0x7f) << 56 | u64::from(*tenth) << 63, 10)),
        _ => None,
    }
}

/// The low seven bits of each byte, moved together.
#[inline]
fn squeeze(bytes: u64) -> u64 {
    let pairs = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// The same where fewer than eight bytes are left.
fn read_varint_by_byte(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

/// How many bytes a varint takes.
pub fn varint_len(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros()).div_ceil(7)) as usize
}

/// Writes a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a gRPC frame head for a message of `length` bytes, uncompressed.
#[inline]
pub fn put_grpc_head(out: &mut Vec<u8>, length: usize) {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[0, a, b, c, d]);
}

/// The gRPC frame at the start of `bytes`: its message, or none while it is not whole.
///
/// # Errors
/// [`Malformed`] for a compressed frame or one over `limit` bytes: nothing after it can be trusted.
#[inline]
pub fn grpc_frame(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(GRPC_HEAD_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || length > limit {
        return Err(Malformed);
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzzed_frames() {
        crate::fuzz::run("answers", 20_000, |bytes| {
            let (mut at, limit) = (0, 4_096);
            while let Ok(Some(message)) = grpc_frame(&bytes[at..], limit) {
                assert!(message.len() <= limit);
                let mut written = Vec::new();
                put_grpc_head(&mut written, message.len());
                assert_eq!(bytes[at..at + GRPC_HEAD_BYTES], written, "its head is written the same");
                at += GRPC_HEAD_BYTES + message.len();
                let (mut fields, mut end) = (Fields::new(message), 0);
                while let Ok(Some(field)) = fields.next_field() {
                    assert_eq!(field.start, end, "one field after the other");
                    assert!(field.start < field.end && field.end <= message.len() && field.number > 0);
                    end = field.end;
                }
            }
        });
    }

    #[test]
    fn varints_read_back_as_written() {
        for value in
            [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), 1 << 55, 1 << 56, 1 << 62, 1 << 63, u64::MAX]
        {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&bytes), Some((value, bytes.len())));
            let length = bytes.len();
            bytes.extend([0xff; 10]);
            assert_eq!(read_varint(&bytes), Some((value, length)), "whatever follows");
        }
        assert_eq!(read_varint(&[0xff; 10]), None, "more than 64 bits");
        assert_eq!(read_varint(&[0x80; 9]), None, "cut short at the ninth byte");
        assert_eq!(read_varint(&[0x80]), None, "cut short");
    }

    #[test]
    fn malformed_fields_are_refused() {
        for bytes in
            [&[0x0a, 5, 1][..], &[0x00], &[0x0b], &[0x0c], &[0x0e], &[0x09, 1], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            let mut fields = Fields::new(bytes);
            let end = loop {
                match fields.next_field() {
                    Ok(Some(_)) => {}
                    other => break other.map(|_| ()),
                }
            };
            assert_eq!(end, Err(Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn a_frame_is_whole_or_not_there_yet() {
        let mut bytes = Vec::new();
        put_grpc_head(&mut bytes, 3);
        assert_eq!(grpc_frame(&bytes, 10), Ok(None));
        bytes.extend_from_slice(b"abcd");
        assert_eq!(grpc_frame(&bytes, 10), Ok(Some(&b"abc"[..])));
        assert_eq!(grpc_frame(&bytes, 2), Err(Malformed));
        assert_eq!(grpc_frame(&[1, 0, 0, 0, 0], 2), Err(Malformed));
    }
}
