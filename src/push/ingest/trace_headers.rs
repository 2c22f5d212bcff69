//! The context that a publisher gives an event to take along: its field `trace_headers`.
//!
//! Promises that what is passed on is a map of texts that any gateway reads, and short; that an event whose map is anything else is
//! handled as one without; and that the other fields are not looked at.

use super::Scan;
use crate::model::protobuf::{Field, Fields, Value};
use crate::model::trace::TraceParent;

/// PushEvent.trace_headers, and PushMessage's.
pub(super) const TRACE_HEADERS: u32 = 11;
/// The name of the header that says which span is the parent.
const TRACEPARENT: &[u8] = b"traceparent";
/// Headers of an event at the most, and all of their bytes.
const HEADERS_MAX: usize = 16;
const HEADERS_BYTES_MAX: usize = 4096;

/// The headers are no map of texts, too long, or name a parent that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadHeaders;

impl Scan {
    /// Some of the headers stand in this field.
    #[inline]
    pub(super) fn note_headers(&mut self, field: &Field<'_>) {
        if self.trace_headers.1 == 0 {
            self.trace_headers.0 = field.start as u32;
        }
        self.trace_headers.1 = field.end as u32;
    }

    /// The parent that the headers name, if they name one.
    pub(super) fn trace_parent(&self, payload: &[u8]) -> Result<Option<TraceParent>, BadHeaders> {
        let (mut headers, mut bytes, mut parent) = (0, 0, None);
        for field in self.header_fields(payload) {
            (headers, bytes) = (headers + 1, bytes + field.end - field.start);
            if headers > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
                return Err(BadHeaders);
            }
            let Value::Bytes(entry) = field.value else { return Err(BadHeaders) };
            let (name, value) = entry_of(entry).ok_or(BadHeaders)?;
            if name == TRACEPARENT {
                parent = Some(TraceParent::read(value).ok_or(BadHeaders)?);
            }
        }
        Ok(parent)
    }

    /// The fields that the headers stand in.
    pub(super) fn header_fields<'a>(&self, payload: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
        let (start, end) = self.trace_headers;
        let mut fields = Fields::new(&payload[start as usize..end as usize]);
        std::iter::from_fn(move || fields.next_field().ok().flatten()).filter(|field| field.number == TRACE_HEADERS)
    }

    /// Appends the headers as they stand in the event: number and type are the same in a message. How many bytes that is.
    pub(super) fn put_headers(&self, payload: &[u8], message: &mut Vec<u8>) -> u32 {
        let (before, from) = (message.len(), self.trace_headers.0 as usize);
        for field in self.header_fields(payload) {
            message.extend_from_slice(&payload[from + field.start..from + field.end]);
        }
        (message.len() - before) as u32
    }
}

/// The name and the value of one header: both are texts, and there is nothing else.
fn entry_of(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut name, mut value) = (&b""[..], &b""[..]);
    let mut fields = Fields::new(entry);
    while let Some(field) = fields.next_field().ok()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => name = text,
            (2, Value::Bytes(text)) => value = text,
            _ => return None,
        }
    }
    let are_texts = [name, value].iter().all(|text| std::str::from_utf8(text).is_ok());
    are_texts.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::model::limits::EVENT_BYTES_MAX;
    use crate::model::proto::{event::PushEvent, gateway::PushMessage, gateway::SessionMeta};
    use crate::push::ingest::{Arrival, PassOn, read, read_for};

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn event(headers: &[(&str, &str)]) -> PushEvent {
        let trace_headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PushEvent { msg_id: 7, session_id: "s".into(), content: "hello".into(), trace_headers, ..PushEvent::default() }
    }

    fn arrival(payload: Vec<u8>) -> Arrival {
        read_for(Bytes::from(payload), PassOn { trace: true, ..PassOn::default() }).expect("an event")
    }

    fn message_of(event: &PushEvent) -> PushMessage {
        PushMessage::decode(arrival(event.encode_to_vec()).message()).expect("a message")
    }

    #[test]
    fn all_headers_are_passed_on_when_the_parent_is_sampled() {
        let headers = [("traceparent", SAMPLED), ("tracestate", "a=1"), ("baggage", "caf\u{e9}=1")];
        let plain = event(&headers);
        assert_eq!(message_of(&plain).trace_headers, plain.trace_headers);
        let meta = SessionMeta { name: "Team".into(), r#type: 2 };
        let named = PushEvent { session_name: "Team".into(), session_type: 2, ..plain.clone() };
        let message = message_of(&named);
        assert_eq!((message.session_meta, message.trace_headers), (Some(meta), plain.trace_headers.clone()));
        let arrived = arrival(plain.encode_to_vec());
        assert!(arrived.is_sampled() && !arrived.has_bad_headers());
        assert_eq!(arrived.trace_parent().map(|parent| parent.span_id[1]), Some(0xf0));
        let without = read(Bytes::from(event(&[]).encode_to_vec())).expect("an event");
        assert_eq!(arrived.compared_bytes(), without.message_bytes(), "a copy may have other headers");
    }

    #[test]
    fn nothing_is_passed_on_without_a_sampled_parent_or_where_nothing_is_traced() {
        for headers in [&[][..], &[("tracestate", "a=1")], &[("traceparent", UNSAMPLED)], &[("Traceparent", SAMPLED)]] {
            let arrived = arrival(event(headers).encode_to_vec());
            assert!(!arrived.is_sampled() && !arrived.has_bad_headers(), "{headers:?}");
            assert_eq!(arrived.message().as_ptr(), arrived.payload.as_ptr(), "no copy: {headers:?}");
        }
        let untraced = read(Bytes::from(event(&[("traceparent", SAMPLED)]).encode_to_vec())).expect("an event");
        assert!(!untraced.is_sampled() && untraced.trace_parent().is_some());
        assert_eq!(untraced.message(), untraced.payload.slice(..untraced.message().len()));
    }

    #[test]
    fn a_parent_that_is_none_is_noted_and_passed_on_to_nobody() {
        let many: Vec<_> = (0..17).map(|number| (format!("h{number}"), "v".to_owned())).collect();
        let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let long = "v".repeat(HEADERS_BYTES_MAX);
        for headers in [
            &[("traceparent", "")][..],
            &[("traceparent", &SAMPLED[..54])],
            &[("traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
            &[("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
            &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")],
            &[("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01")],
            &many,
            &[("traceparent", SAMPLED), ("baggage", &long)],
        ] {
            let arrived = arrival(event(headers).encode_to_vec());
            assert!(arrived.has_bad_headers() && !arrived.is_sampled(), "{headers:?}");
            assert_eq!(arrived.message().as_ptr(), arrived.payload.as_ptr(), "no copy");
        }
        // A gateway that checks texts would break the stream of all its users; what is no map at all is none either.
        for odd in [&[11 << 3 | 2, 3, 1 << 3 | 2, 1, 0xff][..], &[11 << 3 | 2, 2, 1 << 3, 1], &[11 << 3 | 2, 1, 0xff]] {
            let payload = [&event(&[("traceparent", SAMPLED)]).encode_to_vec(), odd].concat();
            let arrived = arrival(payload);
            assert!(arrived.has_bad_headers() && !arrived.is_sampled(), "{odd:?}");
        }
    }

    #[test]
    fn headers_that_stand_apart_or_first_are_found() {
        let (first, last) = (event(&[("traceparent", SAMPLED)]), event(&[]));
        let only_headers = PushEvent { trace_headers: first.trace_headers.clone(), ..PushEvent::default() };
        let state = PushEvent { trace_headers: event(&[("tracestate", "a=1")]).trace_headers, ..PushEvent::default() };
        let payload = [only_headers, last, state].map(|part| part.encode_to_vec()).concat();
        let arrived = arrival(payload);
        let message = PushMessage::decode(arrived.message()).expect("a message");
        assert_eq!((message.content.as_str(), message.trace_headers.len()), ("hello", 2));
    }

    #[test]
    fn the_largest_event_goes_on_without_its_headers_rather_than_not_at_all() {
        let mut largest = PushEvent { session_name: "n".into(), ..event(&[("traceparent", SAMPLED)]) };
        largest.content = "x".repeat(EVENT_BYTES_MAX - largest.encoded_len() + "hello".len() - 3);
        assert_eq!(largest.encoded_len(), EVENT_BYTES_MAX);
        let arrived = arrival(largest.encode_to_vec());
        assert!(!arrived.is_sampled() && arrived.message().len() <= EVENT_BYTES_MAX);
    }

    #[test]
    fn fuzzed_trace_headers() {
        crate::fuzz::run("event", 20_000, |bytes| {
            let Ok(arrived) = read_for(Bytes::copy_from_slice(bytes), PassOn { trace: true, device: true }) else {
                return;
            };
            let message = PushMessage::decode(arrived.message()).expect("what is passed on is a message");
            assert!(message.trace_headers.len() <= HEADERS_MAX);
            assert_eq!(arrived.is_sampled(), arrived.compared_bytes().len() < arrived.message_bytes().len());
        });
    }
}
