//! Finds a PushEvent's session_id in its bytes, without decoding or allocating.
//!
//! Promises the session_id that a full decode would give, for every payload that decodes; and an answer, never a
//! panic, for any other bytes. Refuses to judge the event: text that is no UTF-8 or a field of the wrong type is found
//! by the shard that decodes it.

/// session_id and type in `resonance.mq.v1.PushEvent`.
const SESSION_ID: u32 = 3;
const TYPE: u32 = 7;
/// How deep unknown groups may nest: prost's own limit.
const GROUP_DEPTH_MAX: u32 = 100;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const GROUP_START: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED32: u32 = 5;

/// The session_id of an event, empty when it has none; the last one when the field is there more than once. Nothing
/// when the bytes are no protobuf message with a session_id of type string.
pub fn session_id(payload: &[u8]) -> Option<&[u8]> {
    last_of(payload, [SESSION_ID]).map(|[session]| session)
}

/// The same, and the event's type.
pub(super) fn session_and_type(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    last_of(payload, [SESSION_ID, TYPE]).map(|[session, kind]| (session, kind))
}

#[inline]
fn last_of<const FIELDS: usize>(payload: &[u8], fields: [u32; FIELDS]) -> Option<[&[u8]; FIELDS]> {
    let mut rest = payload;
    let mut found: [&[u8]; FIELDS] = [&[]; FIELDS];
    while !rest.is_empty() {
        let (field, wire) = key(&mut rest)?;
        match fields.iter().position(|wanted| *wanted == field) {
            Some(_) if wire != BYTES => return None,
            Some(at) => found[at] = bytes(&mut rest)?,
            None => skip(&mut rest, field, wire, GROUP_DEPTH_MAX)?,
        }
    }
    Some(found)
}

fn key(rest: &mut &[u8]) -> Option<(u32, u32)> {
    let key = u32::try_from(varint(rest)?).ok()?;
    (key >> 3 != 0).then_some((key >> 3, key & 7))
}

#[inline]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, mut after) = rest.split_first()?;
    let mut value = u64::from(first & 0x7f);
    let mut last = first;
    let mut shift = 7;
    while last & 0x80 != 0 {
        let (&byte, next) = after.split_first()?;
        // The tenth byte holds the one bit that is left of 64.
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        (last, after) = (byte, next);
    }
    *rest = after;
    Some(value)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn skip(rest: &mut &[u8], field: u32, wire: u32, depth: u32) -> Option<()> {
    match wire {
        VARINT => varint(rest).map(drop),
        FIXED64 => take(rest, 8).map(drop),
        FIXED32 => take(rest, 4).map(drop),
        BYTES => bytes(rest).map(drop),
        GROUP_START if depth > 0 => loop {
            let (inner, wire) = key(rest)?;
            if wire == GROUP_END {
                break (inner == field).then_some(());
            }
            skip(rest, inner, wire, depth - 1)?;
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use prost::Message;

    use super::session_id;

    #[derive(Clone, PartialEq, Message)]
    struct Event {
        #[prost(int64, tag = "1")]
        msg_id: i64,
        #[prost(int64, tag = "2")]
        seq_id: i64,
        #[prost(string, tag = "3")]
        session_id: String,
        #[prost(string, tag = "4")]
        from_username: String,
        #[prost(string, tag = "6")]
        content: String,
        #[prost(int64, tag = "8")]
        timestamp: i64,
        #[prost(int32, tag = "10")]
        session_type: i32,
        #[prost(map = "string, string", tag = "11")]
        trace_headers: HashMap<String, String>,
        /// Nothing that an event has: what a newer publisher might add.
        #[prost(fixed64, tag = "500")]
        later: u64,
        #[prost(fixed32, tag = "501")]
        later_still: u32,
    }

    prop_compose! {
        fn events()(
            numbers in any::<(i64, i64, i64, i32, u64, u32)>(),
            texts in any::<(String, String, String)>(),
            trace_headers in prop::collection::hash_map(any::<String>(), any::<String>(), 0..3),
        ) -> Event {
            let (msg_id, seq_id, timestamp, session_type, later, later_still) = numbers;
            let (session_id, from_username, content) = texts;
            Event { msg_id, seq_id, session_id, from_username, content, timestamp, session_type, trace_headers, later, later_still }
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_full_decode_finds(parts in prop::collection::vec(events(), 1..4)) {
            // Messages one after the other are one message whose last session_id holds.
            let payload: Vec<u8> = parts.iter().flat_map(Message::encode_to_vec).collect();
            let decoded = Event::decode(&payload[..]).expect("valid");
            prop_assert_eq!(session_id(&payload), Some(decoded.session_id.as_bytes()));
        }

        #[test]
        fn agrees_with_the_decoder_on_any_bytes(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let found = session_id(&payload);
            if let Ok(decoded) = Event::decode(&payload[..]) {
                prop_assert_eq!(found, Some(decoded.session_id.as_bytes()));
            }
        }

        #[test]
        fn agrees_with_the_decoder_on_damaged_messages(event in events(), at in any::<prop::sample::Index>(), byte: u8) {
            let mut payload = event.encode_to_vec();
            if !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            let found = session_id(&payload);
            if let Ok(decoded) = Event::decode(&payload[..]) {
                prop_assert_eq!(found, Some(decoded.session_id.as_bytes()));
            }
        }
    }

    #[test]
    fn fuzzed_scan() {
        crate::fuzz::run("event", 20_000, |bytes| {
            let found = session_id(bytes);
            if let Ok(decoded) = Event::decode(bytes) {
                assert_eq!(found, Some(decoded.session_id.as_bytes()));
            }
            let inside = found.is_none_or(|id| id.is_empty() || bytes.as_ptr_range().contains(&id.as_ptr()));
            assert!(inside, "it is a piece of what came");
        });
    }

    #[test]
    fn groups_are_skipped_and_bad_ones_refused() {
        let group = |inner: &[u8], end: u8| [&[0x63], inner, &[end, 0x1a, 1, b's']].concat();
        assert_eq!(
            session_id(&group(&[0x08, 1, 0x1a, 1, b'x'], 0x64)),
            Some(&b"s"[..]),
            "a session_id inside is not ours"
        );
        assert_eq!(session_id(&group(&[], 0x6c)), None, "the end of another group");
        assert_eq!(session_id(&[0x63; 200]), None, "nested too deep");
        assert_eq!(session_id(&[0x18, 1]), None, "session_id of another type");
        assert_eq!(session_id(&[0x1a, 5, b's']), None, "cut short");
        assert_eq!(session_id(&[]), Some(&b""[..]));
    }
}
