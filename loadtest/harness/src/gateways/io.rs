//! A gateway's socket: stands still while the gateway is stuck, closes with a reset when it was killed, and counts the
//! HTTP/2 pings of the client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::control::{Control, Order};

/// The bytes of the HTTP/2 connection preface ("PRI * HTTP/2.0..."), before the first frame.
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const FRAME_PING: u8 = 6;

/// What a connection's bytes go over.
pub(crate) enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(socket) => socket.get_ref().0,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }
}

/// One accepted connection.
pub(crate) struct GateIo {
    socket: Socket,
    control: Arc<Control>,
    order: watch::Receiver<Order>,
    frames: FrameHeads,
}

impl GateIo {
    pub fn new(socket: Socket, control: Arc<Control>, order: watch::Receiver<Order>) -> Self {
        control.counters.open.fetch_add(1, Ordering::SeqCst);
        Self { socket, control, order, frames: FrameHeads { skip: PREFACE, head: [0; FRAME_HEAD], have: 0 } }
    }
}

// While stuck nothing registers a waker: the connection's task watches the behaviour and polls again when it changes.
impl AsyncRead for GateIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.control.is_stuck() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let pings = self.frames.pings_in(&buffer.filled()[before..]);
        if pings > 0 {
            self.control.counters.pings.fetch_add(pings, Ordering::SeqCst);
        }
        polled
    }
}

impl AsyncWrite for GateIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.control.is_stuck() { Poll::Pending } else { Pin::new(&mut self.socket).poll_write(cx, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.control.is_stuck() { Poll::Pending } else { Pin::new(&mut self.socket).poll_write_vectored(cx, bytes) }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl Drop for GateIo {
    fn drop(&mut self) {
        self.control.counters.open.fetch_sub(1, Ordering::SeqCst);
        if *self.order.borrow() == Order::Die {
            // A failure would only make the end milder: a FIN in place of a reset.
            let _ = self.socket.tcp().set_zero_linger();
        }
    }
}

/// Follows the frame heads of the client's half of an HTTP/2 connection.
struct FrameHeads {
    /// Bytes before the next head.
    skip: usize,
    head: [u8; FRAME_HEAD],
    have: usize,
}

impl FrameHeads {
    /// How many pings (not their acks) begin in these bytes.
    fn pings_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut pings = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return pings;
            }
            let taken = (FRAME_HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == FRAME_HEAD {
                self.have = 0;
                self.skip = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                pings += u64::from(self.head[3] == FRAME_PING && self.head[4] & 1 == 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_counted_wherever_the_reads_cut() {
        let mut wire = vec![b'x'; PREFACE];
        wire.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // empty SETTINGS
        wire.extend([0, 0, 8, FRAME_PING, 0, 0, 0, 0, 0]);
        wire.extend([6; 8]);
        wire.extend([0, 0, 8, FRAME_PING, 1, 0, 0, 0, 0]); // an ack
        wire.extend([6; 8]);
        wire.extend([0, 0, 8, FRAME_PING, 0, 0, 0, 0, 0]);
        wire.extend([6; 8]);
        for step in 1..wire.len() {
            let mut frames = FrameHeads { skip: PREFACE, head: [0; FRAME_HEAD], have: 0 };
            let pings: u64 = wire.chunks(step).map(|part| frames.pings_in(part)).sum();
            assert_eq!(pings, 2, "reads of {step} bytes");
        }
    }
}
