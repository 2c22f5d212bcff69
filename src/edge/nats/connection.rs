//! One connection to a NATS server, on a shard's own ring: what was read as frames, what is to be written in one call.
//!
//! Promises that each read is copied once into memory of its own size, of which payloads are slices; that a server which
//! shows no sign of life, takes no bytes or breaks the protocol ends the connection within a bounded time, in words; and
//! that what is put into [`out`](Connection::out) leaves in that order. Refuses to interpret messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::AsyncRead;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;

use super::TLS_SECTION;
use super::protocol::{
    Decoder, ErrorKind, Frame, Limits, Message, PING, PONG, ProtocolError, ServerError, ServerInfo, Step,
};
use crate::edge::alarm::Alarm;
use crate::edge::pace;
use crate::edge::socket;
use crate::edge::tls;
use crate::edge::transport::{Sending, Transport};

/// What is read at once; a larger message gets more for as long as it takes. An event that waits holds the memory of the read it
/// came with, so that this is what one may cost.
const READ_BYTES: usize = 16 * 1024;
/// What may stay to be written with the next message.
const WRITE_BYTES_KEPT: usize = 64 * 1024;
/// Reads of one turn; then the shard's other tasks get theirs.
const READS_A_TURN: usize = 8;

/// What came over a connection and is its reader's business.
pub(super) enum Heard<'a> {
    /// A message.
    Message(Message<'a>),
    /// The server refuses something and keeps the connection.
    Refused(ServerError),
    /// The server is about to end: it is time to move.
    LameDuck,
}

/// How long a server may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Between two PINGs.
    pub ping_every: Duration,
    /// Without a sign of life while a PING is unanswered.
    pub silence: Duration,
    /// For taking bytes.
    pub write: Duration,
}

/// A connection that is logged in.
pub(super) struct Connection {
    stream: Transport,
    /// Where the server is, as it was configured or named.
    pub at: String,
    /// What the server said of itself last; none before it said anything.
    pub info: Option<ServerInfo>,
    /// The error with which the server ended the connection.
    pub refusal: Option<ServerError>,
    /// What is to be written.
    pub out: Vec<u8>,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    have: usize,
    /// How much of it a frame needs that has begun.
    need: usize,
    sending: Sending,
    patience: Patience,
    heard: Instant,
    pinged: Instant,
    pings: u64,
    pongs: u64,
    alarm: Alarm,
    /// It is logged in: until then whoever opens it has a deadline for all of it.
    pub is_open: bool,
    /// Nothing is read: what came before waits for room.
    is_paused: bool,
    /// Nothing was read for a while, and the server has not answered since.
    has_paused: bool,
}

impl Connection {
    /// Over a socket on which nothing was read or written.
    pub(super) fn over(stream: Transport, at: String, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            stream,
            at,
            info: None,
            refusal: None,
            out: Vec::new(),
            decoder: Decoder::new(Limits::default()),
            buffer: vec![0; READ_BYTES],
            have: 0,
            need: 1,
            sending: Sending::default(),
            patience,
            heard: now,
            pinged: now,
            pings: 0,
            pongs: 0,
            alarm: Alarm::default(),
            is_open: false,
            is_paused: false,
            has_paused: false,
        }
    }

    /// Closing the socket, also by the end of the process, forgets what it has not sent; and what its other side does not take is
    /// given up after `user_timeout`.
    pub(super) fn resets_when_closed(&self, user_timeout: Duration) {
        let fd = socket::borrow(self.stream.tcp());
        let socket = SockRef::from(&fd);
        // Fail only for a socket that is gone already.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.set_tcp_user_timeout(Some(user_timeout));
    }

    /// Whether it is over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Goes on over TLS after the server's first word. What came in plain besides that could be anybody's.
    ///
    /// # Errors
    /// What is wrong, and what to check.
    pub(super) async fn secured(self, client: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, String> {
        if self.have > 0 || self.pongs > 0 || !self.out.is_empty() {
            return Err(
                "more than its first word came before TLS: somebody is between us, or it is no NATS server".to_owned()
            );
        }
        let secured = self.stream.secured(client, name).await;
        let stream = secured.map_err(|error| format!("no TLS with it: {}", tls::words(&error, TLS_SECTION)))?;
        Ok(Self { stream, out: Vec::new(), ..self })
    }

    /// Asks the server for a sign of life; gives the number that [`has_answered`](Self::has_answered) takes.
    pub(super) fn ping(&mut self) -> u64 {
        self.out.extend_from_slice(PING);
        self.pinged = Instant::now();
        self.pings += 1;
        self.pings
    }

    /// Whether the server has worked off all that was written before this PING, and all it had sent until then was heard.
    pub(super) fn has_answered(&self, ping: u64) -> bool {
        self.pongs >= ping
    }

    /// Reads nothing more for now, or goes on.
    pub(super) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        self.has_paused |= is_paused;
    }

    /// Whether a connection that was lost may have been so since we read too slowly: what the server held is lost then.
    pub(super) fn was_cut_off(&self) -> bool {
        self.has_paused || self.refusal.as_ref().is_some_and(|error| error.kind == ErrorKind::SlowConsumer)
    }

    /// Writes, reads, and looks at the clock. Ready when something was read, or with why the connection is lost.
    pub(super) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        hear: &mut impl FnMut(&Bytes, Heard<'_>),
    ) -> Poll<Result<(), String>> {
        loop {
            if let Err(why) = self.poll_write(cx) {
                // What the server said last tells more than that it takes nothing any more.
                return Poll::Ready(Err(self.poll_reads(cx, hear).err().unwrap_or(why)));
            }
            if !self.is_paused && self.poll_reads(cx, hear)? {
                // What was heard may be a PING.
                self.poll_write(cx)?;
                return Poll::Ready(Ok(()));
            }
            // Only with nothing left to read: a shard that stood still must not take its own pause for the server's.
            let next = self.next_due();
            ready!(self.alarm.poll(cx, next));
            self.look_at_clock(Instant::now())?;
        }
    }

    /// Runs turns until `done`, for whoever opens it: nothing that comes is a message yet, and the deadline is theirs.
    ///
    /// # Errors
    /// Why the connection is lost.
    pub(super) async fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !done(self) {
            std::future::poll_fn(|cx| self.poll_turn(cx, &mut |_: &Bytes, _: Heard<'_>| {})).await?;
            pace::yield_if_needed().await;
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        let sent = self.sending.poll(&mut self.stream, &mut self.out, cx);
        sent.map_err(|error| lost(&tls::words(&error, TLS_SECTION)))?;
        if self.out.is_empty() {
            self.out.shrink_to(WRITE_BYTES_KEPT);
        }
        Ok(())
    }

    /// Whether anything was read.
    fn poll_reads(&mut self, cx: &mut Context<'_>, hear: &mut impl FnMut(&Bytes, Heard<'_>)) -> Result<bool, String> {
        for read in 0..READS_A_TURN {
            match Pin::new(&mut self.stream).poll_read(cx, &mut self.buffer[self.have..]) {
                Poll::Ready(Ok(0)) => return Err(lost("the server closed it")),
                Poll::Ready(Ok(bytes)) => {
                    self.have += bytes;
                    if self.have >= self.need {
                        self.understand(hear)?;
                    }
                }
                Poll::Ready(Err(error)) => return Err(lost(&tls::words(&error, TLS_SECTION))),
                Poll::Pending if read == 0 => return Ok(false),
                Poll::Pending => break,
            }
        }
        self.heard = Instant::now();
        Ok(true)
    }

    /// Hands out the whole frames that were read, and keeps the rest.
    fn understand(&mut self, hear: &mut impl FnMut(&Bytes, Heard<'_>)) -> Result<(), String> {
        let chunk = Bytes::copy_from_slice(&self.buffer[..self.have]);
        let mut used = 0;
        self.need = loop {
            let step = self.decoder.next(&chunk[used..]);
            match step.map_err(|error| self.broken(&error))? {
                Step::More { at_least } => break at_least,
                Step::Frame(frame, bytes) => {
                    used += bytes;
                    self.take(frame, &chunk, hear)?;
                }
            }
        };
        self.buffer.copy_within(used..self.have, 0);
        self.have -= used;
        self.fit_buffer();
        Ok(())
    }

    /// Room for what has begun, and for a read besides, as nobody knows how long a line is; what was large goes back after it.
    fn fit_buffer(&mut self) {
        let size = self.need.max(self.have + READ_BYTES / 2).max(READ_BYTES);
        let has_shrunk = self.have < READ_BYTES / 2 && size == READ_BYTES && self.buffer.len() > READ_BYTES;
        if size > self.buffer.len() || has_shrunk {
            self.buffer.resize(size, 0);
            self.buffer.shrink_to(size);
        }
    }

    fn take(
        &mut self,
        frame: Frame<'_>,
        chunk: &Bytes,
        hear: &mut impl FnMut(&Bytes, Heard<'_>),
    ) -> Result<(), String> {
        match frame {
            Frame::Message(message) => hear(chunk, Heard::Message(message)),
            Frame::Ping => self.out.extend_from_slice(PONG),
            Frame::Pong => (self.pongs, self.has_paused) = (self.pongs + 1, false),
            Frame::Ok => {}
            Frame::Info(info) => {
                let info =
                    ServerInfo::parse(info).map_err(|error| format!("the server's INFO cannot be read: {error}"))?;
                let is_leaving = info.lame_duck_mode;
                self.info = Some(info);
                if is_leaving {
                    hear(chunk, Heard::LameDuck);
                }
            }
            Frame::Error(text) => {
                let error = ServerError::parse(text);
                if error.is_final() {
                    let why = error.to_string();
                    self.refusal = Some(error);
                    return Err(why);
                }
                hear(chunk, Heard::Refused(error));
            }
        }
        Ok(())
    }

    fn broken(&self, error: &ProtocolError) -> String {
        match self.info {
            Some(_) => format!("the server does not speak NATS as it should: {error}"),
            None => format!("the peer is not a NATS server ({error}); check nats.url"),
        }
    }

    fn next_due(&self) -> Instant {
        let write = self.sending.stalled().map(|since| since + self.patience.write);
        let pulse = match self.pings > self.pongs {
            _ if self.is_paused || !self.is_open => Instant::now() + self.patience.silence,
            true => self.heard.max(self.pinged) + self.patience.silence,
            false => self.pinged + self.patience.ping_every,
        };
        write.map_or(pulse, |write| write.min(pulse))
    }

    fn look_at_clock(&mut self, now: Instant) -> Result<(), String> {
        if self.sending.stalled().is_some_and(|since| since + self.patience.write <= now) {
            return Err(format!("takes no bytes for {:?}", self.patience.write));
        }
        if self.is_paused || !self.is_open {
            return Ok(());
        }
        if self.pings > self.pongs {
            if self.heard.max(self.pinged) + self.patience.silence <= now {
                return Err(format!("no sign of life for {:?}", self.patience.silence));
            }
        } else if self.pinged + self.patience.ping_every <= now {
            self.ping();
        }
        Ok(())
    }
}

fn lost(why: &str) -> String {
    format!("the connection was lost ({why}); check that the server runs")
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
