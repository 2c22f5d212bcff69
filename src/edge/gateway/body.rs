//! What one stream has to send, and the HTTP bodies that hand it to hyper without a copy.
//!
//! Promises that a chunk leaves whole and in order, and that `Taken` is reported for it when hyper takes it, which
//! hyper does only while HTTP/2 has room: a server that does not read stops `Taken`, not the sender.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;

use super::Waiter;
use super::io::Wire;
use crate::model::ids::{GatewayIx, StreamNo};
use crate::ports::mailbox::LocalFacts;
use crate::push::facts::{StreamEnd, StreamFact};

/// Small chunks that wait together are joined up to this: one HTTP/2 DATA frame for all costs less than the copy.
const JOIN_BYTES: usize = 16 * 1024;

/// One stream's queues and flags, shared by [`Gateways`](super::Gateways), its driver task and hyper's body.
pub(super) struct Line {
    pub gateway: GatewayIx,
    pub stream: StreamNo,
    pub facts: LocalFacts,
    /// Nothing is reported any more: closed or cut.
    pub over: Cell<bool>,
    /// Weak, so that a line that outlives its connection keeps no socket open.
    pub wire: RefCell<Weak<Wire>>,
    /// The body (streams) or the driver (unary).
    pub waiter: Waiter,
    chunks: RefCell<VecDeque<Bytes>>,
    calls: RefCell<VecDeque<(u32, Bytes)>>,
    finishing: Cell<bool>,
}

impl Line {
    pub fn new(gateway: GatewayIx, stream: StreamNo, facts: LocalFacts) -> Self {
        Self {
            gateway,
            stream,
            facts,
            over: Cell::new(false),
            wire: RefCell::default(),
            waiter: Waiter::default(),
            chunks: RefCell::default(),
            calls: RefCell::default(),
            finishing: Cell::new(false),
        }
    }

    pub fn send(&self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.borrow_mut().push_back(chunk);
            self.waiter.wake();
        }
    }

    pub fn call(&self, call: u32, request: Bytes) {
        self.calls.borrow_mut().push_back((call, request));
        self.waiter.wake();
    }

    pub fn next_call(&self) -> Option<(u32, Bytes)> {
        self.calls.borrow_mut().pop_front()
    }

    pub fn finish(&self) {
        self.finishing.set(true);
        self.waiter.wake();
    }

    /// Finish was asked for and all that was queued has left.
    pub fn is_finished(&self) -> bool {
        self.finishing.get() && self.chunks.borrow().is_empty() && self.calls.borrow().is_empty()
    }

    pub fn close(&self, end: StreamEnd) {
        self.report(StreamFact::Closed(end));
        self.over.set(true);
    }

    pub fn cut(&self) {
        self.over.set(true);
        if let Some(wire) = self.wire.borrow().upgrade() {
            wire.reset_when_dropped();
        }
    }

    fn take(&self) -> Option<Bytes> {
        let mut chunks = self.chunks.borrow_mut();
        let first = chunks.pop_front()?;
        if chunks.front().is_none_or(|next| first.len() + next.len() > JOIN_BYTES) {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(JOIN_BYTES);
        joined.extend_from_slice(&first);
        while let Some(next) = chunks.front().filter(|next| joined.len() + next.len() <= JOIN_BYTES) {
            joined.extend_from_slice(next);
            chunks.pop_front();
        }
        Some(joined.freeze())
    }
}

/// The request body of a stream: whatever its [`Line`] has queued, until it is finished.
pub(super) struct Outgoing(SendWrapper<Rc<Line>>);

impl Outgoing {
    pub fn new(line: Rc<Line>) -> Self {
        Self(SendWrapper::new(line))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = &*self.0;
        if let Some(chunk) = line.take() {
            line.report(StreamFact::Taken(chunk.len()));
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if line.is_finished() {
            return Poll::Ready(None);
        }
        line.waiter.wait(cx);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_finished()
    }
}

/// The request body of a unary call: one gRPC frame.
pub(super) struct OneFrame(pub Option<Bytes>);

impl Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_with(sizes: &[usize]) -> Line {
        let line = Line::new(GatewayIx(0), StreamNo(0), LocalFacts::default());
        sizes.iter().enumerate().for_each(|(i, size)| line.send(Bytes::from(vec![i as u8; *size])));
        line
    }

    #[test]
    fn small_chunks_leave_joined_and_large_ones_as_they_are() {
        let line = line_with(&[10, 20, 16 * 1024 - 30, 1, 100_000, 5]);
        let taken: Vec<_> = std::iter::from_fn(|| line.take()).collect();
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [16 * 1024, 1, 100_000, 5]);
        assert_eq!((taken[0][9], taken[0][10], taken[0][30]), (0, 1, 2), "the order is kept");
    }

    #[test]
    fn a_line_is_finished_only_when_its_queue_is_empty() {
        let line = line_with(&[1]);
        line.finish();
        assert!(!line.is_finished());
        assert!(line.take().is_some() && line.is_finished());
    }
}
