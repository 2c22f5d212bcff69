//! What goes to a gateway: the same wire as the generated messages, with names and message as shared bytes.
//!
//! A request stream takes bundles from the gateway's queue when the connection has room for more, and leaves each in
//! `unanswered` before its first byte is written.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;

use super::delivery::{Bundle, lock};

/// A batch is not filled further with this many recipients, or this many bundles.
const BATCH_MAX: (usize, usize) = (2048, 512);

/// `PushMessageRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawPush {
    #[prost(bytes = "bytes", tag = "1")]
    to_username: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    message: Bytes,
}

/// `PushRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawPushMany {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    to_usernames: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    message: Bytes,
}

impl RawPushMany {
    /// All of a bundle.
    pub fn of(bundle: &Bundle) -> Self {
        let to_usernames = bundle.users.iter().map(|user| user.name.clone()).collect();
        Self { to_usernames, message: bundle.message.bytes.clone() }
    }
}

/// `PushBatchRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawBatch {
    #[prost(uint64, tag = "1")]
    batch_id: u64,
    #[prost(message, repeated, tag = "2")]
    pushes: Vec<RawPushMany>,
}

/// What a gateway's task and its request stream share.
pub(super) struct Feed {
    /// What was not taken yet.
    pub queue: mpsc::UnboundedReceiver<Arc<Bundle>>,
    /// What was taken, in order, until it has ended.
    pub unanswered: VecDeque<Arc<Bundle>>,
    /// The unanswered batches: number and bundles.
    pub batches: VecDeque<(u64, usize)>,
}

impl Feed {
    /// The next bundle, which is unanswered from now on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Bundle>>> {
        let bundle = ready!(self.queue.poll_recv(cx));
        self.unanswered.extend(bundle.clone());
        Poll::Ready(bundle)
    }
}

/// Where a request stream takes its bundles from.
pub(super) struct Source {
    feed: Arc<Mutex<Feed>>,
    /// What an earlier stream left unanswered, and from which recipient on.
    again: VecDeque<(Arc<Bundle>, usize)>,
    is_live: Arc<AtomicBool>,
}

impl Source {
    /// Begins with what is unanswered, of the first from this recipient on; ends when `is_live` is false.
    pub fn new(feed: &Arc<Mutex<Feed>>, answered: usize, is_live: Arc<AtomicBool>) -> Self {
        let mut held = lock(feed);
        held.batches.clear();
        let mut again: VecDeque<_> = held.unanswered.iter().map(|bundle| (bundle.clone(), 0)).collect();
        if let Some(first) = again.front_mut() {
            first.1 = answered;
        }
        Self { feed: feed.clone(), again, is_live }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Arc<Bundle>, usize)>> {
        if !self.is_live.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        if let Some(next) = self.again.pop_front() {
            return Poll::Ready(Some(next));
        }
        lock(&self.feed).poll(cx).map(|bundle| bundle.map(|bundle| (bundle, 0)))
    }
}

/// The requests of `PushMessage`.
pub(super) struct Pushes {
    source: Source,
    current: Option<(Arc<Bundle>, usize)>,
}

impl Pushes {
    /// From this source.
    pub fn new(source: Source) -> Self {
        Self { source, current: None }
    }
}

impl Stream for Pushes {
    type Item = RawPush;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RawPush>> {
        let this = &mut *self;
        loop {
            if let Some((bundle, next)) = &mut this.current
                && let Some(user) = bundle.users.get(*next)
                && this.source.is_live.load(Ordering::Relaxed)
            {
                *next += 1;
                let message = bundle.message.bytes.clone();
                return Poll::Ready(Some(RawPush { to_username: user.name.clone(), message }));
            }
            this.current = None;
            match ready!(this.source.poll(cx)) {
                Some(next) => this.current = Some(next),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// The requests of `PushBatch`: what is there goes together.
pub(super) struct Batches {
    source: Source,
    last_id: u64,
}

impl Batches {
    /// From this source.
    pub fn new(source: Source) -> Self {
        Self { source, last_id: 0 }
    }
}

impl Stream for Batches {
    type Item = RawBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RawBatch>> {
        let (mut pushes, mut recipients) = (Vec::new(), 0);
        while recipients < BATCH_MAX.0 && pushes.len() < BATCH_MAX.1 {
            match self.source.poll(cx) {
                Poll::Ready(Some((bundle, _))) => {
                    recipients += bundle.users.len();
                    pushes.push(RawPushMany::of(&bundle));
                }
                Poll::Pending if pushes.is_empty() => return Poll::Pending,
                Poll::Ready(None) if pushes.is_empty() => return Poll::Ready(None),
                Poll::Pending | Poll::Ready(None) => break,
            }
        }
        self.last_id += 1;
        lock(&self.source.feed).batches.push_back((self.last_id, pushes.len()));
        Poll::Ready(Some(RawBatch { batch_id: self.last_id, pushes }))
    }
}
