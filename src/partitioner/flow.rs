//! Whose fault a refusal is: the stream's, or the event's (rule R1).
//!
//! Promises that an event is blamed only when it was refused, another that was published later was stored, and it was then
//! refused again, while at most [`ALONE_MAX`] others fail; and that while the stream takes nothing, one event at a time finds
//! out whether it does, another one each time.

use std::time::Duration;

use crate::model::backoff::Backoff;
use crate::model::ids::Nanos;

/// So many may fail beside others that are stored: with more it is the stream.
const ALONE_MAX: usize = 4;
/// So many refusals without one that was stored: the stream takes nothing.
const STREAK: u32 = 4;
/// The pause between two tries while the stream takes nothing.
const SHUT_PAUSE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// The longest pause of an event that is refused alone.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The pause of one that is refused and not blamed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Event,
    Stream,
}

/// How long an event waits that was blamed so often.
pub(super) fn pause(interval: Duration, tries: u32) -> Duration {
    match tries {
        0 => FIRST_PAUSE,
        tries => Backoff::new(interval, PAUSE_MAX.max(interval)).after(tries),
    }
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    /// When the latest of those that were stored was published.
    stored: Option<Nanos>,
    /// Refusals since one was stored.
    streak: u32,
    /// The next try, while the stream takes nothing.
    next_try: Option<Nanos>,
    tries: u32,
}

impl Flow {
    /// Whether the stream takes nothing.
    pub(super) fn is_shut(&self) -> bool {
        self.next_try.is_some()
    }

    pub(super) fn next_try(&self) -> Option<Nanos> {
        self.next_try
    }

    /// Whether something may be published now; `under_way`: what has no answer.
    pub(super) fn is_open(&self, now: Nanos, under_way: usize) -> bool {
        self.next_try.is_none_or(|next| next <= now && under_way == 0)
    }

    /// One that was published at `sent` is stored.
    pub(super) fn stored(&mut self, sent: Nanos) {
        self.stored = self.stored.max(Some(sent));
        (self.streak, self.next_try, self.tries) = (0, None, 0);
    }

    /// One was refused, which had failed `before`; `failing` fail, those that wait for another try included.
    pub(super) fn refused(
        &mut self,
        before: Option<Nanos>,
        failing: usize,
        may_be_blamed: bool,
        now: Nanos,
    ) -> Verdict {
        let is_contradicted = before.is_some_and(|before| self.stored.is_some_and(|stored| stored > before));
        self.streak = self.streak.saturating_add(1);
        // What was under way with the one that shut it says nothing new.
        if self.streak >= STREAK && self.next_try.is_none_or(|next| next <= now) {
            self.tries = self.tries.saturating_add(1);
            self.next_try = Some(now.after(SHUT_PAUSE.after(self.tries)));
        }
        let is_alone = failing < ALONE_MAX && self.next_try.is_none();
        if may_be_blamed && is_contradicted && is_alone { Verdict::Event } else { Verdict::Stream }
    }
}
