//! Varints and fields of protobuf, written and passed over by hand.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const TEXT: u64 = 2;
const FIXED32: u64 = 5;

/// The bytes of a varint, and how many they are.
pub(super) fn varint(mut number: u64) -> ([u8; 10], usize) {
    let (mut digits, mut used) = ([0; 10], 0);
    while number >= 0x80 {
        digits[used] = number as u8 | 0x80;
        number >>= 7;
        used += 1;
    }
    digits[used] = number as u8;
    (digits, used + 1)
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, number: u64) {
    let (digits, used) = varint(number);
    out.extend_from_slice(&digits[..used]);
}

/// Takes a varint from the front; none when it has no end.
pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (digit, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Passes over a field's value; gives it when it is text.
pub(super) fn pass_over<'a>(rest: &mut &'a [u8], kind: u64) -> Option<&'a [u8]> {
    let (length, is_text) = match kind {
        VARINT => return take_varint(rest).map(|_| &[][..]),
        TEXT => (usize::try_from(take_varint(rest)?).ok()?, true),
        FIXED64 => (8, false),
        FIXED32 => (4, false),
        _ => return None,
    };
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(if is_text { value } else { &[] })
}
