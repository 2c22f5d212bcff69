//! Whether a store answers anybody, and what may be asked of it while it does not.
//!
//! Promises that while nothing succeeds, what is asked is bounded (a round at a time, with a growing pause between two),
//! that what was never asked still gets its turn in each round, so that no single ask can hold up all others, and that one
//! success ends it. Refuses to say whose fault a failure is: that is [`Evidence`](crate::push::evidence::Evidence)'s.

use std::time::Duration;

use crate::model::ids::Nanos;
use crate::model::limits::STORE_AWAY_PAUSE;
use crate::push::evidence::Evidence;

/// Failures in a row after which a store is away.
const FAILURES: u32 = 2;

/// What the asks of one store have shown: whom to blame, and whether it answers anybody.
#[derive(Debug, Default)]
pub struct Signs {
    /// Whom to blame.
    pub evidence: Evidence,
    /// Whether it answers anybody.
    pub outage: Outage,
    /// Something failed, and nothing that was sent since then can tell whether the store is there.
    pub wants_probe: bool,
}

impl Signs {
    /// Whether nothing failed since the store last answered, so that no probe is due.
    pub fn are_calm(&self) -> bool {
        !self.wants_probe && !self.outage.is_away()
    }
}

/// One store's failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    began: Nanos,
    failures: u32,
    next_round: Nanos,
    pause: Duration,
    has_probed: bool,
}

impl Outage {
    /// An ask or a probe failed. Asks that are known to fail alone are not told here: they say nothing of the store.
    pub fn failed(&mut self, now: Nanos) {
        if self.failures == 0 {
            self.began = now;
            self.has_probed = false;
            self.pause = STORE_AWAY_PAUSE.first;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures == FAILURES {
            self.next_round = now.after(self.pause);
        }
    }

    /// An ask or a probe that was sent at this time succeeded. True when that ends an outage.
    pub fn answered(&mut self, sent_at: Nanos) -> bool {
        if self.failures == 0 || sent_at < self.began {
            return false;
        }
        let was_away = self.is_away();
        self.failures = 0;
        was_away
    }

    /// Whether nothing has succeeded since it began to fail, and that more than once.
    pub fn is_away(&self) -> bool {
        self.failures >= FAILURES
    }

    /// There is a new connection: the next round need not wait.
    pub fn hurry(&mut self, now: Nanos) {
        self.next_round = self.next_round.min(now);
    }

    /// Whether a probe may be sent now, which it then is: at any time while nothing is known, and once at the beginning of
    /// an outage; from then on each round has one.
    pub fn may_probe(&mut self) -> bool {
        let may = !self.is_away() || !self.has_probed;
        self.has_probed |= may && self.failures > 0;
        may
    }

    /// Begins a round when one is due; the next one is later.
    pub fn begins_round(&mut self, now: Nanos) -> bool {
        if now < self.next_round {
            return false;
        }
        self.pause = STORE_AWAY_PAUSE.following(self.pause);
        self.next_round = now.after(self.pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn one_failure_is_no_outage_and_one_success_ends_one() {
        let mut outage = Outage::default();
        outage.failed(Nanos(10));
        assert!(!outage.is_away());
        outage.failed(Nanos(12));
        assert!(outage.is_away());
        assert!(!outage.answered(Nanos(9)), "it was sent before the store began to fail");
        assert!(outage.answered(Nanos(10)) && !outage.is_away());
        assert!(!outage.answered(Nanos(11)), "there is none to end");
    }

    #[test]
    fn rounds_are_further_and_further_apart() {
        let mut outage = Outage::default();
        outage.failed(Nanos(0));
        outage.failed(Nanos(0));
        let mut rounds = Vec::new();
        for now in (0..5_000 * MILLI).step_by(10 * MILLI as usize) {
            if outage.begins_round(Nanos(now)) {
                rounds.push(now / MILLI);
            }
        }
        assert_eq!(rounds[..4], [200, 600, 1_400, 2_400], "{rounds:?}");
    }
}
