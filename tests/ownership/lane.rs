//! A model of what a shard does with one partition: it takes deliveries in order, pushes one event of a session at a time, settles,
//! and obeys orders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use task_engine::model::ids::Partition;
use task_engine::model::ownership::{Boottime, Break, Generation, Settled, ShardWord};

use crate::broker::Delivery;

/// Whether it pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server is asked how far its consumer is.
    Opening,
    /// It does.
    Open,
    /// What is half done ends.
    Closing,
    /// The server is asked how far it is.
    Checking,
    /// It said that it is closed.
    Closed,
}

/// What a lane wants done.
#[derive(Clone, Debug)]
pub enum Act {
    /// Say this.
    Word(ShardWord),
    /// Acknowledge this.
    Ack(u64),
    /// Ask the server whether it knows what we know.
    Check,
    /// Ask the server how far the consumer is.
    Look,
    /// Pull, and say that it is open.
    Pull,
}

/// What the server says of a consumer before the first pull.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// It did not answer.
    Nothing,
    /// There is none.
    Gone,
    /// How many deliveries there were, and whether each was acknowledged.
    Is(u64, bool),
}

#[derive(Clone, Copy, Debug)]
struct Item {
    arrived: Boottime,
    is_pushing: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Lane {
    partition: Partition,
    /// Its consumer.
    pub generation: Generation,
    /// Which opening of the partition, over all instances.
    pub tenure: u64,
    /// How it is.
    pub mode: Mode,
    /// Its consumer was looked at since it was opened: from then on it must be as we have it.
    is_informed: bool,
    /// It waits for its next generation.
    pub is_broken: bool,
    /// Deliveries that came here.
    pub heard: u64,
    highest: u64,
    done: BTreeSet<u64>,
    unsettled: BTreeMap<u64, Item>,
    sessions: BTreeMap<usize, VecDeque<u64>>,
    has_told: bool,
}

impl Lane {
    /// Opens it.
    pub fn open(partition: Partition, generation: Generation, tenure: u64, settled: &Settled) -> Self {
        Self {
            partition,
            generation,
            tenure,
            mode: Mode::Opening,
            is_informed: false,
            is_broken: false,
            heard: 0,
            highest: settled.floor,
            done: settled.above.iter().copied().collect(),
            unsettled: BTreeMap::new(),
            sessions: BTreeMap::new(),
            has_told: false,
        }
    }

    /// Goes on with the next generation.
    pub fn reopen_with(&mut self, generation: Generation, settled: &Settled) {
        self.generation = generation;
        self.done.extend(settled.above.iter().copied());
        (self.heard, self.is_informed, self.is_broken, self.mode) = (0, false, false, Mode::Opening);
    }

    /// A close is taken back.
    pub fn take_back(&mut self) {
        self.is_informed &= self.mode != Mode::Closed;
        self.mode = Mode::Opening;
    }

    /// The server was asked how far the consumer is.
    pub fn looked(&mut self, seen: Seen) -> Option<Act> {
        if self.mode != Mode::Opening || self.is_broken {
            return None;
        }
        match seen {
            Seen::Nothing => return Some(Act::Look),
            Seen::Gone => return self.break_off(Break::Deleted),
            Seen::Is(delivered, _) if self.is_informed && delivered != self.heard => {
                return self.break_off(Break::Reconnected);
            }
            Seen::Is(_, false) if !self.is_informed => return self.break_off(Break::Hole),
            Seen::Is(delivered, _) => self.heard = delivered,
        }
        (self.is_informed, self.mode) = (true, Mode::Open);
        Some(Act::Pull)
    }

    /// What is settled.
    pub fn settled(&self) -> Settled {
        let floor = self.unsettled.keys().next().map_or(self.highest, |first| first - 1);
        Settled { floor, above: self.done.range(floor + 1..).copied().collect() }
    }

    /// Something is wrong with the generation.
    pub fn break_off(&mut self, why: Break) -> Option<Act> {
        if self.is_broken || self.mode == Mode::Closed {
            return None;
        }
        self.is_broken = true;
        Some(Act::Word(ShardWord::Broken { partition: self.partition, settled: self.settled(), why }))
    }

    /// A delivery came.
    pub fn deliver(&mut self, now: Boottime, delivery: &Delivery, session: usize) -> Option<Act> {
        if delivery.of.1 != self.generation || self.is_broken || self.mode == Mode::Closed || !self.is_informed {
            return None;
        }
        if delivery.number != self.heard + 1 {
            return self.break_off(Break::Hole);
        }
        self.heard += 1;
        let sequence = delivery.sequence;
        if self.unsettled.contains_key(&sequence) {
            return None;
        }
        if sequence <= self.highest || self.done.contains(&sequence) {
            self.highest = self.highest.max(sequence);
            return Some(Act::Ack(sequence));
        }
        self.highest = sequence;
        self.unsettled.insert(sequence, Item { arrived: now, is_pushing: false });
        self.sessions.entry(session).or_default().push_back(sequence);
        None
    }

    /// What can be pushed now: the first of each session, while it is open.
    pub fn take_pushes(&mut self) -> Vec<(usize, u64)> {
        if self.mode != Mode::Open {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (session, queue) in &self.sessions {
            let Some(first) = queue.front() else { continue };
            let Some(item) = self.unsettled.get_mut(first).filter(|item| !item.is_pushing) else { continue };
            item.is_pushing = true;
            out.push((*session, *first));
        }
        out
    }

    /// A push was answered.
    pub fn pushed(&mut self, session: usize, sequence: u64) -> Option<Act> {
        self.unsettled.remove(&sequence)?;
        self.done.insert(sequence);
        if let Some(queue) = self.sessions.get_mut(&session) {
            queue.retain(|one| *one != sequence);
        }
        Some(Act::Ack(sequence))
    }

    /// Whether nothing is half done.
    pub fn is_still(&self) -> bool {
        self.unsettled.values().all(|item| !item.is_pushing)
    }

    /// It is to be closed; of one that was not looked at nothing came.
    pub fn order_close(&mut self) -> Option<Act> {
        let is_untouched = self.mode == Mode::Opening && !self.is_informed && self.unsettled.is_empty();
        self.mode = if is_untouched { Mode::Checking } else { Mode::Closing };
        if is_untouched { self.checked(true) } else { None }
    }

    /// Goes on with a close when nothing is half done.
    pub fn close(&mut self) -> Option<Act> {
        (self.mode == Mode::Closing && self.is_still()).then(|| {
            self.mode = Mode::Checking;
            Act::Check
        })
    }

    /// The server was asked, or could not be.
    pub fn checked(&mut self, is_clean: bool) -> Option<Act> {
        if self.mode != Mode::Checking {
            return None;
        }
        self.mode = Mode::Closed;
        let is_clean = is_clean && !self.is_broken;
        Some(Act::Word(ShardWord::Closed { partition: self.partition, settled: self.settled(), is_clean }))
    }

    /// Each 250 ms: how long the oldest waits.
    pub fn tick(&mut self, now: Boottime) -> Option<Act> {
        if self.mode == Mode::Closed {
            return None;
        }
        let oldest = self.unsettled.values().map(|item| item.arrived).min();
        let oldest = oldest.filter(|oldest| now.since(*oldest).as_millis() > 250);
        if oldest.is_none() && !std::mem::take(&mut self.has_told) && !self.is_broken {
            return None;
        }
        self.has_told = oldest.is_some();
        Some(Act::Word(ShardWord::Waits { partition: self.partition, settled: self.settled(), oldest }))
    }

    /// What it knows to be unsettled at the server.
    pub fn unsettled(&self) -> BTreeSet<u64> {
        self.unsettled.keys().copied().collect()
    }
}
