//! When partitions that will probably come are read ahead.
//!
//! Promises that they are begun evenly over the time that there is before they come, and no more than a few at once: read all at
//! once, 21 of them kept the server and the databases from other events for 40 ms (PERF.md, "Several instances").

use std::time::{Duration, Instant};

/// They are begun within this. Their owner gives them away after 200 ms at the earliest (`Timings::prepare`).
const OVER: Duration = Duration::from_millis(150);
const AT_ONCE_MAX: u32 = 4;

/// How far the reading ahead of a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is not read ahead.
    None,
    /// Its turn has not come.
    Waits,
    /// It is asked for, or read.
    UnderWay,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ahead {
    waiting: u32,
    under_way: u32,
    /// When the next is begun.
    next_at: Instant,
    /// When the last of those that wait is begun.
    until: Instant,
}

impl Ahead {
    pub(super) const fn new(now: Instant) -> Self {
        Self { waiting: 0, under_way: 0, next_at: now, until: now }
    }

    /// One more waits.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.waiting == 0 {
            self.until = now + OVER;
        }
    }

    /// The turn of a place changed.
    pub(super) fn changed(&mut self, before: Turn, after: Turn) {
        let is = |turn: Turn, which| u32::from(turn == which);
        self.waiting = self.waiting + is(after, Turn::Waits) - is(before, Turn::Waits);
        self.under_way = self.under_way + is(after, Turn::UnderWay) - is(before, Turn::UnderWay);
    }

    /// Whether one of those that wait begins now; then it counts as begun.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let begins = now >= self.next_at && self.under_way < AT_ONCE_MAX;
        if begins {
            self.next_at = now + self.until.saturating_duration_since(now) / self.waiting.max(1);
        }
        begins
    }

    /// When the next begins; none: none waits, or others end first.
    pub(super) fn next_due(&self) -> Option<Instant> {
        (self.waiting > 0 && self.under_way < AT_ONCE_MAX).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins what may begin each millisecond, each being read for so long; gives when each was begun, in milliseconds.
    fn begun(count: u32, takes_ms: u64) -> Vec<u64> {
        let (start, mut begun, mut ends) = (Instant::now(), Vec::new(), Vec::new());
        let mut ahead = Ahead::new(start);
        for _ in 0..count {
            ahead.asked(start);
            ahead.changed(Turn::None, Turn::Waits);
        }
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            while ends.first().is_some_and(|end| *end <= ms) {
                ends.remove(0);
                ahead.changed(Turn::UnderWay, Turn::None);
            }
            while ahead.next_due().is_some_and(|due| due <= now) {
                assert!(ahead.begins(now));
                ahead.changed(Turn::Waits, Turn::UnderWay);
                begun.push(ms);
                ends.push(ms + takes_ms);
            }
        }
        assert_eq!((ahead.waiting, ahead.under_way, ahead.next_due()), (0, 0, None));
        begun
    }

    #[test]
    fn they_are_begun_evenly_over_the_time_that_there_is() {
        assert_eq!(begun(1, 1), [0]);
        assert_eq!(begun(3, 1), [0, 50, 100]);
        let many = begun(64, 1);
        assert_eq!((many.len(), many[0]), (64, 0));
        assert!(many.windows(2).all(|pair| pair[1] - pair[0] <= 3) && many[63] <= 150, "{many:?}");
    }

    #[test]
    fn a_slow_server_is_asked_for_a_few_at_once_and_none_is_left_out() {
        let slow = begun(21, 100);
        assert_eq!(slow.len(), 21);
        let at_once = |ms: &u64| slow.iter().filter(|began| (**began..**began + 100).contains(ms)).count();
        assert!((0..600).map(|ms| at_once(&ms)).all(|count| count <= AT_ONCE_MAX as usize), "{slow:?}");
    }
}
