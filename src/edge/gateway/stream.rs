//! `PushMessage` and `PushBatch`: one request whose body is what the core sends, one response whose bytes go back to it
//! unread.
//!
//! Promises that the answer half is drained whatever the request half does, that only a gRPC status OK after our
//! half-close is a clean end, and that an end before any response (headers without a status, or data) is told as such: grpc-go
//! sends its headers with the first answer, so the requests are on their way before it is known who answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use tonic::body::Body;

use super::body::{Line, Outgoing};
use super::connection::Link;
use super::status;
use crate::edge::pace;
use crate::push::facts::{CallError, StreamEnd, StreamFact};

/// Answer bytes joined into one fact. grpc-go sends a DATA frame of some 20 bytes for each answer.
const ANSWERS_BYTES: usize = 64 * 1024;

pub(super) async fn run(line: &Rc<Line>, link: &mut Link, path: &'static str) -> StreamEnd {
    let response = link.svc.request(path, Body::new(Outgoing::new(line.clone())));
    line.report(StreamFact::Opened);
    let response = match link.driving(line, response).await {
        Ok(response) => response,
        Err(error) => return end_before_headers(line, link, &error).await,
    };
    let (head, mut body) = response.into_parts();
    if let Some(status) = status::of_head(head.status, &head.headers) {
        return status::end_unheard(status, line.is_finished());
    }
    loop {
        let mut gathered = Gathered::default();
        let end = poll_fn(|cx| {
            let _ = link.look(line, cx);
            gathered.poll(&mut body, cx)
        })
        .await;
        if let Some(answers) = gathered.answers.take() {
            line.report(StreamFact::Answers(answers.freeze()));
        }
        match end {
            None => pace::yield_now().await,
            Some(Ok(status)) => return status::end_of_stream(status, line.is_finished()),
            Some(Err(error)) => return StreamEnd::Broken(link.words(error.as_ref()).await),
        }
    }
}

/// The stream or its connection failed before there was a response.
async fn end_before_headers(line: &Line, link: &mut Link, error: &hyper::Error) -> StreamEnd {
    if let Some(status) = status::of_reset(error) {
        return status::end_unheard(status, line.is_finished());
    }
    let words = link.words(Some(error)).await;
    link.tell(line);
    // A server that says goodbye has not begun what it gives no answer to.
    if status::is_goodbye(error) { StreamEnd::NotOpened(words) } else { StreamEnd::Unheard(words) }
}

/// What one poll found of the answers.
#[derive(Default)]
struct Gathered {
    answers: Option<Answers>,
}

/// One DATA frame as it came, or several copied together.
enum Answers {
    One(Bytes),
    Many(BytesMut),
}

impl Answers {
    fn freeze(self) -> Bytes {
        match self {
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}

/// `None`: answers were gathered. Otherwise the response is over: with a status, or without one for a reason hyper may
/// know.
type End = Option<Result<CallError, Option<hyper::Error>>>;

impl Gathered {
    fn poll(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<End> {
        let mut len = 0;
        while len < ANSWERS_BYTES {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending if self.answers.is_none() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(Some(Ok(without_status()))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Some(error)))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        // Empty frames count too, so that a flood of them ends a turn.
                        len += data.len().max(1);
                        self.add(data);
                    }
                    Err(frame) => {
                        let status = frame.into_trailers().ok().and_then(|trailers| status::of_trailers(&trailers));
                        return Poll::Ready(Some(Ok(status.unwrap_or_else(without_status))));
                    }
                },
            }
        }
        Poll::Ready(None)
    }

    fn add(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.answers = Some(match self.answers.take() {
            None => Answers::One(data),
            Some(Answers::One(first)) => {
                let mut many = BytesMut::with_capacity(4 * 1024);
                many.extend_from_slice(&first);
                many.extend_from_slice(&data);
                Answers::Many(many)
            }
            Some(Answers::Many(mut many)) => {
                many.extend_from_slice(&data);
                Answers::Many(many)
            }
        });
    }
}

fn without_status() -> CallError {
    CallError { code: status::INTERNAL, message: "the response ended without a gRPC status".to_owned() }
}
