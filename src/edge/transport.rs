//! A connection of a shard as bytes both ways: plain, or over TLS.
//!
//! Promises that plain costs what the socket costs: no copy, no allocation, no dynamic call; that a read which waits has left
//! nothing unread behind, in TLS either; and that an end in the middle is told from one that was meant (`UnexpectedEof`, and 0).
//! What was written over TLS may wait in it until it is flushed. Refuses to wait without the caller's deadline.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, AsyncWrite, future};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::socket;
use super::tls;
use super::tls::session::Session;
use crate::config::TlsConfig;

/// See the module.
pub enum Transport {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Over TLS, after the handshake.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// The same socket from now on over TLS: makes the handshake.
    ///
    /// # Errors
    /// What is wrong with the peer or the socket; `tls::words` says it.
    pub async fn secured(self, client: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let Self::Plain(tcp) = self else { return Ok(self) };
        let session = Session::new(client, name).map_err(of_tls)?;
        let mut stream = Box::new(TlsStream { tcp, session, moved: 0, is_open: false, is_kept_silent: false });
        poll_fn(|cx| stream.poll_shake(cx)).await?;
        Ok(Self::Tls(stream))
    }

    /// The same, with what a `tls` block of the configuration says, in so much time. `section` is where that block stands.
    ///
    /// # Errors
    /// What is wrong, and what to check, in words.
    pub(super) async fn secured_by(
        self,
        tls: &TlsConfig,
        section: &'static str,
        host: &str,
        alpn: &'static [&'static [u8]],
        limit: Duration,
    ) -> Result<Self, String> {
        let shaken = async {
            let made = tls::on_shard(tls, section, host, alpn).await;
            let (client, name) = made.map_err(|error| error.to_string())?;
            let secured = self.secured(client, name).await;
            secured.map_err(|error| format!("no TLS with it: {}", tls::words(&error, section)))
        };
        let late = async {
            Timer::new(limit).await;
            Err(format!(
                "it does not finish the TLS handshake in time; check that it speaks TLS at this address, its load and the network (or {section})"
            ))
        };
        future::or(shaken, late).await
    }

    /// Whether it is over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// From now on nothing is sent but by a write or a flush: no alert, and no farewell when it is dropped, before which what TLS
    /// holds would go.
    pub fn send_when_flushed_only(&mut self) {
        if let Self::Tls(stream) = self {
            stream.is_kept_silent = true;
        }
    }

    /// The socket, for its options.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.tcp,
        }
    }

    /// Whether bytes that were taken wait to be sent.
    pub fn holds(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => !stream.session.to_send().is_empty(),
        }
    }

    /// Grows with each byte of those that the socket takes.
    pub fn moved(&self) -> u64 {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.moved,
        }
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_send(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_close(cx),
            Self::Tls(stream) => {
                stream.take_leave();
                ready!(stream.poll_send(cx))?;
                Pin::new(&mut stream.tcp).poll_close(cx)
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("is_tls", &self.is_tls()).finish_non_exhaustive()
    }
}

/// How far a transport has come with bytes that somebody has for it.
#[derive(Debug, Default)]
pub(super) struct Sending {
    sent: usize,
    stalled: Option<Instant>,
    /// How far TLS had come by then with what it holds.
    moved: u64,
}

impl Sending {
    /// Sends what the socket takes, and empties `out` once it has all.
    ///
    /// # Errors
    /// What broke the connection.
    pub(super) fn poll(&mut self, stream: &mut Transport, out: &mut Vec<u8>, cx: &mut Context<'_>) -> io::Result<()> {
        while self.sent < out.len() {
            match Pin::new(&mut *stream).poll_write(cx, &out[self.sent..]) {
                Poll::Ready(bytes) => {
                    self.sent += bytes?;
                    if !stream.holds() {
                        self.stalled = None;
                    }
                }
                Poll::Pending => {
                    self.note_stall(stream);
                    return Ok(());
                }
            }
        }
        out.clear();
        self.sent = 0;
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                flushed?;
                self.stalled = None;
            }
            Poll::Pending => self.note_stall(stream),
        }
        Ok(())
    }

    /// Since when the socket takes nothing.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    /// The socket takes nothing: since now, or since the last byte that it took.
    fn note_stall(&mut self, stream: &Transport) {
        let moved = stream.moved();
        if self.stalled.is_none() || moved != self.moved {
            (self.stalled, self.moved) = (Some(Instant::now()), moved);
        }
    }
}

/// TLS over a socket.
pub struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Bytes that the socket took.
    moved: u64,
    /// The handshake is done, and we have not taken our leave.
    is_open: bool,
    /// Nothing is sent but by a write or a flush.
    is_kept_silent: bool,
}

impl TlsStream {
    fn poll_shake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.shake() {
                Ok(is_done) => {
                    ready!(self.poll_send(cx))?;
                    if is_done {
                        self.is_open = true;
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) => return Poll::Ready(Err(self.failed(cx, error))),
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.read(buffer) {
                Ok(0) if !self.session.has_ended() && !buffer.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
                Err(error) => return Poll::Ready(Err(self.failed(cx, error))),
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_pieces(cx, &[IoSlice::new(bytes)])
    }

    /// Takes several pieces, as far as there is room, and sends what stands in one go.
    pub(super) fn poll_write_pieces(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            let mut taken = 0;
            for piece in pieces {
                let bytes = match self.session.write(piece) {
                    Ok(bytes) => bytes,
                    Err(error) => return Poll::Ready(Err(self.failed(cx, error))),
                };
                taken += bytes;
                if bytes < piece.len() {
                    break;
                }
            }
            match (taken, self.poll_send(cx)) {
                (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                (0, sent) => ready!(sent)?,
                // What the socket does not take now waits to be flushed.
                (taken, _) => return Poll::Ready(Ok(taken)),
            }
        }
    }

    /// Of a write that failed: what the peer said of TLS before it was gone, if that can be read at once, or the same error. What it
    /// said besides is lost.
    pub(super) fn last_word(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut room = [0; 256];
        loop {
            match self.poll_read(cx, &mut room) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {}
                Poll::Ready(Err(said)) if tls::of(&said).is_some() => return said,
                _ => return error,
            }
        }
    }

    /// More from the socket. There must be nothing left to read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.session.room().map_err(of_tls)?;
        match ready!(Pin::new(&mut self.tcp).poll_read(cx, room))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            bytes => {
                self.session.came(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.to_send().is_empty() {
            let bytes = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.session.to_send()))?;
            self.session.sent(bytes);
            self.moved += bytes as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer what is wrong, if that can be done at once.
    fn failed(&mut self, cx: &mut Context<'_>, error: rustls::Error) -> io::Error {
        if !self.is_kept_silent {
            let _ = self.poll_send(cx);
        }
        self.is_open = false;
        of_tls(error)
    }

    fn take_leave(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // One that cannot be said is of no use to anybody any more.
            let _ = self.session.end();
        }
    }
}

impl Drop for TlsStream {
    /// Says farewell, where the socket takes it at once.
    fn drop(&mut self) {
        if self.is_kept_silent {
            return;
        }
        self.take_leave();
        let _ = socket::send_pieces(&self.tcp, &[IoSlice::new(self.session.to_send())]);
    }
}

fn of_tls(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[path = "transport_tests.rs"]
pub(super) mod tests;
