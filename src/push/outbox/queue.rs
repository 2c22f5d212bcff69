//! The bundles of one outbox: what is not written whole, and what is and waits for its answers.
//!
//! Promises that what is sent is answered in its order. Refuses to know streams: what counts as written is what it is told.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::limits::PREFETCH_EVENTS_MAX;
use crate::push::bundle::prefetch_group;
use crate::push::outbox::Item;
use crate::push::outbox::passing::Passing;
use crate::push::outbox::scheduling::Scheduling;

const _: () = assert!(size_of::<Item>() <= 128, "an item is copied by a call");

/// What an outbox holds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Not written whole. Only the first may be written in part.
    pub(super) queued: VecDeque<Item>,
    /// Written whole, without all answers. With unary calls also what was passed over: its place is kept.
    sent: VecDeque<Item>,
    /// Protocol `group` only: written, answered as not delivered, and to be written again when nothing of its session is in
    /// `sent`. So it is empty when `sent` is.
    returned: VecDeque<Item>,
    /// The number of the item at the front, counted over the outbox's life.
    pub(super) front_no: u64,
    /// Recipients without an answer.
    pub(super) backlog: usize,
    /// Bytes of their messages.
    pub(super) backlog_bytes: usize,
    /// What is known of the parts of large groups.
    pub(super) turns: Scheduling,
    /// Whom urgent items pass, and how much of the others is on the stream; none where there are no classes.
    pub(super) passing: Option<Box<Passing>>,
}

impl Index<usize> for Queue {
    type Output = Item;
    fn index(&self, index: usize) -> &Item {
        match index.checked_sub(self.sent.len()) {
            None => &self.sent[index],
            Some(index) => &self.queued[index],
        }
    }
}

impl IndexMut<usize> for Queue {
    fn index_mut(&mut self, index: usize) -> &mut Item {
        match index.checked_sub(self.sent.len()) {
            None => &mut self.sent[index],
            Some(index) => &mut self.queued[index],
        }
    }
}

impl Queue {
    /// An empty one; see [`OutboxSettings::stream_target`](super::OutboxSettings::stream_target).
    pub(super) fn new(stream_target: Option<Duration>) -> Self {
        Self { passing: stream_target.map(|target| Box::new(Passing::new(target))), ..Self::default() }
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.queued.len()
    }

    /// Whether there is nothing.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.queued.is_empty()
    }

    /// What is not written whole.
    #[inline]
    pub(super) fn queued(&self) -> &VecDeque<Item> {
        &self.queued
    }

    /// The same, to note what is written of them.
    #[inline]
    pub(super) fn queued_mut(&mut self) -> &mut VecDeque<Item> {
        &mut self.queued
    }

    /// An item comes, to stand at this place of what is not written whole.
    #[inline(always)]
    pub(super) fn insert_queued(&mut self, at: usize, item: Item) {
        let last = self.queued.len();
        self.queued.push_back(item);
        if let Some(passing) = &mut self.passing {
            passing.entered(&self.queued[last]);
        }
        if at < last {
            self.move_last(at);
        }
    }

    #[cold]
    fn move_last(&mut self, to: usize) {
        if let Some(item) = self.queued.pop_back() {
            self.queued.insert(to, item);
        }
    }

    /// What is written whole and has not all its answers.
    #[inline]
    pub(super) fn sent(&self) -> &VecDeque<Item> {
        &self.sent
    }

    /// The same, to note answers.
    pub(super) fn sent_mut(&mut self) -> &mut VecDeque<Item> {
        &mut self.sent
    }

    /// The oldest item.
    #[inline]
    pub(super) fn front(&self) -> Option<&Item> {
        self.sent.front().or_else(|| self.queued.front())
    }

    /// When the oldest item was made, as far as it is known: what urgent ones have passed stands behind these.
    #[inline]
    pub(super) fn oldest(&self) -> Option<Nanos> {
        let front = self.front()?.bundle.made_at;
        let passed = self.passing.as_ref().and_then(|passing| self.queued.get(passing.ahead));
        Some(passed.map_or(front, |item| front.min(item.bundle.made_at)))
    }

    /// The same, to note answers.
    #[inline]
    pub(super) fn front_mut(&mut self) -> Option<&mut Item> {
        if self.sent.is_empty() { self.queued.front_mut() } else { self.sent.front_mut() }
    }

    /// The item of an index, counted from the front.
    pub(super) fn get(&self, index: usize) -> Option<&Item> {
        self.sent.get(index).or_else(|| self.queued.get(index - self.sent.len()))
    }

    /// The oldest item leaves.
    #[inline(always)]
    pub(super) fn pop_front(&mut self) -> Option<Item> {
        if !self.leaves_front() {
            return None;
        }
        if self.sent.is_empty() { self.queued.pop_front() } else { self.sent.pop_front() }
    }

    /// The oldest item is about to leave; false when there is none.
    #[inline]
    fn leaves_front(&mut self) -> bool {
        let was_sent = !self.sent.is_empty();
        let Some(item) = self.sent.front().or_else(|| self.queued.front()) else { return false };
        self.front_no += 1;
        // How many answers an item awaits stands in its group, and nothing has looked there since it was written.
        if let Some(later) = self.sent.get(PREFETCH_EVENTS_MAX / 2) {
            prefetch_group(&later.bundle.group);
        }
        if let Some(passing) = &mut self.passing {
            if was_sent { passing.left_stream(item) } else { passing.left_front(item) }
        }
        self.turns.popped(item.bundle.group.is_part, was_sent);
        if !item.is_done {
            self.backlog -= item.bundle.recipients();
            self.backlog_bytes -= item.bundle.load().bytes;
        }
        true
    }

    /// An item that is not written whole, of this index, leaves: what stands before it keeps its place.
    pub(super) fn remove_queued(&mut self, index: usize) -> Option<Item> {
        let item = self.queued.remove(index.checked_sub(self.sent.len())?)?;
        self.note_taken(&item);
        Some(item)
    }

    /// The same of all such items together: each is moved once.
    pub(super) fn take_queued(&mut self, mut is_such: impl FnMut(&Item) -> bool) -> Vec<Item> {
        let mut taken = Vec::new();
        let Some(first) = self.queued.iter().position(&mut is_such) else { return taken };
        let behind = self.queued.split_off(first);
        for (index, item) in behind.into_iter().enumerate() {
            if index > 0 && !is_such(&item) {
                self.queued.push_back(item);
                continue;
            }
            // Who was the first is known by its number.
            self.front_no += u64::from(self.is_empty());
            self.note_taken(&item);
            taken.push(item);
        }
        taken
    }

    fn note_taken(&mut self, item: &Item) {
        if let Some(passing) = &mut self.passing {
            passing.left(item);
        }
        self.turns.popped(item.bundle.group.is_part, false);
        self.backlog -= item.bundle.recipients();
        self.backlog_bytes -= item.bundle.load().bytes;
    }

    /// An item ends and keeps its place: what it was.
    pub(super) fn leave_place(&mut self, index: usize, is_owed: bool) -> Item {
        let item = self[index].leave_place(is_owed);
        self.backlog -= item.bundle.recipients();
        self.backlog_bytes -= item.bundle.load().bytes;
        item
    }

    /// The next item is written whole.
    #[inline]
    pub(super) fn note_written(&mut self) {
        if let Some(item) = self.queued.pop_front() {
            self.turns.written(item.bundle.group.is_part);
            if let Some(passing) = &mut self.passing {
                passing.written(&item);
            }
            self.sent.push_back(item);
        }
    }

    /// The next items, of one batch, are written whole: they are moved together, which costs less than one by one. All of
    /// them behind an empty queue cost no copy: the queues change places.
    pub(super) fn note_batch_written(&mut self, items: usize) {
        let queued = &mut self.queued;
        queued.iter().take(items).for_each(|item| self.turns.written(item.bundle.group.is_part));
        if let Some(passing) = &mut self.passing {
            queued.iter().take(items).for_each(|item| passing.written(item));
        }
        if items < queued.len() {
            self.sent.extend(queued.drain(..items));
        } else if self.sent.is_empty() {
            std::mem::swap(&mut self.sent, queued);
        } else {
            self.sent.append(queued);
        }
    }

    /// Protocol `group` only: the oldest item was not delivered.
    pub(super) fn return_front(&mut self) {
        let Some(mut item) = self.sent.pop_front() else { return };
        self.front_no += 1;
        self.turns.popped(item.bundle.group.is_part, true);
        if let Some(passing) = &mut self.passing {
            passing.left_stream(&item);
        }
        item.rewind();
        self.returned.push_back(item);
    }

    /// Protocol `group` only: an item passes those of other sessions that wait.
    pub(super) fn pass_to(&mut self, from: usize, to: usize) {
        if from != to
            && let Some(mut item) = self.queued.remove(from)
        {
            if let Some(passing) = &mut self.passing {
                passing.goes_ahead(&mut item);
            }
            self.queued.insert(to, item);
        }
    }

    /// Whether items wait to be written again.
    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Takes those that wait to be written again and need not wait any more.
    pub(super) fn take_returned(&mut self, is_ready: impl Fn(&Item) -> bool) -> VecDeque<Item> {
        let (ready, wait) = std::mem::take(&mut self.returned).into_iter().partition(is_ready);
        self.returned = wait;
        ready
    }

    /// They are written next, in their order.
    pub(super) fn queue_first(&mut self, items: VecDeque<Item>) {
        if self.sent.is_empty() {
            self.front_no -= items.len() as u64;
        }
        for item in items.into_iter().rev() {
            self.turns.queued_again(item.bundle.group.is_part);
            self.queue_again(item);
        }
    }

    /// The first of those that wait to be written again.
    pub(super) fn returned(&self) -> Option<&Item> {
        self.returned.front()
    }

    /// It ends.
    pub(super) fn pop_returned(&mut self) -> Option<Item> {
        let item = self.returned.pop_front()?;
        self.backlog -= item.bundle.recipients();
        self.backlog_bytes -= item.bundle.load().bytes;
        Some(item)
    }

    /// Unary only: the call about the item of this index is made. Those before it keep their places.
    pub(super) fn note_called(&mut self, index: usize) {
        while self.sent.len() <= index
            && let Some(item) = self.queued.pop_front()
        {
            if let Some(passing) = &mut self.passing {
                passing.written(&item);
            }
            self.sent.push_back(item);
        }
    }

    /// Nothing counts as written any more; how many recipients were written and have no answer, and what had ended and could have been
    /// answered still.
    pub(super) fn forget_written(&mut self) -> (u64, Vec<Item>) {
        let (mut unanswered, mut late) = (0, Vec::new());
        if self.queued.front().is_some_and(Item::is_begun) {
            self.fix_front();
        }
        let begun = self.queued.front_mut();
        for item in self.sent.iter_mut().chain(begun) {
            if item.write_place > item.answer_place && !item.is_done {
                unanswered += u64::from(item.write_place - item.answer_place);
            }
            item.rewind();
        }
        // What was blamed on the first of them is not the next one's.
        self.front_no += self.sent.iter().take_while(|item| item.is_done).count() as u64;
        while let Some(item) = self.sent.pop_back() {
            // What is done kept its place on the stream that is gone; on the next one it would be written again.
            if !item.is_done {
                self.queue_again(item);
            } else if item.is_owed {
                late.push(item);
            }
        }
        let returned = std::mem::take(&mut self.returned);
        self.queue_first(returned);
        self.turns.begin_anew(self.queued.iter());
        if let Some(passing) = &mut self.passing {
            passing.lost_stream();
        }
        (unanswered, late)
    }

    /// An item that was on the stream is written again, before all others.
    fn queue_again(&mut self, mut item: Item) {
        if let Some(passing) = &mut self.passing {
            passing.returned(&mut item);
        }
        self.queued.push_front(item);
    }
}
