//! Redis asked by a command: one blocking connection, one question at a time, each with a deadline.
//!
//! Promises that what Redis says against us is words without the password.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use redis::{Parser, Value};

use super::{Config, TLS_SECTION};
use crate::edge::tls::{self, blocking::BlockingStream};

/// The most that an answer may take in memory.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// TLS is not made with it, or was ended by it.
    Tls(String),
    /// It is away, silent, or no Redis.
    Away(String),
}

/// What it answered: a value, or its words against us.
pub type Answer = Result<Value, String>;

/// One connection.
pub struct Asker<'a> {
    config: &'a Config,
    stream: BlockingStream,
    parser: Parser,
}

/// A stream that is read until a deadline, and keeps what went wrong: the parser hands on less.
struct Reading<'a> {
    stream: &'a mut BlockingStream,
    until: Instant,
    left: usize,
    failed: Option<io::Error>,
}

impl io::Read for Reading<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = room.len().min(self.left);
        let read = match most {
            0 => Err(io::Error::other("its answer has no end")),
            most => self.stream.read(&mut room[..most], self.until),
        };
        let read = match read {
            Ok(0) => Err(io::Error::other("it closed the connection")),
            other => other,
        };
        read.inspect(|read| self.left -= read).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

impl<'a> Asker<'a> {
    /// Over a socket that is connected; makes the TLS handshake where one is wanted.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub fn over(stream: TcpStream, config: &'a Config) -> Result<Self, Lost> {
        let (server, mut stream) = (&config.server, BlockingStream::plain(stream));
        if server.tls.is_written() {
            let wrong = |error: tls::TlsError| Lost::Tls(error.to_string());
            let client = tls::client(&server.tls, TLS_SECTION, &[]).map_err(wrong)?;
            let name = tls::server_name(&server.tls, &server.at.host).map_err(wrong)?;
            let secured = stream.secured(client, name, Instant::now() + server.dial_timeout);
            stream = secured.map_err(|error| match is_late(&error) {
                true => Lost::Tls(format!(
                    "it does not answer the TLS handshake within {:?}; check that redis.addr is a port that speaks TLS",
                    server.dial_timeout
                )),
                false => Lost::Tls(tls::words(&error, TLS_SECTION)),
            })?;
        }
        Ok(Self { config, stream, parser: Parser::new() })
    }

    /// Says who we are: with HELLO, or as an older server or a proxy takes it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn greet(&mut self, with_hello: bool) -> Result<Answer, Lost> {
        let (server, mut command) = (&self.config.server, redis::cmd(if with_hello { "HELLO" } else { "AUTH" }));
        if with_hello {
            command.arg(3);
        }
        if !server.password.is_empty() {
            if with_hello {
                command.arg("AUTH").arg(self.config.user());
            } else if !server.username.is_empty() {
                command.arg(&server.username);
            }
            command.arg(server.password.reveal());
        } else if !with_hello {
            return Ok(Ok(Value::Okay));
        }
        self.ask(&command)
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&mut self, command: &redis::Cmd) -> Result<Answer, Lost> {
        let server = &self.config.server;
        let sent = self.stream.write(&command.get_packed_command(), Instant::now() + server.write_timeout);
        sent.map_err(|error| lost(&error))?;
        let (until, left) = (Instant::now() + server.read_timeout, ANSWER_BYTES_MAX);
        let mut reading = Reading { stream: &mut self.stream, until, left, failed: None };
        loop {
            match self.parser.parse_value(&mut reading) {
                // A change of a route, told between two answers.
                Ok(Value::Push { .. }) => {}
                Ok(value) => return Ok(self.said(value)),
                Err(_) => {
                    let nonsense = || Lost::Away("what it sends is no Redis reply".to_owned());
                    return Err(reading.failed.as_ref().map_or_else(nonsense, lost));
                }
            }
        }
    }

    fn said(&self, value: Value) -> Answer {
        let Value::ServerError(error) = value else { return Ok(value) };
        let words = format!("{} {}", error.code(), error.details().unwrap_or_default());
        Err(self.config.masked(words.trim_end()))
    }
}

fn lost(error: &io::Error) -> Lost {
    match tls::of(error) {
        Some(_) => Lost::Tls(tls::words(error, TLS_SECTION)),
        None if is_late(error) => Lost::Away("it does not answer in time".to_owned()),
        None => Lost::Away(tls::words(error, TLS_SECTION)),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The text of a value.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}
