//! Ownership of partitions as a part of an engine: started once the event stream can be looked at, stopped before the source is.
//!
//! Promises that an engine starts whether or not NATS is there: until it is, no partition is owned and `/readyz` says why. Refuses to
//! decide anything: the thread `owner` does.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::HealthCheck;
use crate::config::{Config, Partitioner};
use crate::edge::etcd::ownership::root;
use crate::edge::nats::jetstream::generations::{Generations, Outcome};
use crate::edge::nats::{NatsDesk, Partitions};
use crate::edge::socket;
use crate::engine::StartError;
use crate::engine::ownership::{Board, LastWord, LockFile, Owner, OwnerThread, random_boot, register};
use crate::engine::sections::Sections;
use crate::ownership::records::Layout;
use crate::ownership::settings::{Settings, Timings};
use crate::ports::Health;
use crate::ports::ownership::{OwnerFacts, OwnerInbox};
use crate::ports::permit::Permit;
use crate::telemetry::metrics::Meter;
use crate::telemetry::watchdog::Heartbeats;

/// How often to look for the event stream until it is there.
const STREAM_LOOK: Duration = Duration::from_millis(500);
/// How partitions are counted, for the layout: instances that count differently must not meet.
const HASH: &str = "fnv1a32";
/// How long a stop waits beyond the drain timeout for etcd to hear that all is given back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// The part of an engine.
pub(super) struct Owned {
    shared: Arc<OwnedShared>,
}

struct OwnedShared {
    board: Arc<Board>,
    /// Why it has not begun.
    waits: Mutex<String>,
    owner: Once<OwnerThread>,
}

/// What is made at most once, and not after a stop.
struct Once<T> {
    /// A stop came. Held while it is made: a stop that comes meanwhile finds it.
    is_stopped: Mutex<bool>,
    made: OnceLock<T>,
}

impl<T> Once<T> {
    fn new() -> Self {
        Self { is_stopped: Mutex::new(false), made: OnceLock::new() }
    }

    fn is_stopped(&self) -> bool {
        *self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Option<&T> {
        self.made.get()
    }

    /// Makes it, unless a stop came.
    fn make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        let is_stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_stopped {
            let _ = self.made.set(make()?);
        }
        Ok(())
    }

    /// Nothing is made from now on. What was.
    fn stop(&self) -> Option<&T> {
        *self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.made.get()
    }
}

/// Its readers, what it needs of an engine, and how the process ends.
type Given = (Partitions, Parts, Box<dyn LastWord>);

/// What it needs of an engine.
pub(super) struct Parts {
    pub(super) permit: Arc<Permit>,
    pub(super) heartbeats: Arc<Heartbeats>,
    pub(super) admin: SocketAddr,
    pub(super) board: Arc<Board>,
    /// By what connections are opened.
    pub(super) sections: Sections,
}

/// Where ownership is shown, with its numbers on the page: also for an engine without it, whose numbers are all 0.
pub(super) fn board(meter: &Meter) -> Arc<Board> {
    let board = Arc::default();
    register(meter, &board);
    board
}

/// Starts it where the configuration wants it; its part of `/readyz` goes to the others.
///
/// # Errors
/// When the machine refuses a thread.
pub(super) fn start(
    config: &Config,
    partitions: Option<Partitions>,
    parts: Parts,
    on_must_end: Option<OnMustEnd>,
    health: &mut Vec<(&'static str, HealthCheck)>,
) -> Result<Option<Owned>, StartError> {
    let Some(partitions) = partitions.filter(|_| config.consumer.is_owned()) else { return Ok(None) };
    let owned = Owned::start(config, partitions, parts, Box::new(EndsProcess(on_must_end)))?;
    health.push(("ownership", Arc::new(owned.health()) as HealthCheck));
    Ok(Some(owned))
}

impl Owned {
    /// Starts the thread that waits for the event stream and then starts the owner's.
    fn start(
        config: &Config,
        partitions: Partitions,
        parts: Parts,
        last: Box<dyn LastWord>,
    ) -> Result<Self, StartError> {
        let words = "NATS has not answered yet".to_owned();
        let shared = Arc::new(OwnedShared { board: parts.board.clone(), waits: Mutex::new(words), owner: Once::new() });
        let (facts, inbox) = OwnerInbox::new();
        let heard = facts.clone();
        partitions.on_word(move |shard, word| heard.word(shard, word));
        let (config, begun) = (config.clone(), shared.clone());
        let begin = move || begin(&config, &begun, (partitions, parts, last), (facts, inbox));
        thread::Builder::new()
            .name("owner-start".to_owned())
            .spawn(begin)
            .map_err(|error| StartError::Machine("the thread that starts ownership", error))?;
        Ok(Self { shared })
    }

    /// What `/readyz` says of it.
    fn health(&self) -> impl Fn() -> Health + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || match shared.owner.get() {
            Some(_) => shared.board.health(),
            None => Health::Waiting(shared.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }

    /// Gives all partitions back, within the drain timeout. Readers, pumps and gateways work on meanwhile.
    pub(super) fn stop(&self, drain: Duration) {
        if let Some(owner) = self.shared.owner.stop() {
            let began = Instant::now();
            owner.stop(drain);
            if owner.wait(drain + RELEASE_PATIENCE) {
                tracing::info!("all partitions are given back after {:.2} s", began.elapsed().as_secs_f64());
            } else {
                tracing::warn!(
                    "not all partitions are given back: pushes had no answer in time, or etcd did not; others take them when the \
                     lease is over"
                );
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that polls until the event stream is there")]
fn pause() {
    thread::sleep(STREAM_LOOK);
}

/// Waits for the event stream, tries what an owner may do, and starts the owner's thread.
fn begin(config: &Config, shared: &OwnedShared, given: Given, ends: (OwnerFacts, OwnerInbox)) {
    let instance = config.engine.instance.clone();
    let nats = given.1.sections.nats.clone();
    let mut generations = Generations::new(nats, &config.consumer, config.nats.timeout);
    let mut last_said = String::new();
    let created = loop {
        if shared.owner.is_stopped() {
            return;
        }
        let why = match generations.probe_rights(&instance) {
            Outcome::Done(facts) => break facts.created,
            Outcome::Absent => {
                format!("stream {} does not exist: run task-engine setup --config FILE", config.consumer.stream)
            }
            Outcome::Refused(why) | Outcome::NoAnswer(why) => why,
        };
        if why != last_said {
            tracing::warn!("no partition can be owned yet: {why}");
            last_said.clone_from(&why);
        }
        *shared.waits.lock().unwrap_or_else(PoisonError::into_inner) = format!("no partition can be owned yet: {why}");
        pause();
    };
    drop(generations);
    if let Err(error) = shared.owner.make(|| owner_of(config, created, given, ends)) {
        tracing::error!("the thread that owns partitions cannot be started: {error}");
    }
}

fn owner_of(
    config: &Config,
    created: String,
    (partitions, parts, last): Given,
    (facts, inbox): (OwnerFacts, OwnerInbox),
) -> io::Result<OwnerThread> {
    let (consumer, instance) = (&config.consumer, config.engine.instance.clone());
    let lock = LockFile::take(None, &instance);
    let settings = Settings {
        instance: instance.as_str().into(),
        boot: random_boot(),
        lock: lock.lock().clone(),
        weight: u32::from(config.engine.cores),
        admin: parts.admin.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        layout: Layout {
            partitions: consumer.partitions,
            topic: consumer.topic.clone(),
            hash: HASH.to_owned(),
            stream_created: created,
            has_input: consumer.partitioner == Partitioner::On,
        },
        shards: config.engine.cores,
        timings: Timings::of_ttl(consumer.lease_ttl),
    };
    let desk = NatsDesk::start(&parts.sections.nats, consumer, instance, facts.clone())?;
    let permit = parts.permit;
    let owner = Owner {
        settings,
        etcd: parts.sections.etcd.clone(),
        root: root(&consumer.stream, &consumer.durable),
        heartbeats: parts.heartbeats,
        shards: Box::new(partitions),
        desk: Box::new(desk),
        permit: Box::new(move |until| permit.set(until.0)),
        last,
        board: parts.board,
        lock,
    };
    OwnerThread::start(owner, (facts, inbox))
}

/// Called once, with an exit code and a sentence, when the process must end.
pub(super) type OnMustEnd = Box<dyn FnOnce(u8, String) + Send>;

/// Ends this process, or has whoever started the engine end it. Its sockets are reset, so that nothing which the kernel still holds for
/// a gateway leaves any more.
struct EndsProcess(Option<OnMustEnd>);

impl LastWord for EndsProcess {
    fn reset(&mut self) {
        socket::reset_all_when_closed();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "nothing may be given back: another instance has what this one owned"
    )]
    fn exit(&mut self, code: u8, sentence: String) {
        match self.0.take() {
            Some(tell) => tell(code, sentence),
            None => {
                tracing::error!("{sentence}");
                std::process::exit(i32::from(code));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_stop_finds_what_is_being_made_and_nothing_is_made_after_it() {
        let (once, is_making) = (Once::new(), Barrier::new(2));
        thread::scope(|scope| {
            let made = scope.spawn(|| {
                once.make(|| {
                    is_making.wait();
                    Ok::<_, ()>(1)
                })
            });
            is_making.wait();
            assert_eq!(once.stop(), Some(&1));
            assert_eq!(made.join().expect("it does not panic"), Ok(()));
        });
        let once = Once::new();
        assert_eq!((once.stop(), once.make(|| Ok::<_, ()>(2)), once.get()), (None, Ok(()), None));
        assert_eq!((once.is_stopped(), Once::<u8>::new().is_stopped()), (true, false));
    }
}
