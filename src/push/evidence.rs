//! Who is to blame when an ask fails: the store or the ask. Decided by what happens, never by the words of the error.
//!
//! Promises that while every ask of a store fails, no ask is blamed, whatever the store says; and that an ask is blamed only
//! when it failed, then another ask that was sent later succeeded, and then it failed again, alone. Refuses to read error texts.
//!
//! Two failures tell something of an ask only when one outage cannot have made both. So both must be its own: a set's failure
//! may be another member's. And what succeeded in between must be [known](Known) when it is asked again: what was asked before
//! that may have met the outage of the first failure, and have its answer late.
//!
//! A probe (an ask of the store's own choosing: one row that is there, a few keys) is the other ask where nothing else is asked.
//! It is trusted only while few asks fail: a store that fails many and answers its probe is a store that is away.

use crate::model::ids::Nanos;

/// Asks that may fail alone at once for a probe to count against each of them.
const PROBE_TRUSTED_BELOW: usize = 4;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The store's, or nothing is known yet: the ask waits and costs no try.
    Store,
    /// The ask's own: it counts as a try.
    Ask,
}

/// What is known against an ask that failed before: what was sent since then and has succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    by_ask: bool,
    by_probe: bool,
}

impl Known {
    /// Whether an ask (not a probe) is among it.
    pub fn is_by_ask(self) -> bool {
        self.by_ask
    }

    /// Whose fault it is that an ask fails alone of which this was known when it was sent. `failing` is how many asks are
    /// failing alone, this one included.
    pub fn blame(self, failing: usize) -> Blame {
        let is_contradicted = self.by_ask || (Evidence::trusts_probes(failing) && self.by_probe);
        if is_contradicted { Blame::Ask } else { Blame::Store }
    }
}

/// What the asks of one store have shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// When the latest of the asks that succeeded was sent.
    answered: Option<Nanos>,
    /// The same, of probes.
    probe_answered: Option<Nanos>,
    /// When the latest failure came.
    failed: Option<Nanos>,
}

impl Evidence {
    /// An ask that was sent at this time succeeded.
    pub fn answered(&mut self, sent_at: Nanos) {
        self.answered = self.answered.max(Some(sent_at));
    }

    /// A probe that was sent at this time succeeded.
    pub fn probe_answered(&mut self, sent_at: Nanos) {
        self.probe_answered = self.probe_answered.max(Some(sent_at));
    }

    /// An ask, or a probe, failed now.
    pub fn failed(&mut self, now: Nanos) {
        self.failed = self.failed.max(Some(now));
    }

    /// Whether nothing that was sent since the latest failure has succeeded.
    pub fn is_away(&self) -> bool {
        self.failed.is_some_and(|failed| self.answered.max(self.probe_answered) < Some(failed))
    }

    /// Whether a probe's answer counts against each of so many asks that fail alone.
    pub fn trusts_probes(failing: usize) -> bool {
        failing <= PROBE_TRUSTED_BELOW
    }

    /// What is known now against an ask. `failed_before` is when it failed the time before; none when it never had.
    pub fn known(&self, failed_before: Option<Nanos>) -> Known {
        let Some(before) = failed_before else { return Known::default() };
        let is_since = |answered: Option<Nanos>| answered.is_some_and(|sent_at| sent_at >= before);
        Known { by_ask: is_since(self.answered), by_probe: is_since(self.probe_answered) }
    }

    /// Whose fault it is that an ask failed alone, by what is known now. `failed_before` is when it failed the time before, alone
    /// or in a set; none when it never had. `failing` is how many asks are failing alone, this one included.
    pub fn blame(&self, failed_before: Option<Nanos>, failing: usize) -> Blame {
        self.known(failed_before).blame(failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_blames_nobody() {
        let mut evidence = Evidence::default();
        evidence.answered(Nanos(5));
        evidence.failed(Nanos(6));
        assert_eq!(evidence.blame(None, 1), Blame::Store);
    }

    #[test]
    fn while_all_fail_the_store_is_away() {
        let mut evidence = Evidence::default();
        evidence.answered(Nanos(5));
        for now in 10..20 {
            evidence.failed(Nanos(now));
            assert_eq!(evidence.blame(Some(Nanos(now - 1)), 1), Blame::Store);
            assert!(evidence.is_away());
        }
    }

    #[test]
    fn an_ask_that_fails_before_and_after_another_succeeded_is_at_fault() {
        let mut evidence = Evidence::default();
        evidence.failed(Nanos(10));
        evidence.answered(Nanos(11));
        assert!(!evidence.is_away());
        evidence.failed(Nanos(12));
        assert_eq!(evidence.blame(Some(Nanos(10)), 40), Blame::Ask);
        assert_eq!(evidence.blame(Some(Nanos(12)), 40), Blame::Store, "nothing succeeded since then");
    }

    #[test]
    fn what_is_not_known_when_an_ask_is_sent_tells_nothing_of_it() {
        let mut evidence = Evidence::default();
        evidence.failed(Nanos(10));
        let sent_in_the_outage = evidence.known(Some(Nanos(10)));
        evidence.answered(Nanos(11));
        let sent_after = evidence.known(Some(Nanos(10)));
        assert_eq!(sent_in_the_outage.blame(1), Blame::Store, "one outage may have made both failures");
        assert_eq!((sent_after.blame(40), sent_after.is_by_ask()), (Blame::Ask, true));
    }

    #[test]
    fn a_probe_counts_only_while_few_fail() {
        let mut evidence = Evidence::default();
        evidence.failed(Nanos(10));
        evidence.probe_answered(Nanos(11));
        assert_eq!(evidence.blame(Some(Nanos(10)), PROBE_TRUSTED_BELOW), Blame::Ask);
        assert_eq!(evidence.blame(Some(Nanos(10)), PROBE_TRUSTED_BELOW + 1), Blame::Store);
        assert!(!evidence.is_away(), "it answers something");
    }
}
