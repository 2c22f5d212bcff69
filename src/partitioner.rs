//! Moves events from the stream of a plain topic to the partitions of their sessions: the decisions.
//!
//! Promises, for whatever connections, answers and owners do: each event is moved, or becomes a letter, before it ends; of the
//! events of one session none is stored before an earlier one, since of each [slot](slots) of sessions at most one publish is
//! unconfirmed; an event whose publish has no answer is published again only after it was looked for where it would be; and
//! copies with equal payloads are published once, as long as their id is [known]. Refuses to blame an event for what its stream
//! refuses to all ([`flow`]).
//!
//! Pure: facts come in ([`take`](Partitioner::take), [`hear`](Partitioner::hear), [`lost`](Partitioner::lost),
//! [`read_back`](Partitioner::read_back), [`lettered`](Partitioner::lettered), the time), and what is to be done is taken out
//! ([`next_publish`](Partitioner::next_publish), [`next_letter`](Partitioner::next_letter),
//! [`take_ends`](Partitioner::take_ends)). Two partitioners at once store nothing out of order and nothing twice that the broker
//! still knows: both publish a session's events in the order of the input stream, and none before the one before it is stored.

mod event;
mod facts;
mod flow;
mod known;
mod letters;
#[cfg(test)]
mod simulator_tests;
mod slots;
#[cfg(test)]
mod table_tests;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use bytes::Bytes;

use self::event::Read;
pub use self::event::{Carried, IN_HEADER, MessageId};
pub use self::facts::{Answer, Arrived, Counts, Opened, Publish, Settings, Ticket};
use self::flow::{Flow, Verdict};
use self::known::{KeyHasher, Known};
pub use self::letters::Letter;
use self::letters::Letters;
use self::slots::{Held, Slots, State};
use crate::model::delivery::Disposition;
use crate::model::ids::{Nanos, Partition, fnv1a32};
use crate::model::outcome::NotMoved;

/// Slots that sessions are cut into: of each at most one publish is unconfirmed.
pub const SLOTS: usize = 4096;
/// A header block of JetStream has its length in 16 bits.
const HEAD_BYTES_MAX: usize = u16::MAX as usize;
/// Of what was written first, so many at the most are let go with each publish when they have their answers.
const ANSWERED_A_PUBLISH: usize = 2;
/// Events that a read-back may find. Those beyond are published again, and are known to the broker for its window.
const FOUND_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Partitioner {
    settings: Settings,
    opened: Opened,
    slots: Slots,
    flow: Flow,
    known: Known,
    letters: Letters,
    /// What the last read-back found: sequence numbers of the input stream, and the ids under which they are stored.
    found: HashMap<u64, u128, BuildHasherDefault<KeyHasher>>,
    ends: Vec<(u64, Disposition)>,
    /// Publishes in the order in which they were written, to see which has no answer.
    written: VecDeque<(Nanos, Ticket)>,
    head: Vec<u8>,
    counts: Counts,
    /// The highest sequence number that was delivered, or is known to be gone.
    newest: u64,
    watch: Watch,
    /// When what may be stored was looked for last.
    looked_at: Nanos,
    /// Events up to this sequence number were somebody else's, and may be published still; and behind which sequence number of
    /// the partitioned stream they are stored then.
    suspect: (u64, u64),
    /// Something has to be looked for again.
    is_stale: bool,
    is_stopping: bool,
    /// Which slot an event goes to; tests have one that breaks the order.
    slot_of: fn(hash: u32, seq: u64) -> u16,
}

/// Who else writes the partitioned stream: seen at sequence numbers that nobody here was told.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// The highest sequence number that was told.
    top: u64,
    /// From which number on they are counted, and how many were told.
    base: Option<u64>,
    told: u64,
}

fn slot_of_session(hash: u32, _: u64) -> u16 {
    // The low bits make the partition.
    (hash.wrapping_mul(0x9e37_79b1) >> 20) as u16
}

impl Partitioner {
    /// One that has moved nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            opened: Opened::default(),
            slots: Slots::new(SLOTS),
            flow: Flow::default(),
            known: Known::default(),
            letters: Letters::default(),
            found: HashMap::default(),
            ends: Vec::new(),
            written: VecDeque::new(),
            head: Vec::new(),
            counts: Counts::default(),
            newest: 0,
            watch: Watch::default(),
            looked_at: Nanos(0),
            suspect: (0, 0),
            is_stale: false,
            is_stopping: false,
            slot_of: slot_of_session,
        }
    }

    /// A connection was opened. What is unconfirmed waits for [`read_back_done`](Self::read_back_done).
    pub fn opened(&mut self, opened: Opened) {
        if opened.created != self.opened.created {
            (self.newest, self.found, self.suspect) = (0, HashMap::default(), (0, 0));
        }
        let settled = self.newest.max(opened.floor);
        self.counts.gap += opened.first.saturating_sub(settled + 1);
        self.newest = settled.max(opened.first.saturating_sub(1)).max(opened.delivered);
        self.watch = Watch { top: opened.last, base: None, told: 0 };
        self.opened = opened;
        self.is_stopping = false;
    }

    /// Somebody else read the input stream until now: what it had out may be stored, now or in a moment. A consumer that was made
    /// anew does not say what that was, so it is all that the input stream holds.
    pub fn took_over(&mut self) {
        self.suspect = (self.opened.newest, self.opened.last);
    }

    /// Whether somebody else may have published an event above this sequence number.
    pub fn suspects_above(&self, floor: u64) -> bool {
        floor < self.suspect.0
    }

    /// From where the partitioned stream has to be read before anything is published, when events are unconfirmed: behind
    /// this sequence number.
    pub fn reads_back_behind(&self) -> Option<u64> {
        self.slots.doubtful().map(|held| held.behind).min()
    }

    /// A read-back begins: what an earlier one found says nothing any more.
    pub fn read_back_begins(&mut self) {
        self.found.clear();
    }

    /// A read-back found a message that a partitioner put there: the event's sequence number and its `Nats-Msg-Id`.
    pub fn read_back(&mut self, seq: u64, message_id: &[u8]) {
        let Some(id) = MessageId::parse(message_id, &self.opened.created) else { return };
        if self.found.len() < FOUND_MAX {
            self.found.insert(seq, id.key());
        }
        self.known.insert(id.key());
    }

    /// All that was stored was found.
    pub fn read_back_done(&mut self, now: Nanos) {
        (self.looked_at, self.is_stale) = (now, false);
        for slot in self.slots.take_doubtful() {
            let Some(held) = self.slots.head(slot) else { continue };
            if self.found.remove(&held.seq) == Some(held.id.key()) {
                self.is_stored(slot, false);
            } else {
                self.slots.head_mut(slot).into_iter().for_each(|held| held.is_suspect = true);
                self.slots.make_ready(slot);
            }
        }
    }

    /// An event came that is not held.
    pub fn take(&mut self, event: Arrived) {
        let Arrived { key, seq, payload, carried } = event;
        self.counts.gap += seq.saturating_sub(self.newest.saturating_add(1));
        self.newest = self.newest.max(seq);
        let Some(read) = Read::of(&payload) else {
            return self.give_up(key, seq, payload, NotMoved::Unpartitionable, UNREADABLE.to_owned(), 0);
        };
        if read.session.is_empty() {
            return self.give_up(key, seq, payload, NotMoved::Unpartitionable, NO_SESSION.to_owned(), 0);
        }
        let hash = fnv1a32(read.session);
        let partition = Partition(hash % self.settings.partitions.max(1));
        let has_id = read.has_id && !carried.is_replay();
        let id = if has_id { MessageId::of_payload(&payload) } else { MessageId::of_place(seq, &self.opened.created) };
        let slot = (self.slot_of)(hash, seq) % SLOTS as u16;
        let mut held = Held::new(key, seq, id, partition, payload, carried);
        if seq <= self.suspect.0 {
            (held.is_suspect, held.behind) = (true, self.suspect.1);
        }
        self.slots.push(slot, held);
    }

    /// What is to be published next; none for now.
    pub fn next_publish(&mut self, now: Nanos) -> Option<Publish<'_>> {
        if self.is_stopping || self.is_stale {
            return None;
        }
        self.slots.wake(now);
        let slot = loop {
            if !self.flow.is_open(now, self.slots.under_way()) {
                return None;
            }
            let slot = self.slots.next_ready(self.flow.is_shut())?;
            if self.fits_and_is_new(slot) {
                break slot;
            }
        };
        let is_old = now.since(self.looked_at) > self.opened.look_is_good_for;
        if is_old && self.slots.head(slot).is_some_and(|held| held.is_suspect) {
            self.is_stale = true;
            self.slots.make_ready(slot);
            return None;
        }
        let ticket = self.slots.write(slot, now, self.watch.top)?;
        self.forget_answered(ANSWERED_A_PUBLISH);
        self.written.push_back((now, ticket));
        let held = self.slots.head(slot)?;
        Some(Publish { ticket, partition: held.partition, head: &self.head, payload: &held.payload })
    }

    /// Writes the head of a slot's first event; false when that needs no publish: it is stored, a copy, or too large.
    fn fits_and_is_new(&mut self, slot: u16) -> bool {
        let Some(held) = self.slots.head_mut(slot) else { return false };
        let is_found = !self.found.is_empty() && self.found.remove(&held.seq) == Some(held.id.key());
        if is_found {
            self.is_stored(slot, false);
            return false;
        }
        // One that was published before is no copy of itself, even where a read-back has met its id: then it was found above,
        // or the id is that of a copy that is stored.
        if self.known.contains(held.id.key()) {
            self.is_stored(slot, true);
            return false;
        }
        let most = self.opened.message_bytes_max;
        let fits = |head: &[u8], held: &Held| head.len() <= HEAD_BYTES_MAX && head.len() + held.payload.len() <= most;
        held.write_head(&mut self.head, &self.opened.created);
        if !fits(&self.head, held) && !held.carried.is_empty() {
            held.carried.clear();
            self.counts.stripped += 1;
            held.write_head(&mut self.head, &self.opened.created);
        }
        if fits(&self.head, held) {
            return true;
        }
        let detail = format!(
            "{} bytes and {} of headers are over the {most} that the server and the stream take",
            held.payload.len(),
            self.head.len()
        );
        self.give_up_head(slot, NotMoved::NotTaken, detail);
        false
    }

    /// The server's word on a publish.
    pub fn hear(&mut self, ticket: Ticket, answer: &Answer<'_>, now: Nanos) {
        let is_first = self.slots.head(ticket.slot).is_some_and(|held| held.seq == ticket.seq);
        let state = self.slots.state(ticket.slot);
        let is_expected = is_first && matches!(state, State::Written | State::Doubtful | State::Waits(_));
        match *answer {
            Answer::Stored { seq, is_copy } => {
                self.note_stored(seq, is_copy);
                // Also when a later try of it is under way: it is there.
                if !is_expected {
                    return;
                }
                let sent = self.slots.head(ticket.slot).map_or(now, |held| held.written_at);
                // Else each waits for its own time, so that others are published in between: that is what tells whose fault it is.
                if self.flow.is_shut() {
                    self.slots.wake_all_unblamed();
                }
                self.flow.stored(sent);
                self.is_stored(ticket.slot, is_copy && ticket.attempt == 1);
            }
            Answer::Refused(why) | Answer::Nobody(why) => {
                let is_current = is_expected
                    && state == State::Written
                    && self.slots.head(ticket.slot).is_some_and(|held| held.attempt == ticket.attempt);
                if !is_current {
                    return;
                }
                self.counts.refused += 1;
                self.is_refused(ticket.slot, matches!(answer, Answer::Refused(_)), why, now);
            }
        }
    }

    fn is_refused(&mut self, slot: u16, may_be_blamed: bool, why: &str, now: Nanos) {
        let failing = self.slots.failing();
        let Some(held) = self.slots.head_mut(slot) else { return };
        let verdict = self.flow.refused(held.failed_at, failing, may_be_blamed, now);
        held.failed_at = Some(now);
        held.tries += u32::from(verdict == Verdict::Event);
        let tries = held.tries;
        if tries > self.settings.max_retry {
            let detail = format!("the stream refuses it and takes others: {why}");
            return self.give_up_head(slot, NotMoved::NotTaken, detail);
        }
        self.slots.wait(slot, now.after(flow::pause(self.settings.retry_interval, tries)));
    }

    fn note_stored(&mut self, seq: u64, is_copy: bool) {
        if is_copy {
            return;
        }
        let Watch { top, base, told } = &mut self.watch;
        *top = seq.max(*top);
        *told += 1;
        let span = (*top + 1).saturating_sub(*base.get_or_insert(seq));
        // With one under way nothing may be missing but what is still to be told.
        if self.slots.under_way() <= 1 {
            self.counts.foreign += span.saturating_sub(*told);
            (*base, *told) = (Some(*top + 1), 0);
        }
    }

    fn is_stored(&mut self, slot: u16, is_copy: bool) {
        let Some(held) = self.slots.head(slot) else { return };
        self.known.insert(held.id.key());
        let count = if is_copy { &mut self.counts.copies } else { &mut self.counts.moved };
        *count += 1;
        self.ends.push((held.key, Disposition::Ack));
        self.slots.pop(slot);
    }

    fn give_up_head(&mut self, slot: u16, reason: NotMoved, detail: String) {
        let Some(held) = self.slots.pop(slot) else { return };
        // Its copies are no better.
        self.known.insert(held.id.key());
        self.give_up(held.key, held.seq, held.payload, reason, detail, held.attempt);
    }

    fn give_up(&mut self, key: u64, seq: u64, payload: Bytes, reason: NotMoved, detail: String, tries: u32) {
        self.letters.want(Letter { ask: 0, key, seq, reason, detail, payload, tries });
    }

    /// A letter that is to be kept; its event ends when it is.
    pub fn next_letter(&mut self, now: Nanos) -> Option<Letter> {
        self.letters.next(now)
    }

    /// A letter is kept, or not.
    pub fn lettered(&mut self, ask: u64, is_kept: bool, now: Nanos) {
        if let Some(letter) = self.letters.answered(ask, is_kept, now) {
            self.counts.letters += 1;
            self.ends.push((letter.key, Disposition::Term));
        }
    }

    /// Events that have their ends, by the reader's numbers.
    pub fn take_ends(&mut self, into: &mut Vec<(u64, Disposition)>) {
        into.append(&mut self.ends);
    }

    /// The connection is gone: what was published and not answered is in doubt.
    pub fn lost(&mut self) {
        self.slots.doubt();
        self.written.clear();
    }

    /// Nothing more is published; what is under way may still be answered.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// All that is held was given back to the input stream.
    pub fn forget(&mut self) {
        self.slots = Slots::new(SLOTS);
        if self.letters.forget() {
            // What comes again is no copy of an event that became no letter.
            self.known = Known::default();
        }
        self.flow = Flow::default();
        self.written.clear();
        self.ends.clear();
    }

    /// Publishes without an answer.
    pub fn under_way(&self) -> usize {
        self.slots.under_way()
    }

    /// Events that are held: those that wait for their turn, and those under way.
    pub fn waiting(&self) -> usize {
        self.slots.held() + self.letters.waiting()
    }

    /// Whether a publish is without an answer for longer than it may be.
    pub fn is_silent(&mut self, now: Nanos) -> bool {
        self.forget_answered(usize::MAX);
        self.written.front().is_some_and(|(at, _)| now.since(*at) >= self.settings.answer_within)
    }

    /// Whether nothing is published before the partitioned stream was read back again: what was looked for may be stored since,
    /// and the stream may forget its id.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Lets go, of those written first, up to so many that have their answers.
    fn forget_answered(&mut self, most: usize) {
        for _ in 0..most {
            let Some((_, ticket)) = self.written.front() else { return };
            let is_it = |held: &Held| (held.seq, held.attempt) == (ticket.seq, ticket.attempt);
            if self.slots.state(ticket.slot) == State::Written && self.slots.head(ticket.slot).is_some_and(is_it) {
                return;
            }
            self.written.pop_front();
        }
    }

    /// Whether the stream takes nothing, although something is to be stored.
    pub fn is_refused_by_stream(&self) -> bool {
        self.flow.is_shut()
    }

    /// When to look again although nothing came; none: not before that.
    pub fn next_due(&self) -> Option<Nanos> {
        let answer = self.written.front().map(|(at, _)| at.after(self.settings.answer_within));
        let next_try = self.flow.next_try().filter(|_| self.slots.under_way() == 0 && self.slots.held() > 0);
        let times = [answer, self.slots.next_wake(), next_try, self.letters.next_try()];
        times.into_iter().flatten().min()
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

const UNREADABLE: &str = "it is not a PushEvent, so it has no partition";
const NO_SESSION: &str = "its session_id is empty, so it has no partition";
