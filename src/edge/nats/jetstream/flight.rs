//! The events that one reader has out, and how each is acknowledged.
//!
//! Promises that an event is acknowledged only when it is settled, each by itself: a server takes the deletion or the
//! expiry of a message as an ack of it, and where acks are cumulative, of everything before it. With partitions, work is
//! reported, and events are given back, in stream order: what nobody reports any more is delivered again in the order in
//! which it becomes due. An event that is out is there once, however often it is delivered. Holds no more than was asked
//! for.

mod book;
mod owned;

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use self::book::Book;
pub(super) use self::owned::Came;
use super::ack_subject::{self, Delivery};
use super::lines::Lines;
use crate::model::publication::Published;
use crate::ports::{Disposition, Origin, Settled};

/// When an event that is given back may come again: late enough that it does not find this process.
const GIVE_BACK: &str = r#"-NAK {"delay": 500000000}"#;

#[derive(Debug)]
struct Entry {
    /// What it is acknowledged with.
    reply: Bytes,
    /// When the subject is not the one its consumer is made for.
    subject: Option<Box<str>>,
    consumer: u32,
    sequence: u64,
    /// When it came or was last reported as in work, in milliseconds of the reader's clock.
    touched: u64,
    /// The server forgot that it delivered it: it will be delivered as new, and until then nothing is said of it.
    is_unknown: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

impl Entry {
    /// Whether its work is to be reported.
    fn is_due(&self, before: u64) -> bool {
        self.touched <= before && !self.is_unknown
    }
}

/// One consumer's events.
#[derive(Debug, Default)]
struct Lane {
    out: u32,
    /// An ack was written.
    has_acknowledged: bool,
    /// The consumer sequence that comes next, if nobody else reads.
    next_delivery: Option<u64>,
    /// The newest event of the stream that came here.
    newest: u64,
    /// Deliveries that did not come here.
    elsewhere: u64,
    /// What its owner knows of it.
    book: Option<Box<Book>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    lanes: Vec<Lane>,
    /// Its consumers are partitions: the order of their events is kept.
    is_ordered: bool,
    /// The source ends: with partitions what is given back is written at once and in stream order, with all the rest.
    is_ending: bool,
    /// Where what is out is, while redeliveries come: to find one by its sequence would look at all else.
    places: Option<HashMap<(u32, u64), u32>>,
}

impl Flight {
    pub(super) fn new(consumers: usize, is_ordered: bool) -> Self {
        let lanes = (0..consumers).map(|_| Lane::default()).collect();
        Self { slots: Vec::new(), free: Vec::new(), lanes, is_ordered, is_ending: false, places: None }
    }

    /// Whether nothing is out.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// No more redeliveries come for now: what is remembered to find them is let go.
    pub(super) fn forget_places(&mut self) {
        self.places = None;
    }

    /// How many events of this consumer are out.
    pub(super) fn out(&self, consumer: usize) -> u32 {
        self.lanes[consumer].out
    }

    /// The stream sequences of a consumer's events that the server knows to be here.
    pub(super) fn sequences(&self, consumer: usize) -> HashSet<u64> {
        let all = self.slots.iter().filter_map(|slot| slot.entry.as_ref());
        let known = all.filter(|entry| entry.consumer as usize == consumer && !entry.is_unknown);
        known.map(|entry| entry.sequence).collect()
    }

    /// Takes an event in; gives its number. None when it is out already, since the server did not hear of it for
    /// ack_wait: then it is acknowledged with what its latest delivery says.
    pub(super) fn insert(
        &mut self,
        consumer: usize,
        delivery: &Delivery,
        at: (Bytes, Option<Box<str>>),
        now: u64,
    ) -> Option<u64> {
        let lane = &mut self.lanes[consumer];
        let next = lane.next_delivery.replace(delivery.consumer_sequence + 1);
        lane.elsewhere += next.map_or(0, |next| delivery.consumer_sequence.saturating_sub(next));
        // A server that was killed may deliver again and not know it.
        let may_be_out = delivery.deliveries > 1 || delivery.stream_sequence <= lane.newest;
        lane.newest = lane.newest.max(delivery.stream_sequence);
        let (reply, subject) = at;
        if may_be_out && let Some(entry) = self.find(consumer, delivery) {
            (entry.reply, entry.touched, entry.is_unknown) = (reply, now, false);
            return None;
        }
        Some(self.enter(consumer, delivery, (reply, subject), now))
    }

    /// A new one; gives its number.
    #[inline]
    fn enter(&mut self, consumer: usize, delivery: &Delivery, at: (Bytes, Option<Box<str>>), now: u64) -> u64 {
        let (reply, subject) = at;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let sequence = delivery.stream_sequence;
        self.lanes[consumer].out += 1;
        let place = &mut self.slots[slot as usize];
        let consumer = consumer as u32;
        place.entry = Some(Entry { reply, subject, consumer, sequence, touched: now, is_unknown: false });
        if let Some(places) = &mut self.places {
            places.insert((consumer, sequence), slot);
        }
        u64::from(place.generation) << 32 | u64::from(slot)
    }

    /// The event of this delivery, if it is out. A stream that was made anew has other events under the same numbers.
    fn find(&mut self, consumer: usize, delivery: &Delivery) -> Option<&mut Entry> {
        let all = self.places.get_or_insert_with(|| {
            let entries = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.entry.as_ref()?)));
            entries.map(|(at, entry)| ((entry.consumer, entry.sequence), at as u32)).collect()
        });
        let slot = *all.get(&(consumer as u32, delivery.stream_sequence))?;
        let entry = self.slots[slot as usize].entry.as_mut()?;
        let known = delivery_of(&entry.reply)?;
        (known.stored_nanos == delivery.stored_nanos).then_some(entry)
    }

    /// The source ends.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
    }

    /// Notes the end of an event, and puts what is to be said of it into `lines`.
    pub(super) fn settle(&mut self, number: u64, how: Disposition, lines: &mut Lines) {
        let Some(slot) = self.slot_of(number) else { return };
        if how == Disposition::Nak && self.is_ending && self.is_ordered {
            return;
        }
        let Some(entry) = self.remove(slot) else { return };
        if self.is_left_quietly(&entry, how) || entry.is_unknown {
            return;
        }
        let word = match how {
            Disposition::Ack => "+ACK",
            Disposition::Term => "+TERM",
            Disposition::Nak => GIVE_BACK,
        };
        self.lanes[entry.consumer as usize].has_acknowledged |= how != Disposition::Nak;
        lines.put(&entry.reply, None, word.as_bytes());
    }

    /// The same for many.
    pub(super) fn settle_all(&mut self, settled: &[Settled], lines: &mut Lines) {
        for settled in settled {
            self.settle(settled.tag.number, settled.how, lines);
        }
    }

    /// Reports as in work what has not been touched since `before`; looks at `count` slots from `from`, and gives the
    /// slot to go on from, 0 after the last one.
    pub(super) fn progress(&mut self, from: usize, count: usize, before: u64, now: u64, lines: &mut Lines) -> usize {
        let end = (from + count).min(self.slots.len());
        for slot in self.slots.get_mut(from..end).unwrap_or_default() {
            if let Some(entry) = slot.entry.as_mut().filter(|entry| entry.is_due(before)) {
                entry.touched = now;
                lines.put(&entry.reply, None, b"+WPI");
            }
        }
        if end == self.slots.len() { 0 } else { end }
    }

    /// The consumers of which some event has not been touched since `before`.
    pub(super) fn due(&self, before: u64) -> BTreeSet<usize> {
        let entries = self.slots.iter().filter_map(|slot| slot.entry.as_ref());
        entries.filter(|entry| entry.is_due(before)).map(|entry| entry.consumer as usize).collect()
    }

    /// Reports all events of a consumer as in work, in stream order, so that none is due before one that stands before it.
    pub(super) fn progress_in_order(&mut self, consumer: usize, now: u64, lines: &mut Lines) {
        let entries = self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut());
        let mut all: Vec<_> =
            entries.filter(|entry| entry.consumer as usize == consumer && !entry.is_unknown).collect();
        all.sort_by_key(|entry| entry.sequence);
        for entry in all {
            entry.touched = now;
            lines.put(&entry.reply, None, b"+WPI");
        }
    }

    /// Gives everything back that is not settled, in stream order; nothing is out then.
    pub(super) fn give_back(&mut self, lines: &mut Lines) -> usize {
        let mut all: Vec<Entry> = std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.entry).collect();
        all.sort_by_key(|entry| (entry.consumer, entry.sequence));
        all.iter()
            .filter(|entry| !entry.is_unknown)
            .for_each(|entry| lines.put(&entry.reply, None, GIVE_BACK.as_bytes()));
        self.free.clear();
        self.places = None;
        for lane in &mut self.lanes {
            lane.out = 0;
        }
        all.len()
    }

    /// When the server stored an event.
    pub(super) fn stored(&self, number: u64) -> Published {
        let entry = self.slot_of(number).and_then(|slot| self.slots[slot as usize].entry.as_ref());
        let delivery = entry.and_then(|entry| delivery_of(&entry.reply));
        delivery.map_or(Published::UNKNOWN, |delivery| Published::at_nanos(delivery.stored_nanos))
    }

    /// Where an event came from.
    pub(super) fn origin(&self, number: u64, subject_of: impl FnOnce(usize) -> String) -> Origin {
        let entry = self.slot_of(number).and_then(|slot| self.slots[slot as usize].entry.as_ref());
        let Some(entry) = entry else { return Origin::default() };
        let delivery = delivery_of(&entry.reply);
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
    /// acknowledged, and the stream sequence that it delivered last. Gives how many of them are not here: somebody had
    /// them before, or they were lost on their way. Only partitions wait for those, so only they are counted.
    pub(super) fn take_over(&mut self, consumer: usize, pending: u64, delivered: u64) -> u64 {
        self.lanes[consumer].next_delivery = None;
        if !self.is_ordered {
            return 0;
        }
        self.forget_after(consumer, delivered);
        pending.saturating_sub(self.sequences(consumer).len() as u64)
    }

    /// A server that was killed, or that lost a link while it delivered, may have forgotten its newest deliveries; then it
    /// delivers them as new, and what is said of the old ones is about nothing it knows. So they are acknowledged when they
    /// have come again.
    fn forget_after(&mut self, consumer: usize, last: u64) {
        for entry in self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut()) {
            entry.is_unknown |= entry.consumer as usize == consumer && entry.sequence > last;
        }
    }

    /// How many deliveries of a consumer went elsewhere since this was last asked.
    pub(super) fn take_elsewhere(&mut self, consumer: usize) -> u64 {
        std::mem::take(&mut self.lanes[consumer].elsewhere)
    }

    /// Whether an event of it was acknowledged: the server may not have worked that off yet.
    pub(super) fn has_acknowledged(&self, consumer: usize) -> bool {
        self.lanes[consumer].has_acknowledged
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
        if let Some(places) = &mut self.places {
            places.remove(&(entry.consumer, entry.sequence));
        }
        let lane = &mut self.lanes[entry.consumer as usize];
        lane.out -= 1;
        if entry.is_unknown
            && let Some(book) = &mut lane.book
        {
            book.unknown -= 1;
        }
        Some(entry)
    }
}

/// What the subject that acknowledges an event says of it.
fn delivery_of(reply: &[u8]) -> Option<Delivery> {
    ack_subject::parse(std::str::from_utf8(reply).ok()?).map(|(_, _, delivery)| delivery)
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
