//! How much of a window that several instances share one of them takes.
//!
//! Promises that an instance that is alone has the whole window, that one that is not takes at most half of it, and that it
//! always takes some. Whether there are others is seen at the consumer, once a second: more pulls stand there than ours,
//! or more events are out than we have. Pure: numbers in, a decision out.

/// For so many looks after others were last seen they are taken to be there.
const REMEMBERED: u32 = 5;
/// What is on its way makes the numbers differ: a difference counts from this part of the window on, seen so many times
/// in a row.
const NOISE: u64 = 8;
const SEEN_TIMES: u32 = 2;

/// What we have ourselves, at the most, at the time of the server's look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ours {
    pub pulls: u64,
    /// Events that are out, or were asked for.
    pub events: u64,
}

/// Whether there are others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Looks for which others are still taken to be there.
    others: u32,
    more_out: u32,
}

impl Share {
    /// A look came back: pulls that stand and events that are out, of all instances, and ours.
    pub(super) fn look(&mut self, waiting: u64, pending: u64, ours: Ours, window: u32) {
        let has_more_out = pending > ours.events + (u64::from(window) / NOISE).max(1);
        self.more_out = if has_more_out { self.more_out + 1 } else { 0 };
        let is_seen = waiting > ours.pulls || self.more_out >= SEEN_TIMES;
        self.others = if is_seen { REMEMBERED } else { self.others.saturating_sub(1) };
    }

    /// What of the window may be ours.
    pub(super) fn of(&self, window: u32) -> u32 {
        if self.others > 0 { (window / 2).max(1) } else { window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 256;

    #[test]
    fn who_is_alone_has_all_and_who_is_not_has_half() {
        let mut share = Share::default();
        let ours = Ours { pulls: 2, events: 256 };
        share.look(2, 256, ours, WINDOW);
        assert_eq!(share.of(WINDOW), 256);
        share.look(3, 256, ours, WINDOW);
        assert_eq!((share.of(WINDOW), share.of(1)), (128, 1), "somebody else waits");
        (0..4).for_each(|_| share.look(2, 256, ours, WINDOW));
        assert_eq!(share.of(WINDOW), 128, "it may be about to pull again");
        share.look(2, 256, ours, WINDOW);
        assert_eq!(share.of(WINDOW), 256, "it is gone");
    }

    #[test]
    fn who_holds_without_pulling_is_seen_and_noise_is_not() {
        let mut share = Share::default();
        let ours = Ours { pulls: 1, events: 100 };
        share.look(1, 132, ours, WINDOW);
        share.look(1, 132, ours, WINDOW);
        assert_eq!(share.of(WINDOW), 256, "acks on their way");
        share.look(1, 133, ours, WINDOW);
        share.look(1, 100, ours, WINDOW);
        share.look(1, 133, ours, WINDOW);
        assert_eq!(share.of(WINDOW), 256, "now and then");
        share.look(1, 133, ours, WINDOW);
        assert_eq!(share.of(WINDOW), 128);
    }
}
