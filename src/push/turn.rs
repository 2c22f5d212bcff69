//! What one turn may do, so that a session of 50,000 never holds up the others of its shard: recipients bundled, names of
//! answered member lists made known, bytes of frames written. What is beyond waits for the next turn, in order.
//!
//! Promises that a turn goes past a bound by one event, one name, or one gateway's share at the most; that whoever had
//! nothing of a turn goes before whoever had; and that [`Push::has_more`] says so when work waits for no fact. Refuses to
//! cut one event's bundles over turns: they are shared, and 196 for 50,000 users of one gateway.

use std::collections::VecDeque;

use crate::model::ids::SessionIx;
use crate::model::limits::{TURN_FRAME_BYTES_MAX, TURN_NAMES_MAX, TURN_PARTS};
use crate::push::Push;
use crate::push::pauses::{LineOf, Pauses};

/// What is left of a turn.
#[derive(Debug)]
pub struct Budget {
    /// Recipients whose routes may still be looked at, and who may be bundled.
    pub recipients_left: usize,
    /// Names that may still be made known.
    pub names_left: usize,
    /// Bytes of frames that may still be written.
    pub frame_bytes_left: u64,
}

impl Budget {
    /// A whole turn's, with so many recipients.
    pub fn of(recipients: usize) -> Self {
        Self { recipients_left: recipients, names_left: TURN_NAMES_MAX, frame_bytes_left: TURN_FRAME_BYTES_MAX as u64 }
    }
}

/// Sessions that wait for a turn.
#[derive(Debug, Default)]
pub struct Line {
    queues: [Waiting; LineOf::COUNT],
    /// What each line may still bundle of this turn; what it took too much is paid back in the next ones.
    shares: [i64; LineOf::COUNT],
    /// Recipients of a turn; none where there are no classes.
    of: Option<usize>,
}

/// Sessions that wait for room, by their lines.
#[derive(Debug, Default)]
pub struct Stalled {
    queues: [VecDeque<SessionIx>; LineOf::COUNT],
}

impl Stalled {
    /// One more.
    pub fn push_back(&mut self, at: SessionIx, line: LineOf) {
        self.queues[line.index()].push_back(at);
    }

    /// The lines in which any waits, the first one first.
    pub fn lines(&self) -> impl Iterator<Item = LineOf> {
        let waits = self.queues.iter().enumerate().filter(|(_, line)| !line.is_empty());
        waits.map(|(index, _)| LineOf::of_index(index))
    }

    /// The next one of a line.
    pub fn pop_front(&mut self, line: LineOf) -> Option<SessionIx> {
        self.queues[line.index()].pop_front()
    }

    /// Nobody waits any more.
    pub fn clear(&mut self) {
        self.queues.iter_mut().for_each(VecDeque::clear);
    }
}

/// One line.
#[derive(Debug, Default)]
struct Waiting {
    /// Sessions that may go on.
    resumed: VecDeque<SessionIx>,
    /// Sessions that had nothing of this turn.
    deferred: VecDeque<SessionIx>,
    /// Sessions that had, and have more.
    deferred_last: VecDeque<SessionIx>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.resumed.is_empty() && self.deferred.is_empty() && self.deferred_last.is_empty()
    }

    fn pop_any(&mut self) -> Option<SessionIx> {
        self.resumed.pop_front().or_else(|| self.deferred.pop_front()).or_else(|| self.deferred_last.pop_front())
    }

    fn end_turn(&mut self) {
        self.resumed.append(&mut self.deferred);
        self.resumed.append(&mut self.deferred_last);
    }
}

/// A turn's recipients of a line while all lines wait.
fn share_of(recipients: usize, line: usize) -> i64 {
    (recipients * TURN_PARTS[line] / TURN_PARTS.iter().sum::<usize>()).max(1) as i64
}

impl Line {
    /// There are classes: each line has its share of a turn of so many recipients.
    pub fn share(&mut self, recipients: usize) {
        self.of = Some(recipients);
        self.shares = std::array::from_fn(|line| share_of(recipients, line));
    }

    /// A session may go on, in its line.
    pub fn resume(&mut self, at: SessionIx, pauses: &mut Pauses) {
        self.enter(at, pauses, |line| &mut line.resumed);
    }

    /// A session that waits in a worse line has its turn in its own as well: with what is left of this turn, or in the next one.
    pub fn raise(&mut self, at: SessionIx, pauses: &mut Pauses) {
        self.enter(at, pauses, |line| &mut line.deferred);
    }

    /// A session waits once in each line at the most: what it waits for in a worse one than its own is done when its turn comes there.
    fn enter(
        &mut self,
        at: SessionIx,
        pauses: &mut Pauses,
        queue: impl FnOnce(&mut Waiting) -> &mut VecDeque<SessionIx>,
    ) {
        if pauses.waits_in & pauses.line.bit() == 0 {
            pauses.waits_in |= pauses.line.bit();
            queue(&mut self.queues[pauses.line.index()]).push_back(at);
        }
    }

    /// Whether anyone may go on.
    fn is_any_resumed(&self) -> bool {
        self.queues.iter().any(|line| !line.resumed.is_empty())
    }

    fn next_resumed(&mut self) -> Option<(SessionIx, LineOf)> {
        let line = self.queues.iter().position(|line| !line.resumed.is_empty())?;
        self.queues[line].resumed.pop_front().map(|at| (at, LineOf::of_index(line)))
    }

    /// Whether a line has something left of its share.
    #[inline]
    pub fn has_share(&self, line: LineOf) -> bool {
        self.of.is_none() || self.shares[line.index()] > 0
    }

    /// So many recipients of a line are bundled.
    #[inline]
    pub fn take_share(&mut self, line: LineOf, recipients: usize) {
        if self.of.is_some() {
            self.shares[line.index()] -= recipients as i64;
        }
    }

    /// An event that was taken for is not bundled now: it takes its share when it is.
    pub fn give_share_back(&mut self, line: LineOf, recipients: usize) {
        if self.of.is_some() {
            self.shares[line.index()] += recipients as i64;
        }
    }

    /// The next session for what a turn has left: the best line that has something of its share. Lines that wait get a share
    /// more until one has.
    fn next_of_rest(&mut self) -> Option<(SessionIx, LineOf)> {
        let of = self.of?;
        if self.queues.iter().all(Waiting::is_empty) {
            return None;
        }
        loop {
            for (index, line) in self.queues.iter_mut().enumerate() {
                if self.shares[index] > 0
                    && let Some(at) = line.pop_any()
                {
                    return Some((at, LineOf::of_index(index)));
                }
            }
            for (index, _) in self.queues.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
                self.shares[index] += share_of(of, index);
            }
        }
    }

    fn end_turn(&mut self) {
        self.queues.iter_mut().for_each(Waiting::end_turn);
        if let Some(of) = self.of {
            for (index, left) in self.shares.iter_mut().enumerate() {
                *left = (*left + share_of(of, index)).min(share_of(of, index));
            }
        }
    }
}

impl Push {
    /// Whether something waits for a turn and for no fact: whoever turns the core must not sleep.
    pub fn has_more(&self) -> bool {
        self.dispatch.line.is_any_resumed()
            || self.resolve.members.is_learning()
            || self.delivery.gateways.is_any_changed()
            // What was bundled late in the turn found no room at its gateway.
            || !self.delivery.results.is_empty()
    }

    /// Whether nothing is under way and nothing is due soon, so that [`TICK`](crate::model::limits::TICK) may be
    /// [`REST_TICK`](crate::model::limits::REST_TICK) until the next fact. It is found at a tick before which nothing came for
    /// another one, so that a shard that works pays nothing for it.
    pub fn is_at_rest(&self) -> bool {
        self.is_resting && !self.has_heard
    }

    /// Whether time alone has something to do here within a second. What is due in minutes may be late by a rest's tick.
    pub(super) fn is_anything_due_soon(&self) -> bool {
        self.has_more()
            || self.cx.is_retreating
            || self.ledger.in_flight() > 0
            || !self.ledger.inbox.is_at_rest()
            || !self.ledger.content.is_at_rest()
            || self.resolve.is_warming()
            || !self.resolve.renewal.is_empty()
            || !self.resolve.members.is_at_rest()
            || !self.resolve.routes.is_at_rest()
            || !self.delivery.gateways.are_at_rest()
    }

    /// Sessions that waited for a turn, or until nothing of them was in flight, go on.
    pub(super) fn resume_sessions(&mut self) {
        while let Some((at, line)) = self.dispatch.line.next_resumed() {
            self.go_on(at, line);
        }
    }

    /// What a turn has left goes to those that wait, whatever their share: each line in turn, as its share is larger.
    pub(super) fn share_the_rest(&mut self) {
        while self.cx.has_classes
            && self.cx.budget.recipients_left > 0
            && let Some((at, line)) = self.dispatch.line.next_of_rest()
        {
            self.go_on(at, line);
        }
    }

    fn go_on(&mut self, at: SessionIx, line: LineOf) {
        self.resolve.sessions[at].pauses.waits_in &= !line.bit();
        if !self.cx.is_cut_off {
            self.advance(at);
        }
    }

    /// The session's next event waits for the next turn.
    pub(super) fn defer(&mut self, at: SessionIx, has_advanced: bool) {
        let pauses = &mut self.resolve.sessions[at].pauses;
        self.dispatch.line.enter(at, pauses, |line| match has_advanced {
            true => &mut line.deferred_last,
            false => &mut line.deferred,
        });
    }

    /// The next turn has its whole share again.
    pub(super) fn end_turn(&mut self) {
        self.dispatch.line.end_turn();
        self.cx.budget = Budget::of(self.cx.turn_recipients);
    }
}
