//! First step: an event's bytes become what the rest of the path needs of it, without a full decode.
//!
//! Promises that what it lets through is a valid PushEvent whose strings are UTF-8 (a gateway that got anything else
//! would break the stream of all its users), and that the message bytes are the event's own bytes wherever fields 1 to
//! 8 stand first, which is what every serializer in the field writes. Refuses the rest with the end it gets.

mod message;

use bytes::Bytes;

use crate::model::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX, NAME_CHARS_MAX};
use crate::model::outcome::EventOutcome;
use crate::model::protobuf::{Field, Fields, Malformed, Value};

/// The first field number of an event that is not part of a PushMessage under the same number.
const FIRST_FIELD_OF_EVENT_ONLY: u32 = 9;
/// PushEvent.from_device.
const FROM_DEVICE: u32 = 12;
/// PushEvent.only_usernames, and the most bytes of an event that are for it: one replayed letter's recipient.
const ONLY_USERNAMES: u32 = 15;
const ONLY_BYTES_MAX: usize = NAME_BYTES_MAX + 3;

/// What the path needs of one event.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// With the session id, what identifies the event.
    pub msg_id: i64,
    /// Its number in the session, for the inbox.
    pub seq_id: i64,
    /// The event as it came.
    pub payload: Bytes,
    session_id: (u32, u32),
    from_username: (u32, u32),
    kind: (u32, u32),
    /// Where the gateway's PushMessage ends, which is the start of the payload; unless it is of its own.
    message_end: u32,
    /// It names the device that sent it.
    has_device: bool,
    own_message: Option<Bytes>,
    /// Boxed twice: almost no event has any, and all pay for the room.
    only: Option<Box<Only>>,
}

/// Where the names stand of those an event is for.
#[derive(Clone, Debug, Default)]
struct Only {
    names: Vec<(u32, u32)>,
    /// Bytes of their fields.
    bytes: usize,
}

impl Arrival {
    /// Whether the event is for some members only: it was replayed for them.
    #[inline]
    pub fn has_only(&self) -> bool {
        self.only.is_some()
    }

    /// Whom the event is for, when it is not for all.
    pub fn only_usernames(&self) -> impl Iterator<Item = &str> {
        self.only.iter().flat_map(|only| &only.names).map(|span| self.text(*span))
    }

    /// Whether the event names the device that sent it.
    #[inline]
    pub fn has_device(&self) -> bool {
        self.has_device
    }

    /// Whose members are told.
    pub fn session_id(&self) -> &str {
        self.text(self.session_id)
    }

    /// Who is not told.
    pub fn from_username(&self) -> &str {
        self.text(self.from_username)
    }

    /// Bytes of memory that the event holds: its payload, and the message when it is no part of it.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.own_message.as_ref().map_or(0, Bytes::len)
    }

    /// The bytes of the gateway's PushMessage.
    #[inline]
    pub fn message(&self) -> Bytes {
        match &self.own_message {
            None => self.payload.slice(..self.message_end as usize),
            Some(message) => message.clone(),
        }
    }

    /// The same without a count of owners more.
    #[inline]
    pub fn message_bytes(&self) -> &[u8] {
        self.own_message.as_deref().unwrap_or_else(|| &self.payload[..self.message_end as usize])
    }

    /// What kind of event it is: its field `type`.
    #[inline]
    pub fn kind_bytes(&self) -> &[u8] {
        self.span(self.kind)
    }

    /// The same as bytes, for what is done for each event: no second look at whether they are UTF-8.
    #[inline]
    pub fn session_id_bytes(&self) -> &[u8] {
        self.span(self.session_id)
    }

    /// See [`session_id_bytes`](Self::session_id_bytes).
    #[inline]
    pub fn from_username_bytes(&self) -> &[u8] {
        self.span(self.from_username)
    }

    fn text(&self, span: (u32, u32)) -> &str {
        std::str::from_utf8(self.span(span)).expect("checked when it was read")
    }

    #[inline]
    fn span(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.payload[start as usize..end as usize]
    }
}

/// Reads one event; the device that sent it is not passed on.
///
/// # Errors
/// The bytes of an event that can never be pushed, and its end.
pub fn read(payload: Bytes) -> Result<Arrival, (Bytes, EventOutcome)> {
    read_for(payload, false)
}

/// The same; with `is_echoed` the device that sent it, when it is named, is part of the message.
///
/// # Errors
/// See [`read`].
#[inline]
pub fn read_for(payload: Bytes, is_echoed: bool) -> Result<Arrival, (Bytes, EventOutcome)> {
    let (scan, own_message) = match scanned(&payload, is_echoed) {
        Ok(read) => read,
        Err(end) => return Err((payload, end)),
    };
    Ok(Arrival {
        msg_id: scan.msg_id,
        seq_id: scan.seq_id,
        session_id: scan.session_id,
        from_username: scan.from_username,
        kind: scan.kind,
        message_end: scan.head_end as u32,
        has_device: scan.from_device.1 > 0,
        own_message,
        only: scan.only,
        payload,
    })
}

fn scanned(payload: &[u8], is_echoed: bool) -> Result<(Scan, Option<Bytes>), EventOutcome> {
    if payload.len() > EVENT_BYTES_MAX + ONLY_BYTES_MAX {
        return Err(EventOutcome::TooLarge);
    }
    let scan = Scan::of(payload).map_err(|Malformed| EventOutcome::Undecodable)?;
    // What a replay adds is not passed on, and must not keep the largest event from being replayed.
    let added = scan.only.as_ref().map_or(0, |only| only.bytes.min(ONLY_BYTES_MAX));
    if payload.len() - added > EVENT_BYTES_MAX {
        return Err(EventOutcome::TooLarge);
    }
    let (start, end) = scan.session_id;
    let session_id = &payload[start as usize..end as usize];
    if session_id.is_empty() {
        return Err(EventOutcome::NoSessionId);
    }
    if is_long(session_id) {
        return Err(EventOutcome::LongSessionId);
    }
    let own_message = scan.own_message(payload, is_echoed);
    if own_message.as_ref().is_some_and(|message| message.len() > EVENT_BYTES_MAX) {
        return Err(EventOutcome::TooLarge);
    }
    Ok((scan, own_message))
}

/// The fields at the start of an event, empty where they do not stand where every serializer writes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// Field 1.
    pub msg_id: i64,
    /// Field 3.
    pub session_id: &'a [u8],
    /// Field 4.
    pub from_username: &'a [u8],
}

/// What seems to stand at the start of an event; nothing is judged.
pub fn head(payload: &[u8]) -> Head<'_> {
    let mut head = Head::default();
    let mut fields = Fields::new(payload);
    while let Ok(Some(field)) = fields.next_field() {
        match (field.number, field.value) {
            (1, Value::Varint(id)) => head.msg_id = id as i64,
            (2, Value::Varint(_)) => {}
            (3, Value::Bytes(text)) => head.session_id = text,
            (4, Value::Bytes(text)) => {
                head.from_username = text;
                break;
            }
            _ => break,
        }
    }
    head
}

/// Whether a name is over the 64 characters of the MySQL column.
pub fn is_long(name: &[u8]) -> bool {
    name.len() > NAME_CHARS_MAX
        && (name.len() > NAME_BYTES_MAX
            || std::str::from_utf8(name).is_ok_and(|name| name.chars().count() > NAME_CHARS_MAX))
}

#[derive(Default)]
struct Scan {
    msg_id: i64,
    seq_id: i64,
    session_id: (u32, u32),
    from_username: (u32, u32),
    kind: (u32, u32),
    session_name: (u32, u32),
    session_type: u64,
    from_device: (u32, u32),
    /// Where the run of message fields at the start ends.
    head_end: usize,
    /// A field of the message stands behind one that is not.
    is_mixed: bool,
    only: Option<Box<Only>>,
}

impl Scan {
    fn of(payload: &[u8]) -> Result<Self, Malformed> {
        let mut scan = Self::default();
        let mut fields = Fields::new(payload);
        while let Some(field) = fields.next_field()? {
            scan.take(&field)?;
            if field.number < FIRST_FIELD_OF_EVENT_ONLY {
                if scan.head_end == field.start {
                    scan.head_end = field.end;
                } else {
                    scan.is_mixed = true;
                }
            }
        }
        Ok(scan)
    }

    fn take(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        match (field.number, field.value) {
            (1, Value::Varint(id)) => self.msg_id = id as i64,
            (2, Value::Varint(seq)) => self.seq_id = seq as i64,
            (8, Value::Varint(_)) | (11, Value::Bytes(_)) => {}
            (10, Value::Varint(kind)) => self.session_type = kind,
            (3..=7 | 9 | ONLY_USERNAMES, Value::Bytes(text)) => {
                // ASCII, the usual case, is told in a fraction of the time.
                if !text.is_ascii() && std::str::from_utf8(text).is_err() {
                    return Err(Malformed);
                }
                let span = ((field.end - text.len()) as u32, field.end as u32);
                match field.number {
                    3 => self.session_id = span,
                    4 => self.from_username = span,
                    7 => self.kind = span,
                    9 => self.session_name = span,
                    ONLY_USERNAMES => {
                        let only = self.only.get_or_insert_default();
                        only.names.push(span);
                        only.bytes += field.end - field.start;
                    }
                    _ => {}
                }
            }
            // One that is no text is left out: older engines knew no such field.
            (FROM_DEVICE, Value::Bytes(text)) if !text.is_empty() && std::str::from_utf8(text).is_ok() => {
                self.from_device = ((field.end - text.len()) as u32, field.end as u32);
            }
            (1..=11, _) => return Err(Malformed),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::model::proto::{event::PushEvent, gateway::PushMessage, gateway::SessionMeta};

    fn event() -> PushEvent {
        PushEvent {
            msg_id: 7_530_768_693_212_696_576,
            seq_id: 42,
            session_id: "group:1".into(),
            from_username: "ann".into(),
            to_username: "group:1".into(),
            content: "hello".into(),
            r#type: "text".into(),
            timestamp: 1_700_000_000,
            ..PushEvent::default()
        }
    }

    fn message_of(event: &PushEvent) -> PushMessage {
        let has_meta = !event.session_name.is_empty() || event.session_type != 0;
        PushMessage {
            msg_id: event.msg_id,
            seq_id: event.seq_id,
            session_id: event.session_id.clone(),
            from_username: event.from_username.clone(),
            to_username: event.to_username.clone(),
            content: event.content.clone(),
            r#type: event.r#type.clone(),
            timestamp: event.timestamp,
            session_meta: has_meta
                .then(|| SessionMeta { name: event.session_name.clone(), r#type: event.session_type }),
            from_device: String::new(),
        }
    }

    #[test]
    fn an_old_publishers_bytes_are_the_message() {
        let payload = Bytes::from(event().encode_to_vec());
        let arrival = read(payload.clone()).unwrap();
        assert_eq!(arrival.session_id(), "group:1");
        assert_eq!(arrival.from_username(), "ann");
        assert_eq!((arrival.msg_id, arrival.seq_id), (7_530_768_693_212_696_576, 42));
        assert_eq!(arrival.bytes(), payload.len());
        assert_eq!(arrival.message().as_ptr(), payload.as_ptr(), "no copy");
        assert_eq!(PushMessage::decode(arrival.message()).unwrap(), message_of(&event()));
    }

    #[test]
    fn session_name_type_and_trace_headers_become_session_meta() {
        for (name, kind) in [("Team", 2), ("", 1), ("Team", 0), ("", -1)] {
            let mut event = event();
            event.session_name = name.into();
            event.session_type = kind;
            event.trace_headers.insert("traceparent".into(), "00-1".into());
            let arrival = read(Bytes::from(event.encode_to_vec())).unwrap();
            assert_eq!(arrival.bytes(), arrival.payload.len() + arrival.message().len(), "{name:?} {kind}: a copy");
            assert_eq!(PushMessage::decode(arrival.message()).unwrap(), message_of(&event), "{name:?} {kind}");
        }
    }

    #[test]
    fn whom_a_replay_is_for_is_read_and_not_passed_on() {
        let plain = read(Bytes::from(event().encode_to_vec())).unwrap();
        assert!(!plain.has_only() && plain.only_usernames().next().is_none());
        let mut replayed = event();
        replayed.only_usernames = vec!["bob".into(), "café".into()];
        let arrival = read(Bytes::from(replayed.encode_to_vec())).unwrap();
        assert_eq!(arrival.only_usernames().collect::<Vec<_>>(), ["bob", "café"]);
        assert_eq!(arrival.message(), plain.message(), "byte for byte");
        let mut broken = event().encode_to_vec();
        broken.extend([15 << 3 | 2, 1, 0xff]);
        assert_eq!(read(Bytes::from(broken)).map(|_| ()).map_err(|(_, end)| end), Err(EventOutcome::Undecodable));
        let mut largest = event();
        largest.content = "x".repeat(EVENT_BYTES_MAX - event().encoded_len() + "hello".len() - 3);
        assert_eq!(largest.encoded_len(), EVENT_BYTES_MAX);
        largest.only_usernames = vec!["b".repeat(64)];
        assert!(read(Bytes::from(largest.encode_to_vec())).is_ok(), "the largest event can be replayed");
        largest.content.push('x');
        assert_eq!(
            read(Bytes::from(largest.encode_to_vec())).map(|_| ()).map_err(|(_, end)| end),
            Err(EventOutcome::TooLarge)
        );
    }

    #[test]
    fn fields_in_any_order_make_the_same_message() {
        let mut meta_first = vec![9 << 3 | 2, 1, b'T'];
        meta_first.extend(event().encode_to_vec());
        let arrival = read(Bytes::from(meta_first)).unwrap();
        let expected = message_of(&PushEvent { session_name: "T".into(), ..event() });
        assert_eq!(PushMessage::decode(arrival.message()).unwrap(), expected);
    }

    #[test]
    fn what_can_never_be_pushed_is_refused_by_name() {
        let of = |change: fn(&mut PushEvent)| {
            let mut event = event();
            change(&mut event);
            read(Bytes::from(event.encode_to_vec())).map(|_| ()).map_err(|(_, end)| end)
        };
        assert_eq!(of(|event| event.session_id.clear()), Err(EventOutcome::NoSessionId));
        assert_eq!(of(|event| event.session_id = "é".repeat(64)), Ok(()));
        assert_eq!(of(|event| event.session_id = "é".repeat(65)), Err(EventOutcome::LongSessionId));
        assert_eq!(of(|event| event.content = "x".repeat(EVENT_BYTES_MAX)), Err(EventOutcome::TooLarge));
        let of_bytes = |bytes: &'static [u8]| read(Bytes::from_static(bytes)).map(|_| ()).map_err(|(_, end)| end);
        assert_eq!(of_bytes(b"\xff\xff"), Err(EventOutcome::Undecodable));
        assert_eq!(of_bytes(b"\x1a\x02\xff\xfe"), Err(EventOutcome::Undecodable), "no UTF-8");
        assert_eq!(of_bytes(b"\x18\x01"), Err(EventOutcome::Undecodable), "session_id a number");
        assert_eq!(of_bytes(b""), Err(EventOutcome::NoSessionId));
    }

    #[test]
    fn fuzzed_event() {
        crate::fuzz::run("event", 20_000, |bytes| {
            let theirs = PushEvent::decode(bytes);
            let ours = match read(Bytes::copy_from_slice(bytes)) {
                Ok(arrival) => arrival,
                Err((kept, end)) => {
                    assert_eq!(kept, bytes, "what is refused goes to the dead letters as it came");
                    assert!(theirs.is_err() || end != EventOutcome::Undecodable, "prost reads it");
                    return;
                }
            };
            let message = PushMessage::decode(ours.message()).expect("a gateway can read it");
            assert!(ours.message().len() <= EVENT_BYTES_MAX && ours.message_bytes() == ours.message());
            assert!(!ours.session_id().is_empty() && !is_long(ours.session_id_bytes()));
            let Ok(theirs) = theirs else { return };
            assert_eq!((ours.msg_id, ours.seq_id), (theirs.msg_id, theirs.seq_id));
            assert_eq!((ours.session_id(), ours.from_username()), (&*theirs.session_id, &*theirs.from_username));
            assert_eq!(ours.kind_bytes(), theirs.r#type.as_bytes());
            assert_eq!(ours.only_usernames().collect::<Vec<_>>(), theirs.only_usernames);
            assert_eq!(message, message_of(&theirs));
            let _ = head(bytes);
        });
    }
}
