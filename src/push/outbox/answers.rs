//! Reads what a gateway answers, in place, and matches it to what was sent: by position and msg_id on `stream` and `stream-many`,
//! by batch_id and msg_id on `batch`, by call on `unary`; `groups` reads those of `group`.
//!
//! Promises that an answer that does not fit ends the stream: nothing after it can be matched either; that it counts as a break at
//! the push at the front; and that only an answer that was checked to its end says that the gateway lives.

use bytes::Bytes;

use crate::model::gateway::Protocol;
use crate::model::ids::Nanos;
use crate::model::limits::BREAKS_AT_ONE_PUSH_MAX;
use crate::model::outcome::RecipientOutcome;
use crate::model::protobuf::{Fields, GRPC_HEAD_BYTES, Malformed, Value, grpc_frame, read_varint};
use crate::push::bundle::Refusal;
use crate::push::facts::CallError;
use crate::push::outbox::poison::Break;
use crate::push::outbox::{Effects, Item, Outbox};

/// What a gateway says of a user that is not connected to it.
const NOT_CONNECTED: &[u8] = b"user not connected";
/// The largest answer that is read: a batch's failures may name every recipient.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// gRPC's codes.
const OK: i32 = 0;
const UNIMPLEMENTED: i32 = 12;
/// RESOURCE_EXHAUSTED and UNAVAILABLE: "not now", whoever says it, and for a long time no word about this call.
const NOT_NOW_CODES: [i32; 2] = [8, 14];
/// CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, ABORTED, INTERNAL, DATA_LOSS, UNAUTHENTICATED: whether this very call is
/// the cause, or all are answered so, is seen by what becomes of the others.
const FAILED_CODES: [i32; 8] = [1, 2, 4, 7, 10, 13, 15, 16];

/// The answer does not fit what was sent.
pub(super) struct Mismatch(pub(super) &'static str);

impl From<Malformed> for Mismatch {
    fn from(Malformed: Malformed) -> Self {
        Self("malformed frame")
    }
}

impl Outbox {
    pub(super) fn take_answers(&mut self, data: &Bytes, protocol: Protocol, now: Nanos, effects: &mut Effects) {
        let result = if self.stream.partial.is_empty() {
            self.read_frames(data, protocol, now, effects)
                .map(|used| self.stream.partial.extend_from_slice(&data[used..]))
        } else {
            let mut joined = std::mem::take(&mut self.stream.partial);
            joined.extend_from_slice(data);
            let result = self.read_frames(&joined, protocol, now, effects);
            result.map(|used| {
                joined.drain(..used);
                self.stream.partial = joined;
            })
        };
        match result {
            Ok(()) => self.note_answers_read(now),
            Err(Mismatch(why)) => {
                // Whatever it is, it takes one user a frame.
                self.peer.refused_protocols.extend((protocol == Protocol::StreamMany).then_some(protocol));
                self.take_misfit(why, now, effects);
            }
        }
    }

    /// It counts as a break at the push at the front.
    fn take_misfit(&mut self, why: &str, now: Nanos, effects: &mut Effects) {
        effects.counted.answer_mismatches += 1;
        let front = self.queue.front().filter(|item| item.is_written());
        let of = front.map_or(String::new(), |item| format!(" (it was msg_id {}'s turn)", item.bundle.msg_id));
        let ended = self.suspect_front(Break::Misfit, now, effects);
        effects.warning = Some(match ended {
            Some(what) => ("gateway_push_broken", format!("{why}; {what}")),
            None => ("answer_mismatch", format!("{why}{of}; the stream is cut, another one follows after a pause")),
        });
        self.cut(now, effects);
    }

    fn read_frames(
        &mut self,
        data: &[u8],
        protocol: Protocol,
        now: Nanos,
        effects: &mut Effects,
    ) -> Result<usize, Mismatch> {
        let mut at = 0;
        while let Some(answer) = grpc_frame(&data[at..], ANSWER_BYTES_MAX)? {
            let frame = &data[at..at + GRPC_HEAD_BYTES + answer.len()];
            at += frame.len();
            if protocol == Protocol::Batch {
                self.take_batch_answer(answer, now, effects)?;
            } else if protocol == Protocol::Group {
                self.take_group_answer(answer, now, effects)?;
            } else if protocol == Protocol::StreamMany {
                self.take_many_answer(answer, now, effects)?;
            } else {
                let is_ok = self.take_stream_answer(answer, now, effects)?;
                // The answers for one bundle are the same bytes, so after the first one a compare is enough.
                while is_ok
                    && let Some(front) = self.queue.front().filter(|front| front.answer_place > 0)
                    && data[at..].starts_with(frame)
                {
                    let more = data[at + frame.len()..].chunks_exact(frame.len());
                    let most = front.awaited().saturating_sub(1) as usize;
                    let times = 1 + more.take(most).take_while(|other| *other == frame).count();
                    at += times * frame.len();
                    self.answer_next(None, times as u32, now, effects)?;
                }
            }
        }
        Ok(at)
    }

    /// One PushMessageResponse; true when it has no error.
    fn take_stream_answer(&mut self, answer: &[u8], now: Nanos, effects: &mut Effects) -> Result<bool, Mismatch> {
        let (mut msg_id, mut error, mut of_all) = (0, &b""[..], &b""[..]);
        let mut fields = Fields::new(answer);
        while let Some(field) = fields.next_field()? {
            match (field.number, field.value) {
                (1, Value::Varint(id)) => msg_id = id as i64,
                // Where Resonance 0.1.0 has its error; before it the sequence number was here.
                (2, Value::Bytes(text)) => of_all = text,
                (3, Value::Bytes(text)) => error = text,
                _ => {}
            }
        }
        if error.is_empty() {
            error = of_all;
        }
        let front = self.queue.front().ok_or(Mismatch("an answer came for nothing that was sent"))?;
        if front.bundle.msg_id != msg_id {
            return Err(Mismatch("an answer's msg_id is not the request's"));
        }
        let refusal = (!error.is_empty()).then(|| match refusal_of(error) {
            // Resonance 0.1.0 names whom it could not reach, and a frame of ours has one user.
            Refusal::Other if place_of(front, error) == Some(front.next_answer_place()) => Refusal::NotConnected,
            refusal => refusal,
        });
        if refusal == Some(Refusal::Other) {
            effects.note_refusal(error);
        }
        self.answer_next(refusal, 1, now, effects)?;
        Ok(error.is_empty())
    }

    /// The next recipients of the item at the front are answered, alike; of several no more than are awaited.
    fn answer_next(
        &mut self,
        refusal: Option<Refusal>,
        times: u32,
        now: Nanos,
        effects: &mut Effects,
    ) -> Result<(), Mismatch> {
        let item = self.queue.front_mut().ok_or(Mismatch("an answer came for nothing that was sent"))?;
        let skip = item.bundle.skip;
        item.answer_place = item.next_answer_place();
        if item.answer_place >= item.write_place {
            return Err(Mismatch("more answers than requests"));
        }
        match refusal {
            Some(refusal) => item.refused.push((item.answer_place, refusal)),
            None => effects.counted.answered_late += u64::from(item.is_owed) * u64::from(times),
        }
        let passes_skipped = item.answer_place < skip && skip <= item.answer_place + times;
        item.answer_place += times + u32::from(passes_skipped);
        let is_complete = item.answer_place >= item.end_place();
        self.note_answer(now);
        if is_complete {
            self.complete_front(now, effects);
        }
        Ok(())
    }

    /// One PushMessageResponse, to a frame with all users of a bundle.
    fn take_many_answer(&mut self, answer: &[u8], now: Nanos, effects: &mut Effects) -> Result<(), Mismatch> {
        let front = self.queue.sent_mut().front_mut().ok_or(Mismatch("an answer came for nothing that was sent"))?;
        let failure = Failure::read(answer)?;
        if failure.has_seq_id {
            return Err(Mismatch("it answers as one that takes one user a frame, and is sent one a frame from now on"));
        }
        failure.note_in(front, effects)?;
        self.note_answer(now);
        self.complete_front(now, effects);
        Ok(())
    }

    /// One PushBatchResponse.
    fn take_batch_answer(&mut self, answer: &[u8], now: Nanos, effects: &mut Effects) -> Result<(), Mismatch> {
        let (expected, items) = *self.stream.batches.front().ok_or(Mismatch("an answer came for no batch"))?;
        let mut batch_id = 0;
        let mut fields = Fields::new(answer);
        while let Some(field) = fields.next_field()? {
            if let (1, Value::Varint(id)) = (field.number, field.value) {
                batch_id = id;
            }
        }
        if batch_id != expected {
            return Err(Mismatch("a batch's answer is out of order"));
        }
        let mut fields = Fields::new(answer);
        while let Some(field) = fields.next_field()? {
            if let (2, Value::Bytes(failure)) = (field.number, field.value) {
                let failure = Failure::read(failure)?;
                let found =
                    self.queue.sent_mut().iter_mut().take(items).find(|item| item.bundle.msg_id == failure.msg_id);
                let item = found.ok_or(Mismatch("a batch's failure names a push that was not in it"))?;
                failure.note_in(item, effects)?;
            }
        }
        self.note_answer(now);
        self.stream.batches.pop_front();
        for _ in 0..items {
            self.complete_front(now, effects);
        }
        Ok(())
    }

    pub(super) fn take_call(&mut self, call: u32, answer: Result<Bytes, CallError>, now: Nanos, effects: &mut Effects) {
        let index = call.wrapping_sub(self.queue.front_no as u32) as usize;
        let is_known = self.queue.get(index).is_some_and(|item| item.is_written() && (!item.is_done || item.is_owed));
        if !is_known {
            return;
        }
        match answer {
            Ok(bytes) => {
                let noted = Failure::read(&bytes).and_then(|failure| failure.note_in(&mut self.queue[index], effects));
                if let Err(Mismatch(why)) = noted {
                    return self.take_misfit(why, now, effects);
                }
            }
            Err(CallError { code: OK, message }) => return self.take_misfit(&message, now, effects),
            Err(CallError { code: UNIMPLEMENTED, .. }) if self.is_rpc_refused(now) => {
                return self.give_up_unary(now, effects);
            }
            Err(CallError { code, message })
                if code == UNIMPLEMENTED || FAILED_CODES.contains(&code) || NOT_NOW_CODES.contains(&code) =>
            {
                if self.queue[index].is_owed {
                    let item = self.queue[index].leave_place(false);
                    effects.results.push_back(item.off_stream());
                    return self.call_again(index, format!("Push answered code {code}: {message}"), now, effects);
                }
                let is_doubtful = NOT_NOW_CODES.contains(&code) && !self.is_half_over(&self.queue[index], now);
                if !self.is_to_blame(index, now) || is_doubtful {
                    return self.call_again(index, format!("Push answered code {code}: {message}"), now, effects);
                }
                let msg_id = self.queue[index].bundle.msg_id;
                let what =
                    format!("Push answered code {code} each time to msg_id {msg_id} ({message}): it is not pushed");
                effects.warning = Some(("gateway_push_broken", what));
                refuse_all(&mut self.queue[index], Refusal::Other);
            }
            Err(_) => refuse_all(&mut self.queue[index], Refusal::Other),
        }
        self.note_answer(now);
        self.finish_call(index, now, effects);
    }

    /// Something was answered, and it fits.
    pub(super) fn note_answer(&mut self, now: Nanos) {
        self.health.failures_in_row = 0;
        (self.stream.has_answered, self.stream.not_implemented) = (true, 0);
        self.moved_at = now;
    }

    /// Whether UNIMPLEMENTED is a word about the rpc. Of one that has answered calls on this connection it is one about this
    /// call, unless no other is answered: a hop before the gateway keeps the connection and may have another behind it. When
    /// the other protocols are not there either, it is about the call after all.
    fn is_rpc_refused(&mut self, now: Nanos) -> bool {
        if self.has_left_unary(now) {
            return false;
        }
        if !self.stream.has_answered {
            return true;
        }
        self.stream.not_implemented += 1;
        // With one call open nothing is told twice when the stream is cut for it.
        let is_left = self.calls_open().0 == 1 || self.stream.not_implemented >= BREAKS_AT_ONE_PUSH_MAX;
        if is_left {
            self.peer.left_unary_at = Some(now);
        }
        is_left
    }

    /// Whether the other protocols were tried after calls, for pushes that may still be here.
    pub(super) fn has_left_unary(&self, now: Nanos) -> bool {
        self.peer.left_unary_at.is_some_and(|at| now.since(at) < self.settings.delivery_timeout)
    }

    fn give_up_unary(&mut self, now: Nanos, effects: &mut Effects) {
        self.peer.refused_protocols.push(Protocol::Unary);
        if self.protocol().is_none() {
            self.peer.refused_protocols.clear();
            effects.warning = Some(("gateway_no_protocol", "it implements none of the push rpcs".to_owned()));
        }
        self.cut(now, effects);
    }

    /// An item in the middle is answered: its result goes home, its place is kept until those before it are done.
    fn finish_call(&mut self, index: usize, now: Nanos, effects: &mut Effects) {
        if self.queue[index].is_owed {
            let item = self.queue[index].leave_place(false);
            self.complete_late(item, effects);
        } else {
            let mut item = self.queue.leave_place(index, false);
            item.answer_place = item.end_place();
            self.complete(item, now, effects);
        }
        self.pop_ended(effects);
    }

    /// What has ended at the front gives its place up.
    pub(super) fn pop_ended(&mut self, effects: &mut Effects) {
        while self.queue.front().is_some_and(|front| front.is_done && !front.is_owed) {
            self.end_front(RecipientOutcome::TimedOut, effects);
        }
    }
}

impl Item {
    /// Whose answer comes next.
    fn next_answer_place(&self) -> u32 {
        self.answer_place + u32::from(self.answer_place == self.bundle.skip)
    }
}

/// A PushResponse.
struct Failure<'a> {
    msg_id: i64,
    error: &'a [u8],
    /// Where the error is, a number is, as the first gateways of Resonance have it.
    has_seq_id: bool,
    bytes: &'a [u8],
}

impl<'a> Failure<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Mismatch> {
        let mut failure = Self { msg_id: 0, error: b"", has_seq_id: false, bytes };
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match (field.number, field.value) {
                (1, Value::Varint(id)) => failure.msg_id = id as i64,
                (2, Value::Bytes(text)) => failure.error = text,
                (2, Value::Varint(number)) => failure.has_seq_id |= number != 0,
                _ => {}
            }
        }
        Ok(failure)
    }

    /// Notes it against the recipients that it names; an error that names nobody is against all.
    fn note_in(&self, item: &mut Item, effects: &mut Effects) -> Result<(), Mismatch> {
        if self.msg_id != item.bundle.msg_id {
            return Err(Mismatch("an answer's msg_id is not the request's"));
        }
        let mut names_one = false;
        let mut fields = Fields::new(self.bytes);
        while let Some(field) = fields.next_field()? {
            if let (3, Value::Bytes(name)) = (field.number, field.value) {
                names_one = true;
                let place = place_of(item, name).ok_or(Mismatch("a failure names a user who was not sent to"))?;
                refuse(item, place, Refusal::NotConnected);
            }
        }
        if !names_one && !self.error.is_empty() {
            refuse_all(item, effects.refusal_of(self.error));
        }
        Ok(())
    }
}

/// Notes a refusal against one recipient; the first one counts.
pub(super) fn refuse(item: &mut Item, place: u32, refusal: Refusal) {
    if let Err(at) = item.refused.binary_search_by_key(&place, |(place, _)| *place) {
        item.refused.insert(at, (place, refusal));
    }
}

/// The same against all that have no answer.
pub(super) fn refuse_all(item: &mut Item, refusal: Refusal) {
    let skip = item.bundle.skip;
    let places = (item.answer_place..item.end_place()).filter(|place| *place != skip);
    places.for_each(|place| refuse(item, place, refusal));
}

pub(super) fn refusal_of(error: &[u8]) -> Refusal {
    if error == NOT_CONNECTED { Refusal::NotConnected } else { Refusal::Other }
}

fn place_of(item: &Item, name: &[u8]) -> Option<u32> {
    let wire = &*item.bundle.group.wire;
    let (mut at, mut place) = (0, 0);
    while at < wire.len() {
        let (length, used) = read_varint(&wire[at + 1..])?;
        let start = at + 1 + used;
        let end = start + length as usize;
        if &wire[start..end] == name && place != item.bundle.skip && place >= item.answer_place {
            return Some(place);
        }
        (at, place) = (end, place + 1);
    }
    None
}
