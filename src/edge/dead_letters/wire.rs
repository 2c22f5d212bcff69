//! A small blocking NATS client for what dead letters need: requests with headers, many at once.
//!
//! Promises a deadline for each step, which the `nats` crate has not (its connect and its flush can wait for ever), and
//! that whoever answers is matched by the request's own inbox. No thread, no reconnecting: a connection that fails is
//! dropped by its owner. Refuses TLS, as the reader of events does, and to show a secret. What bytes mean is
//! [`protocol`]'s.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::config::{NatsConfig, NatsServer};
use crate::edge::nats::auth::Identity;
use crate::edge::nats::protocol::{
    self, Connect, Decoder, Fault, Frame, Headers, ProtocolError, ServerError, ServerInfo, Step, Unwritable,
};
use crate::edge::random::random;

/// Bytes that are read at once at the most.
const READ_BYTES: usize = 16 * 1024;
/// Nobody listens on the subject of a request.
const NO_RESPONDERS: u16 = 503;

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
        protocol::header_bytes(&self.headers) + self.payload.len()
    }

    /// Whether it can be written at all.
    ///
    /// # Errors
    /// Why not; sent all the same it would be an error of the connection.
    pub fn check(&self) -> Result<(), Unwritable> {
        protocol::publish_with_headers(&mut Vec::new(), self.subject.as_bytes(), None, &self.headers, &[])
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

/// What the protocol brings.
enum Got {
    Info(ServerInfo),
    Message { subject: Vec<u8>, answer: Answer },
    Ping,
    Pong,
    Ok,
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// What of the buffer was read already.
    start: usize,
    server: String,
    identity: Identity,
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
        let mut wire = Self {
            stream,
            decoder: Decoder::default(),
            buffer: Vec::new(),
            start: 0,
            server: place.clone(),
            identity: Identity::from(&nats.auth),
            inbox: format!("_INBOX.{:016x}", random()),
            asked: 0,
            timeout: nats.timeout,
            is_doubtful: false,
            max_payload: 0,
        };
        wire.introduce(&nats.name)?;
        Ok(wire)
    }

    fn introduce(&mut self, name: &str) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        let Got::Info(info) = self.got(deadline)? else { return Err(self.not_nats()) };
        if info.tls_required || !info.headers {
            let why = if info.tls_required { "asks for TLS, which is not supported" } else { "takes no headers" };
            return Err(WireError::Refused(format!("NATS at {} {why}", self.server)));
        }
        self.max_payload = info.max_payload;
        let (proof, name) = (self.identity.prove(&info.nonce), format!("{name} dead letters"));
        let mut lines = Vec::new();
        protocol::connect(&mut lines, &Connect { login: proof.login(), ..Connect::new(&name) });
        let written = protocol::subscribe(&mut lines, format!("{}.*", self.inbox).as_bytes(), None, 1);
        written.map_err(|why| self.unwritable(&self.inbox, why))?;
        lines.extend_from_slice(protocol::PING);
        self.write(&lines, deadline)?;
        while !matches!(self.got(deadline)?, Got::Pong) {}
        Ok(())
    }

    /// Sends all and waits for their answers, in the order asked. None: it had no answer when the time was over.
    ///
    /// # Errors
    /// When the connection is lost or the server refuses: what was done is not known then.
    pub fn call_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Option<Answer>>, WireError> {
        let deadline = Instant::now() + self.timeout;
        let first = self.send(requests, b"", deadline)?;
        let mut answers = vec![None; requests.len()];
        let mut missing = requests.len();
        while missing > 0 {
            let got = match self.got(deadline) {
                Err(WireError::Away(_)) if Instant::now() >= deadline => {
                    self.is_doubtful = true;
                    return Ok(answers);
                }
                other => other?,
            };
            let Some((at, answer)) = self.matched(got, first) else { continue };
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
        let first = self.send(&[request], protocol::PING, deadline)?;
        let mut is_heard = true;
        loop {
            match self.got(deadline)? {
                // The server says that nobody listens while it works the message off, so before its PONG.
                Got::Pong => return Ok(is_heard),
                got => is_heard &= !matches!(self.matched(got, first), Some((0, Answer::NobodyListens))),
            }
        }
    }

    /// A round trip.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all).
    pub fn ping(&mut self) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        self.write(protocol::PING, deadline)?;
        while !matches!(self.got(deadline)?, Got::Pong) {}
        Ok(())
    }

    /// Writes requests, each with an inbox of its own; gives the first one's number.
    fn send(&mut self, requests: &[Request<'_>], after: &[u8], deadline: Instant) -> Result<u64, WireError> {
        let first = self.asked;
        let mut lines = Vec::new();
        for (number, Request { subject, headers, payload }) in (first..).zip(requests) {
            let inbox = format!("{}.{number}", self.inbox);
            protocol::publish_with_headers(&mut lines, subject.as_bytes(), Some(inbox.as_bytes()), headers, payload)
                .map_err(|why| self.unwritable(subject, why))?;
        }
        self.asked += requests.len() as u64;
        lines.extend_from_slice(after);
        self.write(&lines, deadline)?;
        Ok(first)
    }

    /// Which of the requests from `first` on it answers.
    fn matched(&self, got: Got, first: u64) -> Option<(usize, Answer)> {
        let Got::Message { subject, answer } = got else { return None };
        let number = subject.strip_prefix(self.inbox.as_bytes())?.strip_prefix(b".")?;
        let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some((usize::try_from(number.checked_sub(first)?).ok()?, answer))
    }

    /// The next frame. PINGs are answered; what the server complains of is an error.
    fn got(&mut self, deadline: Instant) -> Result<Got, WireError> {
        loop {
            let step = self.decoder.next(&self.buffer[self.start..]);
            let (frame, used) = match step.map_err(|error| self.broken(&error))? {
                Step::Frame(frame, used) => (frame, used),
                Step::More { at_least } => {
                    self.fill(at_least, deadline)?;
                    continue;
                }
            };
            let got = match frame {
                Frame::Info(json) => ServerInfo::parse(json).map(Got::Info).map_err(|_| self.not_nats())?,
                Frame::Error(words) => {
                    let said = self.identity.mask(&ServerError::parse(words).words);
                    let check = "check nats.username, nats.password or nats.token, and the user's permissions";
                    return Err(WireError::Refused(format!("NATS at {} says '{said}'; {check}", self.server)));
                }
                Frame::Message(message) => {
                    let status = Headers::of(message.headers.unwrap_or_default()).status;
                    let is_heard = status.is_none_or(|status| status.code != NO_RESPONDERS);
                    let answer =
                        if is_heard { Answer::Message(message.payload.to_vec()) } else { Answer::NobodyListens };
                    Got::Message { subject: message.subject.to_vec(), answer }
                }
                Frame::Ping => Got::Ping,
                Frame::Pong => Got::Pong,
                Frame::Ok => Got::Ok,
            };
            self.start += used;
            match got {
                Got::Ping => self.write(protocol::PONG, deadline)?,
                got => return Ok(got),
            }
        }
    }

    /// Reads until the buffer's unread part has so many bytes.
    fn fill(&mut self, at_least: usize, deadline: Instant) -> Result<(), WireError> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let mut piece = [0; READ_BYTES];
        while self.buffer.len() < at_least {
            let left = self.left(deadline)?;
            match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut piece)) {
                Ok(0) => return Err(self.away("the server ended the connection")),
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(self.silent()),
                Err(error) => return Err(self.away(&error.to_string())),
            }
        }
        Ok(())
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

    fn broken(&self, error: &ProtocolError) -> WireError {
        // Before the server said what it is, it is the address that is wrong.
        if self.max_payload == 0 && error.fault == Fault::UnknownOperation {
            self.not_nats()
        } else {
            self.away(&error.to_string())
        }
    }

    fn not_nats(&self) -> WireError {
        self.away("the peer is not a NATS server")
    }

    fn unwritable(&self, subject: &str, why: Unwritable) -> WireError {
        WireError::Refused(format!("NATS at {}: a message for {subject:?} is not sent: {why}", self.server))
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

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
