//! The reader of one shard: builds its connection, watches it, replaces it, and ends it. What is read is its [`Feed`]'s.
//!
//! Promises to try for ever, at most every few seconds, and to say what is wrong and where to look; that nothing is read
//! while the intake is shut; that all which was read is handed in before a stop is done; and that a server which is about to
//! end is left before it cuts us off, where there is another one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::future;

use super::connection::{Connection, Patience};
use super::control::{Control, Phase};
use super::feed::{End, Feed, LANE_LOOK};
use super::servers::Servers;
use super::{opening, server};
use crate::config::{Held, NatsConfig, NatsServer};
use crate::edge::alarm::Alarm;
use crate::edge::pace;
use crate::edge::resolve::Resolver;
use crate::ports::{Health, Intake};
use crate::telemetry::log_limiter::LogLimiter;

/// The longest time between two PINGs, also when `nats.ping_interval` is longer: a subscription whose server is gone is no use.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How often to look whether something else is wanted: a net, as whoever wants it wakes the reader.
const NET_LOOK: Duration = Duration::from_secs(1);
/// How often to look whether to stop while a connection is opened.
const TOLD_LOOK: Duration = Duration::from_millis(50);
/// How often to look for another server when the present one is about to end.
const MOVE_EVERY: Duration = Duration::from_secs(5);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Read, and acknowledge.
    Read,
    /// Acknowledge what is out.
    Acknowledge,
    /// Nothing, until something changes.
    Nothing,
    /// Give back what is not settled.
    Finish,
    /// End.
    Over,
}

/// A connection that stands.
struct Standing {
    connection: Connection,
    server: NatsServer,
    /// Events come over it.
    is_read: bool,
    since: Instant,
    /// When to look for another server.
    moves_at: Option<Instant>,
}

/// Keeps one connection.
pub(super) struct Reader<F> {
    nats: Held<NatsConfig>,
    intake: Intake,
    number: u16,
    control: Arc<Control>,
    resolver: Resolver,
    servers: Servers,
    feed: F,
    away: LogLimiter,
    tries: u32,
    unfed: Option<String>,
    is_finished: bool,
}

impl<F: Feed> Reader<F> {
    pub(super) fn new(
        nats: Held<NatsConfig>,
        intake: Intake,
        number: u16,
        control: Arc<Control>,
        resolver: Resolver,
        feed: F,
    ) -> Self {
        let servers = Servers::new(&nats.servers);
        let away = LogLimiter::default();
        Self { nats, intake, number, control, resolver, servers, feed, away, tries: 0, unfed: None, is_finished: false }
    }

    /// Runs until the source is closed.
    pub(super) async fn run(mut self) {
        self.report(Health::Waiting("NATS: connecting".to_owned()));
        let mut standing: Option<Standing> = None;
        loop {
            let wanted = self.wanted();
            if wanted != Wanted::Read {
                self.read_no_more(standing.as_mut()).await;
            }
            match wanted {
                Wanted::Over => return,
                Wanted::Nothing => {
                    standing = None;
                    self.rest(wanted, None).await;
                }
                Wanted::Finish => standing = self.finish(standing).await,
                Wanted::Read | Wanted::Acknowledge => standing = self.use_connection(standing, wanted).await,
            }
        }
    }

    /// What others said last; what is wanted follows from it.
    fn word(&self) -> Word {
        word(&self.control, &self.intake)
    }

    fn wanted(&self) -> Wanted {
        let phase = self.control.phase();
        let acknowledges = if self.feed.has_acks() { Wanted::Acknowledge } else { Wanted::Nothing };
        match phase {
            Phase::Closed => Wanted::Over,
            Phase::Finishing if self.is_finished => Wanted::Nothing,
            Phase::Finishing => Wanted::Finish,
            Phase::Leaving => acknowledges,
            Phase::Reading if self.intake.is_stopping() || !self.feed.is_wanted() => acknowledges,
            Phase::Reading if self.feed.needs_stores() && !self.intake.is_open() => acknowledges,
            Phase::Reading => Wanted::Read,
        }
    }

    /// Nothing is to be read (any more): has the server know it, and tells who waits for it.
    async fn read_no_more(&mut self, standing: Option<&mut Standing>) {
        let is_stop = self.control.phase() > Phase::Reading;
        if let Some(standing) = standing.filter(|standing| standing.is_read) {
            if is_stop {
                self.report(Health::Waiting("NATS: stopping".to_owned()));
            }
            self.feed.leave(&mut standing.connection).await;
            standing.is_read = false;
            self.tries = 0;
        }
        if !is_stop && !self.feed.is_wanted() {
            self.report(Health::Ready);
        } else if !is_stop {
            self.report(Health::Waiting("NATS: reading begins when the stores have answered".to_owned()));
        }
        self.control.set_left(!is_stop);
        self.tell_handed_in();
    }

    /// At a stop: tells who waits for it once all that was read is handed in.
    fn tell_handed_in(&self) {
        if self.control.phase() > Phase::Reading && self.feed.is_handed_in() {
            self.control.note_handed_in();
        }
    }

    /// Gives back what is not settled; tried until the server has it, or the source is closed.
    async fn finish(&mut self, standing: Option<Standing>) -> Option<Standing> {
        let standing = match standing {
            Some(standing) => Ok(standing),
            None if !self.feed.has_acks() => {
                self.note_finished();
                return None;
            }
            None => self.build_unless_told(false).await,
        };
        match standing {
            Ok(mut standing) => {
                if self.feed.finish(&mut standing.connection).await {
                    self.note_finished();
                    return Some(standing);
                }
                self.feed.lost();
            }
            Err(_) if self.wanted() != Wanted::Finish => {}
            Err(why) => self.try_later(why, Wanted::Finish).await,
        }
        None
    }

    fn note_finished(&mut self) {
        self.is_finished = true;
        self.control.note_finished();
    }

    /// Uses the connection that stands, or builds one; gives it back when it still stands.
    async fn use_connection(&mut self, standing: Option<Standing>, wanted: Wanted) -> Option<Standing> {
        let is_read = wanted == Wanted::Read;
        let standing = standing.filter(|standing| standing.is_read == is_read);
        let built = match standing {
            Some(standing) => Ok(standing),
            None => self.build_unless_told(is_read).await,
        };
        let mut standing = match built {
            Ok(standing) => {
                self.feed.opened();
                standing
            }
            // It was told something else meanwhile.
            Err(_) if self.wanted() != wanted => return None,
            Err(why) => {
                self.try_later(why, wanted).await;
                return None;
            }
        };
        match self.serve(&mut standing, wanted).await {
            None => Some(standing),
            Some(End::Lost(why)) => {
                self.feed.lost();
                self.learn(&standing);
                self.servers.left(&standing.server, false);
                // One that only opens has not worked; a refusal comes back at once.
                let has_worked = standing.since.elapsed() > opening::BACKOFF_MAX;
                self.tries = if has_worked { 0 } else { self.tries };
                let refusal = standing.connection.refusal.as_ref();
                let why = server::explain(&self.nats.auth, None, refusal).unwrap_or(why);
                self.try_later(format!("NATS at {}: {why}", standing.connection.at), wanted).await;
                None
            }
            Some(End::Moves) => Some(self.move_on(standing).await),
        }
    }

    /// Builds one, and breaks that off when the reader is told to go on: a server that hangs is not waited for then.
    async fn build_unless_told(&mut self, is_read: bool) -> Result<Standing, String> {
        let (control, phase) = (self.control.clone(), self.control.phase());
        let told = async {
            while control.phase() <= phase {
                glommio::timer::sleep(TOLD_LOOK).await;
            }
            Err("told to stop".to_owned())
        };
        let built = future::or(self.build(is_read), told).await;
        if built.is_err() {
            self.feed.lost();
        }
        built
    }

    async fn build(&mut self, is_read: bool) -> Result<Standing, String> {
        let mut wrong: Vec<String> = Vec::new();
        for server in self.servers.round() {
            match self.build_at(&server, is_read).await {
                Ok(standing) => return Ok(standing),
                Err(why) => wrong.push(why),
            }
        }
        Err(wrong.join("; "))
    }

    async fn build_at(&mut self, server: &NatsServer, is_read: bool) -> Result<Standing, String> {
        if self.nats.renew() {
            self.feed.uses(self.nats.value().clone());
        }
        let name = format!("{} reader {}", self.nats.name, self.number);
        let mut connection = opening::open(server, self.nats.value(), &name, self.patience(), &self.resolver).await?;
        self.feed.open(&mut connection, is_read).await.map_err(|why| {
            self.feed.lost();
            format!("NATS at {}: {why}", server.at)
        })?;
        if is_read {
            self.control.set_left(false);
            tracing::info!(reader = self.number, "NATS: {} at {}", self.feed.what(), server.at);
            self.unfed = self.feed.unfed().map(ToOwned::to_owned);
            self.report_ready(&server.at.to_string());
        }
        let (server, since) = (server.clone(), Instant::now());
        let standing = Standing { connection, server, is_read, since, moves_at: None };
        self.learn(&standing);
        Ok(standing)
    }

    /// Which other servers this one named last.
    fn learn(&mut self, standing: &Standing) {
        let named = standing.connection.info.as_ref().map_or(&[][..], |info| &info.connect_urls[..]);
        self.servers.opened(&standing.server, named);
    }

    fn patience(&self) -> Patience {
        let ping_every = self.nats.ping_interval.clamp(Duration::from_millis(10), PING_INTERVAL_MAX);
        Patience { ping_every, silence: ping_every * self.nats.max_pings_out.max(1), write: self.nats.timeout }
    }

    /// Serves until something else is wanted (then none), or the connection is of no use.
    async fn serve(&mut self, standing: &mut Standing, wanted: Wanted) -> Option<End> {
        let mut alarm = Alarm::default();
        loop {
            // First: what is said after it wakes the turn.
            let word = self.word();
            if self.wanted() != wanted {
                return None;
            }
            let turn = self.turn(&mut standing.connection, &mut alarm, word).await;
            match turn {
                Ok(()) => {}
                Err(End::Moves) => {
                    standing.moves_at.get_or_insert_with(Instant::now);
                }
                Err(lost) => return Some(lost),
            }
            if standing.moves_at.is_some_and(|at| at <= Instant::now()) && standing.is_read {
                standing.moves_at = Some(Instant::now() + MOVE_EVERY);
                return Some(End::Moves);
            }
            if standing.is_read && self.feed.unfed() != self.unfed.as_deref() {
                self.unfed = self.feed.unfed().map(ToOwned::to_owned);
                self.report_ready(&standing.connection.at);
            }
            // A stop may have been told in this turn: what comes until the server knows of it is to be handed in too.
            if !standing.is_read {
                self.tell_handed_in();
            }
            // What was read is for the pump, which runs on this core.
            pace::yield_now().await;
        }
    }

    /// Waits until something was read, told, or due.
    async fn turn(&mut self, connection: &mut Connection, alarm: &mut Alarm, word: Word) -> Result<(), End> {
        let (control, intake, feed, mut is_first) = (&self.control, &self.intake, &mut self.feed, true);
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = feed.poll_turn(cx, connection) {
                return Poll::Ready(result);
            }
            let now = Instant::now();
            let due = feed.next_due(now).min(now + NET_LOOK);
            let is_told = || word != self::word(control, intake);
            poll_told_or_due(control, alarm, due, std::mem::take(&mut is_first), is_told, cx).map(Ok)
        })
        .await;
        self.control.awake();
        result
    }

    /// Leaves a server that is about to end for another one; keeps it when there is none.
    async fn move_on(&mut self, standing: Standing) -> Standing {
        let mut old = standing;
        self.learn(&old);
        let others: Vec<NatsServer> = self.servers.round().into_iter().filter(|server| *server != old.server).collect();
        self.servers.left(&old.server, true);
        tracing::info!(
            reader = self.number,
            others = others.len(),
            "NATS at {}: the server is about to end",
            old.server.at
        );
        for server in others {
            if !F::MAY_OVERLAP && std::mem::take(&mut old.is_read) {
                self.feed.leave(&mut old.connection).await;
            }
            match self.build_at(&server, true).await {
                Ok(new) => {
                    if F::MAY_OVERLAP {
                        self.feed.leave(&mut old.connection).await;
                    }
                    self.feed.opened();
                    return new;
                }
                Err(why) => tracing::warn!(reader = self.number, "{why}"),
            }
        }
        old
    }

    /// Says what is wrong and waits a while.
    async fn try_later(&mut self, why: String, wanted: Wanted) {
        if let Some(left_out) = self.away.allow() {
            tracing::warn!(reader = self.number, left_out, "{why}");
        }
        if wanted == Wanted::Read {
            self.report(Health::Waiting(why));
        }
        let pause = opening::backoff(self.nats.reconnect_delay, self.tries);
        self.tries = self.tries.saturating_add(1);
        self.rest(wanted, Some(Instant::now() + pause)).await;
    }

    /// Waits, without a connection, until something else is wanted or for as long as said.
    async fn rest(&mut self, wanted: Wanted, until: Option<Instant>) {
        let mut alarm = Alarm::default();
        loop {
            let word = self.word();
            if self.wanted() != wanted || until.is_some_and(|until| until <= Instant::now()) {
                return;
            }
            self.feed.idle();
            if self.wanted() != wanted {
                return;
            }
            self.tell_handed_in();
            let look = Instant::now() + if self.feed.is_handed_in() { NET_LOOK } else { LANE_LOOK };
            let due = until.map_or(look, |until| until.min(look));
            let (control, is_told, mut is_first) = (&self.control, || word != self.word(), true);
            poll_fn(|cx| poll_told_or_due(control, &mut alarm, due, std::mem::take(&mut is_first), is_told, cx)).await;
            self.control.awake();
            pace::yield_now().await;
        }
    }

    fn report_ready(&self, at: &str) {
        match &self.unfed {
            Some(why) => {
                let why = format!("NATS at {at}: {why}");
                if let Some(left_out) = self.away.allow() {
                    tracing::warn!(reader = self.number, left_out, "{why}");
                }
                self.report(Health::Waiting(why));
            }
            None => self.report(Health::Ready),
        }
    }

    fn report(&self, health: Health) {
        self.intake.report(self.number, health);
    }
}

/// How far to go, whether the intake is open, and whether it stops.
type Word = (Phase, bool, bool);

fn word(control: &Control, intake: &Intake) -> Word {
    (control.phase(), intake.is_open(), intake.is_stopping())
}

/// Ready when the reader was woken after its `first` poll, has mail, or something is due.
fn poll_told_or_due(
    control: &Control,
    alarm: &mut Alarm,
    due: Instant,
    is_first: bool,
    is_told: impl FnOnce() -> bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    control.falling_asleep(cx.waker());
    let is_told = !is_first || !control.inbox.is_empty() || is_told();
    if alarm.poll(cx, due).is_ready() || is_told { Poll::Ready(()) } else { Poll::Pending }
}
