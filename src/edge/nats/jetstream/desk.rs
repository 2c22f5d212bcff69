//! What the threads of one reader share: its events, and the way from the shards to the connection.
//!
//! Promises that a shard never waits here for a socket, that settlements outlast the connection they came over, and
//! that the end of the source is told when the last word has left (or the deadline has passed).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::ack_subject;
use super::flight::Flight;
use crate::config::{Assignment, ConsumerConfig};
use crate::model::ids::ShardId;
use crate::model::limits::JETSTREAM_PARTITION_WINDOW_MIN;
use crate::ports::{DeliveryTag, Origin, Settled};
use crate::telemetry::log_limiter::LogLimiter;

/// Events whose acks were refused that are told apart; no more are counted.
const REFUSED_ACKS_KEPT: usize = 1 << 16;

/// Differences between consumers and configuration that are said in full.
const DIFFERENCES_SAID: usize = 8;

/// How long a connection may take to break again, besides what the server takes to deliver again.
const LOSS_GRACE: Duration = Duration::from_secs(10);

/// One consumer of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConsumerPlan {
    pub name: String,
    pub filter: String,
}

#[derive(Clone, Debug)]
pub(in crate::edge::nats) struct ReaderPlan {
    pub reader: u16,
    /// The shard whose partitions they are; none: each event goes to its session's shard.
    pub own: Option<ShardId>,
    pub stream: String,
    pub(super) consumers: Vec<ConsumerPlan>,
    /// Partition numbers of the consumers: the first, and the step to the next.
    partitions: (u32, u32),
    pub(super) ack_wait: Duration,
    /// Events out of one consumer.
    pub(super) window: u32,
}

impl ReaderPlan {
    /// The plan of each reader. With partitions each has its share of the window, but at least
    /// [`JETSTREAM_PARTITION_WINDOW_MIN`].
    pub(in crate::edge::nats) fn all(config: &ConsumerConfig, shards: u16, partitions: u32) -> Vec<Self> {
        let topic = &config.topic;
        let one = |reader, own, consumers, partitions, window| Self {
            reader,
            own,
            stream: config.stream.clone(),
            consumers,
            partitions,
            ack_wait: config.ack_wait,
            window,
        };
        match config.assignment {
            Assignment::Queue => {
                let consumer = ConsumerPlan { name: config.durable.clone(), filter: topic.clone() };
                vec![one(0, None, vec![consumer], (0, 1), config.max_ack_pending.max(1))]
            }
            Assignment::Partitioned => {
                let window = (config.max_ack_pending / partitions.max(1)).max(JETSTREAM_PARTITION_WINDOW_MIN);
                let of = |partition| ConsumerPlan {
                    name: format!("{}-{partition}", config.durable),
                    filter: format!("{topic}.{partition}"),
                };
                let reader = |shard: u16| {
                    let first = u32::from(shard);
                    let consumers: Vec<_> = (first..partitions).step_by(usize::from(shards)).map(of).collect();
                    one(shard, Some(ShardId(shard)), consumers, (first, u32::from(shards)), window)
                };
                (0..shards).map(reader).filter(|plan| !plan.consumers.is_empty()).collect()
            }
        }
    }

    /// How many consumers.
    pub(in crate::edge::nats) fn consumers(&self) -> usize {
        self.consumers.len()
    }

    /// The consumers are partitions: the order of their events is kept.
    pub(super) fn is_ordered(&self) -> bool {
        self.own.is_some()
    }

    /// Which of the consumers a name is.
    pub(super) fn consumer(&self, name: &str) -> Option<usize> {
        let at = match self.own {
            None => 0,
            Some(_) => {
                let partition: u32 = name.rsplit_once('-')?.1.parse().ok()?;
                (partition.checked_sub(self.partitions.0)? / self.partitions.1) as usize
            }
        };
        (self.consumers.get(at)?.name == name).then_some(at)
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::edge::nats) struct Desk {
    pub plan: ReaderPlan,
    flight: Mutex<Flight>,
    settle: Sender<Box<[Settled]>>,
    pub(super) settled: Receiver<Box<[Settled]>>,
    refused: LogLimiter,
    epoch: Instant,
    /// Events that were asked for and may still come.
    asked: AtomicU64,
    arrived: AtomicU64,
    /// Connections that were lost, each soon after the one before.
    losses: AtomicU32,
    is_leaving: AtomicBool,
    /// Nothing is read for a while; see [`sit_out`](Self::sit_out).
    is_sitting_out: AtomicBool,
    /// What was read until then is all in.
    has_left: AtomicBool,
    is_finishing: AtomicBool,
    is_closed: AtomicBool,
    has_said: AtomicBool,
    /// Why nothing comes, although all can be read; see `fit.rs`.
    unfed: Mutex<Option<String>>,
    /// Events that are settled here, and whose ack the server did not let us write; and whether there are any.
    refused_acks: Mutex<BTreeSet<u64>>,
    has_refused_acks: AtomicBool,
    pub(super) finish: (Sender<()>, Receiver<()>),
    pub(super) finished: (Sender<()>, Receiver<()>),
}

impl Desk {
    pub(in crate::edge::nats) fn new(plan: ReaderPlan) -> Self {
        let events = plan.window as usize * plan.consumers.len();
        // As many as can be out, and as many again: pulls that were thought dead may still deliver.
        let (settle, settled) = bounded(events * 2 + 16);
        Self {
            flight: Mutex::new(Flight::new(plan.consumers.len(), plan.is_ordered())),
            plan,
            settle,
            settled,
            refused: LogLimiter::default(),
            epoch: Instant::now(),
            asked: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            losses: AtomicU32::new(0),
            is_leaving: AtomicBool::new(false),
            is_sitting_out: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            is_finishing: AtomicBool::new(false),
            has_said: AtomicBool::new(false),
            unfed: Mutex::default(),
            refused_acks: Mutex::default(),
            has_refused_acks: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            finish: bounded(1),
            finished: bounded(1),
        }
    }

    /// Milliseconds since it was made.
    pub(super) fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    pub(super) fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is out, nor waits to be said.
    pub(in crate::edge::nats) fn is_idle(&self) -> bool {
        let flight = self.flight();
        self.settled.is_empty() && (0..self.plan.consumers.len()).all(|consumer| flight.out(consumer) == 0)
    }

    /// Hands settlements over to the connection's writer.
    pub(in crate::edge::nats) fn settle(&self, settled: &[Settled]) {
        if settled.is_empty() {
            return;
        }
        if self.settle.try_send(settled.into()).is_err()
            && let Some(left_out) = self.refused.allow()
        {
            // Cannot be: there is room for everything that can be out. They come again, and are settled as repeats.
            tracing::warn!(reader = self.plan.reader, left_out, "JetStream: settlements found no room");
        }
    }

    pub(in crate::edge::nats) fn origin(&self, tag: DeliveryTag) -> Origin {
        self.flight().origin(tag.number, |consumer| self.plan.consumers[consumer].filter.clone())
    }

    pub(super) fn set_asked(&self, asked: u64, arrived: u64) {
        self.asked.store(asked, Ordering::Release);
        self.arrived.fetch_add(arrived, Ordering::Release);
    }

    /// How many events may still come, and how many came.
    pub(in crate::edge::nats) fn traffic(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Acquire), self.arrived.load(Ordering::Acquire))
    }

    /// A connection was lost that had stood for this long.
    pub(in crate::edge::nats) fn note_loss(&self, stood: Duration) {
        // What breaks a connection comes again after ack_wait.
        let is_soon = stood < self.plan.ack_wait * 3 + LOSS_GRACE;
        let before = if is_soon { self.losses.load(Ordering::Acquire) } else { 0 };
        self.losses.store(before.saturating_add(1), Ordering::Release);
    }

    /// Whether it may be the events themselves that break connections.
    pub(super) fn is_broken_by_events(&self) -> bool {
        self.losses.load(Ordering::Acquire) > 1
    }

    pub(super) fn set_unfed(&self, why: Option<String>) {
        *self.unfed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why nothing comes, although all can be read.
    pub(in crate::edge::nats) fn unfed(&self) -> Option<String> {
        self.unfed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server did not let us write to the subject of an ack. What is still out has its ack to come.
    pub(in crate::edge::nats) fn note_refused_ack(&self, subject: &str) {
        let Some((_, consumer, delivery)) = ack_subject::parse(subject) else { return };
        let Some(consumer) = self.plan.consumer(consumer) else { return };
        let sequence = delivery.stream_sequence;
        if self.flight().sequences(consumer).contains(&sequence) {
            return;
        }
        let mut refused = self.refused();
        if refused.len() < REFUSED_ACKS_KEPT {
            refused.insert(sequence);
            self.has_refused_acks.store(true, Ordering::Release);
        }
    }

    /// An event is delivered again: it gets another ack.
    pub(super) fn note_comes_again(&self, sequence: u64) {
        if self.has_refused_acks.load(Ordering::Acquire) {
            self.refused().remove(&sequence);
        }
    }

    /// How many events are settled here and not at the server, which refused their acks.
    pub(in crate::edge::nats) fn refused_acks(&self) -> u64 {
        self.refused().len() as u64
    }

    fn refused(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.refused_acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once what is not as configured.
    pub(super) fn say_differences(&self, all: &[String]) {
        if all.is_empty() || self.has_said.swap(true, Ordering::AcqRel) {
            return;
        }
        for difference in all.iter().take(DIFFERENCES_SAID) {
            tracing::warn!("JetStream: {difference}; it is used as it is, what exists is never changed");
        }
        if all.len() > DIFFERENCES_SAID {
            tracing::warn!("JetStream: {} more differences", all.len() - DIFFERENCES_SAID);
        }
    }

    /// From now on nothing is asked for.
    pub(in crate::edge::nats) fn leave(&self) {
        self.flight().end();
        self.is_leaving.store(true, Ordering::Release);
    }

    /// While this lasts nothing is asked for; what is out is still acknowledged, and no longer reported
    /// as in work: after ack_wait it comes to whoever reads, or to this process when it reads again, which knows it.
    pub(in crate::edge::nats) fn sit_out(&self, is_sitting_out: bool) {
        self.has_left.store(false, Ordering::Release);
        self.is_sitting_out.store(is_sitting_out, Ordering::Release);
    }

    /// All that the server had sent when the sitting out began is in.
    pub(in crate::edge::nats) fn note_left(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// Whether what is given back now comes again, and not to this process.
    pub(in crate::edge::nats) fn has_left(&self) -> bool {
        self.is_sitting_out.load(Ordering::Acquire) && self.has_left.load(Ordering::Acquire)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire) || self.is_sitting_out.load(Ordering::Acquire)
    }

    /// Has everything that is not settled given back.
    pub(in crate::edge::nats) fn finish(&self) {
        self.is_finishing.store(true, Ordering::Release);
        let _ = self.finish.0.try_send(());
    }

    /// Waits for what [`finish`](Self::finish) began; false when the deadline came first.
    pub(in crate::edge::nats) fn wait_finished(&self, deadline: Instant) -> bool {
        self.finished.1.recv_deadline(deadline).is_ok()
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.is_finishing.load(Ordering::Acquire)
    }

    /// Lets the connection go.
    pub(in crate::edge::nats) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(in crate::edge::nats) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}
