//! The world around the instances: one line of events in time. One seed is one whole schedule.

use std::collections::{BTreeMap, BTreeSet};

use task_engine::model::ids::Partition;
use task_engine::model::ownership::Boottime;
use task_engine::ownership::facts::{Ask, AskNo, Fact, Txn};
use task_engine::ownership::keys::LeaseId;

use crate::broker::{Broker, Delivery, Name};
use crate::etcd::{Changes, Etcd};
use crate::lane::Seen;
use crate::oracle::{Event, Oracle};
use crate::plan::{Fault, Mutant, Plan};
use crate::process::Process;
use crate::rng::Rng;

/// A millisecond of the world's time.
pub const MILLI: u64 = 1_000_000;
/// A second.
pub const SECOND: u64 = 1_000 * MILLI;

/// What happens.
#[derive(Clone, Debug)]
pub enum Happens {
    /// Time passes for a process.
    Wake(usize),
    /// A fact arrives.
    Fact(usize, Box<Fact>),
    /// A request arrives at etcd.
    AtEtcd(usize, AtEtcd),
    /// A request arrives at NATS; when it was sent.
    AtNats(usize, AtNats, u64),
    /// A delivery arrives.
    Delivery(usize, Delivery),
    /// The server says that a consumer is gone.
    Gone(usize, Name),
    /// A push arrives at its gateway: event, session, tenure.
    Arrives(usize, u64, usize, u64),
    /// Its answer arrives.
    Answered(usize, u64, usize, u64),
    /// A process's shard looks at its lanes; heartbeats.
    Tick(usize),
    /// The answer to a lane's check.
    Checked(usize, Partition, bool),
    /// What the server says of a consumer that is to be opened.
    Looked(usize, Name, Seen),
    /// A process starts: its name's number.
    Start(usize),
    /// etcd looks at its leases, NATS delivers.
    Beat,
    /// An event is published.
    Publish,
    /// Something fails.
    Fault(Fault),
    /// A link's end: it is whole again.
    Heal(usize),
}

impl Happens {
    /// The process that sees it, which one that is stopped does not.
    fn seen_by(&self) -> Option<usize> {
        match self {
            Self::Wake(pid)
            | Self::Fact(pid, _)
            | Self::Delivery(pid, _)
            | Self::Gone(pid, _)
            | Self::Answered(pid, ..)
            | Self::Tick(pid)
            | Self::Looked(pid, ..)
            | Self::Checked(pid, ..) => Some(*pid),
            _ => None,
        }
    }
}

/// A request to etcd.
#[derive(Clone, Debug)]
pub enum AtEtcd {
    /// Read all.
    List,
    /// A lease.
    Grant(AskNo, u64),
    /// Keep one alive.
    KeepAlive(AskNo, LeaseId),
    /// End one.
    Revoke(LeaseId),
    /// A transaction; whether its answer is lost.
    Commit(AskNo, Txn, bool),
}

/// A request to NATS.
#[derive(Clone, Debug)]
pub enum AtNats {
    /// About consumers; whether its answer is lost.
    Ask(AskNo, Ask, bool),
    /// A proof.
    Prove(AskNo, Vec<Name>),
    /// What is settled.
    Publish(Name, String),
    /// How far a consumer is.
    Look(Name),
    /// A pull.
    Pull(Name),
    /// Its end.
    Unsubscribe(Name),
    /// An ack.
    Ack(Name, u64),
    /// A lane's check: deliveries that it knows.
    Check(Name, u64),
}

/// See the module.
pub struct World {
    /// Now.
    pub now: u64,
    line: BTreeMap<(u64, u64), Happens>,
    sequence: u64,
    /// The only source of chance.
    pub rng: Rng,
    /// What this seed does.
    pub plan: Plan,
    /// Every process that was ever started.
    pub processes: Vec<Process>,
    /// See there.
    pub etcd: Etcd,
    /// What it was, and when, where it may be put back.
    pub etcd_kept: Vec<(u64, Etcd)>,
    /// What the majority knows.
    pub broker: Broker,
    /// What the server in the minority knows while the cluster is split.
    pub minority: Option<Broker>,
    /// Until when the server in the minority goes on.
    pub minority_until: u64,
    /// See there.
    pub oracle: Oracle,
    /// Names of sessions by partition.
    pub session_numbers: Vec<u64>,
    /// Faults are over.
    pub is_calm: bool,
    /// What happened, when it is asked for.
    pub trace: Option<Vec<String>>,
    /// Instances whose names are taken by a running process.
    pub running: BTreeSet<usize>,
    /// Requests to etcd of all kinds.
    pub etcd_requests: u64,
    /// Lives that ended with exit code 3.
    pub fenced: u64,
    /// Writes whose makers were not told, where a mutant has no nonces.
    pub untold: BTreeSet<String>,
}

impl World {
    /// A world of a seed.
    pub fn new(seed: u64, plan: Plan, rng: Rng, is_traced: bool) -> Self {
        let mut world = Self {
            now: SECOND,
            line: BTreeMap::new(),
            sequence: 0,
            rng,
            processes: Vec::new(),
            etcd: Etcd::new(),
            etcd_kept: Vec::new(),
            broker: Broker::default(),
            minority: None,
            minority_until: 0,
            oracle: Oracle::default(),
            session_numbers: vec![0; plan.sessions],
            is_calm: false,
            trace: is_traced.then(Vec::new),
            running: BTreeSet::new(),
            etcd_requests: 0,
            fenced: 0,
            untold: BTreeSet::new(),
            plan,
        };
        world.tell(|world| format!("seed {seed}: {:?}", world.plan));
        for name in 0..world.plan.instances {
            let at = world.now + world.rng.within(0, 2_000) * MILLI;
            world.at(at, Happens::Start(name));
        }
        world.at(world.now, Happens::Beat);
        world.at(world.now, Happens::Publish);
        for (at, fault) in world.plan.faults.clone() {
            world.at(at, Happens::Fault(fault));
        }
        world
    }

    /// Something will happen.
    pub fn at(&mut self, at: u64, what: Happens) {
        self.sequence += 1;
        self.line.insert((at.max(self.now), self.sequence), what);
    }

    /// A process that was stopped goes on at once, and what waited for that comes before anything new.
    pub fn goes_on(&mut self, pid: usize) {
        let until = std::mem::replace(&mut self.processes[pid].paused_until, self.now);
        if until <= self.now {
            return;
        }
        let waited = self.line.range((until, 0)..=(until, u64::MAX)).filter(|(_, what)| what.seen_by() == Some(pid));
        let waited: Vec<_> = waited.map(|(at, _)| *at).collect();
        for (until, sequence) in waited {
            let what = self.line.remove(&(until, sequence)).expect("looked at above");
            self.line.insert((self.now, sequence), what);
        }
    }

    /// A line of the trace.
    pub fn tell(&mut self, text: impl FnOnce(&Self) -> String) {
        let line = self.trace.is_some().then(|| format!("{:>10.3} {}", self.now as f64 / SECOND as f64, text(self)));
        self.trace.as_mut().into_iter().zip(line).for_each(|(trace, line)| trace.push(line));
    }

    /// Whether the world has a mutant.
    pub fn is(&self, mutant: Mutant) -> bool {
        self.plan.mutant == Some(mutant)
    }

    /// Goes on until a time.
    pub fn run_until(&mut self, end: u64) {
        while let Some(((at, _), _)) = self.line.first_key_value() {
            if *at > end {
                break;
            }
            let ((at, _), what) = self.line.pop_first().expect("not empty");
            self.now = at;
            self.happen(what);
        }
        self.now = end;
    }

    fn happen(&mut self, what: Happens) {
        // A process that is stopped sees nothing; what comes waits.
        if let Some(pid) = what.seen_by() {
            let process = &self.processes[pid];
            if process.is_dead {
                return;
            }
            if process.paused_until > self.now {
                let until = process.paused_until;
                return self.at(until, what);
            }
        }
        match what {
            Happens::Wake(pid) => {
                self.processes[pid].wake = None;
                self.give(pid, Fact::Time);
            }
            Happens::Fact(pid, fact) => self.give(pid, *fact),
            Happens::AtEtcd(pid, request) => self.at_etcd(pid, request),
            Happens::AtNats(pid, request, sent) => self.at_nats(pid, request, sent),
            Happens::Delivery(pid, delivery) => self.delivered(pid, &delivery),
            Happens::Gone(pid, name) => self.consumer_gone(pid, name),
            Happens::Arrives(pid, sequence, session, tenure) => self.arrives(pid, sequence, session, tenure),
            Happens::Answered(pid, sequence, session, tenure) => self.push_answered(pid, sequence, session, tenure),
            Happens::Tick(pid) => self.tick(pid),
            Happens::Checked(pid, partition, is_clean) => self.checked(pid, partition, is_clean),
            Happens::Looked(pid, name, seen) => self.looked(pid, name, seen),
            Happens::Start(name) => self.start(name, true),
            Happens::Beat => self.beat(),
            Happens::Publish => self.publish(),
            Happens::Fault(fault) => {
                if !self.is_calm {
                    self.fail(fault);
                }
            }
            Happens::Heal(pid) => self.heal(pid),
        }
    }

    /// Leases end, events are delivered.
    fn beat(&mut self) {
        if self.plan.restores && self.etcd_kept.last().is_none_or(|(at, _)| self.now >= at + SECOND) {
            self.etcd_kept.push((self.now, self.etcd.clone()));
        }
        let changes = self.etcd.expire(self.now, &mut self.rng);
        if !changes.is_empty() {
            self.tell(|_| "etcd: a lease ended".to_owned());
        }
        self.watched(changes);
        self.deliver();
        self.at(self.now + 100 * MILLI, Happens::Beat);
    }

    /// Tells each watch.
    pub fn watched(&mut self, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        let revision = self.etcd.revision;
        for pid in 0..self.processes.len() {
            let process = &self.processes[pid];
            if process.is_dead || !process.is_watching {
                continue;
            }
            if process.etcd_cut_until > self.now {
                // The cut ends the watch, and the process hears so when the link is whole.
                let due = process.etcd_cut_until + self.rng.within(1, 1_000) * MILLI;
                self.processes[pid].is_watching = false;
                self.at(due, Happens::Fact(pid, Box::new(Fact::WatchLost)));
                continue;
            }
            let changes = self.seen_by(pid, changes.clone());
            let slow = if self.plan.slow_watch && self.rng.chance(60) { self.rng.within(0, 2_500) * MILLI } else { 0 };
            let due = self.now + slow + self.rng.within(300, 4_000) * 1_000;
            let process = &mut self.processes[pid];
            let due = due.max(process.watch_last + 1);
            process.watch_last = due;
            let fact = Fact::Watched { revision, changes };
            self.at(due, Happens::Fact(pid, Box::new(fact)));
        }
    }

    /// What NATS delivers now.
    pub fn deliver(&mut self) {
        let minority: BTreeSet<usize> =
            (0..self.processes.len()).filter(|pid| self.processes[*pid].is_in_minority).collect();
        let is_split = self.minority.is_some();
        let now = self.now;
        let mut rng = self.rng.clone();
        let mut all = self.broker.deliveries(now, |who| !is_split || !minority.contains(&who), |of| rng.below(of));
        if let Some(broker) = self.minority.as_mut().filter(|_| now < self.minority_until) {
            all.extend(broker.deliveries(now, |who| minority.contains(&who), |of| rng.below(of)));
        }
        self.rng = rng;
        for (pid, delivery) in all {
            let lost = self.plan.loses_deliveries && !self.is_calm && self.rng.chance(8);
            if self.processes[pid].nats_cut_until > now || self.processes[pid].is_dead || lost {
                continue;
            }
            let due = self.processes[pid].next_from_nats(now + self.rng.within(200, 2_000) * 1_000);
            self.at(due, Happens::Delivery(pid, delivery));
        }
    }

    fn publish(&mut self) {
        let many = self.rng.within(1, 4);
        for _ in 0..many {
            let session = self.rng.below(self.plan.sessions);
            let partition = Partition((session as u32) % self.plan.partitions);
            self.broker.publish(partition);
            // A split stream takes what the majority confirms.
            let number = self.session_numbers[session];
            self.session_numbers[session] += 1;
            self.oracle.events.push(Event { partition, session, number, pushes: Vec::new(), settled_at: None });
        }
        self.deliver();
        if !self.is_calm {
            let wait = self.rng.within(20, 250) * MILLI;
            self.at(self.now + wait, Happens::Publish);
        }
    }

    /// The local clock of a process.
    pub fn clock(&self, pid: usize) -> Boottime {
        self.processes[pid].clock(self.now)
    }
}
