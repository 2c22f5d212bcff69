//! Events from NATS, core or JetStream ([`jetstream`]): one connection and one ordered reader for the process, or one of each a shard.
//!
//! Promises that what one connection delivers is handed in in that order; that a server that is away, hangs or refuses
//! is named with its address and what to check, and is tried for as long as it takes; that a half-open link is noticed
//! and replaced; that what the client drops is counted to the message; and that a clean stop hands in all that the
//! server had sent. Refuses to show a secret: not in a log, an error, or Debug.
//!
//! Threads of a connection: the *keeper* builds it, watches it and replaces it; the *link* makes the client's calls,
//! of which some block for ever; the *reader* moves messages into the lanes and does nothing else; and the client's
//! own two.

#[doc(hidden)]
pub mod auth;
pub mod jetstream;
mod keeper;
mod link;
#[doc(hidden)]
pub mod protocol;
mod reader;
mod server;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use self::jetstream::{Desk, ReaderPlan};
use self::keeper::Keeper;
use crate::config::{Assignment, ConsumerConfig, ConsumerMode, NatsConfig};
use crate::model::ids::ShardId;
use crate::ports::{DeliveryTag, Intake, Origin, RunningSource, Settled, Source};

/// How long a stop may take until what was received is handed in; then the rest is let go, and counted.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long the readers get after that to notice.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long the last acks may take to leave.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);

/// Reads events from NATS, core or JetStream.
#[derive(Debug)]
pub struct NatsSource {
    shared: Arc<Shared>,
}

/// What all threads of the source share.
#[derive(Debug)]
struct Shared {
    nats: NatsConfig,
    consumer: ConsumerConfig,
    stopping: AtomicBool,
}

impl NatsSource {
    /// A source that has not connected yet: where it reads, and which events.
    pub fn new(nats: NatsConfig, consumer: ConsumerConfig) -> Self {
        Self { shared: Arc::new(Shared { nats, consumer, stopping: AtomicBool::new(false) }) }
    }
}

impl Shared {
    fn subjects(&self, shard: ShardId, intake: &Intake) -> Vec<String> {
        (u32::from(shard.0)..intake.partitions())
            .step_by(usize::from(intake.shards()))
            .map(|partition| format!("{}.{partition}", self.consumer.topic))
            .collect()
    }
}

/// One reader to be started.
struct Start {
    number: u16,
    own: Option<ShardId>,
    subjects: Vec<String>,
    desk: Option<Arc<Desk>>,
}

impl Shared {
    fn readers(&self, intake: &Intake) -> Vec<Start> {
        let consumer = &self.consumer;
        if consumer.mode == ConsumerMode::JetStream {
            let plans = ReaderPlan::all(consumer, intake.shards(), intake.partitions());
            let start = |plan: ReaderPlan| Start {
                number: plan.reader,
                own: plan.own,
                subjects: Vec::new(),
                desk: Some(Arc::new(Desk::new(plan))),
            };
            return plans.into_iter().map(start).collect();
        }
        match consumer.assignment {
            Assignment::Queue => {
                vec![Start { number: 0, own: None, subjects: vec![consumer.topic.clone()], desk: None }]
            }
            Assignment::Partitioned => (0..intake.shards())
                .map(|shard| (shard, self.subjects(ShardId(shard), intake)))
                .filter(|(_, subjects)| !subjects.is_empty())
                .map(|(number, subjects)| Start { number, own: Some(ShardId(number)), subjects, desk: None })
                .collect(),
        }
    }
}

impl Source for NatsSource {
    fn start(self: Box<Self>, intake: Intake) -> io::Result<Box<dyn RunningSource>> {
        let shared = self.shared;
        let (ended, end) = bounded::<()>(0);
        let (mut nudges, mut desks) = (Vec::new(), Vec::new());
        for Start { number, own, subjects, desk } in shared.readers(&intake) {
            let (nudge, nudged) = bounded(1);
            // The reader holds the old connection's messages while the new one's wait here.
            let (feeds, next_feed) = bounded(1);
            let keeper = Keeper::new(
                shared.clone(),
                intake.clone(),
                number,
                subjects,
                (nudge.clone(), nudged),
                feeds,
                desk.clone(),
            );
            desks.extend(desk.clone());
            let (reader_intake, ended) = (intake.clone(), ended.clone());
            thread::Builder::new().name(format!("nats-read-{number}")).spawn(move || {
                let _ended = ended;
                match desk {
                    Some(desk) => jetstream::reader::run(&reader_intake, &desk, &next_feed),
                    None => reader::run(&reader_intake, number, own, &next_feed),
                }
            })?;
            thread::Builder::new().name(format!("nats-keep-{number}")).spawn(move || keeper.run())?;
            nudges.push(nudge);
        }
        Ok(Box::new(RunningNats { shared, intake, nudges, desks, end }))
    }
}

struct RunningNats {
    shared: Arc<Shared>,
    intake: Intake,
    nudges: Vec<crossbeam_channel::Sender<()>>,
    /// With JetStream, one a reader.
    desks: Vec<Arc<Desk>>,
    /// Disconnected when the last reader has ended.
    end: Receiver<()>,
}

impl RunningNats {
    fn nudge(&self) {
        for nudge in &self.nudges {
            // Full means that one is on its way.
            let _ = nudge.try_send(());
        }
    }

    fn desk_of(&self, reader: u16) -> Option<&Arc<Desk>> {
        // Their numbers are their places, as every shard has its share of the partitions.
        self.desks.get(usize::from(reader))
    }
}

impl RunningSource for RunningNats {
    /// Core NATS keeps nothing, so there is nobody to tell.
    fn settle(&self, settled: &[Settled]) {
        let mut rest = settled;
        while let Some(first) = rest.first() {
            let reader = first.tag.reader;
            let run = rest.iter().position(|settled| settled.tag.reader != reader).unwrap_or(rest.len());
            if let Some(desk) = self.desk_of(reader) {
                desk.settle(&rest[..run]);
            }
            rest = &rest[run..];
        }
    }

    fn origin(&self, tag: DeliveryTag) -> Origin {
        match self.desk_of(tag.reader) {
            Some(desk) => desk.origin(tag),
            None => Origin { subject: self.shared.consumer.topic.clone(), ..Origin::default() },
        }
    }

    fn may_give_back(&self) -> bool {
        !self.desks.is_empty() && self.desks.iter().all(|desk| desk.has_left())
    }

    fn stop(&self) {
        let started = Instant::now();
        self.shared.stopping.store(true, Ordering::Release);
        self.desks.iter().for_each(|desk| desk.leave());
        self.nudge();
        if self.end.recv_timeout(STOP_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                seconds = started.elapsed().as_secs(),
                "NATS: the shards did not take what was read in time"
            );
            self.intake.stop();
            let _ = self.end.recv_timeout(STOP_GRACE);
        }
    }

    fn finish(&self) {
        let deadline = Instant::now() + FINISH_DEADLINE;
        self.desks.iter().for_each(|desk| desk.finish());
        for desk in &self.desks {
            if !desk.wait_finished(deadline) {
                tracing::warn!(
                    reader = desk.plan.reader,
                    "JetStream: the last acks did not leave in time; what they were for comes again"
                );
            }
            let refused = desk.refused_acks();
            if refused > 0 {
                self.intake.acks_refused(refused);
                tracing::warn!(
                    reader = desk.plan.reader,
                    refused,
                    "JetStream: the server refused acks: what they were for is settled here and not there, and comes again"
                );
            }
            desk.close();
        }
        self.nudge();
    }
}

impl Drop for RunningNats {
    /// Ends the threads; with JetStream nothing more is acknowledged or given back.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        for desk in &self.desks {
            desk.leave();
            desk.close();
        }
        self.nudge();
    }
}
