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

pub mod jetstream;
mod keeper;
mod link;
mod reader;
mod server;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

pub use self::jetstream::JetStreamSettings;
use self::jetstream::{Desk, ReaderPlan};
use self::keeper::Keeper;
pub use self::server::ServerUrlError;
use self::server::{Credentials, Server};
use crate::model::ids::ShardId;
use crate::ports::{DeliveryTag, Intake, Origin, RunningSource, Settled, Source};

/// How long a stop may take until what was received is handed in; then the rest is let go, and counted.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long the readers get after that to notice.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long the last acks may take to leave.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);

/// How the process's shards share the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// One queue subscription to the topic; each event is handed to its session's shard.
    Queue,
    /// Each shard subscribes to `<topic>.<partition>` for the partitions that are its own.
    Partitioned,
}

/// What is needed to read from NATS.
#[derive(Clone)]
pub struct NatsSettings {
    /// One server or several with commas between: `nats://[user:password@]host[:port]`; a user without password is a
    /// token. What a URL says wins over the three fields below.
    pub url: String,
    /// User name; empty for none.
    pub username: String,
    /// Password of that user. Secret.
    pub password: String,
    /// Token, when there is no user name; empty for none. Secret.
    pub token: String,
    /// How long a server may take to accept a connection and introduce itself.
    pub connect_timeout: Duration,
    /// The wait before the second try to reach a server; it doubles up to 5 s (or stays, when it is longer).
    pub reconnect_wait: Duration,
    /// How often the server is asked for a sign of life; taken as 5 s when it is longer, as a link that died
    /// unnoticed loses events for that long.
    pub ping_interval: Duration,
    /// So many intervals without a sign of life mean that the link is dead.
    pub max_pings_out: u32,
    /// The subject of the events.
    pub topic: String,
    /// The queue group that all instances of the engine share.
    pub queue_group: String,
    /// How the shards share the topic.
    pub assignment: Assignment,
    /// Reads a JetStream stream instead of the subject itself.
    pub jetstream: Option<JetStreamSettings>,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            username: String::new(),
            password: String::new(),
            token: String::new(),
            connect_timeout: Duration::from_secs(5),
            reconnect_wait: Duration::from_millis(250),
            ping_interval: Duration::from_secs(2),
            max_pings_out: 2,
            topic: "resonance.push.event.v1".to_owned(),
            queue_group: "task-service".to_owned(),
            assignment: Assignment::Queue,
            jetstream: None,
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("topic", &self.topic)
            .field("queue_group", &self.queue_group)
            .field("assignment", &self.assignment)
            .field("jetstream", &self.jetstream)
            .finish_non_exhaustive()
    }
}

/// Reads events from core NATS.
#[derive(Debug)]
pub struct NatsSource {
    shared: Arc<Shared>,
}

/// What all threads of the source share.
#[derive(Debug)]
struct Shared {
    settings: NatsSettings,
    servers: Vec<Server>,
    stopping: AtomicBool,
}

impl NatsSource {
    /// A source that has not connected yet.
    ///
    /// # Errors
    /// When `url` is none; says which part and why, without its user name and password.
    pub fn new(settings: NatsSettings) -> Result<Self, ServerUrlError> {
        let fallback = Credentials::of(&settings.username, &settings.password, &settings.token);
        let servers = server::parse_list(&settings.url, &fallback)?;
        Ok(Self { shared: Arc::new(Shared { settings, servers, stopping: AtomicBool::new(false) }) })
    }
}

impl Shared {
    fn subjects(&self, shard: ShardId, intake: &Intake) -> Vec<String> {
        (u32::from(shard.0)..intake.partitions())
            .step_by(usize::from(intake.shards()))
            .map(|partition| format!("{}.{partition}", self.settings.topic))
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
        let assignment = self.settings.assignment;
        if let Some(jetstream) = &self.settings.jetstream {
            let (shards, partitions) = (intake.shards(), intake.partitions());
            let plans = ReaderPlan::all(jetstream, &self.settings.topic, assignment, shards, partitions);
            let start = |plan: ReaderPlan| Start {
                number: plan.reader,
                own: plan.own,
                subjects: Vec::new(),
                desk: Some(Arc::new(Desk::new(plan))),
            };
            return plans.into_iter().map(start).collect();
        }
        match assignment {
            Assignment::Queue => {
                vec![Start { number: 0, own: None, subjects: vec![self.settings.topic.clone()], desk: None }]
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
            None => Origin { subject: self.shared.settings.topic.clone(), ..Origin::default() },
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
