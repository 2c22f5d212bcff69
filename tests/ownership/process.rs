//! One process: an `Ownership`, its shard's lanes, its clock and its links; and how what it intends is carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use task_engine::model::ids::{Partition, ShardId};
use task_engine::model::ownership::{Boottime, Break, ShardOrder, ShardWord};
use task_engine::ownership::Ownership;
use task_engine::ownership::facts::{EXIT_FENCED, Fact, Intention};
use task_engine::ownership::keys::Key;
use task_engine::ownership::records::Layout;
use task_engine::ownership::settings::{Lock, Settings, Timings};

use crate::broker::{Delivery, Name};
use crate::lane::{Act, Lane, Seen};
use crate::plan::Mutant;
use crate::told::{cut, told};
use crate::world::{AtEtcd, AtNats, Happens, MILLI, SECOND, World};

/// See the module.
pub struct Process {
    /// Its instance's name, by number.
    pub name: usize,
    /// See there.
    pub core: Ownership,
    /// Its partitions.
    pub lanes: BTreeMap<Partition, Lane>,
    shards: BTreeMap<Partition, ShardId>,
    rate: f64,
    offset: u64,
    permit: Boottime,
    /// It has the state directory of its name; a namesake on another host has not.
    pub is_own_host: bool,
    /// It ended.
    pub is_dead: bool,
    /// Its kernel dropped what it held.
    pub is_reset: bool,
    /// It runs again then.
    pub paused_until: u64,
    /// It last stood still from then.
    pub paused_from: u64,
    /// No way to etcd until then.
    pub etcd_cut_until: u64,
    /// No way to NATS until then.
    pub nats_cut_until: u64,
    /// Its connection to NATS broke, and it has not seen it yet: it may stand still for longer than the cut.
    pub is_nats_broken: bool,
    /// Its server is in the minority of a split.
    pub is_in_minority: bool,
    /// Its gateway reads late until then.
    pub slow_gateway_until: u64,
    /// It hears of changes in etcd.
    pub is_watching: bool,
    /// When it last heard of one.
    pub watch_last: u64,
    nats_last: u64,
    from_nats_last: u64,
    gateway_last: u64,
    /// When it is woken.
    pub wake: Option<u64>,
    /// It was told to stop.
    pub is_stopping: bool,
    /// It has said that NATS is there.
    pub has_nats: bool,
    boot: String,
}

impl Process {
    /// The local clock.
    pub fn clock(&self, now: u64) -> Boottime {
        Boottime(self.offset + (now as f64 * self.rate) as u64)
    }

    fn real(&self, at: Boottime) -> u64 {
        (at.0.saturating_sub(self.offset) as f64 / self.rate) as u64 + 1
    }

    /// Requests of one connection stay in order.
    /// See above.
    pub fn next_nats(&mut self, at: u64) -> u64 {
        self.nats_last = at.max(self.nats_last + 1);
        self.nats_last
    }

    /// Words of the server stay in order.
    pub fn next_from_nats(&mut self, at: u64) -> u64 {
        self.from_nats_last = at.max(self.from_nats_last + 1);
        self.from_nats_last
    }
}

/// An instance's name.
pub fn name_of(number: usize) -> String {
    format!("i{number}")
}

/// What all instances agree on.
pub fn layout(partitions: u32) -> Layout {
    Layout { partitions, topic: "t".into(), hash: "fnv1a32".into(), stream_created: "then".into(), has_input: false }
}

impl World {
    /// Starts a process; `is_own_host`: with the state directory of the one before.
    pub fn start(&mut self, name: usize, is_own_host: bool) {
        if is_own_host && self.running.contains(&name) {
            return;
        }
        let pid = self.processes.len();
        let mut timings = Timings::of_ttl(Duration::from_secs(5));
        if self.is(Mutant::NoFenceWait) {
            timings.fence = Duration::ZERO;
        }
        if self.is(Mutant::NoMargin) {
            timings.margin = Duration::ZERO;
        }
        timings.retry_move = Duration::from_secs(4);
        timings.drain = Duration::from_secs(3);
        let boot = format!("b{pid}");
        let id = if is_own_host { format!("lock{name}") } else { format!("other{pid}") };
        let settings = Settings {
            instance: name_of(name).into(),
            boot: boot.clone(),
            lock: Lock { id, kernel: "k".into(), is_held: true },
            weight: 1 + (name as u32 % 2),
            admin: format!("{name}:9100"),
            version: "1".into(),
            layout: layout(self.plan.partitions),
            shards: 2,
            timings,
        };
        let drift = if self.plan.clocks_differ { self.rng.within(0, 200) as f64 / 10_000.0 - 0.01 } else { 0.0 };
        let offset = self.rng.within(1, 1_000) * SECOND;
        let process = Process {
            name,
            core: Ownership::new(settings, Boottime(offset + (self.now as f64 * (1.0 + drift)) as u64)),
            lanes: BTreeMap::new(),
            shards: BTreeMap::new(),
            rate: 1.0 + drift,
            offset,
            permit: Boottime::NEVER,
            is_own_host,
            is_dead: false,
            is_reset: false,
            paused_until: 0,
            paused_from: 0,
            etcd_cut_until: 0,
            nats_cut_until: 0,
            is_nats_broken: false,
            is_in_minority: false,
            slow_gateway_until: 0,
            is_watching: false,
            watch_last: 0,
            nats_last: 0,
            from_nats_last: 0,
            gateway_last: 0,
            wake: None,
            is_stopping: false,
            has_nats: false,
            boot,
        };
        self.processes.push(process);
        if is_own_host {
            self.running.insert(name);
        }
        self.tell(|_| format!("{} starts as process {pid}", name_of(name)));
        self.tick(pid);
    }

    /// Gives a fact and carries out what follows.
    pub fn give(&mut self, pid: usize, fact: Fact) {
        let mut facts = std::collections::VecDeque::from([fact]);
        while let Some(fact) = facts.pop_front() {
            if self.processes[pid].is_dead {
                return;
            }
            let now = self.clock(pid);
            if !matches!(fact, Fact::Time | Fact::Heartbeat { .. } | Fact::KeptAlive { .. }) {
                self.tell(|_| format!("  {pid} hears {}", told(&fact)));
            }
            self.processes[pid].core.take(now, fact);
            for intention in self.processes[pid].core.intentions() {
                self.carry_out(pid, intention, &mut facts);
            }
        }
        let process = &self.processes[pid];
        if process.is_dead {
            return;
        }
        let wake = process.real(process.core.wake_at()).max(self.now + MILLI);
        if process.wake.is_none_or(|known| known > wake || known <= self.now) {
            self.processes[pid].wake = Some(wake);
            self.at(wake, Happens::Wake(pid));
        }
    }

    fn carry_out(&mut self, pid: usize, intention: Intention, facts: &mut std::collections::VecDeque<Fact>) {
        if !matches!(intention, Intention::Permit(_) | Intention::KeepAlive { .. } | Intention::Prove { .. }) {
            self.tell(|_| format!("  {pid} intends {}", cut(format!("{intention:?}"))));
        }
        match intention {
            Intention::List => self.ask_etcd(pid, AtEtcd::List),
            Intention::Grant { ask, ttl } => self.ask_etcd(pid, AtEtcd::Grant(ask, ttl.as_nanos() as u64)),
            Intention::KeepAlive { ask, lease } => self.ask_etcd(pid, AtEtcd::KeepAlive(ask, lease)),
            Intention::Revoke { lease } => self.ask_etcd(pid, AtEtcd::Revoke(lease)),
            Intention::Commit { ask, txn } => self.ask_etcd(pid, AtEtcd::Commit(ask, txn, false)),
            Intention::Ask { ask, what } => self.ask_nats(pid, AtNats::Ask(ask, what, false)),
            Intention::Prove { ask, of } => self.ask_nats(pid, AtNats::Prove(ask, of)),
            Intention::PublishSettled { partition, generation, text } => {
                self.ask_nats(pid, AtNats::Publish((partition, generation), text));
            }
            Intention::Order { shard, order } => self.obey(pid, shard, order, facts),
            Intention::Permit(until) => {
                self.processes[pid].permit = until;
                self.push_all(pid);
            }
            Intention::Moved(one) if one.is_in => {
                self.oracle.came(self.now, one.partition, pid, one.kind, one.took.as_nanos() as u64)
            }
            Intention::Moved(_) | Intention::Say { .. } => {}
            Intention::Released { .. } => {
                // What its kernel holds for gateways arrives, or dies by TCP_USER_TIMEOUT.
                self.end(pid, false);
                self.start_again(pid);
            }
            Intention::Exit { code, sentence } => {
                assert_eq!(code, EXIT_FENCED, "{sentence}");
                self.fenced += 1;
                self.judge_exit(pid, &sentence);
                self.oracle.fenced.insert(pid, self.now);
                self.end(pid, true);
                self.start_again(pid);
            }
        }
    }

    fn start_again(&mut self, pid: usize) {
        let again = self.now + self.rng.within(300, 3_000) * MILLI;
        if self.processes[pid].is_own_host {
            let name = self.processes[pid].name;
            self.at(again, Happens::Start(name));
        }
    }

    /// Who ends because another has what it owned was right to: some record of what it had open was written by another.
    fn judge_exit(&self, pid: usize, sentence: &str) {
        let process = &self.processes[pid];
        let own = format!("/{}/", process.boot);
        let is_others = |partition: &Partition| {
            let text = self.etcd.text(&Key::Epoch(*partition)).unwrap_or_default();
            !text.contains(&own)
        };
        let has_lost = process.lanes.keys().any(is_others) || self.plan.wipes;
        assert!(has_lost, "process {pid} ended although nobody took anything: {sentence}");
    }

    /// A process is over. `is_reset`: what its kernel held for gateways is dropped.
    pub fn end(&mut self, pid: usize, is_reset: bool) {
        let process = &mut self.processes[pid];
        if process.is_dead {
            return;
        }
        (process.is_dead, process.is_reset) = (true, is_reset);
        process.lanes.clear();
        let (name, is_own_host) = (process.name, process.is_own_host);
        if is_own_host {
            self.running.remove(&name);
        }
        self.broker.disconnect(pid);
        if let Some(minority) = &mut self.minority {
            minority.disconnect(pid);
        }
        self.tell(|_| format!("process {pid} is over"));
    }

    fn obey(&mut self, pid: usize, shard: ShardId, order: ShardOrder, facts: &mut std::collections::VecDeque<Fact>) {
        match order {
            ShardOrder::Prepare { .. } => {}
            ShardOrder::Open { partition, generation, settled } => {
                self.processes[pid].shards.insert(partition, shard);
                match self.processes[pid].lanes.get_mut(&partition) {
                    Some(lane) => lane.reopen_with(generation, &settled),
                    None => {
                        let owner = self.etcd.text(&Key::Owner(partition)).unwrap_or_default();
                        let tenure = self.oracle.opens(self.now, partition, pid, owner.contains("claimed"));
                        let lane = Lane::open(partition, generation, tenure, &settled);
                        self.processes[pid].lanes.insert(partition, lane);
                    }
                }
                self.ask_nats(pid, AtNats::Look((partition, generation)));
            }
            ShardOrder::Close { partition } => {
                let Some(lane) = self.processes[pid].lanes.get_mut(&partition) else { return };
                let (name, act) = ((partition, lane.generation), lane.order_close());
                self.ask_nats(pid, AtNats::Unsubscribe(name));
                if let Some(Act::Word(word)) = act {
                    facts.push_back(Fact::Shard { shard, word });
                }
                self.close_lane(pid, partition);
            }
            ShardOrder::Reopen { partition } => {
                let Some(lane) = self.processes[pid].lanes.get_mut(&partition) else { return };
                lane.take_back();
                let name = (partition, lane.generation);
                self.ask_nats(pid, AtNats::Look(name));
            }
            ShardOrder::Drop { partition } => {
                if let Some(lane) = self.processes[pid].lanes.remove(&partition) {
                    self.ask_nats(pid, AtNats::Unsubscribe((partition, lane.generation)));
                }
            }
        }
        self.push_all(pid);
    }

    /// Does what a lane wants.
    pub fn act(&mut self, pid: usize, partition: Partition, act: Option<Act>) {
        let Some(act) = act else { return };
        let Some(lane) = self.processes[pid].lanes.get(&partition) else { return };
        let name: Name = (partition, lane.generation);
        match act {
            Act::Word(word) => {
                let shard = self.processes[pid].shards[&partition];
                self.give(pid, Fact::Shard { shard, word });
            }
            Act::Ack(sequence) => self.ask_nats(pid, AtNats::Ack(name, sequence)),
            Act::Look => self.ask_nats(pid, AtNats::Look(name)),
            Act::Pull => {
                let shard = self.processes[pid].shards[&partition];
                self.ask_nats(pid, AtNats::Pull(name));
                self.give(pid, Fact::Shard { shard, word: ShardWord::Opened { partition } });
            }
            Act::Check => {
                let heard = lane.heard;
                if self.processes[pid].nats_cut_until > self.now {
                    self.at(self.now + 500 * MILLI, Happens::Checked(pid, partition, false));
                } else {
                    self.ask_nats(pid, AtNats::Check(name, heard));
                }
            }
        }
    }

    /// A delivery came.
    pub fn delivered(&mut self, pid: usize, delivery: &Delivery) {
        let partition = delivery.of.0;
        let session = self.oracle.events[delivery.sequence as usize - 1].session;
        let now = self.clock(pid);
        let Some(lane) = self.processes[pid].lanes.get_mut(&partition) else { return };
        let act = lane.deliver(now, delivery, session);
        self.act(pid, partition, act);
        self.push_all(pid);
    }

    /// The server says that there is no such consumer.
    pub fn consumer_gone(&mut self, pid: usize, name: Name) {
        let Some(lane) = self.processes[pid].lanes.get_mut(&name.0).filter(|lane| lane.generation == name.1) else {
            return;
        };
        let act = lane.break_off(Break::Deleted);
        self.act(pid, name.0, act);
    }

    /// Pushes what can be pushed while the permit holds.
    pub fn push_all(&mut self, pid: usize) {
        if self.clock(pid) >= self.processes[pid].permit {
            return;
        }
        let process = &mut self.processes[pid];
        let pushes: Vec<_> = process
            .lanes
            .values_mut()
            .flat_map(|lane| lane.take_pushes().into_iter().map(|(session, sequence)| (session, sequence, lane.tenure)))
            .collect();
        let is_slow = process.slow_gateway_until > self.now && process.core.status().permit[0] > Duration::ZERO;
        for (session, sequence, tenure) in pushes {
            // What the kernel holds for a gateway that reads late arrives within TCP_USER_TIMEOUT, or never.
            let wire =
                if is_slow { self.rng.within(1_500, 2_900) * MILLI } else { self.rng.within(200, 3_000) * 1_000 };
            let process = &mut self.processes[pid];
            let due = (self.now + wire).max(process.gateway_last + 1).min(self.now + 2_950 * MILLI);
            process.gateway_last = due;
            self.at(due, Happens::Arrives(pid, sequence, session, tenure));
        }
    }

    /// A push reaches its gateway.
    pub fn arrives(&mut self, pid: usize, sequence: u64, session: usize, tenure: u64) {
        if self.processes[pid].is_reset {
            return;
        }
        self.tell(|_| format!("  gateway: {sequence} of session {session} from {pid} (tenure {tenure})"));
        self.oracle.pushed(self.now, sequence, tenure);
        let is_slow = self.plan.slow_sessions && session.is_multiple_of(5) && self.rng.chance(100) && !self.is_calm;
        let answer = if is_slow { self.rng.within(300, 9_000) * MILLI } else { self.rng.within(500, 20_000) * 1_000 };
        self.at(self.now + answer, Happens::Answered(pid, sequence, session, tenure));
    }

    /// The gateway's answer.
    pub fn push_answered(&mut self, pid: usize, sequence: u64, session: usize, tenure: u64) {
        let partition = self.oracle.events[sequence as usize - 1].partition;
        let Some(lane) = self.processes[pid].lanes.get_mut(&partition).filter(|lane| lane.tenure == tenure) else {
            return;
        };
        let act = lane.pushed(session, sequence);
        let event = &mut self.oracle.events[sequence as usize - 1];
        if act.is_some() && event.pushes.last().is_some_and(|(_, last)| *last == tenure) {
            event.settled_at = Some(self.now);
        }
        self.act(pid, partition, act);
        self.close_lane(pid, partition);
        self.push_all(pid);
    }

    /// Goes on with a close.
    pub fn close_lane(&mut self, pid: usize, partition: Partition) {
        let act = self.processes[pid].lanes.get_mut(&partition).and_then(Lane::close);
        self.act(pid, partition, act);
    }

    /// How far a lane's consumer is.
    pub fn looked(&mut self, pid: usize, name: Name, seen: Seen) {
        let lane = self.processes[pid].lanes.get_mut(&name.0).filter(|lane| lane.generation == name.1);
        let act = lane.and_then(|lane| lane.looked(seen));
        self.act(pid, name.0, act);
        self.push_all(pid);
    }

    /// The answer to a lane's check.
    pub fn checked(&mut self, pid: usize, partition: Partition, is_clean: bool) {
        let is_clean = is_clean || self.is(Mutant::NoCloseCheck);
        let act = self.processes[pid].lanes.get_mut(&partition).and_then(|lane| lane.checked(is_clean));
        self.act(pid, partition, act);
    }

    /// Heartbeats, and words about what waits.
    pub fn tick(&mut self, pid: usize) {
        let now = self.clock(pid);
        self.at(self.now + 250 * MILLI, Happens::Tick(pid));
        self.give(pid, Fact::Heartbeat { oldest: now });
        self.mind_nats(pid);
        let partitions: Vec<Partition> = self.processes[pid].lanes.keys().copied().collect();
        for partition in partitions {
            let Some(lane) = self.processes[pid].lanes.get_mut(&partition) else { continue };
            let act = lane.tick(now);
            self.act(pid, partition, act);
        }
        self.push_all(pid);
    }
}
