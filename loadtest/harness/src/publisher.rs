//! A NATS publisher over a plain socket: events are written into one buffer and leave in large writes.
//!
//! Promises that `sync` returns only when the server has taken all that was published before; to a stream, when the stream
//! has confirmed or refused each event. Publishing waits for neither. What the server objects to (`-ERR`) is the error of
//! the next `sync`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use task_engine::model::ids::Partition;
use task_engine::model::priority::Priority;

use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 64 * 1024;
/// How long the server may take for one write or one answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at what a stream has confirmed.
const CONFIRMED_POLL: Duration = Duration::from_millis(2);
/// Where a stream's answers come: `<this>.<session>.<number>`.
const ANSWERS: &str = "_LOADTEST";
/// In which header the class of an event is said, as `config/priority.yaml` has it.
const CLASS_HEADER: &str = "Resonance-Priority";

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

/// A message by its session and its number in it.
pub type Identity = (usize, u32);

/// What a stream answered.
#[derive(Debug, Default)]
struct Answers {
    confirmed: AtomicU64,
    refused: AtomicU64,
    not_taken: Mutex<Vec<Identity>>,
}

/// A connection that publishes; ends with its value.
pub struct NatsPublisher {
    socket: Arc<Mutex<TcpStream>>,
    buffer: Vec<u8>,
    /// The header of each class.
    headers: Vec<String>,
    heard: mpsc::Receiver<Heard>,
    /// When what is published goes to a stream.
    answers: Option<Arc<Answers>>,
    published: u64,
    not_taken: u64,
}

impl NatsPublisher {
    /// Connects to `host:port`, without credentials.
    ///
    /// # Errors
    /// When the server does not answer or does not let it in.
    pub fn connect(addr: &str) -> Result<Self> {
        Self::connect_as(addr, None)
    }

    /// The same for subjects that a JetStream stream keeps: it is asked to confirm each event, and nobody waits for that.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_to_stream(addr: &str) -> Result<Self> {
        Self::connect_as(addr, Some(Arc::default()))
    }

    fn connect_as(addr: &str, answers: Option<Arc<Answers>>) -> Result<Self> {
        let failed = |cause| Error::of(&format!("cannot publish to NATS at {addr}"), cause);
        let socket = TcpStream::connect(addr).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
        let reader = BufReader::new(socket.try_clone().map_err(failed)?);
        let socket = Arc::new(Mutex::new(socket));
        let (tell, heard) = mpsc::channel();
        let pongs = socket.clone();
        let told = answers.clone().unwrap_or_default();
        thread::spawn(move || listen(reader, &pongs, &tell, &told));
        let buffer = Vec::with_capacity(2 * BUFFER);
        let header = |class: &Priority| format!("NATS/1.0\r\n{CLASS_HEADER}: {}\r\n\r\n", class.label());
        let headers = Priority::ALL.iter().map(header).collect();
        let mut publisher = Self { socket, buffer, headers, heard, answers, published: 0, not_taken: 0 };
        let connect: &[u8] =
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"name\":\"loadtest\"}\r\n";
        publisher.buffer.extend_from_slice(connect);
        if publisher.answers.is_some() {
            publisher.buffer.extend_from_slice(format!("SUB {ANSWERS}.*.* 1\r\n").as_bytes());
        }
        publisher.sync()?;
        Ok(publisher)
    }

    /// Publishes one event; it leaves with the next full buffer or [`flush`](Self::flush).
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        self.put(format_args!("{subject}"), None, payload)
    }

    /// The same for an event that a stream may refuse; it is told by `identity` in [`not_taken`](Self::not_taken). Its class is said
    /// in a header, where it has one.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_known(
        &mut self,
        subject: &str,
        (session, number): Identity,
        class: Option<Priority>,
        payload: &[u8],
    ) -> Result<()> {
        if self.answers.is_none() {
            return self.put(format_args!("{subject}"), class, payload);
        }
        self.published += 1;
        self.put(format_args!("{subject} {ANSWERS}.{session}.{number}"), class, payload)
    }

    /// What the stream refused since the last call.
    pub fn not_taken(&mut self) -> Vec<Identity> {
        let Some(answers) = &self.answers else { return Vec::new() };
        if answers.refused.load(Ordering::Acquire) == self.not_taken {
            return Vec::new();
        }
        let not_taken = std::mem::take(&mut *lock(&answers.not_taken));
        self.not_taken += not_taken.len() as u64;
        not_taken
    }

    /// `way` is the subject, and where the answer is to go.
    fn put(&mut self, way: std::fmt::Arguments<'_>, class: Option<Priority>, payload: &[u8]) -> Result<()> {
        let header = class.map_or("", |class| &self.headers[class as usize]);
        let head = match header.len() {
            0 => write!(self.buffer, "PUB {way} {}\r\n", payload.len()),
            bytes => write!(self.buffer, "HPUB {way} {bytes} {}\r\n{header}", bytes + payload.len()),
        };
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
        let written = lock(&self.socket).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|cause| Error::of("NATS takes no events", cause))
    }

    /// Writes what is gathered and waits until the server has taken it, and a stream has answered for each event.
    ///
    /// # Errors
    /// When it objects to something, does not answer in 30 s, or the connection is lost.
    pub fn sync(&mut self) -> Result<()> {
        self.buffer.extend_from_slice(b"PING\r\n");
        self.flush()?;
        match self.heard.recv_timeout(DEADLINE) {
            Ok(Heard::Pong) => self.wait_for_answers(),
            Ok(Heard::Objection(words)) => Err(Error::of("NATS objects", words)),
            Err(_) => Err(Error::new("NATS does not answer")),
        }
    }

    fn wait_for_answers(&self) -> Result<()> {
        let Some(answers) = &self.answers else { return Ok(()) };
        let count = || answers.confirmed.load(Ordering::Acquire) + answers.refused.load(Ordering::Acquire);
        let (mut answered, mut since) = (count(), Instant::now());
        while answered < self.published {
            if since.elapsed() > DEADLINE {
                let left = self.published - answered;
                return Err(Error::new(format!("JetStream did not answer for {left} of {} events", self.published)));
            }
            thread::sleep(CONFIRMED_POLL);
            let now = count();
            if now > answered {
                (answered, since) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

impl Drop for NatsPublisher {
    fn drop(&mut self) {
        // Ends the reading thread; a socket that is gone already has ended it.
        let _ = lock(&self.socket).shutdown(std::net::Shutdown::Both);
    }
}

/// Answers the server's pings and passes on what else matters, until the connection ends.
fn listen(mut reader: BufReader<TcpStream>, socket: &Mutex<TcpStream>, tell: &mpsc::Sender<Heard>, answers: &Answers) {
    let mut line = Vec::new();
    loop {
        line.clear();
        if !matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        let told = match line[..] {
            [b'P', b'I', b'N', b'G', ..] => lock(socket).write_all(b"PONG\r\n").is_ok(),
            [b'P', b'O', b'N', b'G', ..] => tell.send(Heard::Pong).is_ok(),
            [b'-', ..] => {
                let words = String::from_utf8_lossy(&line).trim_end().to_owned();
                tell.send(Heard::Objection(words)).is_ok()
            }
            [b'M', b'S', b'G', b' ', ..] => {
                let identity = identity_of(&line);
                line.clear();
                // A stream's answer is JSON in one line.
                let is_read = reader.read_until(b'\n', &mut line).is_ok();
                answers.note(identity, &line);
                is_read
            }
            _ => true,
        };
        if !told {
            return;
        }
    }
}

/// Of `MSG <ANSWERS>.<session>.<number> 1 <bytes>`.
fn identity_of(line: &[u8]) -> Option<Identity> {
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace().nth(1)?.split('.').skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

impl Answers {
    /// An answer without an error confirms.
    fn note(&self, identity: Option<Identity>, answer: &[u8]) {
        let Some(identity) = identity else { return };
        if !answer.windows(7).any(|word| word == b"\"error\"") {
            self.confirmed.fetch_add(1, Ordering::Release);
            return;
        }
        lock(&self.not_taken).push(identity);
        self.refused.fetch_add(1, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
