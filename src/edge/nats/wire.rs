//! A small blocking NATS client for what dead letters and `setup` need: requests, with headers or without, many at once.
//!
//! Promises a deadline for each step (opening it, with TLS and login, is one), and that whoever answers is matched by the
//! request's own inbox. No thread, no reconnecting: a connection that fails is dropped by its owner. Refuses to show a
//! secret. What bytes mean is [`protocol`]'s.

mod trying;

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::auth::Identity;
use super::protocol::{
    self, Connect, Decoder, Fault, Frame, Headers, ProtocolError, ServerError, ServerInfo, Step, Unwritable,
};
use super::{TLS_SECTION, server, tls_to, wants_tls_after};
use crate::config::{NatsAuth, NatsConfig, NatsServer};
use crate::edge::random::random;
use crate::edge::tls::blocking::BlockingStream;
use crate::edge::{socket, tls};

/// Bytes that are read at once at the most.
const READ_BYTES: usize = 16 * 1024;
/// What each address gets at least to answer.
const CONNECT_MIN: Duration = Duration::from_millis(100);
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
    stream: BlockingStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// What of the buffer was read already.
    start: usize,
    server: String,
    auth: NatsAuth,
    identity: Identity,
    /// The last thing that the server complained of.
    pub refusal: Option<ServerError>,
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
    /// What each said.
    pub fn connect(nats: &NatsConfig, purpose: &str) -> Result<Self, WireError> {
        let identity = Identity::read(&nats.auth).map_err(|error| WireError::Refused(error.to_string()))?;
        let (mut said, mut is_refused) = (Vec::new(), false);
        for server in &nats.servers {
            match Self::to(server, nats, identity.clone(), purpose) {
                Ok(wire) => return Ok(wire),
                Err(error) => {
                    is_refused = matches!(error, WireError::Refused(_));
                    said.push(error.to_string());
                }
            }
        }
        let said = said.join("; ");
        Err(if is_refused { WireError::Refused(said) } else { WireError::Away(said) })
    }

    fn to(server: &NatsServer, nats: &NatsConfig, identity: Identity, purpose: &str) -> Result<Self, WireError> {
        let (place, deadline) = (server.at.to_string(), Instant::now() + nats.timeout);
        let stream = connected(server, deadline)?;
        let mut wire = Self {
            stream: BlockingStream::plain(stream),
            decoder: Decoder::default(),
            buffer: Vec::new(),
            start: 0,
            server: place,
            auth: nats.auth.clone(),
            identity,
            refusal: None,
            inbox: format!("_INBOX.{:016x}", random()),
            asked: 0,
            timeout: nats.timeout,
            is_doubtful: false,
            max_payload: 0,
        };
        if nats.handshake_first {
            wire = wire.secured(server, nats, deadline)?;
        }
        let Got::Info(info) = wire.got(deadline)? else { return Err(wire.not_nats()) };
        if !nats.handshake_first && wants_tls_after(&info, nats).map_err(|why| wire.refused(&why))? {
            if wire.start < wire.buffer.len() {
                return Err(wire.refused("more than its first word came before TLS: somebody is between us"));
            }
            wire = wire.secured(server, nats, deadline)?;
        }
        wire.introduce(&info, &format!("{} {purpose}", nats.name), deadline)?;
        Ok(wire)
    }

    fn secured(self, server: &NatsServer, nats: &NatsConfig, deadline: Instant) -> Result<Self, WireError> {
        let (client, name) = tls_to(server, nats).map_err(|error| self.refused(&error.to_string()))?;
        let Self { stream, .. } = self;
        match stream.secured(client, name, deadline) {
            Ok(stream) => Ok(Self { stream, ..self }),
            Err(error) if is_timeout(&error) => Err(WireError::Away(format!(
                "NATS at {}: does not finish the TLS handshake within {:?}; check its load and the network",
                self.server, self.timeout
            ))),
            Err(error) => {
                let why = format!("NATS at {}: no TLS with it: {}", self.server, tls::words(&error, TLS_SECTION));
                Err(if tls::of(&error).is_some() { WireError::Refused(why) } else { WireError::Away(why) })
            }
        }
    }

    /// Where the server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    fn introduce(&mut self, info: &ServerInfo, name: &str, deadline: Instant) -> Result<(), WireError> {
        if !info.headers {
            return Err(WireError::Refused(format!("NATS at {} takes no headers", self.server)));
        }
        self.max_payload = info.max_payload;
        let proof = self.identity.prove(&info.nonce);
        let mut lines = Vec::new();
        let tls_required = self.stream.is_tls();
        protocol::connect(&mut lines, &Connect { login: proof.login(), tls_required, ..Connect::new(name) });
        let written = protocol::subscribe(&mut lines, format!("{}.*", self.inbox).as_bytes(), None, 1);
        written.map_err(|why| self.unwritable(&self.inbox, why))?;
        lines.extend_from_slice(protocol::PING);
        let written = self.write(&lines, deadline);
        // What the server said last tells more than that it takes nothing any more.
        loop {
            match self.got(deadline) {
                Ok(Got::Pong) => return written,
                Ok(_) => {}
                Err(error @ WireError::Refused(_)) => return Err(error),
                Err(error) => return written.and(Err(error)),
            }
        }
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

    /// Publishes without asking for answers, and waits until the server has worked it off.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all).
    pub fn tell<'a>(&mut self, messages: impl Iterator<Item = (String, &'a str)>) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        let mut lines = Vec::new();
        for (subject, payload) in messages {
            protocol::publish(&mut lines, subject.as_bytes(), None, payload.as_bytes())
                .map_err(|why| self.unwritable(&subject, why))?;
        }
        lines.extend_from_slice(protocol::PING);
        self.write(&lines, deadline)?;
        while !matches!(self.got(deadline)?, Got::Pong) {}
        Ok(())
    }

    /// A round trip.
    ///
    /// # Errors
    /// See [`call_all`](Self::call_all).
    pub fn ping(&mut self) -> Result<(), WireError> {
        self.tell(std::iter::empty())
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
                    let error = ServerError::parse(words);
                    self.start += used;
                    return Err(self.complained(error));
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
            match self.stream.read(&mut piece, deadline) {
                Ok(0) => return Err(self.away("the server ended the connection")),
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), WireError> {
        self.stream.write(bytes, deadline).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> WireError {
        if is_timeout(error) {
            return self.silent();
        }
        match tls::of(error) {
            Some(_) => self.refused(&tls::words(error, TLS_SECTION)),
            None => self.away(&tls::words(error, TLS_SECTION)),
        }
    }

    fn complained(&mut self, error: ServerError) -> WireError {
        let said = match server::explain(&self.auth, Some(&self.identity), Some(&error)) {
            Some(words) => format!(": {words}"),
            None => {
                let check = format!("{}, and the user's permissions", server::keys(&self.auth));
                format!(" says '{}'; {check}", error.words)
            }
        };
        let said = self.identity.mask(&said);
        self.refusal = Some(error);
        WireError::Refused(format!("NATS at {}{said}", self.server))
    }

    fn refused(&self, why: &str) -> WireError {
        WireError::Refused(format!("NATS at {}: {why}", self.server))
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

/// To the first of the server's addresses that answers.
fn connected(server: &NatsServer, deadline: Instant) -> Result<TcpStream, WireError> {
    let at = &server.at;
    let away = |why: &dyn std::fmt::Display| {
        WireError::Away(format!("NATS at {at}: cannot connect ({why}); check nats.url and that the server runs"))
    };
    let addresses = (at.host.as_str(), at.port).to_socket_addrs().map_err(|error| away(&error))?;
    let mut stream = Err(away(&"the host name has no address"));
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(CONNECT_MIN);
        stream = TcpStream::connect_timeout(&address, left).map_err(|error| away(&socket::words(&error)));
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream?;
    stream.set_nodelay(true).map_err(|error| away(&error))?;
    Ok(stream)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
