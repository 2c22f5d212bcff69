//! A socket of a thread that may wait, plain or over TLS: each read and write is over at a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// See the module.
pub struct BlockingStream(Way);

enum Way {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// A socket whose calls are over at a deadline: it is for all of a handshake, not for each of its reads.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlockingStream {
    /// Over a socket that is connected.
    pub fn plain(stream: TcpStream) -> Self {
        Self(Way::Plain(Timed { stream, deadline: Instant::now() }))
    }

    /// Whether it is over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Way::Tls(_))
    }

    /// The same socket from now on over TLS: makes the handshake.
    ///
    /// # Errors
    /// What is wrong with the peer or the socket; [`words`](super::words) says it.
    pub fn secured(self, client: Arc<ClientConfig>, name: ServerName<'static>, deadline: Instant) -> io::Result<Self> {
        let Self(Way::Plain(mut timed)) = self else { return Ok(self) };
        timed.deadline = deadline;
        let tls =
            ClientConnection::new(client, name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut stream = StreamOwned::new(tls, timed);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(Way::Tls(Box::new(stream))))
    }

    /// Reads what is there, or waits for it; 0 at the peer's end.
    ///
    /// # Errors
    /// `TimedOut` or `WouldBlock` at the deadline; `UnexpectedEof` at an end in the middle of TLS.
    pub fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let read = match &mut self.0 {
                Way::Plain(timed) => {
                    timed.deadline = deadline;
                    timed.read(buffer)
                }
                Way::Tls(stream) => {
                    stream.sock.deadline = deadline;
                    stream.read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes all.
    ///
    /// # Errors
    /// `TimedOut` or `WouldBlock` at the deadline; what broke the connection.
    pub fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        match &mut self.0 {
            Way::Plain(timed) => {
                timed.deadline = deadline;
                timed.write_all(bytes)
            }
            Way::Tls(stream) => {
                stream.sock.deadline = deadline;
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }
}
