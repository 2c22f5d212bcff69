//! A running engine: threads started in the order that lets each find what it needs, stopped in the order that loses
//! nothing.
//!
//! Promises that [`EngineBuilder::start`] returns as soon as all threads run, whether or not any server is there (that
//! is what `/readyz` tells), and that [`Engine::stop`] returns within `engine.drain_timeout`, a second, and the 2 s that
//! the source's last acks may take. Refuses to
//! open a socket of its own: the edge does.

pub mod adapters;
mod control;
mod error;
mod gate;
mod health;
mod numbers;
mod owned;
pub mod ownership;
pub mod reload;
mod report;
mod sections;
mod shards;
mod supervisor;
mod told;
mod traces;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::admin;
use crate::config::{Config, InboxStore, RouteCache};
use crate::edge::nats::Partitions;
use crate::edge::resolve::Resolver;
use crate::engine::control::Control;
use crate::engine::gate::GateThread;
use crate::engine::health::{health_checks, needed_stores};
use crate::engine::owned::{OnMustEnd, Owned};
use crate::engine::reload::Reloader;
use crate::engine::sections::Sections;
use crate::engine::shards::Workers;
use crate::engine::supervisor::OnFailure;
use crate::engine::told::{admin_state, desks_of};
use crate::model::limits::INBOX_FACTS;
use crate::ports::ends::EndsDesk;
use crate::ports::intake::{Intake, IntakeLane};
use crate::ports::mailbox::{FactSender, Wake, mailbox};
use crate::ports::permit::Permit;
use crate::ports::registry::{Directory, RegistrySink};
use crate::ports::tap::TapDesk;
use crate::ports::{DeadLetters, Health, Inbox, LetterPost, Members, Registry, Routes, Source};
use crate::shard::pump::Shared;
use crate::shard::stop::StopState;
use crate::shard::uring_check;
pub use crate::shard::uring_check::UringError;
use crate::telemetry::metrics::Meter;
use crate::telemetry::watchdog::{Heartbeats, Watchdog};
pub use error::StartError;
pub use report::StopReport;

/// How often a stop looks whether it waits for stores that are away.
const STUCK_LOOK: Duration = Duration::from_millis(50);
/// For how long it must have waited for nothing else: an answer may be on its way.
const STUCK_FOR: Duration = Duration::from_millis(500);
/// How long the shards get to end once what they have in flight is cut off.
const CUT_OFF_DEADLINE: Duration = Duration::from_secs(1);

/// An engine that is being put together. What is not injected comes from the configuration.
pub struct EngineBuilder {
    config: Config,
    members: Option<Arc<dyn Members>>,
    routes: Option<Arc<dyn Routes + Send + Sync>>,
    registry: Option<Box<dyn Registry>>,
    source: Option<Box<dyn Source>>,
    inbox: Option<Arc<dyn Inbox>>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    on_failure: Option<OnFailure>,
    on_must_end: Option<OnMustEnd>,
}

impl EngineBuilder {
    /// Takes members from here instead of MySQL.
    #[must_use]
    pub fn members(mut self, members: impl Members) -> Self {
        self.members = Some(Arc::new(members));
        self
    }

    /// Takes routes from here instead of Redis.
    #[must_use]
    pub fn routes(mut self, routes: impl Routes) -> Self {
        self.routes = Some(Arc::new(routes));
        self
    }

    /// Takes gateways from here instead of etcd.
    #[must_use]
    pub fn registry(mut self, registry: impl Registry) -> Self {
        self.registry = Some(Box::new(registry));
        self
    }

    /// Takes events from here instead of NATS.
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Remembers messages for users who could not be reached here instead of in MySQL. Not used with
    /// `inbox.store: off`.
    #[must_use]
    pub fn inbox(mut self, inbox: impl Inbox) -> Self {
        self.inbox = Some(Arc::new(inbox));
        self
    }

    /// Keeps dead letters here instead of in NATS or the local file.
    #[must_use]
    pub fn dead_letters(mut self, dead_letters: impl DeadLetters) -> Self {
        self.dead_letters = Some(Arc::new(dead_letters));
        self
    }

    /// Is told, once and in words, when a shard is gone that was not told to end. Its sessions get nothing any more:
    /// [`stop`](Engine::stop) the engine, which cuts off what the others have in flight.
    #[must_use]
    pub fn on_failure(mut self, tell: impl FnOnce(String) + Send + 'static) -> Self {
        self.on_failure = Some(Box::new(tell));
        self
    }

    /// Is told when this process must end at once, with an exit code and a sentence: another instance has what it owned (3), the
    /// instances are not configured alike (2), or its ownership cannot go on (1). Nothing may be pushed, given back or
    /// acknowledged any more, and its connections will be reset: end the process. Without this, the engine ends it.
    #[must_use]
    pub fn on_must_end(mut self, tell: impl FnOnce(u8, String) + Send + 'static) -> Self {
        self.on_must_end = Some(Box::new(tell));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then but threads that end by themselves.
    pub fn start(self) -> Result<Engine, StartError> {
        let config = self.config;
        uring_check::check().map_err(StartError::Uring)?;
        let (listener, admin_address) = admin_port(&config)?;
        let resolver = Resolver::start().map_err(|error| StartError::Machine("the resolver thread", error))?;
        adapters::check_tls(&config).map_err(StartError::Config)?;
        let sections = Sections::of(&config);
        let (source, partitions) = source_of(self.source, &config, &sections, &resolver)?;
        // Own ones need not say how they are.
        let says_health = (self.routes.is_none(), self.registry.is_none());
        let members = self.members.unwrap_or_else(|| adapters::members_by(&config, &sections));
        let routes = self.routes.unwrap_or_else(|| adapters::routes_by(&config, &sections, &resolver));
        let registry = self.registry.unwrap_or_else(|| adapters::registry_by(&config, &sections));
        let inbox = self.inbox.unwrap_or_else(|| adapters::inbox_by(&config, &sections));
        let inbox = (config.inbox.store != InboxStore::Off).then_some(inbox);
        let dead_letters = self.dead_letters.unwrap_or_else(|| adapters::dead_letter_store_by(&config, &sections));
        let shards = config.engine.cores;
        let (meter, publishers) = Meter::new(shards);
        let reloader = Reloader::of(&config, &sections, &meter);
        let heartbeats = Heartbeats::new(shards);
        let wakes: Vec<_> = (0..shards).map(|_| Arc::new(Wake::default())).collect();
        let (senders, mailboxes): (Vec<FactSender>, Vec<_>) =
            wakes.iter().map(|wake| mailbox(INBOX_FACTS, wake.clone())).unzip();
        // Whoever owns partitions gives it; nobody needs to where all are everybody's.
        let permit = Arc::new(if config.consumer.is_owned() { Permit::not_given() } else { Permit::default() });
        let (intake, lanes) = intake_of(&config, wakes.clone(), permit.clone());
        let readers = source.shard_readers().map(|readers| (readers, intake.clone()));
        // Before any page can say otherwise.
        intake.shut("no store has answered yet".to_owned());
        let (sink, directory) = RegistrySink::new(senders.clone());
        let workers = Workers::start(members.clone(), inbox, config.inbox.rows_up_to > 0, dead_letters)?;
        source.letters_go_to(letter_post(&workers));
        let desks = desks_of(&config, &senders);
        let shared = Arc::new(shared_of(shards, wakes.clone(), heartbeats.clone(), permit.clone(), desks));
        let stopping = Arc::new(AtomicBool::new(false));
        let mut health = health_checks(&intake, &workers, &sink, &shared, config.database);
        let stores = needed_stores(&workers, &health, &shared, says_health);
        let facts = senders.clone();
        numbers::register_all(&meter, &intake, (&sink, &directory), members, &workers);
        let (board, admin) = (owned::board(&meter), admin_address);
        let parts = owned::Parts { permit, heartbeats: heartbeats.clone(), admin, board, sections: sections.clone() };
        let owned = owned::start(&config, partitions, parts, self.on_must_end, &mut health)?;
        let state = admin_state(&meter, &shared, health, &stopping);
        let (traces, exporter) = traces::start(&sections.tracing, &meter, &shared).map_err(StartError::Config)?;
        let control = Control::start((listener, adapters::admin_tls_by(&sections)), state, registry, sink, exporter)
            .map_err(|error| StartError::Machine("the control thread", error))?;
        let parts =
            shards::Parts { publishers, wakes, senders, mailboxes, lanes, workers, routes, resolver, readers, traces };
        let threads = shards::start(&config, &sections, shared.clone(), parts, self.on_failure)?;
        let watchdog =
            Watchdog::start(heartbeats, || {}).map_err(|error| StartError::Machine("the watchdog thread", error))?;
        start_source(source, &intake, &shared)?;
        let gate = GateThread::start(stores, config.consumer.ack_wait, intake.clone(), facts, shared.clone())
            .map_err(|error| StartError::Machine("the gate thread", error))?;
        Ok(Engine {
            admin_address,
            meter,
            directory,
            intake,
            shared,
            stopping,
            control,
            threads,
            gate,
            owned,
            _watchdog: watchdog,
            reloader,
            config,
        })
    }
}

/// The admin port, and where it is.
fn admin_port(config: &Config) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = admin::bind(&config.admin.listen.to_string()).map_err(StartError::Admin)?;
    let address = listener.local_addr().map_err(|error| StartError::Machine("the admin socket", error))?;
    Ok((listener, address))
}

/// Where events come from, and the way to the readers of single partitions where the source has any.
fn source_of(
    injected: Option<Box<dyn Source>>,
    config: &Config,
    sections: &Sections,
    resolver: &Resolver,
) -> Result<(Box<dyn Source>, Option<Partitions>), StartError> {
    if let Some(source) = injected {
        return Ok((source, None));
    }
    let source = adapters::source_by(config, sections, resolver).map_err(StartError::Config)?;
    let partitions = source.partitions();
    Ok((Box::new(source), Some(partitions)))
}

/// The way of events to the shards that have these wakes.
fn intake_of(config: &Config, wakes: Vec<Arc<Wake>>, permit: Arc<Permit>) -> (Intake, Vec<IntakeLane>) {
    let of = Intake::with_permit(wakes, config.consumer.partitions, Arc::default(), permit, config.rules_of_classes());
    if config.admin.push_latency {
        of.0.read_published();
    }
    of
}

/// Where letters of the source itself go.
fn letter_post(workers: &Workers) -> LetterPost {
    let letters = workers.letters.clone();
    Arc::new(move |ask, letter, origin, reply| letters.publish(ask, letter, origin, reply))
}

fn start_source(source: Box<dyn Source>, intake: &Intake, shared: &Shared) -> Result<(), StartError> {
    let running = source.start(intake.clone()).map_err(|error| StartError::Machine("the reader threads", error))?;
    let _ = shared.source.set(running);
    Ok(())
}

/// What all shards share, before any of them runs.
fn shared_of(
    shards: u16,
    wakes: Vec<Arc<Wake>>,
    heartbeats: Arc<Heartbeats>,
    permit: Arc<Permit>,
    (ends, tap): (EndsDesk, TapDesk),
) -> Shared {
    Shared {
        ends,
        tap,
        stop: StopState::of(wakes),
        heartbeats,
        permit,
        epoch: Instant::now(),
        source: OnceLock::new(),
        routes_health: (0..shards)
            .map(|_| Mutex::new(Health::Waiting("a shard has not connected to the route store yet".to_owned())))
            .collect(),
        routes_ready_at: (0..shards).map(|_| AtomicU64::new(0)).collect(),
    }
}

/// A running engine. Dropping it without [`stop`](Self::stop) leaves its threads running until the process ends.
pub struct Engine {
    admin_address: SocketAddr,
    meter: Arc<Meter>,
    directory: Directory,
    intake: Intake,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    control: Control,
    threads: shards::Threads,
    gate: GateThread,
    owned: Option<Owned>,
    _watchdog: Watchdog,
    reloader: Reloader,
    config: Config,
}

impl Engine {
    /// Puts an engine together.
    pub fn builder(config: Config) -> EngineBuilder {
        EngineBuilder {
            config,
            members: None,
            routes: None,
            registry: None,
            source: None,
            inbox: None,
            dead_letters: None,
            on_failure: None,
            on_must_end: None,
        }
    }

    /// Where the admin pages are; tells the port when 0 was configured.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where the admin pages are.
    pub fn admin_url(&self) -> String {
        format!("{}://{}", if self.config.admin.tls.is_written() { "https" } else { "http" }, self.admin_address)
    }

    /// The way of a configuration that was read again into this engine, also while it stops.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// All numbers.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The gateways that the registry lists.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Stops: `/readyz` says so, the source stops reading, what is in flight ends, the streams are half-closed and
    /// drained. What has not ended within `engine.drain_timeout` is cut off and counted; so is, at once, what waits for
    /// nothing but a store that is away.
    pub fn stop(self) -> StopReport {
        let began = Instant::now();
        // Without one of its shards it can not drain.
        let has_failed = self.threads.ends.failed() > 0;
        let drain_timeout = self.reloader.config().engine.drain_timeout;
        let deadline = if has_failed { began } else { began + drain_timeout };
        self.stopping.store(true, Ordering::Release);
        if let Some(owned) = self.owned.as_ref().filter(|_| !has_failed) {
            owned.stop(drain_timeout);
        }
        let has_given_up = self.stop_source();
        self.shared.stop.drain();
        if has_given_up {
            self.shared.stop.give_up();
        }
        if !self.drain(deadline, has_given_up) {
            // First: a shard that is cut off gives back what waits in its lane, and nothing may come after.
            self.intake.stop();
            self.shared.stop.cut_off();
            self.threads.ends.wait(Instant::now() + CUT_OFF_DEADLINE);
        }
        self.intake.stop();
        if let Some(source) = self.shared.source.get() {
            source.finish();
        }
        self.gate.stop();
        self.control.stop();
        StopReport::of(&self.meter, self.intake.counts(), self.threads.ends.failed(), began.elapsed())
    }

    /// Stops the source, which hands in what it has read. Where a reader waits for room that there will not be before a
    /// store is back, the rest is let go, and counted by the readers: then it gives true.
    fn stop_source(&self) -> bool {
        let Some(source) = self.shared.source.get() else { return false };
        self.shared.stop.leave();
        let (ended, end) = bounded::<()>(0);
        let (mut has_given_up, mut moved_at) = (false, Instant::now());
        thread::scope(|scope| {
            let stop = move || {
                let _ended = ended;
                source.stop();
            };
            if thread::Builder::new().name("source-stop".to_owned()).spawn_scoped(scope, stop).is_err() {
                return source.stop();
            }
            while end.recv_timeout(STUCK_LOOK) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if !self.shared.stop.is_blocked(usize::from(self.config.engine.cores)) {
                    moved_at = now;
                }
                if !has_given_up && now.duration_since(moved_at) >= STUCK_FOR {
                    has_given_up = true;
                    self.let_go();
                }
            }
        });
        has_given_up
    }

    /// Takes nothing more: what is in flight waits for nothing but stores that are away.
    fn let_go(&self) {
        tracing::warn!("what is in flight waits for a store that is away: it is not waited for");
        self.intake.stop();
    }

    /// Waits until all shards have ended; false when the deadline came first. What waits only for stores that are away is
    /// given back before, unless it was already.
    fn drain(&self, deadline: Instant, mut has_given_up: bool) -> bool {
        let mut moved_at = Instant::now();
        loop {
            let look = (Instant::now() + STUCK_LOOK).min(deadline);
            if self.threads.ends.wait(look) {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            if !self.shared.stop.is_stuck(usize::from(self.config.engine.cores)) {
                moved_at = now;
            }
            if !has_given_up && now.duration_since(moved_at) >= STUCK_FOR {
                has_given_up = true;
                // First: what waits in the lanes is given back, and nothing may come after.
                self.let_go();
                self.shared.stop.give_up();
            }
        }
    }

    /// Whether routes that were read may be used again.
    pub(crate) fn caches_routes(config: &Config) -> bool {
        config.routes.cache == RouteCache::Tracked
    }
}
