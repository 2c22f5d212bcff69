//! The flight of a partition that has an owner: what is due to its generation, and what is left of it.

use bytes::Bytes;

use super::super::ack_subject::Delivery;
use super::{Entry, Flight, Slot};
use crate::model::ownership::Settled;
use crate::ports::Disposition;

/// What came is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::nats) enum Came {
    /// New, under this number.
    New(u64),
    /// Out already: it is acknowledged with what its latest delivery says.
    Out,
    /// Settled before: it is to be acknowledged at once.
    Settled,
    /// Not what comes next: something was lost before it. It is not taken in.
    BehindHole,
}

/// Whether the flight has an event under this number.
fn is_out(slots: &[Slot], number: u64) -> bool {
    let slot = slots.get(number as u32 as usize);
    slot.is_some_and(|slot| u64::from(slot.generation) == number >> 32 && slot.entry.is_some())
}

impl Flight {
    /// A generation is read from now on, which has delivered up to this consumer sequence: nothing, or what came here, or was
    /// settled. What is out was delivered by an earlier one, and comes again.
    pub(in crate::edge::nats) fn open(&mut self, consumer: usize, settled: &Settled, delivered: u64) {
        self.forget_after(consumer, 0);
        let out = self.lanes[consumer].out;
        let book = self.lanes[consumer].book.get_or_insert_default();
        book.learn(settled);
        (book.seen, book.is_leaving, book.unknown) = (delivered, false, out);
    }

    /// Takes in an event of a partition that is open.
    #[inline]
    pub(in crate::edge::nats) fn insert_owned(
        &mut self,
        consumer: usize,
        delivery: &Delivery,
        at: (Bytes, Option<Box<str>>),
        now: u64,
    ) -> Came {
        let lane = &mut self.lanes[consumer];
        let Some(book) = &mut lane.book else { return Came::BehindHole };
        if delivery.consumer_sequence != book.seen + 1 {
            return Came::BehindHole;
        }
        book.seen += 1;
        let may_be_out = delivery.deliveries > 1 || delivery.stream_sequence <= lane.newest;
        lane.newest = lane.newest.max(delivery.stream_sequence);
        if may_be_out && let Some(entry) = self.find(consumer, delivery) {
            (entry.reply, entry.touched) = (at.0, now);
            if std::mem::take(&mut entry.is_unknown)
                && let Some(book) = &mut self.lanes[consumer].book
            {
                book.unknown -= 1;
            }
            return Came::Out;
        }
        let slots = &self.slots;
        let Some(book) = &mut self.lanes[consumer].book else { return Came::BehindHole };
        if book.is_settled(delivery.stream_sequence, |number| is_out(slots, number)) {
            return Came::Settled;
        }
        let number = self.enter(consumer, delivery, at, now);
        let slots = &self.slots;
        if let Some(book) = &mut self.lanes[consumer].book {
            book.enter(delivery.stream_sequence, number, |number| is_out(slots, number));
        }
        Came::New(number)
    }

    /// How many events its present generation has out.
    pub(in crate::edge::nats) fn out_of_generation(&self, consumer: usize) -> u32 {
        let lane = &self.lanes[consumer];
        lane.out - lane.book.as_ref().map_or(0, |book| book.unknown)
    }

    /// The highest consumer sequence that came, or was there when it was opened.
    pub(in crate::edge::nats) fn seen(&self, consumer: usize) -> u64 {
        self.lanes[consumer].book.as_ref().map_or(0, |book| book.seen)
    }

    /// How far it is settled.
    pub(in crate::edge::nats) fn settled(&mut self, consumer: usize) -> Settled {
        let slots = &self.slots;
        let book = self.lanes[consumer].book.as_mut();
        book.map_or_else(Settled::default, |book| book.settled(|number| is_out(slots, number)))
    }

    /// Whether something of it was given back and has not come again.
    pub(in crate::edge::nats) fn has_left(&self, consumer: usize) -> bool {
        self.lanes[consumer].book.as_ref().is_some_and(|book| book.has_left())
    }

    /// From now on what is given back of it is left to whoever takes it, and the server is not told; or no longer.
    pub(in crate::edge::nats) fn set_leaving(&mut self, consumer: usize, is_leaving: bool) {
        if let Some(book) = &mut self.lanes[consumer].book {
            book.is_leaving = is_leaving;
        }
    }

    /// The generation is gone, or not to be trusted: nothing more is said of what it delivered. What is out goes on, and its end is
    /// noted.
    pub(in crate::edge::nats) fn forget_generation(&mut self, consumer: usize) {
        self.forget_after(consumer, 0);
        let lane = &mut self.lanes[consumer];
        if let Some(book) = &mut lane.book {
            book.unknown = lane.out;
        }
    }

    /// Numbers of all its events.
    pub(in crate::edge::nats) fn numbers(&self, consumer: usize) -> Vec<u64> {
        let is_its = |entry: &Entry| entry.consumer as usize == consumer;
        let slots = self.slots.iter().enumerate();
        let its = slots.filter(|(_, slot)| slot.entry.as_ref().is_some_and(is_its));
        its.map(|(at, slot)| u64::from(slot.generation) << 32 | at as u64).collect()
    }

    /// An event that the shard was not given is left to whoever takes the partition.
    pub(in crate::edge::nats) fn leave(&mut self, number: u64) {
        let Some(entry) = self.slot_of(number).and_then(|slot| self.remove(slot)) else { return };
        if let Some(book) = &mut self.lanes[entry.consumer as usize].book {
            book.leave(entry.sequence);
        }
    }

    /// Forgets the partition, and events of it that are out: their ends mean nothing any more.
    pub(in crate::edge::nats) fn close(&mut self, consumer: usize) {
        for number in self.numbers(consumer) {
            self.leave(number);
        }
        let lane = &mut self.lanes[consumer];
        (lane.book, lane.newest) = (None, 0);
    }

    /// Notes that an event of an owned partition was given back; whether the server is not to be told.
    #[inline]
    pub(super) fn is_left_quietly(&mut self, entry: &Entry, how: Disposition) -> bool {
        if how != Disposition::Nak {
            return false;
        }
        let Some(book) = &mut self.lanes[entry.consumer as usize].book else { return false };
        book.leave(entry.sequence);
        book.is_leaving
    }
}
