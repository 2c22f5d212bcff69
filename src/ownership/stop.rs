//! A stop: when partitions are given back, and when it is over.

use std::time::Duration;

use super::Ownership;
use super::tenure::Blocked;
use crate::model::ids::Partition;
use crate::model::ownership::Boottime;
use crate::ownership::facts::{Intention, Level};

/// How long it waits for a plan that names the takers.
const WITHOUT_PLAN: Duration = Duration::from_secs(1);
/// After so long it closes all that is left at once.
const ALL: Duration = Duration::from_secs(2);

/// What a stop knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) at: Boottime,
    deadline: Boottime,
    /// From when partitions are given back: etcd answers, or is not waited for any longer.
    from: Option<Boottime>,
    /// It did not answer in time.
    is_without_etcd: bool,
}

impl Ownership {
    /// Begins a stop.
    pub(super) fn begin_stop(&mut self, deadline: Boottime) {
        if self.stop.is_none() {
            self.stop = Some(Stop { at: self.now, deadline, from: None, is_without_etcd: false });
            self.member.ask_now();
        }
        self.dirty_all();
    }

    /// Sees whether a stop may give partitions back. Without etcd it cannot, and nobody could take them: so they are worked on until etcd
    /// answers, for a lease's time or half of what the stop has. After that they are closed, all at once, so that nothing is half done.
    pub(super) fn mind_stop_begin(&mut self) {
        let Some(stop) = self.stop.filter(|stop| stop.from.is_none()) else { return };
        let timings = &self.settings.timings;
        let waits = self.now.since(stop.at);
        // With a shard that hangs etcd is not asked, and the others' partitions must be gone before the lease is.
        let has_heard = !self.is_alive() || self.permit.last_kept().is_some_and(|kept| kept >= stop.at);
        let is_over = waits >= timings.lease_ttl.min(stop.deadline.since(stop.at) / 2);
        let from = match has_heard {
            true if waits <= timings.keepalive_period => stop.at,
            true => self.now,
            false if is_over => self.now.before(ALL),
            false => return,
        };
        if !has_heard {
            let text = "etcd does not answer: this instance closes its partitions and ends without giving them back; others take them \
                        when etcd is back and the lease is over";
            self.say(Level::Warn, text.to_owned());
        }
        self.stop = Some(Stop { from: Some(from), is_without_etcd: !has_heard, ..stop });
        self.dirty_all();
    }

    /// Why a partition cannot be given back now; `None`: it can.
    pub(super) fn blocked_in_stop(&self, stop: &Stop, partition: Partition) -> Option<Blocked> {
        let Some(from) = stop.from else { return Some(Blocked::NoEtcd) };
        let is_planned = self.is_wanted_elsewhere(partition) && self.has_prepared();
        let has_waited = self.now.since(from) >= WITHOUT_PLAN || is_planned;
        let is_last = self.now.since(from) >= ALL;
        (!is_last && (!has_waited || self.closing >= self.moves_max())).then_some(Blocked::Turn)
    }

    /// Ends a stop.
    pub(super) fn mind_stop(&mut self) {
        let Some(stop) = self.stop.filter(|_| !self.is_ended) else { return };
        let timings = &self.settings.timings;
        let patience = if stop.is_without_etcd { timings.proof_after } else { timings.lease_ttl };
        let is_silent = self.permit.last_kept().is_none_or(|kept| self.now.since(kept) > patience);
        let is_closed = self.mine.iter().all(|at| !self.slots[at.0 as usize].is_open);
        let is_late = self.now >= stop.deadline.after(ALL);
        if self.mine.is_empty() || is_late || (is_silent && is_closed) {
            self.out.push(Intention::Permit(Boottime::NEVER));
            self.permit.news(Boottime::NEVER);
            if let Some(lease) = self.member.lease.filter(|_| is_closed) {
                self.out.push(Intention::Revoke { lease });
            }
            self.out.push(Intention::Released { is_whole: self.mine.is_empty() });
            self.is_ended = true;
        }
    }
}
