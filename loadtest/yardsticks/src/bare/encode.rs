//! An event's bytes as a push's: fields 1 to 8 as they stand, and what the requests of both rpcs have around them.

use bytes::BytesMut;

use super::tables::Group;
use super::wire::{pass_over, put_varint, take_varint, varint};

const SESSION_ID: u64 = 3;
const FROM_USERNAME: u64 = 4;
/// The last field that a push's message has with the same number and type.
const SHARED_LAST: u64 = 8;
const SESSION_NAME: u64 = 9;
const SESSION_TYPE: u64 = 10;
/// `session_meta` of a message, and its two fields.
const META: u8 = 10 << 3 | 2;
const META_NAME: u8 = 1 << 3 | 2;
const META_TYPE: u8 = 2 << 3;
/// Field 2 of a PushMessageRequest and of a PushRequest: the message. Of a PushBatchRequest: a PushRequest.
const SECOND: u8 = 2 << 3 | 2;
const GRPC_HEAD: usize = 5;
/// A frame of a batch is closed past this.
const BATCH_FRAME_BYTES: usize = 64 * 1024;

/// The event at hand.
#[derive(Default)]
pub(super) struct Encoder {
    message: Vec<u8>,
    meta: Vec<u8>,
    /// The message as field 2 of a request.
    tail: Vec<u8>,
}

/// What decides where an event goes.
pub(super) struct Event<'a> {
    pub session: &'a [u8],
    pub sender: &'a [u8],
}

/// The frames of one turn for one gateway.
#[derive(Default)]
pub(super) struct Frames {
    pub bytes: BytesMut,
    /// Where the frame of a batch that is still open began.
    open: Option<usize>,
    batch_id: u64,
}

impl Encoder {
    /// Takes an event's message; none when it is no protobuf.
    pub fn read<'a>(&mut self, payload: &'a [u8]) -> Option<Event<'a>> {
        self.message.clear();
        self.meta.clear();
        let mut event = Event { session: &[], sender: &[] };
        let (mut rest, mut shared) = (payload, 0..0);
        while !rest.is_empty() {
            let start = payload.len() - rest.len();
            let tag = take_varint(&mut rest)?;
            let value_start = payload.len() - rest.len();
            let text = pass_over(&mut rest, tag & 7)?;
            let end = payload.len() - rest.len();
            match tag >> 3 {
                SESSION_ID => event.session = text,
                FROM_USERNAME => event.sender = text,
                SESSION_NAME => put(&mut self.meta, META_NAME, &payload[value_start..end]),
                SESSION_TYPE => put(&mut self.meta, META_TYPE, &payload[value_start..end]),
                _ => {}
            }
            if (1..=SHARED_LAST).contains(&(tag >> 3)) {
                if shared.end != start {
                    self.message.extend_from_slice(&payload[shared]);
                    shared = start..start;
                }
                shared.end = end;
            }
        }
        self.message.extend_from_slice(&payload[shared]);
        if !self.meta.is_empty() {
            self.message.push(META);
            put_varint(&mut self.message, self.meta.len() as u64);
            self.message.extend_from_slice(&self.meta);
        }
        self.tail.clear();
        self.tail.push(SECOND);
        put_varint(&mut self.tail, self.message.len() as u64);
        self.tail.extend_from_slice(&self.message);
        Some(event)
    }
}

impl Frames {
    /// `PushMessage`: a frame a recipient.
    pub fn stream(&mut self, encoder: &Encoder, group: &Group, skipped: Option<usize>) -> usize {
        let (before, tail) = (self.bytes.len(), &encoder.tail[..]);
        let [first, second] = group.pieces(skipped);
        self.bytes.reserve(first.len() + second.len() + group.len() * (GRPC_HEAD + tail.len()));
        for name in group.each(skipped) {
            self.bytes.extend_from_slice(&head(name.len() + tail.len()));
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(tail);
        }
        self.bytes.len() - before
    }

    /// `PushBatch`: a push of the frame that is open.
    pub fn batch(&mut self, encoder: &Encoder, group: &Group, skipped: Option<usize>) -> usize {
        let (before, tail) = (self.bytes.len(), &encoder.tail[..]);
        if self.open.is_none() {
            self.open = Some(before);
            self.batch_id += 1;
            self.bytes.extend_from_slice(&[0; GRPC_HEAD]);
            let mut id = Vec::with_capacity(11);
            id.push(1 << 3);
            put_varint(&mut id, self.batch_id);
            self.bytes.extend_from_slice(&id);
        }
        let [first, second] = group.pieces(skipped);
        let length = first.len() + second.len() + tail.len();
        self.bytes.reserve(11 + length);
        let (digits, used) = varint(length as u64);
        self.bytes.extend_from_slice(&[SECOND]);
        for piece in [&digits[..used], first, second, tail] {
            self.bytes.extend_from_slice(piece);
        }
        if self.open.is_some_and(|open| self.bytes.len() - open > BATCH_FRAME_BYTES) {
            self.close();
        }
        self.bytes.len() - before
    }

    /// Ends the frame of a batch.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let length = self.bytes.len() - open - GRPC_HEAD;
            self.bytes[open..open + GRPC_HEAD].copy_from_slice(&head(length));
        }
    }
}

fn head(length: usize) -> [u8; GRPC_HEAD] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(value);
}
