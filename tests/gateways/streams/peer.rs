//! An HTTP/2 server on a free port that does to its clients whatever a test says, and counts what reaches it. Like grpc-go it sends
//! its response headers with its first answer.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;
use task_engine::model::proto::gateway::{
    PushBatchRequest, PushBatchResponse, PushMessageRequest, PushMessageResponse, PushRequest, PushResponse,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What is done with connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers each request as it must.
    Good,
    /// A gRPC status in the headers, before anything was read.
    Status(i32),
    /// The same, after a first request was read.
    ReadsThenStatus(i32),
    /// An HTTP status without gRPC.
    Http(u16),
    /// The same, after a while.
    HangsThenHttp(u64, u16),
    /// A web page.
    WebPage,
    /// Resets the stream.
    Reset(u32),
    /// Accepts and closes.
    Closes,
    /// Closes each connection with the first request on it.
    ClosesAtRequest,
    /// Says GOAWAY to each new connection.
    GoesAway,
    /// Speaks HTTP/1.
    Http1,
    /// Cannot handle this msg_id: the status in the headers when nothing was answered, else in trailers.
    FailsAt(i64, i32),
    /// The connection dies at this msg_id.
    DiesAt(i64),
    /// Reads, and answers what does not fit.
    Strange(Strange),
    /// As a gateway of Resonance of that time, to which [`ABSENT`] is not connected.
    Of(Generation),
}

/// What Resonance's gateways spoke, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `PushMessage`, one user a request; the answer has a sequence number and a text.
    Seed,
    /// `PushMessage`, several users a request; the answer names those that failed.
    V010,
    /// `Push`, several users a call, and nothing else.
    Today,
}

/// Who is connected to no gateway of a generation.
pub const ABSENT: &str = "bert";

/// Answers that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// batch_id or msg_id 0.
    Zero,
    /// A counter of its own.
    Counter,
    /// The right one twice.
    Twice,
    /// One before anything was sent.
    First,
    /// The right one, and then each time a wrong one.
    RightThenWrong,
    /// The right batch_id (or msg_id) with a failure of someone unknown.
    UnknownUser,
    /// No protobuf.
    Garbage,
    /// The compressed flag is set.
    Compressed,
    /// A frame that never ends.
    Endless,
    /// Many frames without a byte in them, and no answer.
    Empty,
    /// Headers, and then a status without an answer.
    HeadersThen(i32),
    /// Status OK without an answer, each time a request is read.
    EndsWell,
    /// One right answer, then status OK.
    AnswersOnceAndEnds,
    /// One right answer, then GOAWAY.
    AnswersOnceAndGoes,
}

/// What reached it.
#[derive(Debug, Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub copies: Mutex<HashMap<(i64, String), usize>>,
    counter: AtomicUsize,
}

impl Seen {
    fn note(&self, msg_id: i64, user: &str) {
        *self.copies.lock().expect("no panic").entry((msg_id, user.to_owned())).or_default() += 1;
    }

    /// Pushes that were taken, each once, for this user.
    pub fn taken(&self, user: &str) -> usize {
        self.copies.lock().expect("no panic").keys().filter(|(_, of)| of == user).count()
    }

    /// The most copies of one push to one user.
    pub fn most_copies(&self) -> usize {
        self.copies.lock().expect("no panic").values().copied().max().unwrap_or(0)
    }
}

pub struct Peer {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    manner: Arc<Mutex<Manner>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Peer {
    pub fn start(manner: Manner) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, manner) = (Arc::new(Seen::default()), Arc::new(Mutex::new(manner)));
        let (of_seen, of_manner) = (seen.clone(), manner.clone());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                of_seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(socket, of_seen.clone(), of_manner.clone()));
            }
        });
        Self { address, seen, manner, runtime: Some(runtime) }
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.runtime.take().expect("dropped once").shutdown_background();
    }
}

async fn serve(socket: TcpStream, seen: Arc<Seen>, manner: Arc<Mutex<Manner>>) {
    let now = || *manner.lock().expect("no panic");
    match now() {
        Manner::Closes => return,
        Manner::Http1 => {
            let mut socket = socket.into_std().expect("a socket");
            // The client may have gone.
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        _ => {}
    }
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    if now() == Manner::GoesAway {
        connection.abrupt_shutdown(h2::Reason::NO_ERROR);
    }
    let dies = Arc::new(Notify::new());
    let goes = Arc::new(Notify::new());
    loop {
        tokio::select! {
            () = dies.notified() => return,
            () = goes.notified() => connection.graceful_shutdown(),
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    if now() == Manner::ClosesAtRequest {
                        return;
                    }
                    let call = Call { seen: seen.clone(), manner: now(), dies: dies.clone(), goes: goes.clone() };
                    tokio::spawn(async move { call.answer(request, respond).await });
                }
                _ => return,
            },
        }
    }
}

/// One request.
struct Call {
    seen: Arc<Seen>,
    manner: Manner,
    dies: Arc<Notify>,
    goes: Arc<Notify>,
}

fn head(status: Option<i32>) -> Response<()> {
    let mut head = Response::builder().status(200).header("content-type", "application/grpc");
    if let Some(code) = status {
        head = head.header("grpc-status", code).header("grpc-message", "says%20the%20test");
    }
    head.body(()).expect("a head")
}

/// The answer half: headers go with the first answer.
struct Answers {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Answers {
    /// False when the client is gone.
    fn send(&mut self, bytes: Bytes) -> bool {
        if self.stream.is_none() {
            self.stream = self.respond.send_response(head(None), false).ok();
        }
        self.stream.as_mut().is_some_and(|stream| stream.send_data(bytes, false).is_ok())
    }

    fn end(mut self, code: i32) {
        // The client may be gone.
        let _ = match self.stream.take() {
            None => self.respond.send_response(head(Some(code)), true).map(drop),
            Some(mut stream) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.into());
                stream.send_trailers(trailers)
            }
        };
    }
}

fn frame(message: &impl Message) -> Bytes {
    raw(0, &message.encode_to_vec())
}

fn raw(flag: u8, bytes: &[u8]) -> Bytes {
    let mut frame = vec![flag];
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    Bytes::from(frame)
}

impl Call {
    async fn answer(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let path = request.uri().path().to_owned();
        let body = request.into_body();
        // Where the client is gone already there is nothing to tell it.
        match self.manner {
            Manner::Status(code) => drop(respond.send_response(head(Some(code)), true)),
            Manner::Http(status) => drop(respond.send_response(page(status), true)),
            Manner::HangsThenHttp(millis, status) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                drop(respond.send_response(page(status), true));
            }
            Manner::WebPage => drop(respond.send_response(page(200), true)),
            Manner::Reset(reason) => respond.send_reset(h2::Reason::from(reason)),
            Manner::Of(generation) if path.ends_with("/Push") != (generation == Generation::Today) => {
                drop(respond.send_response(head(Some(12)), true));
            }
            _ => self.converse(&path, body, Answers { respond, stream: None }).await,
        }
    }

    async fn converse(self, path: &str, mut body: RecvStream, mut answers: Answers) {
        let mut read = BytesMut::new();
        if self.manner == Manner::Strange(Strange::First) && !answers.send(self.stranger(path)) {
            return;
        }
        loop {
            while let Some(request) = take_frame(&mut read) {
                match self.take(path, request, &mut answers) {
                    None => {}
                    Some(code) => return answers.end(code),
                }
            }
            match body.data().await {
                Some(Ok(data)) => {
                    // The stream may be over.
                    let _ = body.flow_control().release_capacity(data.len());
                    read.extend_from_slice(&data);
                }
                Some(Err(_)) => return,
                None => return answers.end(0),
            }
        }
    }

    fn stranger(&self, path: &str) -> Bytes {
        match path.ends_with("PushBatch") {
            true => frame(&PushBatchResponse { batch_id: 1 << 40, ..Default::default() }),
            false => frame(&PushMessageResponse { msg_id: 1 << 40, ..Default::default() }),
        }
    }

    /// A request is read; a status when the response is to end.
    fn take(&self, path: &str, request: Bytes, answers: &mut Answers) -> Option<i32> {
        if let Manner::Of(generation) = self.manner {
            let is_there = answers.send(self.answer_of(generation, request));
            return (!is_there || generation == Generation::Today).then_some(0);
        }
        let mut ids = Vec::new();
        let mut note = |push: &PushRequest| {
            let msg_id = push.message.as_ref().expect("a message").msg_id;
            push.to_usernames.iter().for_each(|user| self.seen.note(msg_id, user));
            ids.push(msg_id);
            msg_id
        };
        let right = match path {
            path if path.ends_with("PushBatch") => {
                let batch = PushBatchRequest::decode(request).expect("a batch");
                batch.pushes.iter().for_each(|push| {
                    note(push);
                });
                self.batch_answer(batch.batch_id, ids[0])
            }
            path if path.ends_with("PushMessage") => {
                let single = PushMessageRequest::decode(request).expect("a request");
                let msg_id = note(&PushRequest { to_usernames: vec![single.to_username], message: single.message });
                self.stream_answer(msg_id)
            }
            _ => {
                let msg_id = note(&PushRequest::decode(request).expect("a push"));
                self.unary_answer(msg_id)
            }
        };
        match self.manner {
            Manner::ReadsThenStatus(code) => return Some(code),
            Manner::FailsAt(msg_id, code) if ids.contains(&msg_id) => return Some(code),
            Manner::DiesAt(msg_id) if ids.contains(&msg_id) => {
                self.dies.notify_one();
                return None;
            }
            Manner::Strange(strange) => return self.be_strange(strange, path, right, answers),
            _ => {}
        }
        let is_unary = path.ends_with("/Push");
        (!answers.send(right) || is_unary).then_some(0)
    }

    /// As that gateway reads a request, and answers it.
    fn answer_of(&self, generation: Generation, request: Bytes) -> Bytes {
        if generation == Generation::Seed {
            let PushMessageRequest { to_username, message } = PushMessageRequest::decode(request).expect("a request");
            let message = message.expect("a message");
            let error = if to_username == ABSENT { "user not connected".to_owned() } else { String::new() };
            if error.is_empty() {
                self.seen.note(message.msg_id, &to_username);
            }
            return frame(&PushMessageResponse { msg_id: message.msg_id, seq_id: message.seq_id, error });
        }
        let PushRequest { to_usernames, message } = PushRequest::decode(request).expect("a request");
        let msg_id = message.expect("a message").msg_id;
        let (failed_usernames, told): (Vec<_>, Vec<_>) = to_usernames.into_iter().partition(|user| user == ABSENT);
        told.iter().for_each(|user| self.seen.note(msg_id, user));
        // The same fields in both: msg_id = 1, error = 2, failed_usernames = 3.
        frame(&PushResponse { msg_id, error: String::new(), failed_usernames })
    }

    fn be_strange(&self, strange: Strange, path: &str, right: Bytes, answers: &mut Answers) -> Option<i32> {
        let is_unary = path.ends_with("/Push");
        let is_there = match strange {
            Strange::HeadersThen(code) => {
                answers.send(Bytes::new());
                return Some(code);
            }
            Strange::EndsWell => return Some(0),
            Strange::AnswersOnceAndEnds => {
                answers.send(right);
                return Some(0);
            }
            Strange::AnswersOnceAndGoes => {
                self.goes.notify_one();
                answers.send(right)
            }
            Strange::Twice => answers.send(right.clone()) && answers.send(right),
            Strange::RightThenWrong => {
                let is_right = self.seen.counter.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
                answers.send(if is_right { right } else { self.stranger(path) })
            }
            Strange::Empty => (0..20_000).all(|_| answers.send(Bytes::new())),
            Strange::Garbage => answers.send(raw(0, &[0xff; 11])),
            Strange::Compressed => answers.send(raw(1, &right[5..])),
            Strange::Endless => answers.send(Bytes::from(vec![0, 0, 63, 255, 255, 1, 2, 3])),
            Strange::Zero | Strange::Counter | Strange::UnknownUser | Strange::First => answers.send(right),
        };
        (!is_there || is_unary).then_some(0)
    }

    fn wrong_id(&self) -> Option<u64> {
        match self.manner {
            Manner::Strange(Strange::Zero) => Some(0),
            Manner::Strange(Strange::Counter) => Some(500 + self.seen.counter.fetch_add(1, Ordering::SeqCst) as u64),
            _ => None,
        }
    }

    fn names_a_stranger(&self) -> bool {
        self.manner == Manner::Strange(Strange::UnknownUser)
    }

    fn batch_answer(&self, batch_id: u64, msg_id: i64) -> Bytes {
        let failed = PushResponse { msg_id, error: String::new(), failed_usernames: vec!["nobody".into()] };
        let failures = if self.names_a_stranger() { vec![failed] } else { Vec::new() };
        frame(&PushBatchResponse { batch_id: self.wrong_id().unwrap_or(batch_id), failures })
    }

    fn stream_answer(&self, msg_id: i64) -> Bytes {
        // On this protocol an answer names no user.
        let wrong = self.wrong_id().or(self.names_a_stranger().then_some(3)).map(|id| id as i64);
        frame(&PushMessageResponse { msg_id: wrong.unwrap_or(msg_id), ..Default::default() })
    }

    fn unary_answer(&self, msg_id: i64) -> Bytes {
        let failed_usernames = if self.names_a_stranger() { vec!["nobody".into()] } else { Vec::new() };
        let msg_id = self.wrong_id().map_or(msg_id, |id| id as i64);
        frame(&PushResponse { msg_id, error: String::new(), failed_usernames })
    }
}

fn page(status: u16) -> Response<()> {
    Response::builder().status(status).header("content-type", "text/html").body(()).expect("a head")
}

fn take_frame(read: &mut BytesMut) -> Option<Bytes> {
    let len = u32::from_be_bytes(read.get(1..5)?.try_into().expect("four bytes")) as usize;
    if read.len() < 5 + len {
        return None;
    }
    read.advance(5);
    Some(read.split_to(len).freeze())
}
