//! A client's bytes: plain, or over TLS. The handshake is a part of the first read or write, so that whoever has a deadline for a request
//! has one for it, and no client's handshake keeps others from being accepted.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admin::TlsSource;

type Handshake = Pin<Box<dyn Future<Output = io::Result<TlsStream<TcpStream>>> + Send>>;

/// See the module.
pub(super) enum Stream {
    Plain(TcpStream),
    Shaking(Handshake),
    Tls(Box<TlsStream<TcpStream>>),
    /// There was no handshake.
    Over,
}

impl Stream {
    /// Over TLS where there is something for it.
    pub(super) fn of(tcp: TcpStream, tls: Option<&TlsSource>) -> Self {
        let Some(tls) = tls.cloned() else { return Self::Plain(tcp) };
        Self::Shaking(Box::pin(async move {
            // The files may lie on a file system that hangs.
            let made = tokio::task::spawn_blocking(move || tls()).await.map_err(io::Error::other)?;
            let config = made.map_err(io::Error::other)?;
            TlsAcceptor::from(Arc::clone(&config)).accept(tcp).await
        }))
    }

    fn poll_shaken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Shaking(handshake) = self else { return Poll::Ready(Ok(())) };
        // Its future is not to be asked again.
        let shaken = ready!(handshake.as_mut().poll(cx));
        *self = Self::Over;
        *self = Self::Tls(Box::new(shaken?));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_shaken(cx))?;
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, to),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, to),
            Self::Shaking(_) | Self::Over => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_shaken(cx))?;
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, from),
            Self::Shaking(_) | Self::Over => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Shaking(_) | Self::Over => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Shaking(_) | Self::Over => Poll::Ready(Ok(())),
        }
    }
}
