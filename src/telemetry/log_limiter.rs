//! Warnings that may come by the thousand, said at most once a while.
//!
//! Promises that the first one of a reason is said at once and that the next one said tells how many were left out.
//! Refuses to count: what happened is the metric's business, this is only about the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a reason stays quiet after it was said.
pub const QUIET_FOR: Duration = Duration::from_secs(10);

/// One reason's gate. A lock that is taken only when something is wrong already.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

impl Quiet {
    /// A gate that has said nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether to say it now: `Some` with how many were left out since it was last said, else `None`.
    pub fn may_say(&self) -> Option<u64> {
        self.may_say_at(Instant::now())
    }

    fn may_say_at(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *said {
            Some(last) if now.saturating_duration_since(last.at) < QUIET_FOR => {
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
        let (quiet, start) = (Quiet::new(), Instant::now());
        assert_eq!(quiet.may_say_at(start), Some(0));
        for ms in [1, 500, 9_999] {
            assert_eq!(quiet.may_say_at(start + Duration::from_millis(ms)), None, "{ms} ms later");
        }
        assert_eq!(quiet.may_say_at(start + QUIET_FOR), Some(3));
        assert_eq!(quiet.may_say_at(start + QUIET_FOR * 2), Some(0));
    }
}
