//! One connection to Redis: the handshake (`hello`), then asks out and facts in, in one task.
//!
//! Promises that everything which waits goes out in one write, that a reply which is late ends the connection, and
//! that at most [`MGETS_IN_FLIGHT`] asks are on the wire. Refuses to guess what a broken connection would still have
//! answered: the asks left over are the caller's to answer.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::AsyncRead;
use redis::{Cmd, RedisWrite};

use crate::edge::alarm::Alarm;
use crate::edge::pace;
use crate::edge::socket;
use crate::edge::tls;
use crate::edge::transport::{Sending, Transport};
use crate::model::limits::MGETS_IN_FLIGHT;
use crate::ports::{Health, RouteAsk, RouteQueue};
use crate::push::facts::AskNo;

use super::replies::{Expected, Replies};
use super::resp::Reader;
use super::{Config, Lost, PROBE_EVERY, ROUTE_KEY_PREFIX, TLS_SECTION};

/// Reads of one turn; then the shard's other tasks get theirs.
const READS_A_TURN: usize = 8;

/// The connection and what is on its way.
#[derive(Debug)]
pub(super) struct Link<'a> {
    config: Arc<Config>,
    port: &'a RouteQueue,
    stream: Transport,
    reader: Reader,
    replies: Replies,
    command: Cmd,
    out: Vec<u8>,
    sending: Sending,
    heard: Instant,
    alarm: Alarm,
    /// Asks are taken: the handshake is over.
    serving: bool,
    /// Why Redis does not say which routes change, if it does not.
    untracked: Option<String>,
    /// How it answered the first lookup, when that was an error.
    refusal: Option<String>,
}

impl<'a> Link<'a> {
    /// Connects; nothing is said yet.
    pub(super) async fn connect(
        config: &Arc<Config>,
        addresses: &[SocketAddr],
        port: &'a RouteQueue,
    ) -> Result<Self, Lost> {
        let (server, started) = (&config.server, Instant::now());
        let stream = socket::connect(addresses, server.dial_timeout).await;
        let mut stream = stream
            .map(Transport::Plain)
            .map_err(|error| config.lost(&socket::words(&error), "Redis runs there and that redis.addr is right"))?;
        if server.tls.is_written() {
            let left = server.dial_timeout.saturating_sub(started.elapsed());
            let secured = stream.secured_by(&server.tls, TLS_SECTION, &server.at.host, &[], left).await;
            stream = secured.map_err(|why| config.lost_in_words(why))?;
        }
        Ok(Self {
            config: config.clone(),
            port,
            stream,
            reader: Reader::new(),
            replies: Replies::new(),
            command: Cmd::new(),
            out: Vec::new(),
            sending: Sending::default(),
            heard: Instant::now(),
            alarm: Alarm::default(),
            serving: false,
            untracked: None,
            refusal: None,
        })
    }

    /// The handshake is over: after the first lookup asks are taken.
    pub(super) async fn ready(mut self, untracked: Option<String>) -> Result<Self, Lost> {
        self.untracked = untracked;
        // The real thing before anything is promised: a server or proxy may greet and answer no lookup.
        let way = self.replies.way();
        self.refusal = self.first_probe().await?.err();
        if self.replies.way() != way {
            // It may be the number of keys that is refused.
            self.refusal = self.first_probe().await?.err();
        }
        self.serving = true;
        Ok(self)
    }

    async fn first_probe(&mut self) -> Result<Result<(), String>, Lost> {
        self.probe();
        loop {
            self.turn().await?;
            if let Some(reply) = self.replies.take_own_probe() {
                return Ok(reply);
            }
        }
    }

    /// By what it was opened.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The address of the server.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.stream.tcp().peer_addr().ok()
    }

    /// Why Redis does not say which routes change, if it does not.
    pub(super) fn untracked(&self) -> Option<&str> {
        self.untracked.as_deref()
    }

    /// Whether it answers lookups, as far as is known when it opens.
    pub(super) fn health(&self) -> Health {
        self.refusal.clone().map_or(Health::Ready, Health::Waiting)
    }

    /// The asks that this connection took and did not answer.
    pub(super) fn unanswered(self) -> impl Iterator<Item = AskNo> {
        self.replies.unanswered()
    }

    /// Serves until the connection is lost; says why.
    pub(super) async fn run(&mut self) -> Lost {
        loop {
            if let Err(lost) = self.turn().await {
                return lost;
            }
            // On a quiet connection nothing else says how the server is.
            if let Some(Err(why)) = self.replies.take_own_probe() {
                self.port.report(Health::Waiting(why));
            }
            pace::yield_if_needed().await;
        }
    }

    /// Takes no more asks, and serves until those it took are answered, or it is lost.
    pub(super) async fn finish(&mut self) {
        self.serving = false;
        while self.replies.outstanding() > 0 && self.turn().await.is_ok() {}
    }

    /// One command of the handshake and its reply: whether it is a map, or the server's words against it.
    pub(super) async fn call(&mut self, command: &Cmd) -> Result<Result<bool, String>, Lost> {
        command.write_packed_command(&mut self.out);
        self.replies.expect(Instant::now() + self.config.server.read_timeout, Expected::Plain);
        loop {
            self.turn().await?;
            if let Some(reply) = self.replies.take_plain() {
                return Ok(reply);
            }
        }
    }

    /// Waits until something was read, or the connection is lost.
    async fn turn(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        loop {
            if self.serving {
                self.take_asks(cx);
            }
            if let Err(lost) = self.poll_write(cx) {
                // What was said last tells more than that nothing is taken any more.
                return Poll::Ready(Err(self.poll_reads(cx).err().unwrap_or(lost)));
            }
            if self.poll_reads(cx)? {
                return Poll::Ready(Ok(()));
            }
            // Only with nothing left to read: a shard that stood still must not take its own pause for Redis's.
            let next = self.next_due();
            ready!(self.alarm.poll(cx, next));
            self.look_at_clock()?;
        }
    }

    /// Puts the asks that wait into the buffer, up to the bound.
    fn take_asks(&mut self, cx: &mut Context<'_>) {
        let mut due = None;
        while self.replies.outstanding() < MGETS_IN_FLIGHT {
            let Poll::Ready(RouteAsk { ask, users }) = self.port.poll_next(cx) else { break };
            self.command.clear();
            self.command.arg("MGET");
            let expected = match users.len() as u64 {
                0 => {
                    let (command, keys) = self.replies.probe(&self.config);
                    self.command = command;
                    Expected::Probe { ask, keys }
                }
                count => {
                    let first = self.replies.wants_witness().then(|| users.get(0).into());
                    Expected::Routes { ask, users: count, first }
                }
            };
            for user in users.iter() {
                let mut key = self.command.writer_for_next_arg();
                // Into memory: cannot fail.
                let _ = key.write_all(ROUTE_KEY_PREFIX.as_bytes()).and_then(|()| key.write_all(user.as_bytes()));
            }
            self.command.write_packed_command(&mut self.out);
            let due = *due.get_or_insert_with(|| Instant::now() + self.config.server.read_timeout);
            self.replies.expect(due, expected);
        }
    }

    /// Sends what the socket takes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let sent = self.sending.poll(&mut self.stream, &mut self.out, cx);
        sent.map_err(|error| self.broken(&error))
    }

    /// Reads and understands what is there; whether there was anything.
    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        for read in 0..READS_A_TURN {
            match Pin::new(&mut self.stream).poll_read(cx, self.reader.room()) {
                Poll::Ready(Ok(0)) => return Err(self.cut("the server closed the connection")),
                Poll::Ready(Ok(bytes)) => {
                    self.reader.filled(bytes);
                    self.replies.drain(&mut self.reader, &self.config, self.port)?;
                }
                Poll::Ready(Err(error)) => return Err(self.broken(&error)),
                Poll::Pending if read == 0 => return Ok(false),
                Poll::Pending => break,
            }
        }
        self.heard = Instant::now();
        Ok(true)
    }

    fn next_due(&self) -> Instant {
        let reply = self.replies.due().unwrap_or(self.heard + PROBE_EVERY);
        let write = self.sending.stalled().map(|since| since + self.config.server.write_timeout);
        write.map_or(reply, |write| write.min(reply))
    }

    /// Ends what is overdue; asks a quiet server whether it lives.
    fn look_at_clock(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        if self.replies.due().is_some_and(|due| due <= now) {
            return Err(self.overdue("no answer", self.config.server.read_timeout));
        }
        if self.sending.stalled().is_some_and(|since| since + self.config.server.write_timeout <= now) {
            return Err(self.overdue("takes no requests", self.config.server.write_timeout));
        }
        if self.serving && self.replies.outstanding() == 0 && self.heard + PROBE_EVERY <= now {
            // Not a PING: a proxy may answer that by itself.
            self.probe();
        }
        Ok(())
    }

    /// Writes a lookup of nobody.
    fn probe(&mut self) {
        let (command, keys) = self.replies.probe(&self.config);
        command.write_packed_command(&mut self.out);
        self.replies.expect(Instant::now() + self.config.server.read_timeout, Expected::OwnProbe { keys });
    }

    fn overdue(&self, what: &str, limit: Duration) -> Lost {
        let what = format!("{what} within {limit:?}");
        self.config.lost(&what, "Redis is not overloaded or stopped, and that the network carries packets")
    }

    fn broken(&self, error: &io::Error) -> Lost {
        match tls::of(error) {
            Some(_) => self.config.lost_in_words(tls::words(error, TLS_SECTION)),
            None => self.cut(&socket::words(error)),
        }
    }

    fn cut(&self, what: &str) -> Lost {
        self.config.lost(what, "Redis runs there and is healthy")
    }
}
