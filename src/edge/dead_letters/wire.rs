//! A small blocking NATS client for what dead letters need: requests with headers, many at once.
//!
//! Promises a deadline for each step, which the `nats` crate has not (its connect and its flush can wait for ever), and
//! that whoever answers is matched by the request's own inbox. No thread, no reconnecting: a connection that fails is
//! dropped by its owner. Refuses TLS, as the reader of events does, and to show a secret.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::config::{NatsAuth, NatsConfig, NatsServer};

/// The longest line of the protocol: an INFO names all servers of a cluster.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The largest message that is read: a stored event in base64, with room.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Why the server did not do what was asked; in words, with the address and what to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It is away, silent, or what came is no NATS.
    Away(String),
    /// It refuses us.
    Refused(String),
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for WireError {}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where to.
    pub subject: String,
    /// Names and values, without line ends.
    pub headers: Vec<(&'static str, String)>,
    /// The bytes.
    pub payload: &'a [u8],
}

impl Request<'_> {
    /// How much of the server's `max_payload` it takes.
    pub fn size(&self) -> usize {
        self.header_block().len() + self.payload.len()
    }

    fn header_block(&self) -> String {
        if self.headers.is_empty() {
            return String::new();
        }
        let mut block = "NATS/1.0\r\n".to_owned();
        for (name, value) in &self.headers {
            debug_assert!(!value.contains(['\r', '\n']));
            block.extend([name, ": ", value.as_str(), "\r\n"]);
        }
        block + "\r\n"
    }
}

/// What came back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody listens on its subject.
    NobodyListens,
    /// The answer's bytes.
    Message(Vec<u8>),
}

/// What the server says of itself.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    max_payload: usize,
    #[serde(default)]
    headers: bool,
    #[serde(default)]
    tls_required: bool,
}

/// What the protocol brings.
enum Frame {
    Message { subject: String, no_responders: bool, payload: Vec<u8> },
    Pong,
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was read already.
    start: usize,
    server: String,
    inbox: String,
    asked: u64,
    timeout: Duration,
    /// An answer did not come in time: the connection may be half open, and is better replaced.
    pub is_doubtful: bool,
    /// The server's bound on headers and payload together.
    pub max_payload: usize,
}

impl Wire {
    /// Connects to the first server that takes us.
    ///
    /// # Errors
    /// What the last one said.
    pub fn connect(nats: &NatsConfig) -> Result<Self, WireError> {
        let mut last = WireError::Away("nats.url names no server".to_owned());
        for server in &nats.servers {
            match Self::to(server, nats) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn to(server: &NatsServer, nats: &NatsConfig) -> Result<Self, WireError> {
        let place = server.at.to_string();
        if server.tls {
            return Err(WireError::Refused(format!("NATS at {place}: TLS to NATS is not supported; use nats://")));
        }
        let check = "check nats.url and that the server runs";
        let away = |why: &dyn std::fmt::Display| WireError::Away(format!("NATS at {place}: {why}; {check}"));
        let addresses = (server.at.host.as_str(), server.at.port).to_socket_addrs().map_err(|error| away(&error))?;
        let mut stream = Err(away(&"the host name has no address"));
        for address in addresses {
            stream = TcpStream::connect_timeout(&address, nats.timeout).map_err(|error| away(&error));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_nodelay(true).map_err(|error| away(&error))?;
        let random = RandomState::new().hash_one(Instant::now());
        let mut wire = Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            server: place.clone(),
            inbox: format!("_INBOX.{random:016x}"),
            asked: 0,
            timeout: nats.timeout,
            is_doubtful: false,
            max_payload: 0,
        };
        wire.introduce(nats)?;
        Ok(wire)
    }

    fn introduce(&mut self, nats: &NatsConfig) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        let line = self.line(deadline)?;
        let info = line.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<Info>(json).ok());
        let info = info.ok_or_else(|| self.away("the peer is not a NATS server"))?;
        if info.tls_required || !info.headers {
            let why = if info.tls_required { "asks for TLS, which is not supported" } else { "takes no headers" };
            return Err(WireError::Refused(format!("NATS at {} {why}", self.server)));
        }
        self.max_payload = info.max_payload;
        let mut hello = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
            "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": format!("{} dead letters", nats.name),
        });
        match &nats.auth {
            NatsAuth::None => {}
            NatsAuth::Token(token) => hello["auth_token"] = token.reveal().into(),
            NatsAuth::User { username, password } => {
                hello["user"] = username.as_str().into();
                hello["pass"] = password.reveal().into();
            }
        }
        let lines = format!("CONNECT {hello}\r\nSUB {}.* 1\r\nPING\r\n", self.inbox);
        self.write(lines.as_bytes(), deadline)?;
        loop {
            if let Frame::Pong = self.frame(deadline)? {
                return Ok(());
            }
        }
    }

    /// Sends all and waits for their answers, in the order asked. None: it had no answer when the time was over.
    ///
    /// # Errors
    /// When the connection is lost or the server refuses: what was done is not known then.
    pub fn call_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Option<Answer>>, WireError> {
        let deadline = Instant::now() + self.timeout;
        let first = self.send(requests, "", deadline)?;
        let mut answers = vec![None; requests.len()];
        let mut missing = requests.len();
        while missing > 0 {
            let frame = match self.frame(deadline) {
                Err(WireError::Away(_)) if Instant::now() >= deadline => {
                    self.is_doubtful = true;
                    return Ok(answers);
                }
                other => other?,
            };
            let Some((at, answer)) = self.matched(frame, first) else { continue };
            if answers.get(at).is_some_and(Option::is_none) {
                answers[at] = Some(answer);
                missing -= 1;
            }
        }
        Ok(answers)
    }

    /// Sends one and waits for its answer.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all); also when there was no answer in time.
    pub fn call(&mut self, request: Request<'_>) -> Result<Answer, WireError> {
        let subject = request.subject.clone();
        let answer = self.call_all(&[request])?.pop().flatten();
        answer.ok_or_else(|| self.away(&format!("no answer to {subject} within {:?}", self.timeout)))
    }

    /// Publishes to whoever listens and waits until the server has worked it off; false when nobody listens.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all).
    pub fn publish(&mut self, request: Request<'_>) -> Result<bool, WireError> {
        let deadline = Instant::now() + self.timeout;
        let first = self.send(&[request], "PING\r\n", deadline)?;
        let mut is_heard = true;
        loop {
            match self.frame(deadline)? {
                // The server says that nobody listens while it works the message off, so before its PONG.
                Frame::Pong => return Ok(is_heard),
                frame => is_heard &= !matches!(self.matched(frame, first), Some((0, Answer::NobodyListens))),
            }
        }
    }

    /// A round trip.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all).
    pub fn ping(&mut self) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        self.write(b"PING\r\n", deadline)?;
        while !matches!(self.frame(deadline)?, Frame::Pong) {}
        Ok(())
    }

    /// Writes requests, each with an inbox of its own; gives the first one's number.
    fn send(&mut self, requests: &[Request<'_>], after: &str, deadline: Instant) -> Result<u64, WireError> {
        let first = self.asked;
        let mut bytes = Vec::new();
        for request in requests {
            let block = request.header_block();
            let (head, all) = (block.len(), block.len() + request.payload.len());
            let (subject, inbox, number) = (&request.subject, &self.inbox, self.asked);
            let line = match head {
                0 => format!("PUB {subject} {inbox}.{number} {all}\r\n"),
                _ => format!("HPUB {subject} {inbox}.{number} {head} {all}\r\n"),
            };
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(block.as_bytes());
            bytes.extend_from_slice(request.payload);
            bytes.extend_from_slice(b"\r\n");
            self.asked += 1;
        }
        bytes.extend_from_slice(after.as_bytes());
        self.write(&bytes, deadline)?;
        Ok(first)
    }

    /// Which of the requests from `first` on a frame answers.
    fn matched(&self, frame: Frame, first: u64) -> Option<(usize, Answer)> {
        let Frame::Message { subject, no_responders, payload } = frame else { return None };
        let number: u64 = subject.strip_prefix(&self.inbox)?.strip_prefix('.')?.parse().ok()?;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        Some((at, if no_responders { Answer::NobodyListens } else { Answer::Message(payload) }))
    }

    /// The next message or PONG; what lies between is seen to.
    fn frame(&mut self, deadline: Instant) -> Result<Frame, WireError> {
        loop {
            let line = self.line(deadline)?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb {
                "PING" => self.write(b"PONG\r\n", deadline)?,
                "PONG" => return Ok(Frame::Pong),
                "+OK" | "INFO" => {}
                "-ERR" => {
                    let check = "check nats.username, nats.password or nats.token, and the user's permissions";
                    return Err(WireError::Refused(format!("NATS at {} says {rest}; {check}", self.server)));
                }
                "MSG" | "HMSG" => return self.message(verb == "HMSG", rest, deadline),
                _ => return Err(self.away("the peer does not speak the NATS protocol")),
            }
        }
    }

    fn message(&mut self, has_headers: bool, rest: &str, deadline: Instant) -> Result<Frame, WireError> {
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |back: usize| words.len().checked_sub(back).and_then(|at| words[at].parse::<usize>().ok());
        let (head, all) = (if has_headers { number(2) } else { Some(0) }, number(1));
        let (Some(subject), Some(head), Some(all)) = (words.first(), head, all) else {
            return Err(self.away("the peer does not speak the NATS protocol"));
        };
        if head > all || all > MESSAGE_BYTES_MAX {
            return Err(self.away(&format!("a message of {all} bytes is not read")));
        }
        let subject = (*subject).to_owned();
        while self.buffer.len() - self.start < all + 2 {
            self.fill(deadline)?;
        }
        let bytes = &self.buffer[self.start..self.start + all];
        let no_responders = bytes[..head].starts_with(b"NATS/1.0 503");
        let payload = bytes[head..].to_vec();
        self.start += all + 2;
        Ok(Frame::Message { subject, no_responders, payload })
    }

    fn line(&mut self, deadline: Instant) -> Result<String, WireError> {
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(end) = memchr::memchr(b'\n', unread) {
                let line = String::from_utf8_lossy(&unread[..end]).trim_end().to_owned();
                self.start += end + 1;
                return Ok(line);
            }
            if unread.len() > LINE_BYTES_MAX {
                return Err(self.away("the peer does not speak the NATS protocol"));
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), WireError> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let mut chunk = [0; 16 * 1024];
        let left = self.left(deadline)?;
        let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut chunk));
        match read {
            Ok(0) => Err(self.away("the server ended the connection")),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if is_timeout(&error) => Err(self.silent()),
            Err(error) => Err(self.away(&error.to_string())),
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), WireError> {
        while !bytes.is_empty() {
            let left = self.left(deadline)?;
            match self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write(bytes)) {
                Ok(0) => return Err(self.away("the server ended the connection")),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(self.silent()),
                Err(error) => return Err(self.away(&error.to_string())),
            }
        }
        Ok(())
    }

    fn left(&self, deadline: Instant) -> Result<Duration, WireError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.silent()) } else { Ok(left) }
    }

    fn silent(&self) -> WireError {
        self.away(&format!("no answer within {:?}", self.timeout))
    }

    fn away(&self, why: &str) -> WireError {
        WireError::Away(format!("NATS at {}: {why}; check nats.url and that the server runs", self.server))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
