//! The gateway's side of `PushMessage`, `PushBatch` and (`groups`) `PushGroups` at the level of HTTP/2 data: gRPC frames are cut by hand, fields
//! are read in place, and all answers to one turn's requests leave as one chunk.
//!
//! For load tests, where the gateways must not be what is measured. It answers at once, refuses and fails users, and can
//! be stuck, cut and killed; it does not know the behaviours slow and deaf. A request that cannot be read is told, answered
//! as failed, and the stream goes on: a real gateway would end it, and then one wrong byte could not be counted as one.

mod groups;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::body::Incoming;

use self::groups::Unanswered;
use super::control::Control;
use super::kept::KeptGroups;
use super::record::{Answer, Checked, Seen};
use crate::clock;
use crate::rng::Rng;

/// The head of a gRPC frame: a compression flag and the length.
const HEAD: usize = 5;
/// Answers are sent when this many bytes wait, even when more requests are there.
const ANSWERS_BYTES: usize = 64 * 1024;
/// What a request that cannot be read is answered with.
const UNREADABLE: &str = "the request cannot be read";
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const TEXT: u64 = 2;
const FIXED32: u64 = 5;

/// Which rpc a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Stream,
    Batch,
    Group,
}

/// Which rpc a request is for, when the fast side serves it.
pub(crate) fn rpc_of(control: &Control, path: &str) -> Option<Rpc> {
    match path {
        _ if !control.fast => None,
        "/resonance.gateway.v1.PushService/PushMessage" if control.protocols.stream => Some(Rpc::Stream),
        "/resonance.gateway.v1.PushService/PushBatch" if control.protocols.batch => Some(Rpc::Batch),
        "/resonance.gateway.v1.PushService/PushGroups" if control.protocols.group => Some(Rpc::Group),
        _ => None,
    }
}

/// The response to one stream.
pub(crate) fn serve(
    control: &Arc<Control>,
    rpc: Rpc,
    request: http::Request<Incoming>,
) -> http::Response<tonic::body::Body> {
    let taker = Taker::new(control, rpc);
    let body = Answers {
        requests: request.into_body(),
        taker,
        rest: BytesMut::new(),
        answers: BytesMut::new(),
        is_over: false,
        has_ended: false,
    };
    let mut response = http::Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    response
}

/// Reads requests and gives answers whenever hyper asks for more of the response: no task, no channel.
struct Answers {
    requests: Incoming,
    taker: Taker,
    /// The begun frame that the last chunk ended in.
    rest: BytesMut,
    answers: BytesMut,
    /// Whether the client has half-closed.
    is_over: bool,
    /// Whether the trailers were given.
    has_ended: bool,
}

impl Answers {
    fn take_chunk(&mut self, chunk: &[u8]) {
        if self.rest.is_empty() {
            let used = self.taker.take_frames(chunk, &mut self.answers);
            self.rest.extend_from_slice(&chunk[used..]);
        } else {
            self.rest.extend_from_slice(chunk);
            let used = self.taker.take_frames(&self.rest, &mut self.answers);
            let _ = self.rest.split_to(used);
        }
    }
}

impl Body for Answers {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while !self.is_over && self.answers.len() < ANSWERS_BYTES {
            match Pin::new(&mut self.requests).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let chunk = frame.into_data().unwrap_or_default();
                    self.take_chunk(&chunk);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending if self.answers.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if !self.answers.is_empty() {
            let answers = self.answers.split().freeze();
            self.taker.unanswered.clear();
            return Poll::Ready(Some(Ok(Frame::data(answers))));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.has_ended = true;
        let mut trailers = http::HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// The bytes are no request.
#[derive(Debug)]
struct Malformed;

struct Taker {
    stream: u64,
    control: Arc<Control>,
    rpc: Rpc,
    /// `group` only.
    kept: KeptGroups,
    /// Notices without an answer.
    unanswered: Unanswered,
    rng: Rng,
}

/// What is read of a message; the rest is passed over.
#[derive(Default)]
struct Message<'a> {
    msg_id: u64,
    seq_id: u64,
    session: &'a str,
    from: &'a str,
    content: &'a str,
    kind: &'a str,
    timestamp: u64,
    checked: Checked,
}

impl Taker {
    fn new(control: &Arc<Control>, rpc: Rpc) -> Self {
        let stream = control.next_stream();
        let (kept, unanswered) = (KeptGroups::default(), Unanswered::default());
        Self { stream, control: control.clone(), rpc, kept, unanswered, rng: Rng::new(stream) }
    }

    /// Takes the whole frames at the front and writes their answers; gives how many bytes they were.
    fn take_frames(&mut self, bytes: &[u8], answers: &mut BytesMut) -> usize {
        let mut used = 0;
        let at = clock::now();
        while let Some((head, body)) = bytes[used..].split_at_checked(HEAD) {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(frame) = body.get(..length) else { break };
            let begun = begin_frame(answers);
            let taken = match self.rpc {
                Rpc::Stream => self.take_push(frame, at, answers),
                Rpc::Batch => self.take_batch(frame, at, answers),
                Rpc::Group => self.take_groups(frame, at, answers),
            };
            if taken.is_err() {
                self.control.recorder.unreadable(&self.control.id);
                if self.rpc == Rpc::Stream {
                    put_text(answers, 3, UNREADABLE.as_bytes());
                }
            }
            end_frame(answers, begun);
            self.control.counters.answers.fetch_add(1, Ordering::Relaxed);
            used += HEAD + length;
        }
        used
    }

    fn take_push(&self, frame: &[u8], at: u64, answers: &mut BytesMut) -> Result<(), Malformed> {
        let (mut recipient, mut message) = ("", Message::default());
        for field in Fields(frame) {
            match field? {
                (1, Value::Bytes(name)) => recipient = text(name)?,
                (2, Value::Bytes(bytes)) => message = read_message(bytes)?,
                _ => {}
            }
        }
        let error = self.record(recipient, &message, at);
        put_number(answers, 1, message.msg_id);
        put_number(answers, 2, message.seq_id);
        put_text(answers, 3, error.as_bytes());
        Ok(())
    }

    fn take_batch(&self, frame: &[u8], at: u64, answers: &mut BytesMut) -> Result<(), Malformed> {
        for field in Fields(frame) {
            match field? {
                (1, Value::Number(batch_id)) => put_number(answers, 1, batch_id),
                (2, Value::Bytes(push)) if self.take_many(push, at, answers).is_err() => {
                    self.control.recorder.unreadable(&self.control.id);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One message for many users; writes its PushResponse only when a user failed.
    fn take_many(&self, push: &[u8], at: u64, answers: &mut BytesMut) -> Result<(), Malformed> {
        let message = message_of(push)?;
        let mut failure = BytesMut::new();
        for field in Fields(push) {
            if let (1, Value::Bytes(name)) = field? {
                let error = self.record(text(name)?, &message, at);
                if !error.is_empty() {
                    if failure.is_empty() {
                        put_number(&mut failure, 1, message.msg_id);
                        put_text(&mut failure, 2, error.as_bytes());
                    }
                    put_text(&mut failure, 3, name);
                }
            }
        }
        put_text(answers, 2, &failure);
        Ok(())
    }

    fn record(&self, recipient: &str, message: &Message<'_>, at: u64) -> String {
        let error = self.control.failure_of(recipient);
        self.control.recorder.push(&Seen {
            gateway: &self.control.id,
            stream: self.stream,
            order: self.control.counters.pushes.fetch_add(1, Ordering::Relaxed),
            at,
            answer: if error.is_empty() { Answer::Delivered } else { Answer::Refused },
            recipient,
            session: message.session,
            msg_id: message.msg_id as i64,
            seq_id: message.seq_id as i64,
            from: message.from,
            content: message.content,
            kind: message.kind,
            timestamp: message.timestamp as i64,
            message: None,
            checked: Some(&message.checked),
        });
        error
    }
}

/// The message of a PushRequest.
fn message_of(push: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut message = Message::default();
    for field in Fields(push) {
        if let (2, Value::Bytes(bytes)) = field? {
            message = read_message(bytes)?;
        }
    }
    Ok(message)
}

fn read_message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut message = Message::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Number(number)) => message.msg_id = number,
            (2, Value::Number(number)) => message.seq_id = number,
            (3, Value::Bytes(bytes)) => message.session = text(bytes)?,
            (4, Value::Bytes(bytes)) => message.from = text(bytes)?,
            (6, Value::Bytes(bytes)) => message.content = text(bytes)?,
            (7, Value::Bytes(bytes)) => message.kind = text(bytes)?,
            (8, Value::Number(number)) => message.timestamp = number,
            _ => {}
        }
    }
    Ok(message)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// The fields of a protobuf message, in the order they are written.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => self.bytes(8).map(|_| Value::Other)?,
            FIXED32 => self.bytes(4).map(|_| Value::Other)?,
            TEXT => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.bytes(length)?)
            }
            _ => return Err(Malformed),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() { None } else { Some(self.field()) }
    }
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_number(out: &mut BytesMut, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

fn put_text(out: &mut BytesMut, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, field << 3 | TEXT);
        put_varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn begin_frame(out: &mut BytesMut) -> usize {
    out.put_slice(&[0; HEAD]);
    out.len()
}

fn end_frame(out: &mut BytesMut, begun: usize) {
    let length = (out.len() - begun) as u32;
    out[begun - 4..begun].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Behaviour, Protocols, Recorder};
    use super::*;
    use std::sync::Mutex;

    /// The recipients of what could be read, and `?` for what could not.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Recorder for Told {
        fn push(&self, seen: &Seen<'_>) {
            self.0.lock().expect("nobody panicked").push(seen.recipient.to_owned());
        }
        fn unreadable(&self, _gateway: &Arc<str>) {
            self.0.lock().expect("nobody panicked").push("?".to_owned());
        }
    }

    fn push(rpc: Rpc, user: &[u8], content: &[u8]) -> BytesMut {
        let (mut message, mut request, mut frame) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        put_text(&mut message, 6, content);
        put_text(&mut request, 1, user);
        put_text(&mut request, 2, &message);
        let begun = begin_frame(&mut frame);
        match rpc {
            Rpc::Stream => frame.put_slice(&request),
            Rpc::Batch => put_text(&mut frame, 2, &request),
            Rpc::Group => put_text(&mut frame, 4, &request),
        }
        end_frame(&mut frame, begun);
        frame
    }

    #[test]
    fn a_request_that_cannot_be_read_is_told_once_answered_and_those_after_it_are_taken() {
        for rpc in [Rpc::Stream, Rpc::Batch] {
            let told = Arc::new(Told::default());
            let control = Control::new("g", Protocols::ALL, told.clone(), Behaviour::Prompt, true);
            let mut taker = Taker::new(&Arc::new(control), rpc);
            let mut bytes = push(rpc, b"anna", b"hello");
            bytes.extend_from_slice(&push(rpc, b"ben", b"hel\xfflo"));
            let at = bytes.len() + HEAD;
            bytes.extend_from_slice(&push(rpc, b"cleo", b"hello"));
            bytes[at] |= 7; // a wire type that does not exist
            bytes.extend_from_slice(&push(rpc, b"dora", b"hello"));
            let mut answers = BytesMut::new();
            assert_eq!(taker.take_frames(&bytes, &mut answers), bytes.len());
            assert_eq!(*told.0.lock().expect("nobody panicked"), ["anna", "?", "?", "dora"]);
            assert_eq!(taker.control.counters.answers.load(Ordering::Relaxed), 4, "{rpc:?}");
        }
    }
}
