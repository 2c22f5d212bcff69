//! hyper's view of one glommio socket: few system calls a burst, and every error told.
//!
//! h2 writes and flushes each 16 KiB DATA frame by itself. So writes are held back until hyper's connection task has
//! done its turn ([`Wire::poll_flush`], called by the executor wrapper in connection.rs) or [`HOLD_BYTES`] are reached;
//! then one `sendmsg` takes what is held and what comes on top. The price is one copy of bytes that are in the cache.
//! Counted with strace, 200 chunks of 105 KB to a grpc-go server: 400 `sendmsg` (1450 with a frame each); reads stay
//! h2's own (one `recv` fills its buffer, some 300 answers), since answers are few bytes.
//! Over TLS what is held is encrypted as a whole and sent; what the socket does not take then waits in TLS, for the turn's end.
//! Promises that nothing is written while the permit does not hold. Refuses to turn a read or write error into an end of file.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use hyper::rt::ReadBufCursor;
use socket2::{SockRef, TcpKeepalive};

use super::{GatewayOptions, TLS_SECTION, Waiter};
use crate::edge::socket;
use crate::edge::tls;
use crate::edge::transport::Transport;
use crate::ports::permit::Permit;

/// Bytes that a turn reads: h2 goes on for as long as there is something to read, and a flood of frames that it takes (SETTINGS, PING,
/// unknown ones) would keep the shard from everybody else.
const READ_BYTES_A_TURN: usize = 64 * 1024;
/// Bytes held back before they are written in the middle of a turn.
const HOLD_BYTES: usize = 64 * 1024;
/// Pieces of one `sendmsg`: what is held and what h2 hands over (a frame head and its payload).
const PIECES: usize = 8;
/// An HTTP/2 frame's head; its fourth byte is the frame's type.
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// A quiet peer that vanished is noticed after some 60 s, one that takes no bytes after `user_timeout`. (Unanswered pushes are
/// noticed by the core.)
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

/// One buffer that all connections of a shard hold back in, since each needs it only within its turn. A connection
/// whose socket is full keeps it until it is written.
#[derive(Clone, Default)]
pub struct SpareBuffer(Rc<Cell<Vec<u8>>>);

/// A socket, and what hyper wrote that is not in it yet.
pub struct Wire {
    transport: RefCell<Transport>,
    held: RefCell<Held>,
    spare: SpareBuffer,
    permit: Arc<Permit>,
    /// A write error found outside of hyper's own writes; given to hyper at its next read or write.
    failed: Cell<Option<Error>>,
    /// What was wrong with TLS.
    said: RefCell<Option<String>>,
    head: Cell<([u8; FRAME_HEAD], usize)>,
    /// Bytes that this turn may still read.
    read_left: Cell<usize>,
    greeted: Waiter,
    /// Woken by each read: what was read may be a GOAWAY, which wakes nobody who only waits for answers.
    pub(super) heard: Waiter,
}

#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    written: usize,
}

impl Held {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }
}

impl Wire {
    /// A socket with the options that gateway connections have.
    ///
    /// # Errors
    /// What the kernel says of them.
    pub fn new(mut transport: Transport, spare: SpareBuffer, options: &GatewayOptions) -> Result<Self> {
        transport.send_when_flushed_only();
        let fd = socket::borrow(transport.tcp());
        let socket = SockRef::from(&fd);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        Ok(Self {
            transport: RefCell::new(transport),
            held: RefCell::default(),
            spare,
            permit: options.permit.clone(),
            failed: Cell::new(None),
            said: RefCell::default(),
            head: Cell::default(),
            read_left: Cell::new(READ_BYTES_A_TURN),
            greeted: Waiter::default(),
            heard: Waiter::default(),
        })
    }

    /// A turn begins: so much may be read, and then the others have theirs.
    pub fn begin_turn(&self) {
        self.read_left.set(READ_BYTES_A_TURN);
    }

    /// Whether a turn has read what it may: nobody wakes it for what is left.
    pub fn has_read_enough(&self) -> bool {
        self.read_left.get() == 0
    }

    /// Ready with whether the server's first frame was SETTINGS, as HTTP/2 wants it.
    pub fn poll_greeted(&self, cx: &Context<'_>) -> Poll<bool> {
        match self.head.get() {
            (head, FRAME_HEAD) => Poll::Ready(head[3] == SETTINGS),
            _ => {
                self.greeted.wait(cx);
                Poll::Pending
            }
        }
    }

    fn note_greeting(&self, bytes: &[u8]) {
        let (mut head, len) = self.head.get();
        if len < FRAME_HEAD {
            let more = bytes.len().min(FRAME_HEAD - len);
            head[len..len + more].copy_from_slice(&bytes[..more]);
            self.head.set((head, len + more));
            self.greeted.wake();
        }
    }

    /// Closing the socket will reset the connection and forget what it has not sent.
    pub fn reset_when_dropped(&self) {
        let transport = self.transport.borrow();
        let fd = socket::borrow(transport.tcp());
        // Fails only for a socket that is gone already.
        let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
    }

    /// Writes out what is held back; for the end of hyper's turn. An error waits for hyper's next read or write.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.held.borrow().rest().is_empty() {
            if let Err(error) = ready!(self.poll_send(cx, &[])) {
                self.held.take();
                return Poll::Ready(Err(self.fails_with(error)));
            }
        }
        if !self.transport.borrow().holds() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.permit.poll(cx));
        let flushed = ready!(Pin::new(&mut *self.transport.borrow_mut()).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.fails_with(error)))
    }

    /// Keeps an error for hyper.
    fn fails_with(&self, error: Error) -> Error {
        self.note(&error);
        self.failed.set(Some(Error::from(error.kind())));
        error
    }

    /// Keeps what an error says of TLS: HTTP/2 keeps less of it.
    fn note(&self, error: &Error) {
        if tls::of(error).is_some() {
            self.said.borrow_mut().get_or_insert_with(|| tls::words(error, TLS_SECTION));
        }
    }

    /// What was wrong with TLS, if anything was.
    pub(super) fn said_over_tls(&self) -> Option<String> {
        self.said.borrow().clone()
    }

    fn poll_write_pieces(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        loop {
            if self.hold(pieces, len) {
                return Poll::Ready(Ok(len));
            }
            match ready!(self.poll_send(cx, pieces))? {
                0 => {}
                taken => return Poll::Ready(Ok(taken)),
            }
        }
    }

    fn hold(&self, pieces: &[IoSlice<'_>], len: usize) -> bool {
        let mut held = self.held.borrow_mut();
        if held.rest().len() + len > HOLD_BYTES || held.written > 0 {
            return false;
        }
        if held.bytes.capacity() == 0 {
            held.bytes = self.spare.0.take();
        }
        pieces.iter().for_each(|piece| held.bytes.extend_from_slice(piece));
        true
    }

    /// Writes what is held and then `pieces` with one system call; says how much of `pieces` was taken, 0 when only
    /// of what is held.
    fn poll_send(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        ready!(self.permit.poll(cx));
        let mut held = self.held.borrow_mut();
        let mut all = [IoSlice::new(&[]); PIECES];
        all[0] = IoSlice::new(held.rest());
        let count = pieces.len().min(PIECES - 1);
        all[1..=count].copy_from_slice(&pieces[..count]);
        let sent = match &mut *self.transport.borrow_mut() {
            Transport::Plain(tcp) => ready!(poll_send_plain(tcp, cx, &all[..=count]))?,
            Transport::Tls(stream) => match ready!(stream.poll_write_pieces(cx, &all[..=count])) {
                Ok(sent) => sent,
                Err(error) => {
                    // Nobody reads after this.
                    let said = stream.last_word(cx, error);
                    self.note(&said);
                    return Poll::Ready(Err(said));
                }
            },
        };
        let of_held = sent.min(held.rest().len());
        held.written += of_held;
        if held.rest().is_empty() {
            let mut buffer = std::mem::take(&mut *held).bytes;
            if buffer.capacity() > 0 {
                buffer.clear();
                self.spare.0.set(buffer);
            }
        }
        Poll::Ready(Ok(sent - of_held))
    }
}

fn poll_send_plain(tcp: &mut TcpStream, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<Result<usize>> {
    match socket::send_pieces(tcp, pieces) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            // glommio tries once more, then asks io_uring to say when there is room.
            let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| &piece[..]);
            Pin::new(tcp).poll_write(cx, first)
        }
        sent => Poll::Ready(sent),
    }
}

/// [`Wire`] as hyper reads and writes it.
pub struct Io(pub Rc<Wire>);

impl hyper::rt::Read for Io {
    #[allow(
        unsafe_code,
        reason = "hyper hands out uninitialised memory; clearing it first would cost on the push path"
    )]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<Result<()>> {
        if let Some(error) = self.0.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.0.has_read_enough() {
            return Poll::Pending;
        }
        // SAFETY: glommio hands the slice to recv(2), or TLS copies into it what it decrypted: both only write to it; nothing
        // uninitialised is read, and `advance` covers what was said to be written.
        unsafe {
            let room = buf.as_mut();
            let room = std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), room.len());
            let read = ready!(Pin::new(&mut *self.0.transport.borrow_mut()).poll_read(cx, room));
            let len = read.inspect_err(|error| self.0.note(error))?;
            self.0.note_greeting(&room[..len]);
            self.0.heard.wake();
            self.0.read_left.set(self.0.read_left.get().saturating_sub(len));
            buf.advance(len);
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        self.0.poll_write_pieces(cx, &[IoSlice::new(buf)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        self.0.poll_write_pieces(cx, &bufs[..bufs.len().min(PIECES - 1)])
    }

    /// Does nothing: the turn's end flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_has_the_time_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("an executor");
        executor.run(async move {
            for wanted in [Duration::from_secs(30), Duration::from_millis(2500)] {
                let tcp = TcpStream::connect(address).await.expect("connected");
                let options = GatewayOptions { user_timeout: wanted, ..GatewayOptions::default() };
                let wire = Wire::new(Transport::Plain(tcp), SpareBuffer::default(), &options).expect("options");
                let transport = wire.transport.borrow();
                let fd = socket::borrow(transport.tcp());
                assert_eq!(SockRef::from(&fd).tcp_user_timeout().expect("an option"), Some(wanted));
            }
        });
    }

    #[test]
    fn a_turn_reads_so_much_and_the_next_one_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let flood = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a client");
            // Ends with its client.
            while std::io::Write::write(&mut peer, &[0; 64 * 1024]).is_ok() {}
        });
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).make().expect("an executor");
        executor.run(async move {
            let tcp = TcpStream::connect(address).await.expect("connected");
            let wire = Wire::new(Transport::Plain(tcp), SpareBuffer::default(), &GatewayOptions::default());
            let wire = Rc::new(wire.expect("options"));
            let (mut io, mut room) = (Io(wire.clone()), [0; 16 * 1024]);
            for turn in 0..20 {
                wire.begin_turn();
                let mut read = 0;
                std::future::poll_fn(|cx| {
                    loop {
                        let mut buffer = hyper::rt::ReadBuf::new(&mut room);
                        let polled = hyper::rt::Read::poll_read(Pin::new(&mut io), cx, buffer.unfilled());
                        read += buffer.filled().len();
                        match polled {
                            Poll::Ready(read) => read.expect("the peer is there"),
                            Poll::Pending if wire.has_read_enough() => return Poll::Ready(()),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                })
                .await;
                assert!((READ_BYTES_A_TURN..READ_BYTES_A_TURN + 16 * 1024).contains(&read), "turn {turn}: {read}");
            }
        });
        flood.join().expect("it ends");
    }
}
