//! Writes gRPC frames: the message's bytes once per frame, the names as they stand in the group.
//!
//! Promises no allocation per recipient: a chunk is one piece of memory for many frames.

use bytes::Bytes;

use crate::model::ids::{GatewayIx, Nanos, ShardId, StreamNo};
use crate::model::limits::{
    BATCH_FRAME_BYTES, CHUNK_BYTES, NAME_BYTES_MAX, STREAM_UNSENT_BYTES_MAX, UNARY_CALLS_LOOKED_AT, UNARY_CALLS_MAX,
};
use crate::model::prefetch::prefetch;
use crate::model::protobuf::{GRPC_HEAD_BYTES, put_grpc_head, put_varint, read_varint, varint_len};
use crate::push::bundle::{Bundle, EventIx, SKIP_NONE};
use crate::push::facts::Output;
use crate::push::outbox::{Effects, Item, Outbox};

/// `message` of PushMessageRequest and PushRequest are both field 2, length-delimited.
const MESSAGE_TAG: u8 = 2 << 3 | 2;
/// PushBatchRequest.batch_id.
const BATCH_ID_TAG: u8 = 1 << 3;
/// PushBatchRequest.pushes.
const PUSHES_TAG: u8 = 2 << 3 | 2;

/// How many items ahead the names of one are asked for.
const ITEMS_FORESEEN: usize = 4;

/// What is kept between chunks so that none allocates it again.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    message_field: Vec<u8>,
}

impl Encoder {
    /// The message as a field: tag, length, bytes.
    fn set_message(&mut self, bundle: &Bundle) {
        self.message_field.clear();
        self.message_field.push(MESSAGE_TAG);
        put_varint(&mut self.message_field, bundle.message.len() as u64);
        self.message_field.extend_from_slice(&bundle.message);
    }

    /// PushMessageRequest frames for the item's next recipients, until the chunk is full or the item is written.
    /// Within its caller the loop would lack registers, at ten instructions a recipient.
    #[inline(never)]
    fn put_stream_frames(&mut self, item: &mut Item, chunk: &mut Vec<u8>) {
        self.set_message(&item.bundle);
        let wire = &*item.bundle.group.wire;
        let end = item.end_place();
        let mut at = item.write_at as usize;
        let mut place = item.write_place;
        while place < end {
            let name = &wire[at..at + name_len(&wire[at..])];
            at += name.len();
            place += 1;
            if place - 1 == item.bundle.skip {
                continue;
            }
            put_grpc_head(chunk, name.len() + self.message_field.len());
            chunk.extend_from_slice(name);
            chunk.extend_from_slice(&self.message_field);
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        // The skipped one may be last.
        if place < end && place + 1 == end && place == item.bundle.skip {
            place = end;
        }
        item.write_place = place;
        item.write_at = at as u32;
    }
}

/// What each recipient costs on the stream besides its name.
fn frame_len_without_name(bundle: &Bundle) -> usize {
    GRPC_HEAD_BYTES + 1 + varint_len(bundle.message.len() as u64) + bundle.message.len()
}

impl Item {
    /// All of it is written.
    #[inline]
    pub(super) fn note_written(&mut self, now: Nanos, effects: &mut Effects) {
        self.write_place = self.end_place();
        self.written_after = now.micros_since(self.bundle.made_at, u32::MAX).max(1);
        effects.outbox_waits.push(now.nanos_since(self.bundle.made_at));
    }

    /// When it was last written; when it was made before that.
    pub(super) fn written_at(&self) -> Nanos {
        self.bundle.made_at.after_micros(self.written_after)
    }

    fn prefetch_names(&self) {
        prefetch(self.bundle.group.wire.as_ptr());
    }

    /// Bytes of the frames that are not written yet, `frame` for each recipient and its name.
    fn unwritten_bytes(&self, frame: usize) -> usize {
        let (wire, at) = (&self.bundle.group.wire, self.write_at as usize);
        let skip = self.bundle.skip;
        let recipients = (self.end_place() - self.write_place) as usize;
        let skipped = if skip == SKIP_NONE || skip < self.write_place {
            0
        } else {
            let skipped_at = at + place_in_wire(&wire[at..], skip - self.write_place) as usize;
            frame + name_len(&wire[skipped_at..])
        };
        recipients * frame + wire.len() - at - skipped
    }
}

/// The length of the first name field of `wire`, tag and length included.
pub(super) fn name_len(wire: &[u8]) -> usize {
    match wire {
        [_, length, ..] if *length < 0x80 => 2 + usize::from(*length),
        [_, rest @ ..] => read_varint(rest).map_or(wire.len(), |(length, used)| 1 + used + length as usize),
        [] => 0,
    }
}

/// Where the name of a place starts.
pub(super) fn place_in_wire(wire: &[u8], place: u32) -> u32 {
    (0..place).fold(0, |at, _| at + name_len(&wire[at as usize..]) as u32)
}

/// Which part of the group's wire a PushRequest names: from the first recipient without an answer, without `skipped`.
pub(super) struct Names {
    start: usize,
    skipped: std::ops::Range<usize>,
}

impl Names {
    #[inline]
    pub(super) fn of(item: &Item) -> Self {
        let wire = &item.bundle.group.wire;
        let start = place_in_wire(wire, item.answer_place) as usize;
        let skip = item.bundle.skip;
        if skip == SKIP_NONE || skip < item.answer_place {
            return Self { start, skipped: start..start };
        }
        let at = place_in_wire(wire, skip) as usize;
        Self { start, skipped: at..at + name_len(&wire[at..]) }
    }

    /// The size of the PushRequest.
    #[inline]
    pub(super) fn request_len(&self, bundle: &Bundle) -> usize {
        let names = bundle.group.wire.len() - self.start - self.skipped.len();
        names + 1 + varint_len(bundle.message.len() as u64) + bundle.message.len()
    }

    pub(super) fn put_request(self, bundle: &Bundle, out: &mut Vec<u8>) {
        let wire = &bundle.group.wire;
        out.extend_from_slice(&wire[self.start..self.skipped.start]);
        out.extend_from_slice(&wire[self.skipped.end..]);
        out.push(MESSAGE_TAG);
        put_varint(out, bundle.message.len() as u64);
        out.extend_from_slice(&bundle.message);
    }
}

impl Outbox {
    /// `PushMessage`: a frame a recipient.
    pub(super) fn write_stream(&mut self, at: GatewayIx, stream: StreamNo, now: Nanos, effects: &mut Effects) {
        let mut left = self.in_turn(now);
        while left > 0 && self.stream.unsent_bytes < STREAM_UNSENT_BYTES_MAX {
            let mut chunk = Vec::with_capacity(self.chunk_capacity(left));
            while chunk.len() < CHUNK_BYTES && left > 0 {
                let queued = self.queue.queued_mut();
                queued.get(ITEMS_FORESEEN).inspect(|later| later.prefetch_names());
                let Some(item) = queued.front_mut() else { break };
                self.stream.encoder.put_stream_frames(item, &mut chunk);
                if item.write_place < item.end_place() {
                    break;
                }
                item.note_written(now, effects);
                self.queue.note_written();
                left -= 1;
            }
            self.send(at, stream, chunk, effects);
        }
    }

    /// `PushMessage` of a gateway that takes several users a frame: a frame a bundle.
    pub(super) fn write_stream_many(&mut self, at: GatewayIx, stream: StreamNo, now: Nanos, effects: &mut Effects) {
        let mut left = self.in_turn(now);
        while left > 0 && self.stream.unsent_bytes < STREAM_UNSENT_BYTES_MAX {
            let (bundles, bytes) = self.next_frames(left);
            let mut chunk = Vec::with_capacity(bytes);
            for item in self.queue.queued_mut().iter_mut().take(bundles) {
                let names = Names::of(item);
                put_grpc_head(&mut chunk, names.request_len(&item.bundle));
                names.put_request(&item.bundle, &mut chunk);
                item.note_written(now, effects);
            }
            debug_assert_eq!(chunk.len(), bytes);
            self.queue.note_batch_written(bundles);
            left -= bundles;
            self.send(at, stream, chunk, effects);
        }
    }

    /// How many of the next `items` fill a chunk, a frame each, and their bytes.
    fn next_frames(&self, items: usize) -> (usize, usize) {
        let (mut bundles, mut bytes) = (0, 0);
        for item in self.queue.queued().iter().take(items) {
            bytes += GRPC_HEAD_BYTES + Names::of(item).request_len(&item.bundle);
            bundles += 1;
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        (bundles, bytes)
    }

    /// What the next `items` take, to the byte (so that the chunk needs no second piece of memory); at most a full chunk and the
    /// frame that fills it.
    fn chunk_capacity(&self, items: usize) -> usize {
        let mut bytes = 0;
        for item in self.queue.queued().iter().take(items) {
            let frame = frame_len_without_name(&item.bundle);
            bytes += item.unwritten_bytes(frame);
            if bytes > CHUNK_BYTES {
                return CHUNK_BYTES + frame + NAME_BYTES_MAX + 4;
            }
        }
        bytes
    }

    /// `PushBatch`: as many bundles a frame as fit [`BATCH_FRAME_BYTES`], at least one.
    pub(super) fn write_batches(&mut self, at: GatewayIx, stream: StreamNo, now: Nanos, effects: &mut Effects) {
        let mut left = self.in_turn(now);
        while left > 0 && self.stream.unsent_bytes < STREAM_UNSENT_BYTES_MAX {
            let batch_id = self.stream.next_batch;
            self.stream.next_batch += 1;
            let (bundles, length) = self.next_batch_len(left, 1 + varint_len(batch_id));
            let mut frame = Vec::with_capacity(GRPC_HEAD_BYTES + length);
            put_grpc_head(&mut frame, length);
            frame.push(BATCH_ID_TAG);
            put_varint(&mut frame, batch_id);
            for item in self.queue.queued_mut().iter_mut().take(bundles) {
                let names = Names::of(item);
                frame.push(PUSHES_TAG);
                put_varint(&mut frame, names.request_len(&item.bundle) as u64);
                names.put_request(&item.bundle, &mut frame);
                item.note_written(now, effects);
            }
            debug_assert_eq!(frame.len(), GRPC_HEAD_BYTES + length);
            self.queue.note_batch_written(bundles);
            left -= bundles;
            self.stream.batches.push_back((batch_id, bundles));
            self.send(at, stream, frame, effects);
        }
    }

    /// How many of the next `items` go into one batch, and its length; `length` is that of an empty one.
    fn next_batch_len(&self, items: usize, mut length: usize) -> (usize, usize) {
        let mut bundles = 0;
        let mut highest_msg_id = i64::MIN;
        for item in self.queue.queued().iter().take(items) {
            let push = Names::of(item).request_len(&item.bundle);
            let push = 1 + varint_len(push as u64) + push;
            // A batch's answer names a push by its msg_id only: no two of the same in one batch.
            let is_new = item.bundle.msg_id > highest_msg_id;
            if bundles > 0 && (length + push > BATCH_FRAME_BYTES || !is_new) {
                break;
            }
            highest_msg_id = item.bundle.msg_id;
            length += push;
            bundles += 1;
        }
        (bundles, length)
    }

    pub(super) fn send(&mut self, at: GatewayIx, stream: StreamNo, chunk: Vec<u8>, effects: &mut Effects) {
        self.stream.unsent_bytes += chunk.len();
        effects.counted.frame_bytes += chunk.len() as u64;
        effects.outputs.push(Output::Send { gateway: at, stream, chunk: Bytes::from(chunk) });
    }

    /// `Push`: a call a bundle, several at once, but of each slice of sessions only those of one event that were made together:
    /// calls on one connection may overtake each other in the gateway, and a session's events must not. The bundles of one
    /// event may, for none of its recipients is in two; but not past a fence that was raised between them, which counts how many
    /// have ended and not which.
    pub(super) fn make_calls(&mut self, at: GatewayIx, stream: StreamNo, now: Nanos, effects: &mut Effects) {
        if self.stream.calls_from > now {
            return;
        }
        self.stream.calls_from = Nanos(0);
        let (mut open, mut parts_open) = self.calls_open();
        let mut turns = [None; UNARY_CALLS_MAX];
        for index in 0..self.writable().min(UNARY_CALLS_LOOKED_AT) {
            if open == UNARY_CALLS_MAX {
                break;
            }
            let item = &self.queue[index];
            // What ended at its deadline may still reach its users: it keeps its turn until the answer.
            if item.is_done && !item.is_owed {
                continue;
            }
            let event = made_with(&item.bundle);
            let turn = turns[slice_of(&item.bundle)].get_or_insert(Some(event));
            // Behind another event, the first one's turn is over as well: who was held comes again, in order.
            *turn = turn.filter(|first| *first == event);
            let is_its_turn = turn.is_some();
            let is_part = item.bundle.group.is_part;
            if item.is_written() || !is_its_turn || (is_part && parts_open >= self.part_calls_max(item, now)) {
                continue;
            }
            let item = &mut self.queue[index];
            open += 1;
            parts_open += usize::from(is_part);
            let names = Names::of(item);
            let length = names.request_len(&item.bundle);
            let mut request = Vec::with_capacity(GRPC_HEAD_BYTES + length);
            put_grpc_head(&mut request, length);
            names.put_request(&item.bundle, &mut request);
            item.note_written(now, effects);
            effects.counted.frame_bytes += request.len() as u64;
            let call = (self.queue.front_no + index as u64) as u32;
            self.queue.note_called(index);
            effects.outputs.push(Output::Call { gateway: at, stream, call, request: Bytes::from(request) });
        }
    }

    /// Calls without an answer, and how many of them are about parts of large groups.
    pub(super) fn calls_open(&self) -> (usize, usize) {
        let open = self.queue.sent().iter().filter(|item| item.is_written() && (!item.is_done || item.is_owed));
        open.fold((0, 0), |(calls, parts), item| (calls + 1, parts + usize::from(item.bundle.group.is_part)))
    }
}

/// What only the bundles of one event have in common between which no fence was raised.
pub(super) type Made = (ShardId, EventIx, Nanos, u8);

/// See [`Made`].
pub(super) fn made_with(bundle: &Bundle) -> Made {
    (bundle.home, bundle.event, bundle.made_at, bundle.fences_before)
}

/// Which slice of sessions a bundle's calls are ordered in.
fn slice_of(bundle: &Bundle) -> usize {
    (bundle.session.0 as usize).wrapping_add(usize::from(bundle.home.0).wrapping_mul(31)) % UNARY_CALLS_MAX
}
