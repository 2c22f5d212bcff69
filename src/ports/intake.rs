//! The way in: reader threads hand events to their sessions' shards through one bounded lane a shard, and one more for urgent ones.
//!
//! Promises that a reader's events reach a shard in the order they were offered; that a full lane makes the reader
//! wait (that is the backpressure), without spinning and without a wake-up call by the shard; that each event read is
//! counted as taken or as dropped with its reason; and that each carries when its reader had it, for one look at the
//! clock per [`WAKE_EVERY`] events. Refuses to judge events: bytes that are no event go to shard 0, which refuses them
//! by name. What a reader knows of events beside their bytes goes the same way, as a fact: it reaches the shard before every
//! event that is handed in after it.

#![expect(
    clippy::disallowed_methods,
    reason = "the reader's thread: a full lane makes it wait, which is the backpressure"
)]

mod counts;
mod lane;
mod scan;
mod ways;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError, bounded};

use self::counts::Shut;
pub use self::counts::{Backlog, Backlogs, DropReason, Moves, PartitionerCounts, ReaderCounts, StreamPart};
pub use self::lane::{Handed, IntakeLane};
pub use self::scan::session_id;
pub use self::ways::Passage;
use self::ways::Ways;
use crate::model::ids::{Partition, ShardId};
use crate::model::limits::{INTAKE_LANE_EVENTS, URGENT_RESERVE_PART};
use crate::model::priority::{PriorityRules, Said};
use crate::ports::mailbox::Wake;
use crate::ports::permit::Permit;
use crate::ports::{DeliveryTag, Health};
use crate::push::facts::Input;

/// How long a reader sleeps before it looks at a full lane again. A lane holds some 30 ms of a reader's top speed, so
/// it does not run dry meanwhile, and the shard need not pay for a wake-up call.
const FULL_LANE_NAP: Duration = Duration::from_millis(1);
/// Facts that wait beside a lane at the most.
const LANE_FACTS: usize = 64;
/// Events put into a lane before its shard is woken in the middle of a burst.
const WAKE_EVERY: u32 = 64;

/// What became of an offered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is in its shard's lane.
    Taken,
    /// Intake is over: it was not taken, and none that follows will be. It is counted as dropped.
    Stopping,
}

/// What a source hands its events to; every reader has a clone.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lanes: Box<[LaneIn]>,
    partitions: u32,
    stopping: AtomicBool,
    /// Why nothing is to be read.
    shut: Mutex<Shut>,
    is_shut: AtomicBool,
    counts: Arc<ReaderCounts>,
    health: Mutex<BTreeMap<u16, Health>>,
    /// Of readers that sleep until something changes.
    readers: Mutex<Vec<Arc<Wake>>>,
    permit: Arc<Permit>,
    priorities: PriorityRules,
    reads_published: AtomicBool,
}

#[derive(Debug)]
struct LaneIn {
    events: Sender<Handed>,
    /// Of urgent events.
    urgent: Sender<Handed>,
    ways: Option<Arc<Ways>>,
    facts: Sender<Input>,
    wake: Arc<Wake>,
}

impl Intake {
    /// An intake for as many shards as there are wakes, and the shards' ends of its lanes in the same order.
    ///
    /// # Panics
    /// When there is no shard, are more than 65,535, or `partitions` is 0: mistakes of the program, not of its input.
    pub fn new(wakes: Vec<Arc<Wake>>, partitions: u32, counts: Arc<ReaderCounts>) -> (Self, Vec<IntakeLane>) {
        Self::with_lane_events(wakes, partitions, counts, INTAKE_LANE_EVENTS)
    }

    /// The same, for readers that may acknowledge only while this permit holds, and for events that get their class by these
    /// rules.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_permit(
        wakes: Vec<Arc<Wake>>,
        partitions: u32,
        counts: Arc<ReaderCounts>,
        permit: Arc<Permit>,
        priorities: PriorityRules,
    ) -> (Self, Vec<IntakeLane>) {
        Self::made(wakes, (partitions, INTAKE_LANE_EVENTS), counts, permit, priorities)
    }

    /// The same with lanes of another size, for tests.
    #[doc(hidden)]
    pub fn with_lane_events(
        wakes: Vec<Arc<Wake>>,
        partitions: u32,
        counts: Arc<ReaderCounts>,
        lane_events: usize,
    ) -> (Self, Vec<IntakeLane>) {
        Self::made(wakes, (partitions, lane_events), counts, Arc::default(), PriorityRules::default())
    }

    fn made(
        wakes: Vec<Arc<Wake>>,
        (partitions, lane_events): (u32, usize),
        counts: Arc<ReaderCounts>,
        permit: Arc<Permit>,
        priorities: PriorityRules,
    ) -> (Self, Vec<IntakeLane>) {
        assert!(!wakes.is_empty() && wakes.len() <= usize::from(u16::MAX), "1 to 65,535 shards");
        assert!(partitions > 0, "at least one partition");
        let shards = wakes.len();
        let mut ends = Vec::with_capacity(wakes.len());
        let mut lanes = Vec::with_capacity(wakes.len());
        for (wake, ways) in wakes.into_iter().zip(Ways::of_shards(shards, &priorities)) {
            let (sender, events) = bounded(lane_events);
            let (urgent_sender, urgent) = bounded((lane_events / URGENT_RESERVE_PART).max(1));
            let (teller, facts) = bounded(LANE_FACTS);
            lanes.push(LaneIn { events: sender, urgent: urgent_sender, ways: ways.clone(), facts: teller, wake });
            ends.push(IntakeLane { events, urgent, ways, facts });
        }
        let shared = Shared {
            lanes: lanes.into(),
            partitions,
            stopping: AtomicBool::new(false),
            shut: Mutex::default(),
            is_shut: AtomicBool::new(false),
            counts,
            health: Mutex::default(),
            readers: Mutex::default(),
            permit,
            priorities,
            reads_published: AtomicBool::new(false),
        };
        (Self(Arc::new(shared)), ends)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.0.lanes.len() as u16
    }

    /// How many partitions all sessions are cut into.
    pub fn partitions(&self) -> u32 {
        self.0.partitions
    }

    /// The shard that takes the events of a payload's session; shard 0 when the payload is no event.
    pub fn home_of(&self, payload: &[u8]) -> ShardId {
        match session_id(payload) {
            Some(session) => ShardId::of_partition(Partition::of(session, self.0.partitions), self.shards()),
            None => ShardId(0),
        }
    }

    /// Hands one event to its session's shard and wakes that; waits while its lane is full. Who reads many at a time
    /// saves wake-ups with [`burst`](Self::burst).
    pub fn offer(&self, payload: Bytes, tag: DeliveryTag) -> Offer {
        self.burst().put(payload, tag)
    }

    /// The same when the reader knows the shard already: nothing is looked for in the payload.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn offer_to_own(&self, shard: ShardId, payload: Bytes, tag: DeliveryTag) -> Offer {
        self.burst().put_to(shard, payload, tag)
    }

    /// Begins to hand in several events. Their shards are woken now and then, and when the burst is dropped.
    pub fn burst(&self) -> Burst<'_> {
        Burst {
            shared: &self.0,
            unwoken: Unwoken::None,
            received: None,
            passage: Passage::plain(Said::Nothing),
            read: 0,
            taken: 0,
        }
    }

    /// Says how one of the source's readers does.
    pub fn report(&self, reader: u16, health: Health) {
        self.health_map().insert(reader, health);
    }

    /// How the source does: ready when at least one reader reported and all that did are; waiting while it is shut.
    pub fn health(&self) -> Health {
        if !self.is_open() {
            return Health::Waiting(format!("no events are read: {}", self.why_shut()));
        }
        let all = self.health_map();
        if all.is_empty() {
            return Health::Waiting("no reader of the source has reported yet".to_owned());
        }
        let mut why: Vec<&str> = Vec::new();
        for health in all.values() {
            if let Health::Waiting(text) = health
                && !why.contains(&text.as_str())
            {
                why.push(text);
            }
        }
        if why.is_empty() { Health::Ready } else { Health::Waiting(why.join("; ")) }
    }

    /// Counts events that came to this process and never reach a shard.
    pub fn dropped(&self, reason: DropReason, events: u64) {
        self.0.counts.dropped[reason as usize].fetch_add(events, Ordering::Release);
    }

    /// Counts a connection that the broker cut since it was not read for too long.
    pub fn note_cut_off(&self) {
        self.0.counts.cut_off.fetch_add(1, Ordering::Release);
    }

    /// Counts events that the broker gave up although they were not settled.
    pub fn given_up_by_broker(&self, events: u64) {
        self.0.counts.given_up.fetch_add(events, Ordering::Release);
    }

    /// Counts events whose end the broker refused to hear, so that it delivers them again.
    pub fn acks_refused(&self, events: u64) {
        self.0.counts.acks_refused.fetch_add(events, Ordering::Release);
    }

    /// From now on this reader is woken when the intake is shut, opened or stopped.
    pub fn wakes_at_a_change(&self, reader: Arc<Wake>) {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    fn wake_readers(&self) {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|reader| reader.wake());
    }

    /// The engine cannot work, and why: readers take nothing new until [`open`](Self::open), so that who can work gets it.
    pub fn shut(&self, why: String) {
        let mut shut = self.0.shut.lock().unwrap_or_else(PoisonError::into_inner);
        shut.note(!self.is_open(), true, Instant::now(), &self.0.counts);
        shut.why = why;
        if !self.0.is_shut.swap(true, Ordering::AcqRel) {
            self.wake_readers();
        }
    }

    /// The engine can work (again).
    pub fn open(&self) {
        let mut shut = self.0.shut.lock().unwrap_or_else(PoisonError::into_inner);
        shut.note(!self.is_open(), false, Instant::now(), &self.0.counts);
        self.0.is_shut.store(false, Ordering::Release);
        self.wake_readers();
    }

    /// Whether a reader is to take events. It may look as seldom as some times per second; what it hands in is taken either
    /// way.
    pub fn is_open(&self) -> bool {
        !self.0.is_shut.load(Ordering::Acquire)
    }

    /// What was last said by [`shut`](Self::shut).
    pub fn why_shut(&self) -> String {
        self.0.shut.lock().unwrap_or_else(PoisonError::into_inner).why.clone()
    }

    /// What all readers have seen.
    pub fn counts(&self) -> &Arc<ReaderCounts> {
        &self.0.counts
    }

    /// From now on nothing is taken: a reader that waits for room is let go. A clean stop stops the source first.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.wake_readers();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    fn health_map(&self) -> MutexGuard<'_, BTreeMap<u16, Health>> {
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run of events that one reader has at hand.
#[derive(Debug)]
pub struct Burst<'a> {
    shared: &'a Shared,
    unwoken: Unwoken,
    /// When the first event since the last [`finish`](Self::finish) was put in.
    received: Option<Instant>,
    /// On which way the next event is.
    passage: Passage,
    read: u64,
    taken: u64,
}

/// Which shards have events of this burst that they were not woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwoken {
    None,
    One(u16, u32),
    Many(u32),
}

impl Burst<'_> {
    /// As [`Intake::offer`].
    pub fn put(&mut self, payload: Bytes, tag: DeliveryTag) -> Offer {
        self.put_to(self.home_of(&payload), payload, tag)
    }

    /// As [`Intake::offer_to_own`].
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn put_to(&mut self, shard: ShardId, payload: Bytes, tag: DeliveryTag) -> Offer {
        let mut payload = payload;
        self.read += 1;
        // The wait for a lane belongs to the stage's time.
        let received = *self.received.get_or_insert_with(Instant::now);
        loop {
            self.received = Some(received);
            match self.try_lane(shard, payload, tag) {
                Ok(offer) => return offer,
                Err(back) => {
                    payload = back;
                    std::thread::sleep(FULL_LANE_NAP);
                }
            }
        }
    }

    /// As [`put`](Self::put), without waiting.
    ///
    /// # Errors
    /// Gives the payload back while its shard's lane is full.
    pub fn try_put(&mut self, payload: Bytes, tag: DeliveryTag) -> Result<Offer, Bytes> {
        self.try_put_to(self.home_of(&payload), payload, tag)
    }

    /// As [`put_to`](Self::put_to), without waiting.
    ///
    /// # Errors
    /// Gives the payload back while the lane is full.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn try_put_to(&mut self, shard: ShardId, payload: Bytes, tag: DeliveryTag) -> Result<Offer, Bytes> {
        let offer = self.try_lane(shard, payload, tag)?;
        self.read += 1;
        Ok(offer)
    }

    /// What the publisher of the events that are put in next said of their class.
    pub fn saying(&mut self, said: Said) -> &mut Self {
        self.on(Passage::plain(said))
    }

    /// The event that is put in next is on this way.
    pub fn on(&mut self, passage: Passage) -> &mut Self {
        self.passage = passage;
        self
    }

    fn try_lane(&mut self, shard: ShardId, payload: Bytes, tag: DeliveryTag) -> Result<Offer, Bytes> {
        let shared = self.shared;
        let lane = &shared.lanes[usize::from(shard.0)];
        if shared.stopping.load(Ordering::Acquire) {
            return Ok(self.refuse());
        }
        let received = *self.received.get_or_insert_with(Instant::now);
        let events = if self.passage.goes_first { &lane.urgent } else { &lane.events };
        match events.try_send(Handed { payload, tag, passage: self.passage, received }) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => return Ok(self.refuse()),
            Err(TrySendError::Full(back)) => {
                self.finish();
                return Err(back.payload);
            }
        }
        self.taken += 1;
        self.unwoken = match self.unwoken {
            Unwoken::None => Unwoken::One(shard.0, 1),
            Unwoken::One(same, events) if same == shard.0 => Unwoken::One(same, events + 1),
            Unwoken::One(_, events) | Unwoken::Many(events) => Unwoken::Many(events + 1),
        };
        if matches!(self.unwoken, Unwoken::One(_, events) | Unwoken::Many(events) if events >= WAKE_EVERY) {
            self.finish();
        }
        Ok(Offer::Taken)
    }

    fn home_of(&self, payload: &[u8]) -> ShardId {
        let shards = self.shared.lanes.len() as u16;
        // A shard alone is everybody's: nothing needs to be looked for.
        let session = if shards > 1 { session_id(payload) } else { None };
        session.map_or(ShardId(0), |id| ShardId::of_partition(Partition::of(id, self.shared.partitions), shards))
    }

    /// Wakes the shards that were given something and publishes the counts; dropping the burst does the same. What is
    /// put in later counts as received later.
    pub fn finish(&mut self) {
        self.received = None;
        match std::mem::replace(&mut self.unwoken, Unwoken::None) {
            Unwoken::None => {}
            Unwoken::One(shard, _) => self.shared.lanes[usize::from(shard)].wake.wake(),
            Unwoken::Many(_) => self.shared.lanes.iter().for_each(|lane| lane.wake.wake()),
        }
        let counts = &self.shared.counts;
        counts.read.fetch_add(std::mem::take(&mut self.read), Ordering::Release);
        counts.taken.fetch_add(std::mem::take(&mut self.taken), Ordering::Release);
    }

    fn refuse(&mut self) -> Offer {
        self.shared.counts.dropped[DropReason::Stopping as usize].fetch_add(1, Ordering::Release);
        Offer::Stopping
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
