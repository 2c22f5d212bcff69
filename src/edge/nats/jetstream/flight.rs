//! The events that one reader has out: how each is acknowledged, and what may be acknowledged by now.
//!
//! Promises that an event is acknowledged only when it is settled; with cumulative acks, only when all that the server
//! delivered before it are, also those that were lost on their way to us: as long as some of these are missing, nothing
//! past the last event before the loss is acknowledged. Holds no more than was asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ack_subject::{self, Delivery};
use super::lines::Lines;
use crate::ports::{Origin, SettleAs, Settled};

/// When an event that is given back may come again: late enough that it does not find this process.
const GIVE_BACK: &str = r#"-NAK {"delay": 500000000}"#;

#[derive(Debug)]
struct Entry {
    /// What it is acknowledged with.
    reply: String,
    /// When the subject is not the one its consumer is made for.
    subject: Option<Box<str>>,
    consumer: u32,
    sequence: u64,
    /// When it came or was last reported as in work, in milliseconds of the desk's clock.
    touched: u64,
    is_given_back: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

/// One consumer's events.
#[derive(Debug, Default)]
struct Lane {
    out: u32,
    /// Cumulative acks: by stream sequence, the slot of its first delivery to us, and whether it is settled.
    seats: BTreeMap<u64, (u32, bool)>,
    /// What was acknowledged last: all up to this sequence.
    floor: Option<(u64, String)>,
    highest: u64,
    next_delivery: Option<u64>,
    /// So many events after `barrier` were delivered and never came here.
    missing: u64,
    barrier: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    lanes: Vec<Lane>,
    is_cumulative: bool,
    /// Lanes whose floor is to be written.
    moved: BTreeSet<u32>,
    /// Replies of events that were acknowledged, and came again all the same.
    late: Vec<String>,
}

impl Flight {
    pub(super) fn new(consumers: usize, is_cumulative: bool) -> Self {
        let lanes = (0..consumers).map(|_| Lane::default()).collect();
        Self { slots: Vec::new(), free: Vec::new(), lanes, is_cumulative, moved: BTreeSet::new(), late: Vec::new() }
    }

    /// How many events of this consumer are out.
    pub(super) fn out(&self, consumer: usize) -> u32 {
        self.lanes[consumer].out
    }

    /// The stream sequences of a consumer's events.
    pub(super) fn sequences(&self, consumer: usize) -> HashSet<u64> {
        let all = self.slots.iter().filter_map(|slot| slot.entry.as_ref());
        let of_seats = self.lanes[consumer].seats.keys().copied();
        all.filter(|entry| entry.consumer as usize == consumer).map(|entry| entry.sequence).chain(of_seats).collect()
    }

    /// Takes an event in; gives its number.
    pub(super) fn insert(
        &mut self,
        consumer: usize,
        delivery: &Delivery,
        at: (String, Option<Box<str>>),
        now: u64,
    ) -> u64 {
        let (reply, subject) = at;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let sequence = delivery.stream_sequence;
        let lane = &mut self.lanes[consumer];
        lane.out += 1;
        if self.is_cumulative {
            lane.arrived(delivery, slot);
        }
        let place = &mut self.slots[slot as usize];
        let consumer = consumer as u32;
        place.entry = Some(Entry { reply, subject, consumer, sequence, touched: now, is_given_back: false });
        u64::from(place.generation) << 32 | u64::from(slot)
    }

    /// Notes the end of an event; what is to be said at once goes to `lines`, the rest with [`floors`](Self::floors).
    pub(super) fn settle(&mut self, number: u64, how: SettleAs, lines: &mut Lines) {
        let Some(slot) = self.slot_of(number) else { return };
        if !self.is_cumulative {
            let Some(entry) = self.remove(slot) else { return };
            let word = match how {
                SettleAs::Done => "+ACK",
                SettleAs::Terminated => "+TERM",
                SettleAs::GivenBack => GIVE_BACK,
            };
            return lines.put(&entry.reply, None, word);
        }
        let Some(entry) = self.slots[slot as usize].entry.as_mut() else { return };
        if how == SettleAs::GivenBack {
            // Written when the source ends, in stream order with all others that are given back.
            entry.is_given_back = true;
            return;
        }
        let (consumer, sequence) = (entry.consumer, entry.sequence);
        self.settle_cumulative(slot, consumer, sequence);
    }

    /// The same for many.
    pub(super) fn settle_all(&mut self, settled: &[Settled], lines: &mut Lines) {
        for settled in settled {
            self.settle(settled.tag.number, settled.how, lines);
        }
    }

    /// A cumulative ack has no `+TERM` of its own: the server takes that as an ack of everything before it as well.
    fn settle_cumulative(&mut self, slot: u32, consumer: u32, sequence: u64) {
        let lane = &mut self.lanes[consumer as usize];
        match lane.seats.get_mut(&sequence) {
            None => {
                // Acknowledged before it came again: that ack was lost, or it was over an earlier delivery than one that was
                // acknowledged before, and the server passed it over. So both are said: the last ack, and this delivery's.
                self.moved.insert(consumer);
                let entry = self.remove(slot);
                self.late.extend(entry.map(|entry| entry.reply));
                return;
            }
            Some((first, is_settled)) => {
                *is_settled = true;
                if *first != slot {
                    self.remove(slot);
                }
            }
        }
        self.advance(consumer);
    }

    fn advance(&mut self, consumer: u32) {
        loop {
            let lane = &mut self.lanes[consumer as usize];
            let Some((&sequence, &(slot, true))) = lane.seats.first_key_value() else { return };
            if lane.missing > 0 && sequence > lane.barrier {
                return;
            }
            lane.seats.pop_first();
            if let Some(entry) = self.remove(slot) {
                self.lanes[consumer as usize].floor = Some((sequence, entry.reply));
                self.moved.insert(consumer);
            }
        }
    }

    /// The cumulative acks that are due.
    pub(super) fn floors(&mut self, lines: &mut Lines) {
        for consumer in std::mem::take(&mut self.moved) {
            self.floor(consumer as usize, lines);
        }
        self.late.drain(..).for_each(|reply| lines.put(&reply, None, "+ACK"));
    }

    fn floor(&self, consumer: usize, lines: &mut Lines) {
        if let Some((_, reply)) = &self.lanes[consumer].floor {
            lines.put(reply, None, "+ACK");
        }
    }

    /// All last acks once more: those of a connection that broke may be lost. Only after each consumer's
    /// [`take_over`](Self::take_over).
    pub(super) fn repeat_floors(&self, lines: &mut Lines) {
        (0..self.lanes.len()).for_each(|consumer| self.floor(consumer, lines));
    }

    /// Reports as in work what has not been touched since `before`; looks at `count` slots from `from`, and gives the
    /// slot to go on from, 0 after the last one.
    pub(super) fn progress(&mut self, from: usize, count: usize, before: u64, now: u64, lines: &mut Lines) -> usize {
        let end = (from + count).min(self.slots.len());
        for slot in self.slots.get_mut(from..end).unwrap_or_default() {
            if let Some(entry) = slot.entry.as_mut().filter(|entry| entry.touched <= before && !entry.is_given_back) {
                entry.touched = now;
                lines.put(&entry.reply, None, "+WPI");
            }
        }
        if end == self.slots.len() { 0 } else { end }
    }

    /// Gives everything back that is not settled, in stream order; nothing is out then.
    pub(super) fn give_back(&mut self, lines: &mut Lines) -> usize {
        let all = std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.entry);
        let mut all: Vec<Entry> = match self.is_cumulative {
            false => all.collect(),
            // What is settled and not acknowledged stands behind one that is given back; it comes again with it.
            true => all.filter(|entry| self.lanes[entry.consumer as usize].is_open(entry.sequence)).collect(),
        };
        all.sort_by_key(|entry| (entry.consumer, entry.sequence));
        all.iter().for_each(|entry| lines.put(&entry.reply, None, GIVE_BACK));
        self.free.clear();
        for lane in &mut self.lanes {
            lane.seats.clear();
            lane.out = 0;
        }
        all.len()
    }

    /// Where an event came from.
    pub(super) fn origin(&self, number: u64, subject_of: impl FnOnce(usize) -> String) -> Origin {
        let entry = self.slot_of(number).and_then(|slot| self.slots[slot as usize].entry.as_ref());
        let Some(entry) = entry else { return Origin::default() };
        let delivery = ack_subject::parse(&entry.reply).map(|(_, _, delivery)| delivery);
        Origin {
            subject: match &entry.subject {
                Some(subject) => subject.to_string(),
                None => subject_of(entry.consumer as usize),
            },
            stream_sequence: Some(entry.sequence),
            deliveries: delivery.map_or(0, |delivery| delivery.deliveries),
            published_unix_nanos: delivery.map(|delivery| delivery.stored_nanos),
        }
    }

    /// What the server says of a consumer before the first pull of a connection: how many it delivered that are not
    /// acknowledged, and the stream and consumer sequence it delivered last. Gives how many of them never came here.
    pub(super) fn take_over(&mut self, consumer: usize, pending: u64, delivered: (u64, u64)) -> u64 {
        self.lanes[consumer].next_delivery = Some(delivered.1 + 1);
        if !self.is_cumulative {
            return 0;
        }
        self.forget_after(consumer, delivered.0);
        let lane = &mut self.lanes[consumer];
        // What comes over a connection is a beginning of what was sent. So when we have the newest, we have them all,
        // but for those that were missing before.
        let has_all = lane.missing == 0 && delivered.0 <= lane.highest;
        let missing = if has_all { 0 } else { pending.saturating_sub(lane.seats.len() as u64) };
        if lane.missing == 0 {
            lane.barrier = lane.highest;
        }
        lane.missing = missing;
        self.advance(consumer as u32);
        missing
    }

    /// A server that was killed may have forgotten its newest deliveries; then it delivers them as new, and an ack that
    /// came before would put its floor past them, where it takes no ack for them ever again (seen with 2.9.10). So
    /// they are forgotten here as well, and acknowledged when they have come again.
    fn forget_after(&mut self, consumer: usize, last: u64) {
        let lane = &mut self.lanes[consumer];
        lane.highest = lane.highest.min(last);
        lane.floor.take_if(|floor| floor.0 > last);
        for (slot, _) in lane.seats.split_off(&(last + 1)).into_values() {
            self.remove(slot);
        }
    }

    /// Whether something of it was acknowledged cumulatively.
    pub(super) fn has_acknowledged(&self, consumer: usize) -> bool {
        self.lanes[consumer].floor.is_some()
    }

    /// Whether events are missing that were delivered before what this consumer has out.
    pub(super) fn is_missing_some(&self, consumer: usize) -> bool {
        self.lanes[consumer].missing > 0
    }

    fn slot_of(&self, number: u64) -> Option<u32> {
        let slot = number as u32;
        let place = self.slots.get(slot as usize)?;
        (u64::from(place.generation) == number >> 32 && place.entry.is_some()).then_some(slot)
    }

    fn remove(&mut self, slot: u32) -> Option<Entry> {
        let place = &mut self.slots[slot as usize];
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        self.lanes[entry.consumer as usize].out -= 1;
        Some(entry)
    }
}

impl Lane {
    fn arrived(&mut self, delivery: &Delivery, slot: u32) {
        let sequence = delivery.stream_sequence;
        if let Some(next) = self.next_delivery.filter(|&next| next < delivery.consumer_sequence) {
            // Deliveries that went to somebody else, or were lost.
            if self.missing == 0 {
                self.barrier = self.highest;
            }
            self.missing += delivery.consumer_sequence - next;
        }
        self.next_delivery = Some(delivery.consumer_sequence + 1);
        let is_new = !self.seats.contains_key(&sequence) && self.floor.as_ref().is_none_or(|floor| floor.0 < sequence);
        if !is_new {
            return;
        }
        if self.missing > 0 && delivery.deliveries > 1 && sequence > self.barrier {
            self.missing -= 1;
        }
        // The first delivery's reply is kept: the server takes cumulative acks only with growing consumer sequences.
        self.seats.insert(sequence, (slot, false));
        self.highest = self.highest.max(sequence);
    }

    fn is_open(&self, sequence: u64) -> bool {
        self.seats.get(&sequence).is_some_and(|&(_, is_settled)| !is_settled)
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
