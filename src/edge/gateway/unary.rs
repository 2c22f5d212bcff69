//! `Push`: one request a call, all of them on one HTTP/2 connection.
//!
//! Promises that each call is answered at most once, and that a lost connection is told once, by `Closed`, after the
//! calls that still had an answer coming. Refuses to tell of a lost connection call by call.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::future;
use glommio::timer::Timer;
use http::Response;
use http_body::Body as _;
use hyper::body::Incoming;
use tonic::body::Body;

use super::body::{Line, OneFrame};
use super::connection::Link;
use super::status;
use crate::model::gateway::Protocol;
use crate::model::limits::{GATEWAY_DRAIN_QUIET, GRPC_MESSAGE_BYTES_MAX};
use crate::push::facts::{CallError, StreamEnd, StreamFact};

const PATH: &str = super::path_of(Protocol::Unary);
/// A gRPC frame's head: whether it is compressed, and its length.
const GRPC_HEAD: usize = 5;

/// The calls of one connection that have no answer yet.
struct Calls {
    line: Rc<Line>,
    open: Cell<usize>,
    /// Set by a call that was sent and found the connection gone.
    lost: RefCell<Option<String>>,
}

enum Turn {
    Begin(u32, Bytes),
    Finished,
    Ended,
}

pub(super) async fn run(line: &Rc<Line>, link: &mut Link) -> StreamEnd {
    let calls = Rc::new(Calls { line: line.clone(), open: Cell::new(0), lost: RefCell::default() });
    line.report(StreamFact::Opened);
    loop {
        match next_turn(&calls, link).await {
            Turn::Begin(call, request) => {
                let response = link.svc.request(PATH, Body::new(OneFrame(Some(request))));
                calls.open.set(calls.open.get() + 1);
                glommio::spawn_local(answer_one(calls.clone(), call, response)).detach();
            }
            Turn::Finished => return StreamEnd::Finished,
            Turn::Ended => break,
        }
    }
    // The server may have said GOAWAY and still answer what it has: those need not be sent again.
    let none_open = poll_fn(|cx| {
        line.waiter.wait(cx);
        if calls.open.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    future::or(none_open, async {
        Timer::new(GATEWAY_DRAIN_QUIET).await;
    })
    .await;
    poll_fn(|cx| {
        let _ = link.look(line, cx);
        Poll::Ready(())
    })
    .await;
    if link.said_goaway() && calls.open.get() == 0 && calls.lost.borrow().is_none() {
        return StreamEnd::Finished;
    }
    let lost = calls.lost.take();
    let ended = link.words(None).await;
    // Which of the calls that were open is the cause, if one is, cannot be seen from here.
    StreamEnd::Unheard(match lost {
        Some(words) if words.contains(&ended) => words,
        Some(words) => format!("{words}; {ended}"),
        None => ended,
    })
}

async fn next_turn(calls: &Calls, link: &mut Link) -> Turn {
    poll_fn(|cx| {
        calls.line.waiter.wait(cx);
        if link.look(&calls.line, cx).is_ready() || calls.lost.borrow().is_some() {
            return Poll::Ready(Turn::Ended);
        }
        if let Some((call, request)) = calls.line.next_call() {
            return Poll::Ready(Turn::Begin(call, request));
        }
        if calls.line.is_finished() && calls.open.get() == 0 {
            return Poll::Ready(Turn::Finished);
        }
        Poll::Pending
    })
    .await
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>>>>;

async fn answer_one(calls: Rc<Calls>, call: u32, response: ResponseFuture) {
    match read_answer(response).await {
        Ok(answer) => calls.line.report(StreamFact::CallAnswered { call, answer: Ok(answer) }),
        Err(Failure::Status(error)) => calls.line.report(StreamFact::CallAnswered { call, answer: Err(error) }),
        Err(Failure::Hyper(error)) => match status::of_reset(&error) {
            Some(error) => calls.line.report(StreamFact::CallAnswered { call, answer: Err(error) }),
            // It came too late: the core makes it again on the next connection.
            None if status::is_goodbye(&error) => {}
            None => {
                calls.lost.borrow_mut().get_or_insert_with(|| status::words(&error));
            }
        },
    }
    calls.open.set(calls.open.get() - 1);
    calls.line.waiter.wake();
}

enum Failure {
    Status(CallError),
    Hyper(hyper::Error),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Hyper(error)
    }
}

/// What came is no answer: the call ended, and not as a failure of the gateway.
fn bad_answer(message: &str) -> Failure {
    Failure::Status(CallError { code: status::OK, message: message.to_owned() })
}

async fn read_answer(response: ResponseFuture) -> Result<Bytes, Failure> {
    let (head, mut body) = response.await?.into_parts();
    if let Some(status) = status::of_head(head.status, &head.headers) {
        return Err(no_message(status));
    }
    let mut answer = BytesMut::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose()? {
            None => return Err(bad_answer("the response ended without a gRPC status")),
            Some(frame) => match frame.into_data() {
                Ok(data) if answer.len() + data.len() > GRPC_HEAD + GRPC_MESSAGE_BYTES_MAX => {
                    return Err(bad_answer("the answer is over the gRPC message size limit"));
                }
                Ok(data) => answer.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.into_trailers().ok().and_then(|trailers| status::of_trailers(&trailers));
                    return match status {
                        Some(CallError { code: status::OK, .. }) => message_of(answer.freeze()),
                        Some(status) => Err(Failure::Status(status)),
                        None => Err(bad_answer("the trailers have no gRPC status")),
                    };
                }
            },
        }
    }
}

fn no_message(status: CallError) -> Failure {
    match status.code {
        status::OK => bad_answer("status OK without a message"),
        _ => Failure::Status(status),
    }
}

fn message_of(mut frame: Bytes) -> Result<Bytes, Failure> {
    if frame.len() < GRPC_HEAD {
        return Err(bad_answer("status OK without a message"));
    }
    let compressed = frame.get_u8() != 0;
    let len = frame.get_u32() as usize;
    if compressed || len != frame.len() {
        return Err(bad_answer("the answer is not one plain gRPC message"));
    }
    Ok(frame)
}
