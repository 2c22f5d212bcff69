//! Ends what has waited too long, and cuts the stream that does not answer.
//!
//! Promises that a push ends at its deadline, and that a stream is cut only when it had time to answer what is late on it: what
//! was sent again just before its deadline costs no further cut. After a cut the push at the front goes alone, and more goes only
//! as it is answered; so a silent gateway gets each push twice: with the others, and once alone.

use std::time::Duration;

use crate::model::backoff::Backoff;
use crate::model::ids::Nanos;
use crate::model::limits::SLOW_GATEWAY_TIMEOUTS;
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::{BundleEnd, BundleResult};
use crate::push::outbox::{Effects, Item, Outbox};

/// Which part of the delivery timeout a push that is late is waited for on its stream at the least; twice as long after each cut,
/// up to all of it, until the gateway has recovered.
const PATIENCE_PART: u32 = 8;

impl Outbox {
    /// From now on a push may wait so long, and the last address is used for so long.
    pub(in crate::push) fn tune(&mut self, delivery_timeout: Duration, forget_after: Duration) {
        (self.settings.delivery_timeout, self.settings.forget_after) = (delivery_timeout, forget_after);
    }

    /// A gateway that is silent, unreachable or unknown, or answers what does not fit, costs a bundle the delivery timeout; one that
    /// answers, but too slowly for its queue, a few of them.
    pub(super) fn expire(&mut self, now: Nanos, effects: &mut Effects) {
        let is_silent = now.since(self.moved_at) >= self.settings.delivery_timeout;
        while self.queue.returned().is_some_and(|item| self.is_late(item, is_silent, now))
            && let Some(item) = self.queue.pop_returned()
        {
            self.stream.groups.note_left(&item);
            self.end_item(item, RecipientOutcome::TimedOut, effects);
        }
        let (mut index, mut is_cut) = (0, false);
        while let Some(item) = self.queue.get(index) {
            let is_over = self.is_stopping || self.is_patience_over(item, now);
            let is_sent = index < self.queue.sent().len();
            if item.is_done {
                if item.is_owed && is_over {
                    is_cut = true;
                    index += 1;
                } else if item.is_owed || index > 0 {
                    index += 1;
                } else {
                    self.end_front(RecipientOutcome::TimedOut, effects);
                }
                continue;
            }
            if !self.is_late(item, is_silent, now) {
                match self.queue.next_that_may_be_older(index) {
                    Some(next) => index = next,
                    None => break,
                }
                continue;
            }
            let is_written = item.is_written();
            is_cut |= is_written && (is_over || !is_sent);
            if is_sent {
                let item = self.queue.leave_place(index, is_written);
                self.end_item(item, RecipientOutcome::TimedOut, effects);
            } else if index == 0 {
                self.end_front(RecipientOutcome::TimedOut, effects);
            } else if let Some(item) = self.queue.remove_queued(index) {
                self.end_item(item, RecipientOutcome::TimedOut, effects);
            }
        }
        if is_cut {
            self.cut_late(is_silent, now, effects);
        }
    }

    fn is_late(&self, item: &Item, is_silent: bool, now: Nanos) -> bool {
        let timeout = self.settings.delivery_timeout;
        let age = now.since(item.bundle.made_at);
        let is_misfitting = self.health.unrest.is_misfitting(now);
        ((is_silent || is_misfitting) && age >= timeout) || age >= timeout * SLOW_GATEWAY_TIMEOUTS
    }

    /// Whether the stream had time to answer what was written to it.
    fn is_patience_over(&self, item: &Item, now: Nanos) -> bool {
        now.since(item.written_at()) >= self.patience()
    }

    fn patience(&self) -> Duration {
        let timeout = self.settings.delivery_timeout;
        Backoff::new(timeout / PATIENCE_PART, timeout).after(self.health.suspect.late_cuts.saturating_add(1))
    }

    fn cut_late(&mut self, is_silent: bool, now: Nanos, effects: &mut Effects) {
        let seconds = self.settings.delivery_timeout.as_secs_f64();
        effects.warning = Some(match is_silent {
            true => ("gateway_silent", format!("no answer for {seconds} s, the stream is cut")),
            false if self.health.unrest.is_misfitting(now) => {
                let what = "many of its answers do not fit, and a push that came for it had none";
                ("gateway_slow", format!("{what} for {seconds} s; the stream is cut"))
            }
            false => {
                let seconds = seconds * f64::from(SLOW_GATEWAY_TIMEOUTS);
                (
                    "gateway_slow",
                    format!("it answers, but a push that came for it {seconds} s ago has no answer; the stream is cut"),
                )
            }
        });
        self.health.suspect.cut_late();
        self.cut(now, effects);
    }

    /// What has ended as late has all its answers.
    pub(super) fn complete_late(&mut self, item: Item, effects: &mut Effects) {
        // On `stream` each was counted as it came. What its gateway knew no list for was told to nobody.
        if !item.written.is_unknown {
            effects.counted.answered_late += u64::from(item.unanswered()).saturating_sub(item.refused.len() as u64);
        }
        self.note_completed();
        effects.results.push_back(item.off_stream());
    }
}

impl Item {
    /// It had ended, and its gateway cannot read it any more, but for what it had received by then.
    pub(super) fn off_stream(self) -> BundleResult {
        BundleResult::unwritten(self.bundle, BundleEnd::OffStream)
    }
}
