//! Events from core NATS: one connection and one ordered reader for the process, or one of each a shard.
//!
//! Promises that what one connection delivers is handed in in that order; that a server that is away, hangs or refuses
//! is named with its address and what to check, and is tried for as long as it takes; that a half-open link is noticed
//! and replaced; that what the client drops is counted to the message; and that a clean stop hands in all that the
//! server had sent. Refuses to show a secret: not in a log, an error, or Debug.
//!
//! Threads of a connection: the *keeper* builds it, watches it and replaces it; the *link* makes the client's calls,
//! of which some block for ever; the *reader* moves messages into the lanes and does nothing else; and the client's
//! own two.

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

use self::keeper::Keeper;
pub use self::server::ServerUrlError;
use self::server::{Credentials, Server};
use crate::ids::ShardId;
use crate::ports::{Intake, RunningSource, Settled, Source};

/// How long a stop may take until what was received is handed in; then the rest is let go, and counted.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long the readers get after that to notice.
const STOP_GRACE: Duration = Duration::from_secs(1);

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
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("topic", &self.topic)
            .field("queue_group", &self.queue_group)
            .field("assignment", &self.assignment)
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

impl Source for NatsSource {
    fn start(self: Box<Self>, intake: Intake) -> io::Result<Box<dyn RunningSource>> {
        let shared = self.shared;
        let connections: Vec<(Option<ShardId>, Vec<String>)> = match shared.settings.assignment {
            Assignment::Queue => vec![(None, vec![shared.settings.topic.clone()])],
            Assignment::Partitioned => (0..intake.shards())
                .map(|shard| (Some(ShardId(shard)), shared.subjects(ShardId(shard), &intake)))
                .filter(|(_, subjects)| !subjects.is_empty())
                .collect(),
        };
        let (ended, end) = bounded::<()>(0);
        let mut nudges = Vec::new();
        for (own, subjects) in connections {
            let number = own.map_or(0, |shard| shard.0);
            let (nudge, nudged) = bounded(1);
            // The reader holds the old connection's messages while the new one's wait here.
            let (feeds, next_feed) = bounded(1);
            let keeper = Keeper::new(shared.clone(), intake.clone(), number, subjects, nudge.clone(), nudged, feeds);
            let (reader_intake, ended) = (intake.clone(), ended.clone());
            thread::Builder::new().name(format!("nats-read-{number}")).spawn(move || {
                let _ended = ended;
                reader::run(&reader_intake, number, own, &next_feed);
            })?;
            thread::Builder::new().name(format!("nats-keep-{number}")).spawn(move || keeper.run())?;
            nudges.push(nudge);
        }
        Ok(Box::new(RunningNats { shared, intake, nudges, end }))
    }
}

struct RunningNats {
    shared: Arc<Shared>,
    intake: Intake,
    nudges: Vec<crossbeam_channel::Sender<()>>,
    /// Disconnected when the last reader has ended.
    end: Receiver<()>,
}

impl RunningSource for RunningNats {
    /// Core NATS keeps nothing, so there is nobody to tell.
    fn settle(&self, _settled: &[Settled]) {}

    fn stop(&self) {
        let started = Instant::now();
        self.shared.stopping.store(true, Ordering::Release);
        for nudge in &self.nudges {
            // Full means that one is on its way.
            let _ = nudge.try_send(());
        }
        if self.end.recv_timeout(STOP_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                seconds = started.elapsed().as_secs(),
                "NATS: the shards did not take what was read in time"
            );
            self.intake.stop();
            let _ = self.end.recv_timeout(STOP_GRACE);
        }
    }
}
