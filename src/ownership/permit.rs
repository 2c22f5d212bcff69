//! Until when this instance may write to gateways, take events and acknowledge them.
//!
//! Either witness is enough. etcd: a lease that was kept alive cannot end before its TTL is over, and nobody claims before it ends; the
//! permit ends a margin earlier, for what the kernel still holds. NATS: a proof says that all our generations existed after it was
//! asked for, and a successor waits longer after their deletion than a proof holds.

use std::collections::BTreeMap;

use super::settings::Timings;
use crate::model::ids::Partition;
use crate::model::ownership::{Boottime, Generation};
use crate::ownership::facts::AskNo;

/// Proofs under way at once; older ones are given up.
const PROOFS_FLYING_MAX: usize = 4;

/// See the module.
#[derive(Default)]
pub struct Permit {
    /// When the last keepalive (or grant) was asked for that etcd answered well, and whether the lease still stands.
    kept: Option<Boottime>,
    /// What was last told.
    told: Option<Boottime>,
    last_proof: Boottime,
    flying: BTreeMap<AskNo, Boottime>,
    /// When the newest proof of each partition was asked for.
    proven: BTreeMap<Partition, (Generation, Boottime)>,
    /// Proofs that held, and that did not.
    pub results: [u64; 2],
}

impl Permit {
    /// etcd keeps the lease; it was asked for at `sent`.
    pub fn kept(&mut self, sent: Boottime) {
        self.kept = self.kept.max(Some(sent));
    }

    /// There is no lease.
    pub fn lease_lost(&mut self) {
        self.kept = None;
    }

    /// When the last good keepalive was sent.
    pub fn last_kept(&self) -> Option<Boottime> {
        self.kept
    }

    /// Until when etcd's word holds; only while every partition that is open here is surely held under the lease.
    pub fn by_etcd(&self, timings: &Timings, is_held: bool) -> Boottime {
        let kept = self.kept.filter(|_| is_held);
        kept.map_or(Boottime::NEVER, |kept| kept.after(timings.lease_ttl.saturating_sub(timings.margin)))
    }

    /// Until when the proofs of all these hold.
    pub fn by_nats(&self, timings: &Timings, open: impl Iterator<Item = (Partition, Generation)>) -> Boottime {
        let proven = open.map(|(partition, generation)| {
            let proof = self.proven.get(&partition).filter(|(of, _)| *of == generation);
            proof.map_or(Boottime::NEVER, |(_, sent)| sent.after(timings.proof))
        });
        proven.min().unwrap_or(Boottime::NEVER)
    }

    /// Whether a proof is to be asked for now.
    pub fn is_proof_due(&self, now: Boottime, timings: &Timings, is_held: bool) -> bool {
        now >= self.proof_due(timings, is_held)
    }

    /// When the next proof is to be asked for, if nothing else happens.
    pub fn proof_due(&self, timings: &Timings, is_held: bool) -> Boottime {
        let needed = self.kept.filter(|_| is_held).map_or(Boottime::NEVER, |kept| kept.after(timings.proof_after));
        needed.max(self.last_proof.after(timings.proof_period))
    }

    /// A proof is asked for.
    pub fn proving(&mut self, now: Boottime, ask: AskNo) {
        self.last_proof = now;
        self.flying.insert(ask, now);
        while self.flying.len() > PROOFS_FLYING_MAX {
            self.flying.pop_first();
        }
    }

    /// A proof came: of these.
    pub fn proved(&mut self, ask: AskNo, is_confirmed: bool, of: impl Iterator<Item = (Partition, Generation)>) {
        let Some(sent) = self.flying.remove(&ask) else { return };
        self.results[usize::from(!is_confirmed)] += 1;
        for (partition, generation) in of.filter(|_| is_confirmed) {
            let proof = self.proven.entry(partition).or_insert((generation, sent));
            *proof = if proof.0 == generation { (generation, proof.1.max(sent)) } else { (generation, sent) };
        }
    }

    /// A partition is not here any more.
    pub fn forget(&mut self, partition: Partition) {
        self.proven.remove(&partition);
    }

    /// The permit, when it is another than was last told.
    pub fn news(&mut self, until: Boottime) -> Option<Boottime> {
        let is_news = self.told != Some(until);
        self.told = Some(until);
        is_news.then_some(until)
    }

    /// The permit as it was last told.
    pub fn until(&self) -> Boottime {
        self.told.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMINGS: Timings = Timings::of_ttl(Duration::from_secs(5));
    const P: (Partition, Generation) = (Partition(1), Generation(2));

    fn at(millis: u64) -> Boottime {
        Boottime(millis * 1_000_000)
    }

    #[test]
    fn etcd_permits_from_when_the_keepalive_was_asked_for_and_less_by_the_margin() {
        let mut permit = Permit::default();
        assert_eq!(permit.by_etcd(&TIMINGS, true), Boottime::NEVER);
        permit.kept(at(1_000));
        permit.kept(at(500));
        assert_eq!(permit.by_etcd(&TIMINGS, true), at(4_000), "an older answer takes nothing away");
        assert_eq!(permit.by_etcd(&TIMINGS, false), Boottime::NEVER, "what is not under the lease is not kept by it");
        permit.lease_lost();
        assert_eq!(permit.by_etcd(&TIMINGS, true), Boottime::NEVER);
    }

    #[test]
    fn nats_permits_as_long_as_the_oldest_proof_of_all_that_is_open() {
        let mut permit = Permit::default();
        let other = (Partition(2), Generation(0));
        permit.proving(at(100), AskNo(1));
        permit.proved(AskNo(1), true, [P, other].into_iter());
        permit.proving(at(400), AskNo(2));
        permit.proved(AskNo(2), true, [P].into_iter());
        assert_eq!(permit.by_nats(&TIMINGS, [P].into_iter()), at(1_400));
        assert_eq!(permit.by_nats(&TIMINGS, [P, other].into_iter()), at(1_100));
        let next = (P.0, Generation(3));
        assert_eq!(permit.by_nats(&TIMINGS, [next].into_iter()), Boottime::NEVER, "another generation is not proven");
        assert_eq!(permit.by_nats(&TIMINGS, std::iter::empty()), Boottime::NEVER);
    }

    #[test]
    fn info_without_a_confirmed_publish_proves_nothing() {
        let mut permit = Permit::default();
        permit.proving(at(100), AskNo(1));
        permit.proved(AskNo(1), false, [P].into_iter());
        assert_eq!(permit.by_nats(&TIMINGS, [P].into_iter()), Boottime::NEVER);
        assert_eq!(permit.results, [0, 1]);
    }

    #[test]
    fn proofs_are_asked_for_while_etcd_is_silent_and_not_before() {
        let mut permit = Permit::default();
        permit.kept(at(1_000));
        assert_eq!(permit.proof_due(&TIMINGS, true), at(2_500));
        permit.proving(at(2_500), AskNo(1));
        assert!(!permit.is_proof_due(at(2_700), &TIMINGS, true));
        assert!(permit.is_proof_due(at(2_750), &TIMINGS, true));
        permit.kept(at(2_700));
        assert!(!permit.is_proof_due(at(2_750), &TIMINGS, true));
        assert!(permit.is_proof_due(at(2_750), &TIMINGS, false), "at once when a partition is not held");
    }
}
