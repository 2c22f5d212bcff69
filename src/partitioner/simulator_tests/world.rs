//! The world, and what must hold in it.

mod broker;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::model::delivery::Disposition;
use crate::model::ids::Nanos;
use crate::model::proto::event::PushEvent;
use crate::partitioner::{Answer, Arrived, Carried, Partitioner, Settings, Ticket};

/// One step, in milliseconds.
const STEP: u64 = 5;
const ACK_WAIT: u64 = 2_000;
const ANSWER_WITHIN: u64 = 3_000;
/// How long the partitioned stream knows an id.
const WINDOW: u64 = 20_000;
/// How far apart the copies of an event come.
const COPIES_WITHIN: u64 = 3_000;
/// What a connection that was cut still brings, this late at the most.
const ZOMBIE_MS: u64 = 3_000;
/// Events out at once.
const OUT_MAX: usize = 64;
pub(super) const TROUBLE_MS: u64 = 90_000;
/// The longest peace that all must be settled in.
pub(super) const PEACE_MS: u64 = 200_000;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mutant {
    pub many_unconfirmed: bool,
    pub no_read_back: bool,
    /// What a predecessor had out is published as if nobody had had it.
    pub trusts_the_dead: bool,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Once in so many.
    fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

pub(super) struct Input {
    session: u64,
    payload: Bytes,
    at: u64,
}

struct Stored {
    at: u64,
    seq_in: u64,
    id: Vec<u8>,
    payload: Bytes,
}

enum Up {
    Publish { ticket: Ticket, id: Vec<u8>, payload: Bytes },
    End { seq: u64, generation: u32 },
}

enum Down {
    Event(u64),
    Stored(Ticket, u64, bool),
    Refused(Ticket),
    Nobody(Ticket),
}

/// An instance, and its connection while it has one.
pub(super) struct Instance {
    pub core: Partitioner,
    generation: u32,
    up: VecDeque<(u64, Up)>,
    down: VecDeque<(u64, Down)>,
    is_connected: bool,
    back_at: u64,
    pulls_from: u64,
    held: HashMap<u64, u64>,
    reported_at: u64,
    /// A successor was made beside it: it gets nothing more, and does not come back.
    is_replaced: bool,
    is_new: bool,
}

#[derive(Default)]
struct Consumer {
    generation: u32,
    next: u64,
    /// When each event that is out comes again.
    pending: BTreeMap<u64, u64>,
    /// Up to here all is settled; and what is above.
    floor: u64,
    settled: BTreeSet<u64>,
}

impl Consumer {
    fn settle(&mut self, seq: u64) {
        self.pending.remove(&seq);
        if seq > self.floor {
            self.settled.insert(seq);
        }
        while self.settled.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
    }

    fn floor(&self) -> u64 {
        self.floor
    }
}

pub(super) struct World {
    random: Random,
    mutant: Mutant,
    pub now: u64,
    pub input: Vec<Input>,
    copies: VecDeque<(u64, u64, Bytes)>,
    next_msg: i64,
    consumer: Consumer,
    stored: Vec<Stored>,
    ids: HashMap<Vec<u8>, (u64, u64)>,
    pub full_until: u64,
    pub hole_until: u64,
    is_hole_silent: bool,
    zombies: Vec<(u64, Vec<u8>, u64, Bytes)>,
    pub instances: Vec<Instance>,
    letters: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        let mut world = Self {
            random: Random(seed),
            mutant,
            now: 1_000,
            input: Vec::new(),
            copies: VecDeque::new(),
            next_msg: 1,
            consumer: Consumer { next: 1, ..Consumer::default() },
            stored: Vec::new(),
            ids: HashMap::new(),
            full_until: 0,
            hole_until: 0,
            is_hole_silent: false,
            zombies: Vec::new(),
            instances: Vec::new(),
            letters: BTreeSet::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let settings = Settings {
            partitions: 4,
            max_retry: 1_000_000,
            retry_interval: Duration::from_secs(1),
            answer_within: Duration::from_millis(ANSWER_WITHIN),
        };
        let mut core = Partitioner::new(settings);
        if self.mutant.many_unconfirmed {
            core.slot_of = |_, seq| seq as u16;
        }
        self.instances.push(Instance {
            core,
            generation: self.consumer.generation,
            up: VecDeque::new(),
            down: VecDeque::new(),
            is_connected: false,
            back_at: self.now,
            pulls_from: 0,
            held: HashMap::new(),
            reported_at: 0,
            is_replaced: false,
            is_new: true,
        });
    }

    fn publish_input(&mut self, is_trouble: bool) {
        while self.copies.front().is_some_and(|(at, ..)| *at <= self.now) {
            let Some((_, session, payload)) = self.copies.pop_front() else { break };
            self.input.push(Input { session, payload, at: self.now });
        }
        if !is_trouble || !self.random.once_in(12) {
            return;
        }
        for _ in 0..=self.random.below(4) {
            let session = self.random.below(8);
            let msg_id = if self.random.once_in(8) { 0 } else { self.next_msg };
            self.next_msg += 1;
            let (session_id, seq_id) = (format!("s{session}"), self.next_msg);
            let event = PushEvent { msg_id, seq_id, session_id, ..PushEvent::default() };
            let payload =
                if self.random.once_in(60) { Bytes::from_static(b"\xff") } else { event.encode_to_vec().into() };
            if msg_id != 0 && self.random.once_in(2) {
                self.copies.push_back((self.now + self.random.below(COPIES_WITHIN), session, payload.clone()));
                self.copies.make_contiguous().sort_by_key(|copy| copy.0);
            }
            self.input.push(Input { session, payload, at: self.now });
        }
    }

    fn faults(&mut self) {
        if self.random.once_in(600) {
            self.full_until = self.now + self.random.below(8_000);
        }
        if self.random.once_in(300) {
            self.hole_until = self.now + self.random.below(400);
            self.is_hole_silent = self.random.once_in(2);
        }
        let last = self.instances.len() - 1;
        if self.random.once_in(250) {
            let outage = if self.random.once_in(10) { WINDOW * 3 / 2 } else { 50 + self.random.below(3_000) };
            self.cut(last, outage);
        }
        if self.random.once_in(1_500) {
            // Killed: what its kernel holds may still be sent.
            self.cut(last, 0);
            self.instances.pop();
            self.start();
            let after = self.random.below(4_000);
            if let Some(instance) = self.instances.last_mut() {
                instance.back_at += after;
            }
        }
        if self.random.once_in(2_500) && self.instances.len() < 3 {
            // A successor beside it, with a consumer of its own that begins at the first unsettled event.
            self.consumer.generation += 1;
            self.consumer.next = self.consumer.floor() + 1;
            self.consumer.pending.clear();
            // The new consumer knows nothing of what was settled above.
            self.consumer.settled.clear();
            self.instances.iter_mut().for_each(|instance| instance.is_replaced = true);
            self.start();
        }
    }

    fn cut(&mut self, at: usize, outage: u64) {
        let instance = &mut self.instances[at];
        if !instance.is_connected {
            return;
        }
        let arrive = self.random.below(instance.up.len() as u64 + 1) as usize;
        let mut late = self.now;
        for (_, sent) in instance.up.drain(..).take(arrive) {
            late += self.random.below(ZOMBIE_MS / 16);
            if let Up::Publish { ticket, id, payload } = sent {
                self.zombies.push((late.min(self.now + ZOMBIE_MS), id, ticket.seq, payload));
            }
        }
        instance.up.clear();
        instance.down.clear();
        instance.is_connected = false;
        instance.core.lost();
        instance.back_at = self.now + outage;
    }

    fn hear(&mut self, at: usize) {
        let now = Nanos(self.now * 1_000_000);
        while self.instances[at].down.front().is_some_and(|(due, _)| *due <= self.now) {
            let instance = &mut self.instances[at];
            let Some((_, heard)) = instance.down.pop_front() else { break };
            match heard {
                Down::Stored(ticket, seq, is_copy) => instance.core.hear(ticket, &Answer::Stored { seq, is_copy }, now),
                Down::Refused(ticket) => instance.core.hear(ticket, &Answer::Refused("full"), now),
                Down::Nobody(ticket) => instance.core.hear(ticket, &Answer::Nobody("no leader"), now),
                Down::Event(seq) => {
                    if instance.held.insert(seq, seq).is_none() {
                        let payload = self.input[seq as usize - 1].payload.clone();
                        instance.core.take(Arrived { key: seq, seq, payload, carried: Carried::default() });
                    }
                }
            }
        }
    }

    fn work(&mut self, at: usize) {
        let now = Nanos(self.now * 1_000_000);
        if !self.instances[at].is_connected {
            let is_back = self.instances[at].back_at <= self.now && !self.instances[at].is_replaced;
            if is_back && self.now >= self.hole_until {
                self.connect(at);
            }
            return;
        }
        self.hear(at);
        let is_kept = !self.random.once_in(3);
        let instance = &mut self.instances[at];
        while let Some(letter) = instance.core.next_letter(now) {
            if is_kept {
                self.letters.insert(letter.seq);
            }
            instance.core.lettered(letter.ask, is_kept, now);
        }
        let mut due = instance.up.back().map_or(self.now, |last| last.0.max(self.now));
        let mut ends = Vec::new();
        instance.core.take_ends(&mut ends);
        for (seq, how) in ends {
            assert!(matches!(how, Disposition::Ack | Disposition::Term));
            instance.held.remove(&seq);
            instance.up.push_back((due, Up::End { seq, generation: instance.generation }));
        }
        while let Some(publish) = instance.core.next_publish(now) {
            due += self.random.below(8);
            let head = String::from_utf8(publish.head.to_vec()).expect("text");
            let id = head.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id: ")).expect("an id");
            let up = Up::Publish { ticket: publish.ticket, id: id.into(), payload: publish.payload.clone() };
            instance.up.push_back((due, up));
        }
        if self.now - instance.reported_at >= ACK_WAIT / 4 && instance.generation == self.consumer.generation {
            instance.reported_at = self.now;
            for seq in instance.held.keys() {
                self.consumer.pending.entry(*seq).and_modify(|due| *due = self.now + ACK_WAIT);
            }
        }
        if instance.core.is_silent(now) || instance.core.is_stale() {
            self.cut(at, 20);
        }
    }

    pub(super) fn step(&mut self, is_trouble: bool) {
        self.now += STEP;
        self.publish_input(is_trouble);
        if is_trouble {
            self.faults();
        }
        self.broker();
        for at in 0..self.instances.len() {
            self.work(at);
        }
        // One that was replaced and has lost its connection ends.
        self.instances.retain(|instance| instance.is_connected || !instance.is_replaced);
        if self.instances.is_empty() {
            self.start();
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.consumer.floor() == self.input.len() as u64 && self.copies.is_empty() && self.zombies.is_empty()
    }

    /// What does not hold, if anything.
    pub(super) fn judge(&self) -> Result<(), String> {
        if !self.is_settled() {
            return Err(format!("settled up to {} of {}", self.consumer.floor(), self.input.len()));
        }
        let mut places: HashMap<&Bytes, usize> = HashMap::new();
        let mut order: HashMap<u64, u64> = HashMap::new();
        let mut firsts: HashMap<&Bytes, u64> = HashMap::new();
        for (seq, input) in (1..).zip(&self.input) {
            firsts.entry(&input.payload).or_insert(seq);
        }
        for (place, stored) in self.stored.iter().enumerate() {
            let event = PushEvent::decode(&*stored.payload).map_err(|error| error.to_string())?;
            if let Some(before) = places.insert(&stored.payload, place) {
                let (one, at) = (&self.stored[before], stored.at);
                return Err(format!(
                    "{event:?} is stored twice: in {} at {}, in {} at {at}",
                    one.seq_in, one.at, stored.seq_in
                ));
            }
            let (session, seq) = (self.input[stored.seq_in as usize - 1].session, firsts[&stored.payload]);
            if let Some(before) = order.insert(session, seq).filter(|before| *before > seq) {
                return Err(format!("session {session}: event {seq} is stored behind {before}"));
            }
        }
        for (seq, input) in (1..).zip(&self.input) {
            if !places.contains_key(&input.payload) && !self.letters.contains(&seq) {
                return Err(format!("event {seq} is lost"));
            }
        }
        Ok(())
    }
}
