//! Responses that a gateway can cut.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

/// A response body that fails when the gateway cuts its streams: hyper then resets the stream.
pub(super) struct Cuttable<B> {
    body: B,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The cut's number when the stream began. Watchers are woken one after the other: the task that answers may end
    /// before `cut` is woken, and its end must not look like the stream's own.
    number: watch::Receiver<u64>,
}

impl<B> Cuttable<B> {
    pub(super) fn new(body: B, mut cut: watch::Receiver<u64>) -> Self {
        let number = cut.clone();
        let cut = async move {
            // An error means that the gateway is gone, and its streams with it.
            let _ = cut.changed().await;
        };
        Self { body, cut: Some(Box::pin(cut)), number }
    }
}

impl<B> Body for Cuttable<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let Some(cut) = &mut self.cut else { return Poll::Ready(None) };
        if cut.as_mut().poll(cx).is_ready() || self.number.has_changed().unwrap_or(true) {
            self.cut = None;
            return Poll::Ready(Some(Err("cut".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
