//! A core-NATS publisher over a plain socket: events are written into one buffer and leave in large writes.
//!
//! Promises that `sync` returns only when the server has taken all that was published before. What the server objects to
//! (`-ERR`) is the error of the next call.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use task_engine::ids::Partition;

use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 64 * 1024;
/// How long the server may take for one write or one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Which subject an event is published on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// This one.
    One(String),
    /// `<topic>.<partition>`, the partition by the session.
    Partitioned {
        /// The part before the dot.
        topic: String,
        /// How many partitions there are.
        partitions: u32,
    },
}

impl Subject {
    /// The subject of a session's events.
    pub fn of(&self, session_id: &str) -> String {
        match self {
            Self::One(subject) => subject.clone(),
            Self::Partitioned { topic, partitions } => {
                format!("{topic}.{}", Partition::of(session_id.as_bytes(), *partitions).0)
            }
        }
    }
}

/// What the reading side heard.
enum Heard {
    Pong,
    Objection(String),
}

/// A connection that publishes; ends with its value.
pub struct NatsPublisher {
    socket: Arc<Mutex<TcpStream>>,
    buffer: Vec<u8>,
    heard: mpsc::Receiver<Heard>,
}

impl NatsPublisher {
    /// Connects to `host:port`, without credentials.
    ///
    /// # Errors
    /// When the server does not answer or does not let it in.
    pub fn connect(addr: &str) -> Result<Self> {
        let failed = |cause| Error::of(&format!("cannot publish to NATS at {addr}"), cause);
        let socket = TcpStream::connect(addr).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
        let reader = BufReader::new(socket.try_clone().map_err(failed)?);
        let socket = Arc::new(Mutex::new(socket));
        let (tell, heard) = mpsc::channel();
        let pongs = socket.clone();
        thread::spawn(move || listen(reader, &pongs, &tell));
        let mut publisher = Self { socket, buffer: Vec::with_capacity(2 * BUFFER), heard };
        publisher.buffer.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"loadtest\"}\r\n");
        publisher.sync()?;
        Ok(publisher)
    }

    /// Publishes one event; it leaves with the next full buffer or [`flush`](Self::flush).
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let head = write!(self.buffer, "PUB {subject} {}\r\n", payload.len());
        head.map_err(|cause| Error::of("cannot write to a buffer", cause))?;
        self.buffer.extend_from_slice(payload);
        self.buffer.extend_from_slice(b"\r\n");
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.socket.lock().unwrap_or_else(PoisonError::into_inner).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|cause| Error::of("NATS takes no events", cause))
    }

    /// Writes what is gathered and waits until the server has taken it.
    ///
    /// # Errors
    /// When it objects to something, does not answer in 30 s, or the connection is lost.
    pub fn sync(&mut self) -> Result<()> {
        self.buffer.extend_from_slice(b"PING\r\n");
        self.flush()?;
        match self.heard.recv_timeout(DEADLINE) {
            Ok(Heard::Pong) => Ok(()),
            Ok(Heard::Objection(words)) => Err(Error::of("NATS objects", words)),
            Err(_) => Err(Error::new("NATS does not answer")),
        }
    }
}

impl Drop for NatsPublisher {
    fn drop(&mut self) {
        // Ends the reading thread; a socket that is gone already has ended it.
        let _ = self.socket.lock().unwrap_or_else(PoisonError::into_inner).shutdown(std::net::Shutdown::Both);
    }
}

/// Answers the server's pings and passes on what else matters, until the connection ends.
fn listen(reader: BufReader<TcpStream>, socket: &Mutex<TcpStream>, tell: &mpsc::Sender<Heard>) {
    for line in reader.lines() {
        let Ok(line) = line else { return };
        let told = match line.as_bytes() {
            [b'P', b'I', b'N', b'G', ..] => {
                let written = socket.lock().unwrap_or_else(PoisonError::into_inner).write_all(b"PONG\r\n");
                written.is_ok()
            }
            [b'P', b'O', b'N', b'G', ..] => tell.send(Heard::Pong).is_ok(),
            [b'-', ..] => tell.send(Heard::Objection(line)).is_ok(),
            _ => true,
        };
        if !told {
            return;
        }
    }
}
