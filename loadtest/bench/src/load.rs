//! The publisher's side of a load: when each event is sent.
//!
//! Promises that an open loop's events carry the instant they were meant to be sent at, whether or not the publisher
//! kept up, and says how far it was behind. Refuses to slow down for the engine in an open loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::clock;
use harness::contents::Contents;
use harness::error::{Error, Result};
use harness::publisher::{Identity, NatsPublisher, Subject};
use harness::verdict::Verdict;
use harness::workload::Load;
use harness::world::World;
use task_engine::edge::memory::Publisher;
use task_engine::model::priority::{Priority, Said};

/// How often a closed loop that is full looks again.
const ROOM_POLL: Duration = Duration::from_micros(200);

/// Where events go.
pub enum Sink {
    /// To a NATS server; with the subject of each session.
    Nats(NatsPublisher, Vec<String>),
    /// Into the engine of this process.
    Embedded(Publisher),
}

/// Publishes a world's events, phase after phase.
pub struct Publishing {
    world: Arc<World>,
    verdict: Arc<Verdict>,
    sink: Sink,
    /// Where contents are kept before their messages are published.
    contents: Option<Contents>,
    payload: Vec<u8>,
    events: u64,
}

/// What one phase published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// How many events.
    pub events: u64,
    /// The most that it was behind its schedule, in nanoseconds; 0 in a closed loop.
    pub lag_max_nanos: u64,
}

impl Sink {
    /// A sink that publishes to NATS; sessions of which each message is urgent have another subject, where there is one.
    pub fn nats(publisher: NatsPublisher, subject: &Subject, urgent: Option<&Subject>, world: &World) -> Self {
        let subject_of = |session| urgent.filter(|_| world.is_all_urgent(session)).unwrap_or(subject);
        let of = |session| subject_of(session).of(&World::session_name(session));
        Self::Nats(publisher, (0..world.sessions()).map(of).collect())
    }

    fn publish(&mut self, identity: Identity, class: Option<Priority>, payload: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Nats(publisher, subjects) => publisher.publish_known(&subjects[identity.0], identity, class, payload),
            Self::Embedded(publisher) => {
                let said = class.map_or(Said::Nothing, Said::Class);
                let sent = publisher.publish_as(std::mem::take(payload), said);
                sent.map_err(|stopped| Error::of("the engine takes no more events", stopped))
            }
        }
    }

    fn not_taken(&mut self) -> Vec<Identity> {
        match self {
            Self::Nats(publisher, _) => publisher.not_taken(),
            Self::Embedded(_) => Vec::new(),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Nats(publisher, _) => publisher.flush(),
            Self::Embedded(_) => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        match self {
            Self::Nats(publisher, _) => publisher.sync(),
            Self::Embedded(_) => Ok(()),
        }
    }
}

impl Publishing {
    /// Publishes what the verdict will judge.
    pub fn new(world: Arc<World>, verdict: Arc<Verdict>, sink: Sink) -> Self {
        Self { world, verdict, sink, contents: None, payload: Vec::new(), events: 0 }
    }

    /// The same, with contents kept before.
    pub fn with_contents(self, contents: Option<Contents>) -> Self {
        Self { contents, ..self }
    }

    /// One event for each session, as fast as they are delivered: connections open, members and routes known.
    ///
    /// # Errors
    /// When nothing takes them.
    pub fn touch_all(&mut self, in_flight: u64, stop: &AtomicBool) -> Result<Published> {
        for session in 0..self.world.sessions() {
            if !self.wait_for_room(in_flight, u64::MAX, stop)? {
                break;
            }
            self.publish(session, clock::now())?;
        }
        self.sync()?;
        Ok(Published { events: self.world.sessions() as u64, lag_max_nanos: 0 })
    }

    /// Publishes for so long, or until the world has no more events, or it is told to stop.
    ///
    /// # Errors
    /// When nothing takes the events.
    pub fn drive(&mut self, load: Load, seconds: f64, stop: &AtomicBool) -> Result<Published> {
        let nanos = (seconds * 1e9) as u64;
        let published = match load {
            Load::EventsPerSecond(rate) => self.open_loop(u64::from(rate), nanos, stop),
            Load::PushesInFlight(window) => self.closed_loop(window, nanos, stop),
        }?;
        self.sync()?;
        Ok(published)
    }

    /// The broker has said of each event whether it took it.
    fn sync(&mut self) -> Result<()> {
        self.sink.sync()?;
        self.strike_out();
        Ok(())
    }

    /// What the broker refused is not expected.
    fn strike_out(&mut self) {
        for (session, number) in self.sink.not_taken() {
            self.verdict.not_taken(session, number);
        }
    }

    fn open_loop(&mut self, rate: u64, nanos: u64, stop: &AtomicBool) -> Result<Published> {
        let mut published = Published::default();
        let start = clock::now();
        let events = (u128::from(rate) * u128::from(nanos) / 1_000_000_000) as u64;
        let events = events.min(self.left());
        while published.events < events && !stop.load(Ordering::Relaxed) {
            let after = u128::from(published.events) * 1_000_000_000 / u128::from(rate);
            let intended = start + after as u64;
            let mut now = clock::now();
            if now < intended {
                self.sink.flush()?;
                std::thread::sleep(Duration::from_nanos(intended - now));
                now = clock::now();
            }
            published.lag_max_nanos = published.lag_max_nanos.max(now.saturating_sub(intended));
            self.publish_next(intended)?;
            published.events += 1;
        }
        Ok(published)
    }

    fn closed_loop(&mut self, window: u64, nanos: u64, stop: &AtomicBool) -> Result<Published> {
        let mut published = Published::default();
        let end = clock::now() + nanos;
        while self.left() > 0 && self.wait_for_room(window, end, stop)? {
            self.publish_next(clock::now())?;
            published.events += 1;
        }
        Ok(published)
    }

    /// Waits until fewer pushes than `window` are under way; false when time is up first.
    fn wait_for_room(&mut self, window: u64, end: u64, stop: &AtomicBool) -> Result<bool> {
        let mut has_flushed = false;
        loop {
            if clock::now() >= end || stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let progress = self.verdict.progress();
            if progress.expected.saturating_sub(progress.delivered) < window {
                return Ok(true);
            }
            if !has_flushed {
                self.sink.flush()?;
                has_flushed = true;
            }
            self.strike_out();
            std::thread::sleep(ROOM_POLL);
        }
    }

    /// How many more events the world has.
    fn left(&self) -> u64 {
        self.world.events_max().saturating_sub(self.events)
    }

    fn publish_next(&mut self, intended: u64) -> Result<()> {
        let session = self.world.next_session(self.events);
        self.events += 1;
        self.publish(session, intended)
    }

    fn publish(&mut self, session: usize, intended: u64) -> Result<()> {
        let number = self.verdict.next_event(session, intended, &mut self.payload);
        let class = self.world.class_of(session, number);
        if let Some(contents) = &mut self.contents
            && contents.keep(&self.world, session, number)?
            // Whoever does not get what is fleeting is owed nothing, kept or not.
            && class != Some(Priority::Fleeting)
        {
            self.verdict.keeps_content(session, number);
        }
        self.sink.publish((session, number), class, &mut self.payload)
    }
}
