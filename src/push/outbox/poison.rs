//! Finds the push that breaks its gateway's stream. After a break the push at the front goes alone, and more goes only as it is
//! answered; when the stream breaks at one push alone again and again, that one ends and the rest goes on.
//!
//! Promises that a push which a gateway cannot handle, or does not answer as it must, costs the other users of that gateway a
//! few reconnects; and that a push which nobody has looked at is blamed for nothing. A break is evidence against the push at
//! the front only when the gateway's response had begun, or when between two such breaks the gateway ended an empty stream well:
//! then it is there, and what fails is what was sent. "Not now" counts so only in the second half of the delivery timeout.

use std::time::Duration;

use crate::model::gateway::Protocol;
use crate::model::ids::{Nanos, StreamNo};
use crate::model::limits::{BREAKS_AT_ONE_PUSH_MAX, BREAKS_FORGOTTEN, MISFITS_FORGOTTEN, PROBE_WINDOW_MAX};
use crate::model::outcome::RecipientOutcome;
use crate::push::facts::StreamEnd;
use crate::push::outbox::link::{Leave, Link};
use crate::push::outbox::{Effects, Item, Outbox};

/// After breaks with answers between, a pause grows as after this many failures at most; after answers that do not fit it
/// grows to its end.
const FAILURES_WITH_ANSWERS_MAX: u32 = 2;

/// How a stream ended that had the push at the front on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// After its response had begun.
    Heard,
    /// Before that.
    Unheard,
    /// Before that, with the word that it is not the time.
    NotNow,
    /// Something was answered that does not fit what was sent.
    Misfit,
}

/// What is suspected of the push at the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoisonIsolation {
    /// Its number. Answers for some of its recipients are no excuse: what comes after them is written again each time.
    front: u64,
    /// Breaks while it was alone that are evidence against it.
    breaks: u8,
    /// How many pushes may be without an answer.
    window: usize,
    probe: Probe,
    /// How often its stream was cut for what was late, since as much as it is sent was answered.
    pub(super) late_cuts: u32,
}

/// An empty stream, to see whether the gateway is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// The next stream is one.
    Due,
    /// This one is.
    Sent(StreamNo),
    /// The gateway ended it well, and nothing has broken since.
    Passed,
}

impl Default for PoisonIsolation {
    fn default() -> Self {
        Self { front: 0, breaks: 0, window: usize::MAX, probe: Probe::None, late_cuts: 0 }
    }
}

impl PoisonIsolation {
    /// A push has all its answers.
    pub(super) fn answered(&mut self) {
        self.window = self.window.saturating_add(1);
        if self.window > PROBE_WINDOW_MAX {
            self.window = usize::MAX;
            self.late_cuts = 0;
        }
    }

    /// The stream is cut for what was late on it: nobody is blamed, and the next one goes alone.
    pub(super) fn cut_late(&mut self) {
        self.window = 1;
        self.late_cuts = self.late_cuts.saturating_add(1);
    }

    /// Whether this stream is opened to be ended at once.
    pub(super) fn is_probe(&self, stream: StreamNo) -> bool {
        self.probe == Probe::Sent(stream)
    }
}

/// Breaks and answers that do not fit, each soon after the one before, whatever was answered between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unrest {
    breaks: u32,
    misfits: u32,
    last: Nanos,
}

impl Unrest {
    /// Something broke again.
    pub(super) fn note(&mut self, is_misfit: bool, now: Nanos) {
        if self.is_forgotten(now) {
            *self = Self::default();
        }
        self.last = now;
        self.breaks = self.breaks.saturating_add(1);
        self.misfits = self.misfits.saturating_add(u32::from(is_misfit));
    }

    /// Whether the gateway has just answered what does not fit, and not for the first time.
    pub(super) fn is_misfitting(&self, now: Nanos) -> bool {
        self.misfits > 1 && now.since(self.last) < MISFITS_FORGOTTEN
    }

    fn is_forgotten(&self, now: Nanos) -> bool {
        now.since(self.last) >= if self.misfits > 0 { MISFITS_FORGOTTEN } else { BREAKS_FORGOTTEN }
    }

    /// Failures in a row that a pause is at least as long as after.
    pub(super) fn failures(&self, now: Nanos) -> u32 {
        if self.is_forgotten(now) {
            return 0;
        }
        self.breaks.saturating_sub(1).min(FAILURES_WITH_ANSWERS_MAX).max(self.misfits.saturating_sub(1))
    }
}

impl Outbox {
    /// How many items, from the front, may be on the stream.
    pub(super) fn writable(&self) -> usize {
        self.queue.len().min(self.health.suspect.window)
    }

    /// Whether one of the items may be what breaks the stream.
    pub(super) fn is_suspecting(&self) -> bool {
        self.health.suspect.window != usize::MAX
    }

    /// A stream ended that we did not end; what to say when the push at the front ended for that.
    pub(super) fn suspect_for(
        &mut self,
        end: &StreamEnd,
        left: Option<Leave>,
        now: Nanos,
        effects: &mut Effects,
    ) -> Option<String> {
        let is_open = matches!(self.stream.link, Link::Open { .. });
        let is_unary = self.protocol() == Some(Protocol::Unary);
        let how = match end {
            StreamEnd::Broken(_) => Break::Heard,
            StreamEnd::Unheard(_) => Break::Unheard,
            StreamEnd::NotOpened(_) => Break::NotNow,
            // Calls that came too late on a connection that is going away were not sent.
            StreamEnd::Finished if is_open || !is_unary => Break::Heard,
            _ => return None,
        };
        if !is_open && left != Some(Leave::GoAway) {
            return None;
        }
        self.suspect_front(how, now, effects)
    }

    /// The same for a stream that still is there.
    pub(super) fn suspect_front(&mut self, how: Break, now: Nanos, effects: &mut Effects) -> Option<String> {
        let PoisonIsolation { front: before, breaks, window, probe, late_cuts } = self.health.suspect;
        if how == Break::Misfit {
            self.health.unrest.note(true, now);
            self.health.suspect.window = 1;
        }
        let item = self.queue.front().filter(|item| item.is_written() && !item.is_done)?;
        // A stream that ends with nothing on it is how connections grow old.
        if self.stream.has_answered && how != Break::Misfit {
            self.health.unrest.note(false, now);
        }
        if self.stream.has_answered
            && window == usize::MAX
            && self.health.unrest.failures(now) == 0
            && how != Break::Misfit
        {
            return None;
        }
        let front = self.queue.front_no;
        let is_same = front == before && window == 1;
        let is_known = matches!(how, Break::Heard | Break::Misfit);
        let is_doubtful = how == Break::Unheard || (how == Break::NotNow && self.is_half_over(item, now));
        let is_evidence = is_known || (is_doubtful && probe == Probe::Passed);
        let breaks = if is_same { breaks + u8::from(is_evidence) } else { 0 };
        let probe = if is_doubtful { Probe::Due } else { Probe::None };
        self.health.suspect = PoisonIsolation { front, breaks, window: 1, probe, late_cuts };
        if breaks < BREAKS_AT_ONE_PUSH_MAX {
            return None;
        }
        let msg_id = item.bundle.msg_id;
        // What an answer that did not fit said of some of its recipients is void.
        self.queue.front_mut()?.rewind();
        self.end_front(RecipientOutcome::BrokeStream, effects);
        Some(format!("its stream broke {breaks} times at msg_id {msg_id}, sent alone: that one is not pushed"))
    }

    /// Which protocol the next stream is for, when it is an empty one: any that ends one at its own will does, so a gateway of
    /// unary calls is asked for a stream that it need not know.
    pub(super) fn probe_with(&mut self, stream: StreamNo, protocol: Protocol) -> Option<Protocol> {
        if self.health.suspect.probe != Probe::Due || self.queue.front_no != self.health.suspect.front {
            return None;
        }
        self.health.suspect.probe = Probe::Sent(stream);
        Some(if protocol == Protocol::Unary { Protocol::Stream } else { protocol })
    }

    /// An empty stream is over; whether the gateway has ended it well.
    pub(super) fn take_probed(&mut self, end: &StreamEnd, protocol: Protocol) -> bool {
        let has_passed = match end {
            StreamEnd::Finished => true,
            StreamEnd::Unimplemented => self.protocol() != Some(protocol),
            _ => false,
        };
        self.health.suspect.probe = if has_passed { Probe::Passed } else { Probe::None };
        has_passed
    }

    /// Unary only: the gateway failed with this call itself; whether the call is to blame: it failed often, while others were
    /// answered, or twice as often when there is no other to tell it by but those before.
    pub(super) fn is_to_blame(&mut self, index: usize, now: Nanos) -> bool {
        let completed = self.health.completed;
        // Before its way through the other protocols it had answered calls.
        let has_answered = self.stream.has_answered || self.has_left_unary(now);
        let item = &mut self.queue[index];
        if item.failures == 0 {
            item.completed_before = completed;
        }
        item.failures = item.failures.saturating_add(1);
        let is_often = item.failures >= BREAKS_AT_ONE_PUSH_MAX && item.completed_before != completed;
        is_often || (has_answered && item.failures >= 2 * BREAKS_AT_ONE_PUSH_MAX)
    }

    /// Whether a push has been told "not now" for so long that it is what is meant, when nothing else is told so: a hop that is
    /// away says it to all.
    pub(super) fn is_half_over(&self, item: &Item, now: Nanos) -> bool {
        now.since(item.bundle.made_at) > self.settings.delivery_timeout / 2
    }

    /// Unary only: no calls until the pause is over; the call is made again then, and what else is open is still answered.
    pub(super) fn call_again(&mut self, index: usize, why: String, now: Nanos, effects: &mut Effects) {
        let item = &mut self.queue[index];
        if !item.is_done {
            effects.counted.resent_recipients += u64::from(item.write_place - item.answer_place);
        }
        item.rewind();
        // Calls that fail together are one failure.
        if self.stream.calls_from <= now {
            self.stream.calls_from = now.after(self.next_pause(now));
            effects.warning = Some(("gateway_broken", why));
        }
    }

    /// Unary only: whether a pause is over that calls have waited for.
    pub(super) fn are_calls_due(&self, now: Nanos) -> bool {
        self.stream.calls_from > Nanos(0) && self.stream.calls_from <= now
    }

    /// How long the gateway is left alone after one more failure.
    pub(super) fn next_pause(&mut self, now: Nanos) -> Duration {
        let failures = self.health.failures_in_row.max(self.health.unrest.failures(now));
        self.health.failures_in_row = self.health.failures_in_row.saturating_add(1);
        self.jittered_backoff(failures)
    }
}
