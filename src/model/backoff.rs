//! The waits between tries: each twice as long as the one before, up to the longest.
//!
//! Refuses to draw the random number of a jittered wait: the edge has one, and the core mixes one from what it knows.

use std::time::Duration;

/// The first and the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// However many there were.
    pub longest: Duration,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after this many failures in a row.
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }

    /// The same, shortened by up to a half of it: those that lost the same server do not come back at once.
    pub fn jittered(self, failures: u32, random: u64) -> Duration {
        let half = self.after(failures) / 2;
        half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// The wait that follows this one.
    pub fn following(self, wait: Duration) -> Duration {
        wait.saturating_mul(2).clamp(self.first, self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const BACKOFF: Backoff = Backoff::new(FIRST, Duration::from_secs(1));

    #[test]
    fn waits_double_from_the_first_failure_up_to_the_longest() {
        let millis = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|failures| BACKOFF.after(failures).as_millis());
        assert_eq!(millis, [50, 50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        let mut wait = Duration::ZERO;
        let following = [(); 7].map(|()| {
            wait = BACKOFF.following(wait);
            wait.as_millis()
        });
        assert_eq!(following, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn a_jittered_wait_is_between_half_of_it_and_all() {
        for (failures, least, most) in [(1, 25, 50), (2, 50, 100), (5, 400, 800), (6, 500, 1_000), (999, 500, 1_000)] {
            let waits = [0, u64::MAX / 3, u64::MAX].map(|random| BACKOFF.jittered(failures, random));
            assert!(waits.is_sorted_by(|a, b| a < b), "{waits:?}");
            assert!(waits.iter().all(|wait| (least..=most).contains(&wait.as_millis())), "{failures}: {waits:?}");
        }
    }
}
