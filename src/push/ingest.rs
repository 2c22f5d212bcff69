//! First step: an event's bytes become what the rest of the path needs of it, without a full decode.
//!
//! Promises that what it lets through is a valid PushEvent whose strings are UTF-8 (a gateway that got anything else
//! would break the stream of all its users), and that the message bytes are the event's own bytes wherever fields 1 to
//! 8 stand first, which is what every serializer in the field writes. Refuses the rest with the end it gets.

mod message;
#[cfg(test)]
mod tests;
mod trace_headers;

use bytes::Bytes;

use crate::model::limits::{EVENT_BYTES_MAX, NAME_BYTES_MAX, NAME_CHARS_MAX};
use crate::model::outcome::EventOutcome;
use crate::model::protobuf::{Field, Fields, Malformed, Value};
use crate::model::trace::TraceParent;
use crate::push::ingest::trace_headers::TRACE_HEADERS;

/// The first field number of an event that is not part of a PushMessage under the same number.
const FIRST_FIELD_OF_EVENT_ONLY: u32 = 9;
/// PushEvent.timestamp.
const TIMESTAMP: u32 = 8;
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
    has_bad_headers: bool,
    /// So many bytes at the message's end are headers of its trace.
    header_bytes: u32,
    /// Where its field `timestamp` begins, and one; 0 where it has none.
    timestamp_at: u32,
    /// Boxed, as what follows is: almost no event has any, and all pay for the room.
    own_message: Option<Box<Bytes>>,
    /// Boxed twice.
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

    /// Whether the headers of its trace cannot be used: it is handled as one without.
    #[inline]
    pub fn has_bad_headers(&self) -> bool {
        self.has_bad_headers
    }

    /// Whether its publisher records a trace of it; the message takes the trace's headers along.
    #[inline]
    pub fn is_sampled(&self) -> bool {
        self.header_bytes > 0
    }

    /// The span of its publisher; looked for in its bytes.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        Scan::of(&self.payload).ok()?.trace_parent(&self.payload).ok()?
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
        self.payload.len() + self.own_message.as_ref().map_or(0, |message| message.len())
    }

    /// The bytes of the gateway's PushMessage.
    #[inline]
    pub fn message(&self) -> Bytes {
        match &self.own_message {
            None => self.payload.slice(..self.message_end as usize),
            Some(message) => Bytes::clone(message),
        }
    }

    /// The same without a count of owners more.
    #[inline]
    pub fn message_bytes(&self) -> &[u8] {
        match &self.own_message {
            None => &self.payload[..self.message_end as usize],
            Some(message) => message,
        }
    }

    /// The same without the headers of its trace, which another copy of the event may have otherwise.
    #[inline]
    pub fn compared_bytes(&self) -> &[u8] {
        let message = self.message_bytes();
        &message[..message.len() - self.header_bytes as usize]
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

    /// What its publisher wrote into its field `timestamp`; 0 where it has none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        let Some(at) = self.timestamp_at.checked_sub(1) else { return 0 };
        match Fields::new(&self.payload[at as usize..]).next_field() {
            Ok(Some(Field { value: Value::Varint(said), .. })) => said as i64,
            _ => 0,
        }
    }

    fn text(&self, span: (u32, u32)) -> &str {
        std::str::from_utf8(self.span(span)).expect("checked when it was read")
    }

    #[inline]
    fn span(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.payload[start as usize..end as usize]
    }
}

/// What of an event is part of the message besides the message itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassOn {
    /// The device that sent it, when it is named.
    pub device: bool,
    /// The headers of its trace, when its publisher records that.
    pub trace: bool,
}

/// Reads one event, of which nothing else is passed on.
///
/// # Errors
/// The bytes of an event that can never be pushed, and its end.
pub fn read(payload: Bytes) -> Result<Arrival, (Bytes, EventOutcome)> {
    read_for(payload, PassOn::default())
}

/// The same, of which this is passed on.
///
/// # Errors
/// See [`read`].
#[inline]
pub fn read_for(payload: Bytes, passes_on: PassOn) -> Result<Arrival, (Bytes, EventOutcome)> {
    let (scan, own_message) = match scanned(&payload, passes_on) {
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
        has_bad_headers: scan.has_bad_headers,
        header_bytes: scan.header_bytes,
        timestamp_at: scan.timestamp_at,
        own_message: own_message.map(Box::new),
        only: scan.only,
        payload,
    })
}

fn scanned(payload: &[u8], passes_on: PassOn) -> Result<(Scan, Option<Bytes>), EventOutcome> {
    if payload.len() > EVENT_BYTES_MAX + ONLY_BYTES_MAX {
        return Err(EventOutcome::TooLarge);
    }
    let mut scan = Scan::of(payload).map_err(|Malformed| EventOutcome::Undecodable)?;
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
    let own_message = scan.own_message(payload, passes_on);
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
    /// From the first of the headers' fields to the end of the last; other fields may stand between.
    trace_headers: (u32, u32),
    has_bad_headers: bool,
    header_bytes: u32,
    /// See [`Arrival`]; of several fields the last counts.
    timestamp_at: u32,
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
            (TIMESTAMP, Value::Varint(_)) => self.timestamp_at = field.start as u32 + 1,
            (TRACE_HEADERS, Value::Bytes(_)) => self.note_headers(field),
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
