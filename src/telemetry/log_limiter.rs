//! Warnings that may come by the thousand, said at most once a while.
//!
//! Promises that the first one of a reason is said at once and that the next one said tells how many were left out.
//! Refuses to count: what happened is the metric's business, this is only about the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often one reason is logged.
pub const LOG_EVERY: Duration = Duration::from_secs(10);

/// Lets one reason into the log once a while. A lock that is taken only when something is wrong already.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

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
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *said {
            Some(last) if now.saturating_duration_since(last.at) < LOG_EVERY => {
                last.left_out += 1;
                None
            }
            last => {
                let left_out = last.as_ref().map_or(0, |last| last.left_out);
                *last = Some(Said { at: now, left_out: 0 });
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_first_at_once_and_then_how_many_were_left_out() {
        let (quiet, start) = (LogLimiter::new(), Instant::now());
        assert_eq!(quiet.allow_at(start), Some(0));
        for ms in [1, 500, 9_999] {
            assert_eq!(quiet.allow_at(start + Duration::from_millis(ms)), None, "{ms} ms later");
        }
        assert_eq!(quiet.allow_at(start + LOG_EVERY), Some(3));
        assert_eq!(quiet.allow_at(start + LOG_EVERY * 2), Some(0));
    }
}
