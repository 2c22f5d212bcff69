//! The keeper of one connection: builds it, watches it, replaces it, and ends it.
//!
//! Promises to try for ever, at most every few seconds, and to say what is wrong and where to look; and that no more
//! than two connections' messages wait at once; and that nothing is read while the intake is shut. How it sees that a connection is to be replaced: [`Watch`].

#![expect(clippy::disallowed_methods, reason = "the keeper's thread, which no shard waits for")]

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Shared;
use super::jetstream::Desk;
use super::link::{Ask, Feed, Link, LinkPlan, LinkState, OpenError, Progress, Subscriptions, Voices};
use super::server;
use super::watch::{Ended, Watch};
use crate::config::{NatsAuth, NatsConfig, NatsServer};
use crate::ports::{Health, Intake};
use crate::telemetry::log_limiter::LogLimiter;

/// The longest wait between tries, unless `nats.reconnect_delay` is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long the server may take to work off our leaving.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long pulls that stand may go on delivering once nothing is asked for any more, and how long they must be quiet:
/// what is under way when they are ended comes again only after ack_wait.
const PULLS_DEADLINE: Duration = Duration::from_secs(1);
const PULLS_QUIET: Duration = Duration::from_millis(50);
const PULLS_LOOK: Duration = Duration::from_millis(2);
/// JetStream: consumers that are looked up or made at once, for each of which an answer may take as long as a connect.
const PREPARED_AT_ONCE: usize = 256;
/// How often to look whether the engine can work again.
const SHUT_LOOK: Duration = Duration::from_millis(100);
/// How long to wait for a reader that has two connections' messages before it.
const ROOM_LOOK: Duration = Duration::from_millis(200);

/// How long to wait before try number `tries` (from 0): at once, but not all instances at the same moment; then
/// doubling, with jitter.
pub(super) fn backoff(wait: Duration, tries: usize) -> Duration {
    let random = RandomState::new().hash_one(tries) % 1000;
    if tries == 0 {
        return Duration::from_millis(10 + random / 20);
    }
    let doubled = wait.saturating_mul(1 << (tries - 1).min(16));
    let most = doubled.min(BACKOFF_MAX.max(wait)).max(Duration::from_millis(10));
    most / 2 + (most / 2).mul_f64(random as f64 / 1000.0)
}

/// Keeps one connection.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    intake: Intake,
    reader: u16,
    subjects: Vec<String>,
    nudge: Sender<()>,
    pub(super) nudged: Receiver<()>,
    /// None when no more will come.
    feeds: Option<Sender<Feed>>,
    away: LogLimiter,
    voices: Arc<Voices>,
    /// With JetStream.
    pub(super) desk: Option<Arc<Desk>>,
    /// Reading is over, acks are still to be written.
    is_acking: Cell<bool>,
    /// Nothing is read as long as the engine cannot work.
    is_sitting_out: Cell<bool>,
}

/// A connection that stands.
pub(super) struct Up {
    pub(super) link: Link,
    pub(super) subscriptions: Subscriptions,
    pub(super) state: Arc<LinkState>,
    pub(super) progress: Arc<Progress>,
    /// For messages: all servers it may be connected to.
    pub(super) servers: String,
    since: Instant,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        intake: Intake,
        reader: u16,
        subjects: Vec<String>,
        (nudge, nudged): (Sender<()>, Receiver<()>),
        feeds: Sender<Feed>,
        desk: Option<Arc<Desk>>,
    ) -> Self {
        let (feeds, away) = (Some(feeds), LogLimiter::default());
        let (is_acking, is_sitting_out) = (Cell::new(false), Cell::new(false));
        let voices = Arc::default();
        Self { shared, intake, reader, subjects, nudge, nudged, feeds, away, voices, desk, is_acking, is_sitting_out }
    }

    /// Runs until the source stops; with JetStream, until it is closed.
    pub(super) fn run(mut self) {
        self.intake.report(self.reader, Health::Waiting("NATS: connecting".to_owned()));
        let up = self.keep();
        if let Some(up) = &up {
            self.leave(up);
        }
        // The reader ends when it has all.
        self.feeds = None;
        if self.desk.is_some() {
            self.is_acking.set(true);
            self.keep_acking(up);
        } else if let Some(up) = up {
            up.subscriptions.give_up(&up.progress);
        }
    }

    /// Keeps a connection until the source stops; gives the one that stands then.
    fn keep(&self) -> Option<Up> {
        let mut tries = 0;
        while !self.stopping() {
            if !self.intake.is_open() {
                self.sit_out(None);
                continue;
            }
            // One connection's messages may wait behind the one that is read; a third would be without bound.
            if self.feeds.as_ref().is_some_and(Sender::is_full) {
                self.pause(ROOM_LOOK);
                continue;
            }
            let why = match self.build() {
                Ok(up) => match Watch::new(self, &up).run() {
                    Ended::Stop => return Some(up),
                    Ended::Turned => {
                        tries = 0;
                        self.sit_out(Some(up));
                        continue;
                    }
                    Ended::Lost(why) => {
                        if let Some(desk) = &self.desk {
                            desk.note_loss(up.since.elapsed());
                        }
                        up.subscriptions.give_up(&up.progress);
                        // Refused subscriptions come back at once; only a link that had worked starts anew.
                        tries = tries.min(1);
                        why
                    }
                },
                Err(why) => why,
            };
            self.waiting(why);
            self.pause(backoff(self.shared.nats.reconnect_delay, tries));
            tries += 1;
        }
        None
    }

    /// Ends reading, and waits until the intake is open again. What is out is acknowledged and reported meanwhile.
    fn sit_out(&self, up: Option<Up>) {
        self.is_sitting_out.set(true);
        if let Some(desk) = &self.desk {
            desk.sit_out(true);
        }
        if let Some(up) = &up {
            self.leave(up);
        }
        self.intake
            .report(self.reader, Health::Waiting("NATS: reading begins when the stores have answered".to_owned()));
        match &self.desk {
            Some(desk) => {
                desk.note_left();
                self.sit_out_acking(up, desk);
                desk.sit_out(false);
            }
            None => {
                if let Some(up) = up {
                    up.subscriptions.give_up(&up.progress);
                }
                while !self.stopping() && !self.has_turned() {
                    self.pause(SHUT_LOOK);
                }
            }
        }
        self.is_sitting_out.set(false);
    }

    /// Keeps a connection for acks while some event is out.
    fn sit_out_acking(&self, up: Option<Up>, desk: &Desk) {
        let (mut up, mut tries) = (up, 0);
        while !self.stopping() && !self.has_turned() {
            let why = match up.take() {
                Some(standing) => {
                    let ended = Watch::new(self, &standing).run();
                    standing.subscriptions.give_up(&standing.progress);
                    let Ended::Lost(why) = ended else { continue };
                    // One that only opens has not worked.
                    if standing.since.elapsed() > BACKOFF_MAX {
                        tries = 0;
                    }
                    why
                }
                None if desk.is_idle() => {
                    self.pause(SHUT_LOOK);
                    continue;
                }
                None => match self.build() {
                    Ok(built) => {
                        up = Some(built);
                        continue;
                    }
                    Err(why) => why,
                },
            };
            tries += 1;
            self.waiting(why);
            self.pause_while_out(backoff(self.shared.nats.reconnect_delay, tries));
        }
        if let Some(up) = up {
            up.subscriptions.give_up(&up.progress);
        }
    }

    /// Waits, unless the source stops or the engine can work again.
    fn pause_while_out(&self, how_long: Duration) {
        let until = Instant::now() + how_long;
        while Instant::now() < until && !self.stopping() && !self.has_turned() {
            self.pause(SHUT_LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Whether the engine began or ceased to be able to work since this connection was made.
    pub(super) fn has_turned(&self) -> bool {
        !self.is_acking.get() && self.intake.is_open() == self.is_sitting_out.get()
    }

    /// Keeps a connection for acks until the source is closed.
    fn keep_acking(&self, up: Option<Up>) {
        let mut up = up;
        loop {
            if let Some(standing) = up.take() {
                Watch::new(self, &standing).run();
                standing.subscriptions.give_up(&standing.progress);
            }
            if !self.stopping() {
                self.pause(backoff(self.shared.nats.reconnect_delay, 1));
            }
            if self.stopping() {
                return;
            }
            match self.build() {
                Ok(built) => up = Some(built),
                Err(why) => self.waiting(why),
            }
        }
    }

    pub(super) fn stopping(&self) -> bool {
        if self.is_acking.get() {
            return self.desk.as_ref().is_none_or(|desk| desk.is_closed());
        }
        self.shared.stopping.load(Ordering::Acquire) || self.intake.is_stopping()
    }

    /// Waits, unless the source stops.
    fn pause(&self, how_long: Duration) {
        let until = Instant::now() + how_long;
        while !self.stopping() {
            if self.nudged.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    pub(super) fn waiting(&self, why: String) {
        if let Some(left_out) = self.away.allow() {
            tracing::warn!(reader = self.reader, left_out, "{why}");
        }
        self.intake.report(self.reader, Health::Waiting(why));
    }

    pub(super) fn ready(&self, servers: &str) {
        if self.is_acking.get() || self.is_sitting_out.get() {
            return;
        }
        if let Some(why) = self.desk.as_ref().and_then(|desk| desk.unfed()) {
            return self.waiting(format!("NATS at {servers}: {why}"));
        }
        match &self.desk {
            Some(desk) => tracing::info!(reader = self.reader, "JetStream: reading {} at {servers}", desk.plan.stream),
            None => {
                tracing::info!(reader = self.reader, subjects = self.subjects.len(), "NATS: subscribed at {servers}");
            }
        }
        self.intake.report(self.reader, Health::Ready);
    }

    /// The servers that answer, or what is wrong with all of them.
    fn present(&self) -> Result<Vec<NatsServer>, String> {
        let nats = &self.shared.nats;
        let (mut present, mut wrong) = (Vec::new(), Vec::new());
        for server in &nats.servers {
            match server::probe(&server.at, nats.timeout) {
                Ok(()) => present.push(server.clone()),
                Err(why) => wrong.push(why),
            }
            if self.stopping() {
                return Err("stopping".to_owned());
            }
        }
        if present.is_empty() { Err(wrong.join("; ")) } else { Ok(present) }
    }

    fn build(&self) -> Result<Up, String> {
        let nats = NatsConfig { servers: self.present()?, ..self.shared.nats.clone() };
        let servers = nats.servers.iter().map(|server| server.at.to_string()).collect::<Vec<_>>().join(", ");
        let state = Arc::new(LinkState::new(self.nudge.clone()));
        let link = Link::open(LinkPlan {
            nats,
            subjects: self.subjects.clone(),
            queue_group: self.shared.consumer.queue_group.clone(),
            reader: self.reader,
            state: state.clone(),
            intake: self.intake.clone(),
            voices: self.voices.clone(),
            desk: self.desk.clone(),
        })
        .map_err(|error| format!("NATS: no thread could be started ({error})"))?;
        let subscriptions = match link.opened.recv_timeout(self.open_timeout()) {
            Ok(Ok(subscriptions)) => subscriptions,
            Ok(Err(OpenError::Client(error))) => return Err(connect_words(&error, &servers, &self.shared.nats.auth)),
            Ok(Err(OpenError::Words(why))) => return Err(format!("NATS at {servers}: {why}")),
            Err(_) => return Err(format!("NATS at {servers}: did not finish connecting in time; check its load")),
        };
        let feed = subscriptions.feed(state.clone());
        let progress = feed.progress.clone();
        if let Some(feeds) = self.feeds.as_ref().filter(|_| !self.is_sitting_out.get()) {
            // There is room, as only this thread puts in; a reader that is gone reads no more.
            let _ = feeds.try_send(feed);
        }
        Ok(Up { link, subscriptions, state, progress, servers, since: Instant::now() })
    }

    fn open_timeout(&self) -> Duration {
        let timeout = self.shared.nats.timeout * 2;
        let consumers = self.desk.as_ref().map_or(0, |desk| desk.plan.consumers());
        timeout * (1 + consumers.div_ceil(PREPARED_AT_ONCE) as u32)
    }

    /// All that the server has sent is in the feed when this returns, unless the server does not answer in time.
    fn leave(&self, up: &Up) {
        if !self.is_sitting_out.get() {
            self.intake.report(self.reader, Health::Waiting("NATS: stopping".to_owned()));
        }
        self.let_pulls_end();
        let until = Instant::now() + LEAVE_DEADLINE;
        if up.state.is_connected() && up.link.asks.send_deadline(Ask::Leave, until).is_ok() {
            loop {
                match up.link.replies.recv_deadline(until) {
                    Ok((Ask::Pulse, _)) => {}
                    Ok((Ask::Leave, Ok(()))) => break,
                    Ok((Ask::Leave, Err(_))) | Err(_) => {
                        tracing::warn!(reader = self.reader, "NATS at {}: no answer while leaving", up.servers);
                        break;
                    }
                }
            }
        }
        up.progress.end();
    }

    /// Waits until no pull delivers: what the server has on its way for a subscription that ends is lost until ack_wait.
    fn let_pulls_end(&self) {
        let Some(desk) = &self.desk else { return };
        let until = Instant::now() + PULLS_DEADLINE;
        let (mut seen, mut quiet_since) = (desk.traffic().1, Instant::now());
        loop {
            let (asked, arrived) = desk.traffic();
            let now = Instant::now();
            if arrived != seen {
                (seen, quiet_since) = (arrived, now);
            }
            if asked == 0 || now >= until || now.duration_since(quiet_since) >= PULLS_QUIET {
                return;
            }
            std::thread::sleep(PULLS_LOOK);
        }
    }
}

/// What a failed connect means and what to check. The client's own words hold no secret, but a server may say what it was sent.
fn connect_words(error: &io::Error, servers: &str, auth: &NatsAuth) -> String {
    let text = server::mask(auth, &error.to_string());
    let keys = server::keys(auth);
    let lower = text.to_ascii_lowercase();
    if lower.contains("authorization violation") || lower.contains("authentication") {
        format!("NATS at {servers}: the login was refused; {keys}")
    } else {
        format!("NATS at {servers}: {text}; check nats.url and the server's log")
    }
}
