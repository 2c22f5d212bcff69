//! One gateway's stream: chunks in, hyper's HTTP/2 over a glommio socket, answers read and thrown away.
//!
//! Promises that what is handed over leaves in order, and that windows are never closed by answers nobody reads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use glommio::Task;
use harness::error::{Error, Result};
use http::{Request, header};
use http_body::{Body, Frame};
use hyper::client::conn::http2::{Builder, SendRequest};
use task_engine::edge::gateway::GatewayOptions;
use task_engine::edge::gateway::io::{Io, SpareBuffer, Wire};
use task_engine::edge::socket;
use task_engine::edge::transport::Transport;

use super::encode::{Encoder, Frames};
use super::preload::Place;
use super::tables::Group;

/// How long a gateway may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a gateway may send ahead of our reading, a stream and a connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// What hyper may hold when HTTP/2 has room but the socket has not.
const SEND_BUFFER: usize = 1 << 20;
/// Room that a chunk is begun with: growing by and by would copy what is written already, and the allocator takes blocks of
/// over 128 KiB from the system each time.
const CHUNK_ROOM: usize = 96 * 1024;
/// Bytes that may wait here before all wait.
const QUEUED_MAX: usize = 4 << 20;

/// One gateway.
pub(super) struct Gateway {
    frames: Frames,
    /// Pushes in `frames`.
    pushes: u64,
    takes_batches: bool,
    line: Rc<Line>,
    answers: Option<Task<()>>,
}

/// What waits for hyper to take it.
#[derive(Default)]
struct Line {
    /// With the pushes in each.
    chunks: RefCell<VecDeque<(Bytes, u64)>>,
    queued: Cell<usize>,
    is_finishing: Cell<bool>,
    is_over: Cell<bool>,
    lost: Cell<u64>,
    body: Cell<Option<Waker>>,
    room: Rc<Room>,
}

/// Where the core waits when a gateway is full.
#[derive(Default)]
pub(super) struct Room(Cell<Option<Waker>>);

impl Room {
    /// Has whoever waits look again.
    pub fn look(&self) {
        wake(&self.0);
    }

    /// Until some gateway takes something.
    pub async fn wait(&self) {
        let mut is_first = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            self.0.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Gateway {
    /// Connects and begins the stream; all gateways share one spare buffer.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn open(place: &Place, spare: SpareBuffer, room: Rc<Room>) -> Result<Self> {
        let Place { id, endpoint, addresses, takes_batches } = place;
        let words = format!("gateway {id} at {endpoint}");
        let tcp = socket::connect(addresses, CONNECT_TIMEOUT).await.map_err(|cause| Error::of(&words, cause))?;
        let wire = Wire::new(Transport::Plain(tcp), spare, &GatewayOptions::default())
            .map_err(|cause| Error::of(&words, cause))?;
        let exec = Exec(Rc::new(wire));
        let mut builder = Builder::new(exec.clone());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        let opened = builder.handshake(Io(exec.0.clone())).await;
        let (mut send, connection) = opened.map_err(|cause| Error::of(&words, cause))?;
        glommio::spawn_local(async move {
            // Its end is the stream's end, which is told there.
            let _ = connection.await;
        })
        .detach();
        let line = Rc::new(Line { room, ..Line::default() });
        let rpc = if *takes_batches { "PushBatch" } else { "PushMessage" };
        let request = Request::post(format!("http://{endpoint}/resonance.gateway.v1.PushService/{rpc}"))
            .header(header::TE, "trailers")
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(Outgoing(line.clone()))
            .map_err(|cause| Error::of(&words, cause))?;
        let ended = line.clone();
        let answers = glommio::spawn_local(async move {
            let why = drain(&mut send, request).await;
            if !ended.is_finishing.get() {
                eprintln!("bare: {words}: the stream has ended: {why}");
            }
            ended.give_up();
        });
        Ok(Self { frames: Frames::default(), pushes: 0, takes_batches: *takes_batches, line, answers: Some(answers) })
    }

    /// Writes an event's frames for a group of which one may be left out; gives how many bytes that were.
    pub fn write(&mut self, encoder: &Encoder, group: &Group, skipped: Option<usize>, recipients: usize) -> usize {
        self.pushes += recipients as u64;
        if self.frames.bytes.is_empty() {
            self.frames.bytes.reserve(CHUNK_ROOM);
        }
        if self.takes_batches {
            self.frames.batch(encoder, group, skipped)
        } else {
            self.frames.stream(encoder, group, skipped)
        }
    }

    /// What was written becomes one chunk.
    pub fn hand_over(&mut self) {
        if self.frames.bytes.is_empty() {
            return;
        }
        self.frames.close();
        let (chunk, pushes) = (self.frames.bytes.split().freeze(), std::mem::take(&mut self.pushes));
        if self.line.is_over.get() {
            self.line.lost.set(self.line.lost.get() + pushes);
            return;
        }
        self.line.queued.set(self.line.queued.get() + chunk.len());
        self.line.chunks.borrow_mut().push_back((chunk, pushes));
        wake(&self.line.body);
    }

    /// Whether too much waits.
    pub fn is_full(&self) -> bool {
        self.line.queued.get() > QUEUED_MAX
    }

    /// Half-closes after what waits.
    pub fn finish(&self) {
        self.line.is_finishing.set(true);
        wake(&self.line.body);
    }

    /// Until the stream has ended.
    pub async fn ended(&mut self) {
        if let Some(answers) = self.answers.take() {
            answers.await;
        }
    }

    /// Pushes that were not taken before the stream ended.
    pub fn lost(&self) -> u64 {
        self.line.lost.get()
    }
}

impl Line {
    fn give_up(&self) {
        self.is_over.set(true);
        let waiting: u64 = self.chunks.take().iter().map(|(_, pushes)| pushes).sum();
        self.lost.set(self.lost.get() + waiting);
        self.queued.set(0);
        self.room.look();
    }
}

/// Sends the request and throws its answers away; gives why they ended.
async fn drain(send: &mut SendRequest<Outgoing>, request: Request<Outgoing>) -> String {
    let mut answers = match send.send_request(request).await {
        Ok(response) => response.into_body(),
        Err(cause) => return cause.to_string(),
    };
    loop {
        match poll_fn(|cx| Pin::new(&mut answers).poll_frame(cx)).await {
            Some(Ok(frame)) if frame.is_data() => {}
            Some(Ok(frame)) => return frame.into_trailers().map_or_else(|_| String::new(), |told| format!("{told:?}")),
            Some(Err(cause)) => return cause.to_string(),
            None => return "without a status".to_owned(),
        }
    }
}

/// The request's body.
struct Outgoing(Rc<Line>);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let line = &*self.0;
        if let Some((chunk, _)) = line.chunks.borrow_mut().pop_front() {
            line.queued.set(line.queued.get() - chunk.len());
            line.room.look();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if line.is_finishing.get() {
            return Poll::Ready(None);
        }
        line.body.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// hyper's tasks on this core; what one of them wrote leaves when its turn ends.
#[derive(Clone)]
struct Exec(Rc<Wire>);

impl<F: Future + 'static> hyper::rt::Executor<F> for Exec {
    fn execute(&self, work: F) {
        let wire = self.0.clone();
        glommio::spawn_local(async move {
            let mut work = pin!(work);
            poll_fn(|cx| {
                loop {
                    if work.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    // hyper sees an error at its next read, which is tried at once.
                    if !matches!(wire.poll_flush(cx), Poll::Ready(Err(_))) {
                        return Poll::Pending;
                    }
                }
            })
            .await;
        })
        .detach();
    }
}
