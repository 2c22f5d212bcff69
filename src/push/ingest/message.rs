//! The PushMessage of an event whose bytes are not that already: what is of the event only is left out, and what gateways know by
//! other fields is written anew.

use bytes::Bytes;

use super::{FIRST_FIELD_OF_EVENT_ONLY, PassOn, Scan};
use crate::model::limits::EVENT_BYTES_MAX;
use crate::model::protobuf::{Fields, put_varint, varint_len};

/// PushMessage.session_meta: field 10, length-delimited.
const SESSION_META_TAG: u8 = 10 << 3 | 2;
/// PushMessage.from_device.
const FROM_DEVICE_TAG: u8 = 12 << 3 | 2;

impl Scan {
    /// The PushMessage, where it is not the start of the payload.
    pub(super) fn own_message(&mut self, payload: &[u8], passes_on: PassOn) -> Option<Bytes> {
        let is_sampled = passes_on.trace && self.trace_headers.1 > 0 && self.has_sampled_parent(payload);
        let mut message = self.message_without_headers(payload, passes_on.device, is_sampled)?;
        if is_sampled {
            let plain = message.len();
            self.header_bytes = self.put_headers(payload, &mut message);
            // What a trace adds must not keep the largest event from being pushed.
            if message.len() > EVENT_BYTES_MAX {
                message.truncate(plain);
                self.header_bytes = 0;
            }
        }
        Some(Bytes::from(message))
    }

    fn has_sampled_parent(&mut self, payload: &[u8]) -> bool {
        let parent = self.trace_parent(payload);
        self.has_bad_headers = parent.is_err();
        matches!(parent, Ok(Some(parent)) if parent.is_sampled)
    }

    /// Nothing where the start of the payload is all of it, unless it `is_copied` all the same.
    fn message_without_headers(&self, payload: &[u8], is_echoed: bool, is_copied: bool) -> Option<Vec<u8>> {
        let (start, end) = if is_echoed { self.from_device } else { (0, 0) };
        let device = &payload[start as usize..end as usize];
        let name = &payload[self.session_name.0 as usize..self.session_name.1 as usize];
        if !is_copied && !self.is_mixed && name.is_empty() && self.session_type == 0 && device.is_empty() {
            return None;
        }
        let mut message = Vec::with_capacity(payload.len() + 16);
        if self.is_mixed {
            copy_message_fields(payload, &mut message);
        } else {
            message.extend_from_slice(&payload[..self.head_end]);
        }
        put_session_meta(&mut message, name, self.session_type);
        if !device.is_empty() {
            message.push(FROM_DEVICE_TAG);
            put_varint(&mut message, device.len() as u64);
            message.extend_from_slice(device);
        }
        Some(message)
    }
}

fn copy_message_fields(payload: &[u8], message: &mut Vec<u8>) {
    let mut fields = Fields::new(payload);
    while let Ok(Some(field)) = fields.next_field() {
        if field.number < FIRST_FIELD_OF_EVENT_ONLY {
            message.extend_from_slice(&payload[field.start..field.end]);
        }
    }
}

fn put_session_meta(message: &mut Vec<u8>, name: &[u8], kind: u64) {
    if name.is_empty() && kind == 0 {
        return;
    }
    let name_len = if name.is_empty() { 0 } else { 1 + varint_len(name.len() as u64) + name.len() };
    let kind_len = if kind == 0 { 0 } else { 1 + varint_len(kind) };
    message.push(SESSION_META_TAG);
    put_varint(message, (name_len + kind_len) as u64);
    if !name.is_empty() {
        message.push(1 << 3 | 2);
        put_varint(message, name.len() as u64);
        message.extend_from_slice(name);
    }
    if kind != 0 {
        message.push(2 << 3);
        put_varint(message, kind);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::model::proto::{event::PushEvent, gateway::PushMessage, gateway::SessionMeta};
    use crate::push::ingest::{read, read_for};

    const ECHOED: PassOn = PassOn { device: true, trace: false };

    fn event() -> PushEvent {
        PushEvent { msg_id: 7, session_id: "s".into(), content: "hello".into(), ..PushEvent::default() }
    }

    fn message(session_meta: Option<SessionMeta>, from_device: &str) -> PushMessage {
        let PushEvent { msg_id, session_id, content, .. } = event();
        PushMessage {
            msg_id,
            session_id,
            content,
            session_meta,
            from_device: from_device.into(),
            ..PushMessage::default()
        }
    }

    #[test]
    fn the_device_that_sent_it_is_passed_on_where_it_is_echoed() {
        for (name, kind) in [("", 0), ("Team", 2)] {
            let told = PushEvent {
                from_device: "phone-\u{e9}".into(),
                session_name: name.into(),
                session_type: kind,
                ..event()
            };
            let meta = (kind != 0).then(|| SessionMeta { name: name.into(), r#type: kind });
            let payload = Bytes::from(told.encode_to_vec());
            let (echoed, plain) = (read_for(payload.clone(), ECHOED).unwrap(), read(payload).unwrap());
            assert!(echoed.has_device() && plain.has_device());
            assert_eq!(
                PushMessage::decode(echoed.message()).unwrap(),
                message(meta.clone(), "phone-\u{e9}"),
                "{name:?}"
            );
            assert_eq!(PushMessage::decode(plain.message()).unwrap(), message(meta, ""), "{name:?}");
        }
    }

    #[test]
    fn a_device_that_is_no_text_is_left_out() {
        for odd in [&[12 << 3, 7][..], &[12 << 3 | 2, 1, 0xff], &[12 << 3 | 2, 0]] {
            let payload = [&event().encode_to_vec(), odd].concat();
            let arrival = read_for(Bytes::from(payload), ECHOED).unwrap();
            assert!(!arrival.has_device(), "{odd:?}");
            assert_eq!(PushMessage::decode(arrival.message()).unwrap(), message(None, ""), "{odd:?}");
        }
    }
}
