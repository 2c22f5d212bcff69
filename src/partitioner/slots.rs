//! The events that are held, in the order of their sessions: a queue for each slot of sessions, of which the first event alone
//! may be under way.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::Ticket;
use super::event::{Carried, IN_HEADER, MessageId};
use crate::model::ids::{Nanos, Partition};
use crate::model::limits::MSG_ID_HEADER;

/// An event that is not stored yet, as far as is known.
#[derive(Debug)]
pub(super) struct Held {
    pub key: u64,
    pub seq: u64,
    pub id: MessageId,
    pub partition: Partition,
    pub payload: Bytes,
    pub carried: Carried,
    /// How often it was published.
    pub attempt: u32,
    /// When last.
    pub written_at: Nanos,
    /// If it is stored, then behind this sequence number of the partitioned stream: the highest that was told when it was
    /// published first.
    pub behind: u64,
    /// Somebody may have published it whose publish is on its way still.
    pub is_suspect: bool,
    /// When it was refused last.
    pub failed_at: Option<Nanos>,
    /// How often it was refused while others were taken.
    pub tries: u32,
}

impl Held {
    pub(super) fn new(
        key: u64,
        seq: u64,
        id: MessageId,
        partition: Partition,
        payload: Bytes,
        carried: Carried,
    ) -> Self {
        Self {
            key,
            seq,
            id,
            partition,
            payload,
            carried,
            attempt: 0,
            written_at: Nanos(0),
            behind: 0,
            is_suspect: false,
            failed_at: None,
            tries: 0,
        }
    }

    /// The whole header block that it is published with.
    pub(super) fn write_head(&self, out: &mut Vec<u8>, created: &str) {
        out.clear();
        out.extend_from_slice(b"NATS/1.0\r\n");
        out.extend_from_slice(MSG_ID_HEADER.as_bytes());
        out.extend_from_slice(b": ");
        self.id.write(created, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(IN_HEADER.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(itoa::Buffer::new().format(self.seq).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.carried.lines());
        out.extend_from_slice(b"\r\n");
    }
}

/// How a slot's first event stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    #[default]
    Empty,
    /// It may be published.
    Ready,
    /// It is under way.
    Written,
    /// It was refused, and waits until then.
    Waits(Nanos),
    /// It was under way when the connection was lost: it may be stored.
    Doubtful,
}

#[derive(Debug, Default)]
struct Slot {
    queue: VecDeque<Held>,
    state: State,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    ready: VecDeque<u16>,
    waiting: BTreeSet<(Nanos, u16)>,
    under_way: usize,
    held: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let slots = (0..count).map(|_| Slot::default()).collect();
        Self { slots, ready: VecDeque::new(), waiting: BTreeSet::new(), under_way: 0, held: 0 }
    }

    pub(super) fn push(&mut self, slot: u16, held: Held) {
        self.held += 1;
        let place = &mut self.slots[usize::from(slot)];
        place.queue.push_back(held);
        if place.state == State::Empty {
            self.make_ready(slot);
        }
    }

    /// Events that are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// First events that were refused and wait for another try.
    pub(super) fn failing(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn state(&self, slot: u16) -> State {
        self.slots.get(usize::from(slot)).map_or(State::Empty, |slot| slot.state)
    }

    pub(super) fn head(&self, slot: u16) -> Option<&Held> {
        self.slots.get(usize::from(slot))?.queue.front()
    }

    pub(super) fn head_mut(&mut self, slot: u16) -> Option<&mut Held> {
        self.slots.get_mut(usize::from(slot))?.queue.front_mut()
    }

    /// A slot whose first event may be published; with `any` also one that waits: somebody has to find out.
    pub(super) fn next_ready(&mut self, any: bool) -> Option<u16> {
        while let Some(slot) = self.ready.pop_front() {
            if self.state(slot) == State::Ready {
                return Some(slot);
            }
        }
        let (_, slot) = any.then(|| self.waiting.pop_first()).flatten()?;
        self.slots[usize::from(slot)].state = State::Ready;
        Some(slot)
    }

    /// The first event of a slot is published now.
    pub(super) fn write(&mut self, slot: u16, now: Nanos, behind: u64) -> Option<Ticket> {
        let place = &mut self.slots[usize::from(slot)];
        let held = place.queue.front_mut()?;
        if held.attempt == 0 && !held.is_suspect {
            held.behind = behind;
        }
        held.attempt += 1;
        held.written_at = now;
        place.state = State::Written;
        self.under_way += 1;
        Some(Ticket { slot, seq: held.seq, attempt: held.attempt })
    }

    pub(super) fn make_ready(&mut self, slot: u16) {
        self.leave(slot);
        self.slots[usize::from(slot)].state = State::Ready;
        self.ready.push_back(slot);
    }

    /// The first event of a slot was refused.
    pub(super) fn wait(&mut self, slot: u16, until: Nanos) {
        self.leave(slot);
        self.slots[usize::from(slot)].state = State::Waits(until);
        self.waiting.insert((until, slot));
    }

    /// The first event of a slot has its end; gives it.
    pub(super) fn pop(&mut self, slot: u16) -> Option<Held> {
        self.leave(slot);
        let place = &mut self.slots[usize::from(slot)];
        let held = place.queue.pop_front()?;
        self.held -= 1;
        match place.queue.is_empty() {
            true => {
                place.state = State::Empty;
                // A slot that was busy once gives its memory back.
                place.queue.shrink_to(16);
            }
            false => self.make_ready(slot),
        }
        Some(held)
    }

    /// Takes a slot out of what its state counts in.
    fn leave(&mut self, slot: u16) {
        match self.slots[usize::from(slot)].state {
            State::Written => self.under_way -= 1,
            State::Waits(until) => {
                self.waiting.remove(&(until, slot));
            }
            State::Empty | State::Ready | State::Doubtful => {}
        }
        self.slots[usize::from(slot)].state = State::Empty;
    }

    /// Those that have waited long enough may be published.
    pub(super) fn wake(&mut self, now: Nanos) {
        while let Some(&(_, slot)) = self.waiting.first().filter(|(until, _)| *until <= now) {
            self.make_ready(slot);
        }
    }

    /// The stream takes events again: what waited since it took none need not wait longer.
    pub(super) fn wake_all_unblamed(&mut self) {
        let is_unblamed = |slot: &u16| self.head(*slot).is_some_and(|held| held.tries == 0);
        let all: Vec<u16> = self.waiting.iter().map(|(_, slot)| *slot).filter(is_unblamed).collect();
        all.into_iter().for_each(|slot| self.make_ready(slot));
    }

    pub(super) fn next_wake(&self) -> Option<Nanos> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// What is under way may be stored or not.
    pub(super) fn doubt(&mut self) {
        for slot in &mut self.slots {
            if slot.state == State::Written {
                slot.state = State::Doubtful;
            }
        }
        self.under_way = 0;
    }

    /// The events that may be stored.
    pub(super) fn doubtful(&self) -> impl Iterator<Item = &Held> {
        let heads = self.slots.iter().filter(|slot| slot.state == State::Doubtful);
        let suspects = self.slots.iter().flat_map(|slot| slot.queue.iter().filter(|held| held.is_suspect));
        heads.filter_map(|slot| slot.queue.front()).chain(suspects)
    }

    /// The slots whose first event is in doubt.
    pub(super) fn take_doubtful(&self) -> Vec<u16> {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, slot)| slot.state == State::Doubtful).map(|(at, _)| at as u16).collect()
    }
}
