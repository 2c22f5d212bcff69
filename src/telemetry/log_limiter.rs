//! Warnings that may come by the thousand, said at most once a while.
//!
//! Promises that the first one of a reason is said at once and that the next one said tells how many were left out.
//! Refuses to count: what happened is the metric's business, this is only about the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::ids::Nanos;

/// How often one reason is logged.
pub const LOG_EVERY: Duration = Duration::from_secs(10);

/// A point on the clock of whoever limits: the edge has [`Instant`], the core is handed [`Nanos`].
pub trait Moment: Copy {
    /// The time from `earlier` to this.
    fn elapsed_since(self, earlier: Self) -> Duration;
}

impl Moment for Instant {
    fn elapsed_since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl Moment for Nanos {
    fn elapsed_since(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// When one reason was said last, and how many were left out since.
#[derive(Clone, Copy, Debug)]
pub struct Said<T> {
    at: T,
    left_out: u64,
}

impl<T: Moment> Said<T> {
    /// It is said for the first time.
    pub fn first(at: T) -> Self {
        Self { at, left_out: 0 }
    }

    /// Whether it was said less than [`LOG_EVERY`] ago.
    pub fn is_recent(&self, now: T) -> bool {
        now.elapsed_since(self.at) < LOG_EVERY
    }

    /// Whether to say it again: `Some` with how many were left out since it was last said, else `None`.
    pub fn allow(&mut self, now: T) -> Option<u64> {
        if self.is_recent(now) {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::replace(self, Self::first(now)).left_out)
    }
}

/// Lets one reason into the log once a while. A lock that is taken only when something is wrong already.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<Option<Said<Instant>>>);

impl LogLimiter {
    /// A limiter that has let nothing through yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether to say it now: `Some` with how many were left out since it was last said, else `None`.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(said) => said.allow(now),
            said => {
                *said = Some(Said::first(now));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_first_at_once_and_then_how_many_were_left_out() {
        let (limiter, start) = (LogLimiter::new(), Instant::now());
        assert_eq!(limiter.allow_at(start), Some(0));
        for ms in [1, 500, 9_999] {
            assert_eq!(limiter.allow_at(start + Duration::from_millis(ms)), None, "{ms} ms later");
        }
        assert_eq!(limiter.allow_at(start + LOG_EVERY), Some(3));
        assert_eq!(limiter.allow_at(start + LOG_EVERY * 2), Some(0));
    }
}
