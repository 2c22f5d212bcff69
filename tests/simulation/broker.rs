//! The broker: a stream of events that come again until they are settled, as JetStream does it, and what becomes of the
//! engine: settlements that are lost with it, kills, and what a new one gets first.

use std::collections::BTreeSet;

use bytes::Bytes;
use task_engine::model::ids::Nanos;
use task_engine::model::priority::{Priority, Said};
use task_engine::ports::{DeliveryTag, Disposition, Settled};

use task_engine::push::facts::Input;

use super::events::has_id;
use super::gateways::Conn;
use super::oracle::Tag;
use super::plan::Fault;
use super::world::{Arrival, MILLI, World};

/// How long the broker may wait before it delivers what an engine that is gone had, in milliseconds.
const ACK_WAIT_MILLIS: u64 = 2_000;

/// One event in the stream.
#[derive(Debug)]
pub struct Entry {
    pub home: usize,
    pub payload: Bytes,
    /// The session and the event's number in it, unless the payload can never be pushed.
    pub key: Option<(usize, i64)>,
    /// What its publisher says of its class.
    pub said: Said,
    /// The broker has heard that it is done.
    pub is_settled: bool,
}

/// The stream, and settlements on their way to it.
#[derive(Debug, Default)]
pub struct Broker {
    pub entries: Vec<Entry>,
    acks: Vec<(Nanos, usize)>,
    /// What comes again, and when.
    later: Vec<(Nanos, usize)>,
    /// What nobody reads at present, or was given back, in stream order.
    kept: BTreeSet<usize>,
    /// How often an engine died or was cut off.
    pub restarts: u32,
}

impl World {
    /// An event comes into the stream.
    pub fn put_into_stream(&mut self, home: usize, payload: Bytes, key: Option<(usize, i64)>) {
        // The last events are for everyone who is there.
        let last = if self.plan.has_classes() { Said::Class(Priority::Normal) } else { Said::Nothing };
        let said = match (self.is_crowded, self.is_calm) {
            (true, _) => self.said_in_crowd,
            (false, true) => last,
            (false, false) => self.plan.said(self.broker.entries.len()),
        };
        self.broker.entries.push(Entry { home, payload, key, said, is_settled: false });
        self.deliver_entry(self.broker.entries.len() - 1);
    }

    /// The broker delivers an event (again), under a new tag.
    fn deliver_entry(&mut self, at: usize) {
        if self.retreat_until.is_some() {
            self.broker.kept.insert(at);
            return;
        }
        let number = self.oracle.tags.len() as u64;
        self.oracle.tags.push(Tag::of(at));
        let Entry { home, payload, key, said, .. } = &self.broker.entries[at];
        let tag = DeliveryTag { reader: *home as u16, number };
        self.intake[*home].push_back(Arrival { payload: payload.clone(), tag, key: *key, said: *said });
    }

    /// An event is delivered again although the engine has it: its sign of work, or its settlement, was late.
    pub fn redeliver_some(&mut self) {
        let may_redeliver = self.is_accepting && self.retreat_until.is_none();
        if !may_redeliver || !self.fault(Fault::Redelivery, 60) || self.broker.entries.is_empty() {
            return;
        }
        let first = self.broker.entries.len().saturating_sub(20);
        let at = first + self.rng.below(self.broker.entries.len() - first);
        let Entry { payload, key, is_settled, .. } = &self.broker.entries[at];
        // What has no id is taken anew each time, and the gateways of this world could not say which of the two they were told.
        if *is_settled || (key.is_some() && !has_id(payload)) {
            return;
        }
        let is_same_tag = self.rng.chance(300) && self.broker.entries[at].key.is_some();
        let last = self.oracle.tags.iter().rposition(|tag| tag.entry == at && tag.is_taken && !tag.is_dead);
        match last {
            Some(number) if is_same_tag => {
                let Entry { home, payload, key, said, .. } = &self.broker.entries[at];
                let tag = DeliveryTag { reader: *home as u16, number: number as u64 };
                self.intake[*home].push_back(Arrival { payload: payload.clone(), tag, key: *key, said: *said });
            }
            _ => self.deliver_entry(at),
        }
        self.trace.line(self.now, || format!("entry {at} is delivered again, the same tag: {is_same_tag}"));
    }

    /// The core settles a tag.
    pub fn settle(&mut self, settled: Settled) {
        let number = settled.tag.number;
        let entry = self.oracle.tags[number as usize].entry;
        self.oracle.settled(number, settled.how, self.now);
        self.trace.line(self.now, || format!("tag {number} is settled: {:?}", settled.how));
        match settled.how {
            Disposition::Nak => {
                assert!(
                    self.is_cut_off || self.retreat_until.is_some(),
                    "tag {number} was given back without a reason"
                );
                self.broker.kept.insert(entry);
                return;
            }
            Disposition::Ack if std::mem::take(&mut self.oracle.tags[number as usize].is_shed) => {}
            Disposition::Ack => self.check_all_have_it(entry),
            Disposition::Term => {
                let payload = &self.broker.entries[entry].payload;
                assert!(self.has_letter(payload, None), "tag {number} was terminated without a dead letter");
            }
        }
        let due = self.soon(10);
        self.broker.acks.push((due, entry));
    }

    /// An event is done: each of its recipients was told, or has its row, or is in the dead letters. Only who was a member
    /// all along is looked at: the others may not have been one when it was bundled.
    fn check_all_have_it(&self, entry: usize) {
        let Entry { key, payload, .. } = &self.broker.entries[entry];
        let (session, number) = key.expect("what can never be pushed is not done");
        let Some(&event) = self.oracle.by_key.get(&(session, number)) else { panic!("done before it was taken") };
        // What is fleeting is worthless when it is late: it is in no store.
        if self.oracle.events[event].class == Some(Priority::Fleeting) {
            return;
        }
        let (msg_id, seq_id) = (self.oracle.events[event].message.msg_id, self.oracle.events[event].message.seq_id);
        let sender = self.oracle.events[event].sender;
        let known = &self.sessions[session];
        let sender = sender.filter(|_| !self.plan.has_sender_rows() || !self.plan.stores_all());
        for user in known.members.iter().copied().filter(|user| !known.changed.contains(user) && Some(*user) != sender)
        {
            let has_it = self.oracle.is_answered(event, user)
                || self.has_row(user, session, seq_id, msg_id)
                || self.is_readable(session, seq_id, msg_id)
                || self.has_letter(payload, Some(user));
            assert!(has_it || !self.plan.inbox_is_on(), "event {event} is done, and user {user} has it nowhere");
            let is_missing = self.plan.stores_all()
                && !self.has_row(user, session, seq_id, msg_id)
                && !self.is_readable(session, seq_id, msg_id)
                && !self.has_letter(payload, Some(user));
            assert!(!is_missing, "event {event} is done, and user {user} has neither row nor letter");
        }
    }

    /// Settlements reach the broker; what is due comes again.
    pub fn run_broker(&mut self) {
        let is_due = |(due, _): &(Nanos, usize)| *due <= self.now;
        let due: Vec<_> = self.broker.later.extract_if(.., |at| is_due(at)).collect();
        for (_, at) in due {
            if !self.broker.entries[at].is_settled {
                self.deliver_entry(at);
            }
        }
        let (now, entries) = (self.now, &mut self.broker.entries);
        self.broker.acks.retain(|(due, entry)| {
            entries[*entry].is_settled |= *due <= now;
            *due > now
        });
    }

    /// A store is away for too long: nothing new is read, and what waits is given back.
    pub fn retreat_some(&mut self) {
        if self.is_accepting && self.retreat_until.is_none() && self.fault(Fault::Retreat, 8) {
            let until = Nanos(self.now.0 + self.rng.within(0, 3_000) * MILLI);
            self.retreat_until = Some(until);
            match self.rng.below(3) {
                0 => self.take_inbox_away(until),
                1 => self.take_routes_away(until),
                _ => {}
            }
            self.oracle.retreats(self.now);
            (0..self.shards.len()).for_each(|shard| self.feed(shard, Input::Retreat(true)));
        }
    }

    /// All stores answer again: what was handed in is taken, and what was kept comes, in stream order or in any.
    pub fn end_retreat(&mut self) {
        let is_over = self.retreat_until.is_some_and(|until| self.is_calm || until <= self.now);
        if !is_over || self.is_cut_off {
            return;
        }
        for shard in 0..self.shards.len() {
            while let Some(arrival) = self.intake[shard].pop_front() {
                self.feed_event(shard, arrival);
            }
            self.feed(shard, Input::Retreat(false));
            self.flush(shard);
        }
        self.retreat_until = None;
        let is_in_order = self.rng.chance(500);
        self.trace.line(self.now, || format!("the retreat is over, what was kept comes in order: {is_in_order}"));
        let entries = self.broker.kept.iter().map(|at| &self.broker.entries[*at]).filter(|entry| !entry.is_settled);
        let keys: Vec<_> = entries.filter_map(|entry| entry.key).collect();
        self.oracle.comes_again(is_in_order.then_some(&keys[..]));
        for at in std::mem::take(&mut self.broker.kept) {
            if self.broker.entries[at].is_settled {
                continue;
            }
            match is_in_order {
                true => self.deliver_entry(at),
                false => {
                    let due = self.soon(ACK_WAIT_MILLIS);
                    self.broker.later.push((due, at));
                }
            }
        }
    }

    /// Whether the broker keeps nothing that is not settled.
    pub fn is_stream_settled(&self) -> bool {
        self.broker.entries.iter().all(|entry| entry.is_settled)
    }

    /// The engine dies now and then.
    pub fn kill_some(&mut self) {
        if self.is_accepting && self.plan.kills > 0 && self.fault(Fault::Kill, self.plan.kills) {
            self.trace.line(self.now, || "the engine is killed".to_owned());
            self.restart();
        }
    }

    /// The engine is gone, whatever it had: gateways may still read what was on the wire; settlements on theirs are heard
    /// or not. A new one starts and gets what is unsettled: with the assignment `partitioned` in the order of the stream;
    /// with `queue` after newer events, in any order.
    pub fn restart(&mut self) {
        self.let_gateways_read_on();
        self.conns.iter().for_each(|conn: &Conn| self.oracle.conn_is_over[conn.number] = true);
        self.conns.clear();
        let acks = std::mem::take(&mut self.broker.acks);
        for (_, entry) in acks {
            self.broker.entries[entry].is_settled |= self.rng.chance(500);
        }
        self.tally_shards();
        self.shards = (0..self.plan.shards).map(|shard| self.plan.push(shard)).collect();
        self.shards.iter_mut().for_each(|push| push.set_now(self.now));
        self.forget_keepers_asks();
        self.forget_lookups();
        self.clear_lanes();
        self.broker.restarts += 1;
        self.is_cut_off = false;
        self.retreat_until = None;
        self.broker.kept.clear();
        self.oracle.restart();
        for gateway in 0..self.gateways.len() {
            self.list_again(gateway);
        }
        for shard in 0..self.shards.len() {
            self.intake[shard].clear();
            self.connect_routes(shard);
        }
        let is_partitioned = self.rng.chance(500);
        self.broker.later.clear();
        for at in 0..self.broker.entries.len() {
            match (self.broker.entries[at].is_settled, is_partitioned) {
                (true, _) => {}
                (false, true) => self.deliver_entry(at),
                (false, false) => {
                    let due = self.soon(ACK_WAIT_MILLIS);
                    self.broker.later.push((due, at));
                }
            }
        }
    }
}
