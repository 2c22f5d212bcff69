//! Events from a JetStream stream: pulled, kept in sight until they are settled, and acknowledged in batches.
//!
//! Promises that an event is acknowledged only when the engine settled it; that no more are out than
//! `consumer.max_ack_pending`; that what stays in work is reported before the server delivers it again; and that what
//! is not settled when the engine ends is given back at once. Refuses to change a stream or consumer that exists.
//!
//! Assignment *queue*: one durable for all instances, of whose window each has its share (`share.rs`). *Partitioned*: a
//! durable `<durable>-<partition>` a partition, in stream order also after a crash (see `resume.rs`). Both with explicit
//! acks, many in one write. Where partitions have owners, a reader begins with none and is told which to read (`owned.rs`).
//!
//! With `consumer.partitioner: on` one reader more reads the input stream, as a partition; its events go to the [`mover`] instead
//! of into lanes ([`stored`] says what that must know first).

mod ack_subject;
mod ahead;
mod api;
mod backlog;
mod calls;
mod client;
mod feed;
mod flight;
pub mod generations;
mod given_up;
mod hearing;
mod input;
pub(super) mod inspect;
mod lines;
mod looks;
mod mover;
mod orders;
mod owned;
mod plan;
mod prepare;
mod pulls;
mod read_back;
mod resume;
mod rights;
mod session;
pub mod setup;
mod share;
mod steps;
mod stored;
mod usable;
mod waiting;
mod window;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub(super) use self::backlog::BacklogThread;
use self::calls::Calls;
use self::flight::Flight;
use self::lines::Lines;
use self::looks::Looks;
pub(super) use self::mover::Mover;
pub(super) use self::owned::Hearer;
use self::owned::Owned;
pub(super) use self::plan::ReaderPlan;
use self::resume::Resume;
use self::session::Session;
use self::waiting::Waiting;
use super::control::Control;
use crate::config::NatsConfig;
use crate::model::ids::Nanos;
use crate::ports::{Intake, Settled};
use crate::telemetry::log_limiter::LogLimiter;

/// Numbers of the subscriptions of a connection.
const PULLS: u64 = 1;
const ANSWERS: u64 = 2;
const ADVISORIES: u64 = 3;
/// The partitioner's: answers to publishes, and what is read back.
const PUBLISHED: u64 = 4;
const READ_BACK: u64 = 5;

/// Repeat windows that an instance reads back at once: each is a consumer of the stream.
const READ_BACK_AT_ONCE: u32 = 8;

/// What is said once a while.
#[derive(Default)]
struct Voices {
    stray: LogLimiter,
    others: LogLimiter,
    refused: LogLimiter,
    given_up: LogLimiter,
    windows: LogLimiter,
    has_said_differences: bool,
}

/// What the server refused.
#[derive(Default)]
struct Refused {
    /// Why the connection is of no use, when that follows from it.
    why: Option<String>,
    /// The PING whose answer tells that nothing more is refused.
    until: Option<u64>,
    /// Events whose settlement it did not take and which did not come again.
    acks: BTreeSet<u64>,
}

/// Reads a stream, and acknowledges.
pub(super) struct JetFeed {
    plan: ReaderPlan,
    /// Where events go instead of into the lanes.
    mover: Option<Mover>,
    nats: Arc<NatsConfig>,
    intake: Intake,
    control: Arc<Control>,
    flight: Flight,
    /// Time zero of the flight.
    epoch: Instant,
    /// Events that are noted and not in their lanes.
    waiting: Waiting,
    /// Events that are noted and wait for those before them.
    resume: Resume,
    /// What was settled and not said yet: no more than was out.
    unsaid: VecDeque<Box<[Settled]>>,
    lines: Lines,
    calls: Calls,
    /// What this connection's answers come to.
    inbox: String,
    /// While events are pulled.
    session: Option<Session>,
    looks: Looks,
    refused: Refused,
    voices: Voices,
    /// Why nothing comes.
    unfed: Option<String>,
    is_moving: bool,
    /// Something was settled over this connection and the server has not confirmed that it heard all; and the PING that asks.
    is_unconfirmed: bool,
    confirms: Option<u64>,
    /// Nothing is settled or asked for before it is known what the server knows.
    is_opening: bool,
    has_left: bool,
    last_arrival: Instant,
    /// Events that a person had published again, and that are not in their lanes.
    replays: HashSet<u64>,
    /// Where partitions have owners.
    owned: Option<Box<Owned>>,
    /// Who is told what becomes of them.
    hearer: Hearer,
}

impl JetFeed {
    /// With a mover events go to it, and not into the lanes.
    pub(super) fn new(
        plan: ReaderPlan,
        nats: Arc<NatsConfig>,
        intake: Intake,
        control: Arc<Control>,
        hearer: Hearer,
        mover: Option<Mover>,
    ) -> Self {
        let now = Instant::now();
        let windows = (READ_BACK_AT_ONCE / u32::from(intake.shards())).max(1);
        let owned = plan.is_owned.then(|| Box::new(Owned::new(plan.consumers.len(), windows, now)));
        Self {
            replays: HashSet::new(),
            owned,
            hearer,
            mover,
            flight: Flight::new(plan.consumers.len(), plan.is_ordered()),
            looks: Looks::new(plan.ack_wait, now),
            plan,
            nats,
            intake,
            control,
            epoch: now,
            waiting: Waiting::default(),
            resume: Resume::default(),
            unsaid: VecDeque::new(),
            lines: Lines::default(),
            calls: Calls::default(),
            inbox: String::new(),
            session: None,
            refused: Refused::default(),
            voices: Voices::default(),
            unfed: None,
            is_moving: false,
            is_unconfirmed: false,
            confirms: None,
            is_opening: false,
            has_left: false,
            last_arrival: now,
        }
    }

    /// The flight's time.
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// The mover's time.
    fn nanos(&self, now: Instant) -> Nanos {
        Nanos(now.saturating_duration_since(self.epoch).as_nanos() as u64)
    }
}
