//! What an operator sees of ownership, as values: for readyz, the metric page and the log.

use std::time::Duration;

use super::Ownership;
use super::slot::{PHASES, Phase};
use super::tenure::Blocked;
use crate::model::ids::{Partition, ShardId};
use crate::model::ownership::{Boottime, Generation};
use crate::ownership::keys::Instance;

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Moves in and out, by [`MoveKind`](super::facts::MoveKind).
    pub moves: [[u64; 3]; 2],
    /// Moves that were called off.
    pub called_off: u64,
    /// Whether this process was fenced.
    pub fenced: u64,
    /// Generations that could not go on, by [`Break`](crate::model::ownership::Break).
    pub broken: [u64; 4],
}

/// One partition that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub partition: Partition,
    /// It is the input stream of the partitioner.
    pub is_input: bool,
    /// One of [`PHASES`](Status::PHASES).
    pub state: &'static str,
    /// Since when.
    pub since: Boottime,
    /// Counts the owners.
    pub epoch: u64,
    /// Its consumer.
    pub generation: Generation,
    /// Its shard.
    pub shard: Option<ShardId>,
    /// The oldest unsettled event is here since then, when it waits.
    pub oldest: Option<Boottime>,
    /// Why it should be elsewhere and is still here, in words.
    pub blocked: Option<String>,
}

impl Held {
    /// What an operator calls it.
    pub fn name(&self) -> String {
        if self.is_input { "input".to_owned() } else { self.partition.0.to_string() }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Status {
    /// Partitions by state, in the order of [`Self::PHASES`].
    pub by_state: [u32; PHASES.len()],
    /// Those that are here.
    pub held: Vec<Held>,
    /// Partitions of all instances that have an owner by etcd's word.
    pub owned_by_any: u32,
    /// How many there are.
    pub partitions: u32,
    /// The plan in force and who wrote it.
    pub plan: Option<(u64, String)>,
    /// What is left of the permit, by etcd and by NATS.
    pub permit: [Duration; 2],
    /// Whether we are a member.
    pub is_member: bool,
    /// Whether consumers can be managed.
    pub has_nats: bool,
    /// How long etcd has not answered a keepalive well.
    pub etcd_silent: Option<Duration>,
    /// What etcd refuses to write, in its words.
    pub etcd_refuses: Option<String>,
    /// See [`Counts`].
    pub counts: Counts,
    /// Requests to etcd by what became of them: transactions applied, refused, rejected, unknown; keepalives answered well, and
    /// with no lease; grants.
    pub etcd: [(&'static str, &'static str, u64); 7],
    /// Proofs that held, and that did not.
    pub proofs: [u64; 2],
}

impl Status {
    /// The names of the states.
    pub const PHASES: [&str; PHASES.len()] = PHASES;

    /// Whether the part `ownership` of readyz is ready, and its line.
    pub fn line(&self) -> (bool, String) {
        let Self { partitions, .. } = self;
        let owned = self.held.iter().filter(|held| held.state == "owned").count();
        let left = self.permit[0].max(self.permit[1]).as_secs_f64();
        if !self.is_member && owned == 0 {
            return (false, "waiting: no lease yet".to_owned());
        }
        if let Some(why) = &self.etcd_refuses {
            return (true, format!("degraded: etcd refuses to write ({why}): {owned} partitions kept, none can move"));
        }
        if let Some(silent) = self.etcd_silent.filter(|silent| *silent > Duration::from_secs(2)) {
            let by = if self.has_nats { "kept while NATS confirms them" } else { "not confirmed by NATS" };
            let silent = silent.as_secs();
            return (true, format!("degraded: etcd away for {silent} s: {owned} partitions {by}, none can move"));
        }
        let plan =
            self.plan.as_ref().map_or("no plan yet".to_owned(), |(version, by)| format!("plan {version} by {by}"));
        let has_input = self.held.iter().any(|held| held.is_input && held.state == "owned");
        let input = if has_input { " (the input stream is one of them)" } else { "" };
        (true, format!("{owned} of {partitions} partitions{input}, {plan}, permit {left:.1} s"))
    }
}

impl Ownership {
    /// What an operator sees now.
    pub fn status(&self) -> Status {
        let mut by_state = [0; PHASES.len()];
        by_state[0] = (self.slots.len() - self.mine.len()) as u32;
        for partition in &self.mine {
            let label = self.slots[partition.0 as usize].phase.label();
            by_state[PHASES.iter().position(|name| *name == label).unwrap_or(0)] += 1;
        }
        let timings = &self.settings.timings;
        let nats = self.mine.iter().map(|at| (*at, &self.slots[at.0 as usize])).filter(|(_, slot)| slot.is_open);
        let nats = self.permit.by_nats(timings, nats.map(|(at, slot)| (at, slot.epoch.generation())));
        let etcd = self.permit.by_etcd(timings, self.is_sure());
        let [applied, refused, rejected, unknown] = self.txns.results;
        let [kept, lost, grants] = self.member.results;
        Status {
            by_state,
            held: self.mine.iter().map(|partition| self.held(*partition)).collect(),
            owned_by_any: self.view.owners.iter().filter(|owner| !owner.is_absent()).count() as u32,
            partitions: self.slots.len() as u32,
            plan: self.view.plan.get().map(|plan| (plan.version, writer(&plan.by.0))),
            permit: [etcd.since(self.now), nats.since(self.now)],
            is_member: self.member.joined.is_some(),
            has_nats: self.member.has_nats(),
            etcd_silent: self.permit.last_kept().map(|kept| self.now.since(kept)),
            etcd_refuses: self.etcd_refuses.as_ref().map(|(_, why)| why.clone()),
            counts: self.counts,
            etcd: [
                ("txn", "applied", applied),
                ("txn", "refused", refused),
                ("txn", "rejected", rejected),
                ("txn", "unknown", unknown),
                ("keepalive", "ok", kept),
                ("keepalive", "no_lease", lost),
                ("grant", "asked", grants),
            ],
            proofs: self.permit.results,
        }
    }

    /// The permit as it was last told.
    pub fn permit(&self) -> Boottime {
        self.permit.until()
    }

    fn held(&self, partition: Partition) -> Held {
        let slot = &self.slots[partition.0 as usize];
        let is_wanted = slot.phase == Phase::Owned && (self.stop.is_some() || self.is_wanted_elsewhere(partition));
        Held {
            partition,
            is_input: self.settings.is_input(partition),
            state: slot.phase.label(),
            since: slot.since,
            epoch: slot.epoch.epoch,
            generation: slot.epoch.generation(),
            shard: slot.shard,
            oldest: slot.oldest,
            blocked: is_wanted.then(|| self.blocked(partition)).flatten().map(|why| told(&why)),
        }
    }
}

/// The instance in a nonce.
fn writer(by: &str) -> String {
    by.rsplitn(3, '/').nth(2).unwrap_or(by).to_owned()
}

fn told(why: &Blocked) -> String {
    let name = |instance: &Instance| instance.to_string();
    match why {
        Blocked::NoTaker(taker) => format!("its taker {} is not there or cannot reach NATS", name(taker)),
        Blocked::NoEtcd => "etcd did not answer lately".to_owned(),
        Blocked::Unsettled(waits) => format!("its oldest event is unsettled for {:.1} s", waits.as_secs_f64()),
        Blocked::CalledOff(wait) => {
            format!("its pushes did not end in time; tried again in {:.0} s", wait.as_secs_f64())
        }
        Blocked::Turn => "others move first".to_owned(),
        Blocked::Prepare => "the taker reads what was pushed lately".to_owned(),
    }
}
