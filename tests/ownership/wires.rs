//! The ways between the instances, etcd and NATS: what is late, lost, or told wrongly by a mutant.

use std::sync::Arc;

use task_engine::model::ids::Partition;
use task_engine::model::ownership::{Break, Generation, Settled};
use task_engine::ownership::facts::{Answer, Ask, AskNo, Commit, Fact, Is, Refusal, Rejection, Txn, Write};
use task_engine::ownership::keys::{Key, KeyState};
use task_engine::ownership::records::{self, Epoch, Nonce, Owner, State};

use crate::broker::{Broker, Name};
use crate::etcd::Changes;
use crate::lane::{Lane, Mode, Seen};
use crate::plan::Mutant;
use crate::process::name_of;
use crate::world::{AtEtcd, AtNats, Happens, MILLI, SECOND, World};

/// An edge gives up after this.
const ANSWER_TIME: u64 = 2 * SECOND;

impl World {
    fn fact_at(&mut self, at: u64, pid: usize, fact: Fact) {
        self.at(at, Happens::Fact(pid, Box::new(fact)));
    }

    /// No answer comes from etcd.
    fn unanswered(&mut self, pid: usize, request: &AtEtcd) {
        let at = self.now + ANSWER_TIME;
        match request {
            AtEtcd::List => self.fact_at(at, pid, Fact::WatchLost),
            AtEtcd::Grant(ask, _) => self.fact_at(at, pid, Fact::Granted { ask: *ask, lease: None }),
            AtEtcd::Commit(ask, txn, _) => {
                let fact = Fact::Committed { ask: *ask, answer: self.unknown(pid, txn) };
                self.fact_at(at, pid, fact);
            }
            AtEtcd::KeepAlive(..) | AtEtcd::Revoke(_) => {}
        }
    }

    /// Whether the mutant takes silence about a transaction for an answer: it gives a partition away.
    fn is_unguarded(&self, pid: usize, txn: &Txn) -> bool {
        let me = name_of(self.processes[pid].name);
        let is_handed_over = |write: &Write| match write {
            Write::Put { key: Key::Owner(_), value, .. } => {
                records::read::<Owner>(value.as_bytes()).is_ok_and(|owner| *owner.instance != *me)
            }
            Write::Put { .. } => false,
            Write::Delete { .. } => true,
        };
        self.is(Mutant::DelayedReleaseUnguarded) && txn.writes.iter().any(is_handed_over)
    }

    fn unknown(&mut self, pid: usize, txn: &Txn) -> Commit {
        if self.is_unguarded(pid, txn) {
            // As if silence said that nothing was written, so that it might be opened again.
            return Commit::Rejected(Rejection::Other("no answer".to_owned()));
        }
        Commit::Unknown
    }

    /// A request leaves for etcd.
    pub fn ask_etcd(&mut self, pid: usize, request: AtEtcd) {
        self.etcd_requests += 1;
        if self.processes[pid].etcd_cut_until > self.now {
            return self.unanswered(pid, &request);
        }
        let mut due = self.now + self.rng.within(300, 4_000) * 1_000;
        let is_rough = self.plan.etcd_trouble && !self.is_calm;
        if let AtEtcd::Commit(ask, txn, _) = &request
            && is_rough
        {
            let dice = self.rng.below(100);
            // So few are late that what the mutant does would hardly be seen.
            let dice = if self.is_unguarded(pid, txn) { 10 + dice % 10 } else { dice };
            if dice < 16 {
                // Lost, done and not told, or done late and not told.
                self.unanswered(pid, &request);
                let late = if dice >= 10 { self.rng.within(1_000, 9_000) * MILLI } else { 0 };
                if dice >= 5 {
                    due += late;
                    self.at(due, Happens::AtEtcd(pid, AtEtcd::Commit(*ask, txn.clone(), true)));
                }
                return;
            }
        }
        self.at(due, Happens::AtEtcd(pid, request));
    }

    /// A request arrives at etcd.
    pub fn at_etcd(&mut self, pid: usize, request: AtEtcd) {
        if self.etcd.away_until > self.now {
            return self.unanswered(pid, &request);
        }
        let due = self.now + self.rng.within(300, 4_000) * 1_000;
        let is_cut = self.processes[pid].etcd_cut_until > self.now;
        match request {
            AtEtcd::List => {
                if is_cut {
                    return self.unanswered(pid, &AtEtcd::List);
                }
                let keys = self.etcd.list();
                let keys = self.seen_states(pid, keys);
                let revision = self.etcd.revision;
                self.processes[pid].is_watching = true;
                let due = due.max(self.processes[pid].watch_last + 1);
                self.processes[pid].watch_last = due;
                self.fact_at(due, pid, Fact::Listed { revision, keys });
            }
            AtEtcd::Grant(ask, ttl) => {
                let lease = self.etcd.grant(self.now, ttl);
                self.fact_at(due, pid, Fact::Granted { ask, lease: Some(lease) });
            }
            AtEtcd::KeepAlive(ask, lease) => {
                let left = self.etcd.keep_alive(self.now, lease);
                let revision = self.etcd.revision;
                let ttl = std::time::Duration::from_nanos(left);
                if !is_cut {
                    self.fact_at(due, pid, Fact::KeptAlive { ask, ttl, revision });
                }
            }
            AtEtcd::Revoke(lease) => {
                let changes = self.etcd.revoke(lease);
                self.watched(changes);
            }
            AtEtcd::Commit(ask, txn, is_silent) => self.commit(pid, ask, txn, is_silent || is_cut, is_silent, due),
        }
    }

    fn commit(&mut self, pid: usize, ask: AskNo, txn: Txn, is_lost: bool, is_silent: bool, due: u64) {
        let txn = self.mutated(pid, txn);
        let owners = |world: &Self| -> Vec<Option<String>> {
            txn.writes
                .iter()
                .map(|write| world.etcd.text(write.key()).filter(|_| matches!(write.key(), Key::Owner(_))))
                .collect()
        };
        let before = owners(self);
        let (answer, changes) = self.etcd.commit(&txn);
        if let Commit::Applied { .. } = answer {
            let me = name_of(self.processes[pid].name);
            for owner in before.into_iter().flatten() {
                let owner: Owner = records::read(owner.as_bytes()).expect("an owner");
                assert_eq!(*owner.instance, *me, "I1: taken from its owner");
            }
        }
        self.tell(|_| format!("etcd: of {pid}: {answer:?} {txn:?}").chars().take(500).collect());
        if is_lost && self.is(Mutant::NoNonce) {
            // Who is told that it wrote something knows it by what it wrote.
            self.untold.extend(txn.writes.iter().filter_map(nonce_of));
        }
        self.watched(changes);
        if is_lost {
            if !is_silent {
                let answer = self.unknown(pid, &txn);
                self.fact_at(self.now + ANSWER_TIME, pid, Fact::Committed { ask, answer });
            }
            return;
        }
        let answer = match answer {
            Commit::Refused { revision, found } => Commit::Refused { revision, found: self.seen_states(pid, found) },
            other => other,
        };
        self.fact_at(due, pid, Fact::Committed { ask, answer });
    }

    /// What a mutant does to a transaction.
    fn mutated(&self, pid: usize, mut txn: Txn) -> Txn {
        // What it compares with is what it was let see.
        for compare in txn.compares.iter_mut().filter(|compare| matches!(compare.is, Is::Value(_))) {
            let real = self.etcd.state(&compare.key);
            if compare.is.holds(&self.seen(pid, real.clone())) {
                compare.is = Is::seen(real.value.as_ref());
            }
        }
        if self.is(Mutant::FenceWithoutCompare) && !txn.writes.iter().any(|write| matches!(write.key(), Key::Owner(_)))
        {
            txn.compares.retain(|compare| !matches!(compare.key, Key::Epoch(_)));
        }
        if self.is(Mutant::SettledNotCarried) {
            for write in &mut txn.writes {
                if let Write::Put { key: Key::Epoch(_), value, .. } = write {
                    let record: Epoch = records::read(value.as_bytes()).expect("a record");
                    *value = records::write(&Epoch { above: String::new(), ..record });
                }
            }
        }
        txn
    }

    /// What a mutant lets a process see.
    fn seen_states(&self, pid: usize, states: Vec<KeyState>) -> Vec<KeyState> {
        states.into_iter().map(|state| self.seen(pid, state)).collect()
    }

    /// See [`Self::seen_states`].
    pub fn seen_by(&self, pid: usize, changes: Changes) -> Changes {
        changes.into_iter().map(|(at, state)| (at, self.seen(pid, state))).collect()
    }

    fn seen(&self, pid: usize, mut state: KeyState) -> KeyState {
        let (Key::Epoch(partition), Some(value)) = (&state.key, &state.value) else { return state };
        let Ok(mut record) = records::read::<Epoch>(value) else { return state };
        if self.untold.contains(&record.by.0) {
            record.by = Nonce::default();
        }
        if self.is(Mutant::FloorWithoutStart) && record.state == State::Open {
            let owner =
                self.etcd.text(&Key::Owner(*partition)).and_then(|text| records::read::<Owner>(text.as_bytes()).ok());
            if owner.is_none_or(|owner| *owner.instance != *name_of(self.processes[pid].name)) {
                let above = record.settled().above;
                record = record.with_settled(&Settled { floor: 0, above });
            }
        }
        let text: Arc<[u8]> = records::write(&record).as_bytes().into();
        state.value = Some(text);
        state
    }

    /// A request leaves for NATS.
    pub fn ask_nats(&mut self, pid: usize, request: AtNats) {
        let sent = self.now;
        if self.processes[pid].nats_cut_until > self.now {
            return self.no_answer(pid, &request);
        }
        if let AtNats::Ask(ask, what @ Ask::Create(..), _) = request
            && self.plan.delays_creates
            && !self.is_calm
            && self.rng.chance(250)
        {
            self.no_answer(pid, &request);
            let late = self.now + self.rng.within(3_000, 14_000) * MILLI;
            return self.at(late, Happens::AtNats(pid, AtNats::Ask(ask, what, true), sent));
        }
        let due = self.now + self.rng.within(200, 2_000) * 1_000;
        let due = self.processes[pid].next_nats(due);
        self.at(due, Happens::AtNats(pid, request, sent));
    }

    fn no_answer(&mut self, pid: usize, request: &AtNats) {
        match request {
            AtNats::Ask(ask, _, false) => {
                let fact = Fact::Answered { ask: *ask, answer: Err(Refusal::NoAnswer) };
                self.fact_at(self.now + ANSWER_TIME, pid, fact);
            }
            AtNats::Prove(ask, _) => {
                let fact = Fact::Proved { ask: *ask, is_confirmed: false, found: Vec::new() };
                self.fact_at(self.now + 800 * MILLI, pid, fact);
            }
            AtNats::Check(name, _) => self.at(self.now + 500 * MILLI, Happens::Checked(pid, name.0, false)),
            AtNats::Look(name) => self.at(self.now + 500 * MILLI, Happens::Looked(pid, *name, Seen::Nothing)),
            _ => {}
        }
    }

    /// A request arrives at NATS.
    pub fn at_nats(&mut self, pid: usize, request: AtNats, sent: u64) {
        let is_minority = self.processes[pid].is_in_minority && self.minority.is_some();
        let needs_majority = match &request {
            AtNats::Ask(_, Ask::Info(..), _) => false,
            AtNats::Ask(..) | AtNats::Publish(..) => true,
            _ => false,
        };
        if is_minority && (needs_majority || self.now >= self.minority_until) {
            return self.no_answer(pid, &request);
        }
        let due = self.now + self.rng.within(200, 2_000) * 1_000;
        let due = self.processes[pid].next_from_nats(due);
        match request {
            AtNats::Ask(ask, what, is_lost) => {
                let answer = self.answer(pid, what, is_minority, sent);
                let is_lost_now = self.plan.nats_trouble && !self.is_calm && self.rng.chance(30);
                if is_lost_now && !is_lost {
                    return self.no_answer(pid, &AtNats::Ask(ask, what, false));
                }
                if !is_lost {
                    self.fact_at(due, pid, Fact::Answered { ask, answer: Ok(answer) });
                }
            }
            AtNats::Prove(ask, of) => {
                let is_confirmed = !is_minority || self.is(Mutant::ProofByInfoOnly);
                let found = of.into_iter().filter_map(|name| {
                    let info = self.server(is_minority).info(name)?;
                    Some((name.0, name.1, info.created))
                });
                let fact = Fact::Proved { ask, is_confirmed, found: found.collect() };
                self.fact_at(due, pid, fact);
            }
            AtNats::Publish(name, text) => {
                self.broker.published.insert(name, text.into_bytes());
            }
            AtNats::Look(name) => {
                let known = self.server(is_minority).consumers.get(&self.named(name));
                let is_blind = self.is(Mutant::NoCloseCheck);
                let seen = known.map(|known| Seen::Is(known.delivered, known.pending.is_empty() || is_blind));
                self.at(due, Happens::Looked(pid, name, seen.unwrap_or(Seen::Gone)));
            }
            AtNats::Pull(name) => {
                if self.processes[pid].is_dead {
                    return;
                }
                let name = self.named(name);
                if self.server_mut(is_minority).pull(name, pid) {
                    self.deliver();
                } else {
                    self.at(due, Happens::Gone(pid, name));
                }
            }
            AtNats::Unsubscribe(name) => {
                let name = self.named(name);
                self.server_mut(is_minority).unsubscribe(name, pid);
            }
            AtNats::Ack(name, sequence) => {
                let name = self.named(name);
                self.server_mut(is_minority).ack(name, sequence);
            }
            AtNats::Check(name, heard) => {
                let consumer = self.server(is_minority).consumers.get(&self.named(name));
                let is_clean = consumer.is_some_and(|known| known.pending.is_empty() && known.delivered == heard);
                self.at(due, Happens::Checked(pid, name.0, is_clean && !is_minority));
            }
        }
    }

    fn server(&self, is_minority: bool) -> &Broker {
        if is_minority { self.minority.as_ref().expect("it is split") } else { &self.broker }
    }

    fn server_mut(&mut self, is_minority: bool) -> &mut Broker {
        if is_minority { self.minority.as_mut().expect("it is split") } else { &mut self.broker }
    }

    /// The name under which a consumer is made.
    fn named(&self, name: Name) -> Name {
        if self.is(Mutant::SameName) { (name.0, Generation(0)) } else { name }
    }

    fn answer(&mut self, pid: usize, what: Ask, is_minority: bool, sent: u64) -> Answer {
        match what {
            Ask::Names => Answer::Names(self.broker.consumers.keys().copied().collect()),
            Ask::Info(partition, generation) => {
                let name = self.named((partition, generation));
                Answer::Info(self.server(is_minority).info(name))
            }
            Ask::Create(partition, generation, start) => {
                let name = self.named((partition, generation));
                self.oracle.creates(sent, name, pid);
                let info = self.broker.create(name, start);
                self.tell(|_| format!("NATS: made {name:?} from {start}"));
                Answer::Created(info)
            }
            Ask::Delete(partition, generation) => {
                self.delete_consumer(self.named((partition, generation)));
                Answer::Deleted
            }
            Ask::ReadSettled(partition, generation) => {
                Answer::Settled(self.broker.published.get(&(partition, generation)).cloned())
            }
        }
    }

    /// A consumer is deleted; whoever pulls from it hears so.
    pub fn delete_consumer(&mut self, name: Name) {
        let Some(consumer) = self.broker.consumers.remove(&name) else { return };
        self.oracle.deleted(self.now, name);
        self.tell(|_| format!("NATS: deleted {name:?}"));
        for pid in consumer.pullers {
            let process = &self.processes[pid];
            let is_away = process.nats_cut_until > self.now || (process.is_in_minority && self.minority.is_some());
            if !is_away {
                let due = self.now + self.rng.within(200, 3_000) * 1_000;
                self.at(due, Happens::Gone(pid, name));
            }
        }
    }

    /// Sees whether NATS can be reached, and what became of the pulls.
    pub fn mind_nats(&mut self, pid: usize) {
        let process = &mut self.processes[pid];
        let is_broken = std::mem::take(&mut process.is_nats_broken);
        let is_lost_quorum = process.is_in_minority && self.minority.is_some() && self.now >= self.minority_until;
        // A connection that broke and could be made again meanwhile is seen to be gone first.
        let is_there = !is_broken && process.nats_cut_until <= self.now && !is_lost_quorum;
        if is_there == process.has_nats {
            return;
        }
        self.processes[pid].has_nats = is_there;
        self.give(pid, Fact::Nats { is_connected: is_there });
        if self.processes[pid].is_dead {
            return;
        }
        let is_minority = self.processes[pid].is_in_minority && self.minority.is_some();
        let lanes: Vec<Partition> = self.processes[pid].lanes.keys().copied().collect();
        for partition in lanes {
            let is_silent = !is_there && self.rng.chance(500);
            let is_at_work = |lane: &&mut Lane| !matches!(lane.mode, Mode::Opening | Mode::Closed);
            let Some(lane) = self.processes[pid].lanes.get_mut(&partition).filter(is_at_work) else { continue };
            let name = (partition, lane.generation);
            if !is_there {
                let act = if is_silent { lane.break_off(Break::Silence) } else { None };
                self.act(pid, partition, act);
                continue;
            }
            let (heard, unsettled) = (lane.heard, lane.unsettled());
            let is_open = lane.mode == Mode::Open;
            let why = match self.server(is_minority).consumers.get(&name) {
                None => Some(Break::Deleted),
                Some(known) => {
                    let is_same = known.delivered == heard && known.pending.keys().copied().eq(unsettled);
                    (!is_same).then_some(Break::Reconnected)
                }
            };
            match (why, self.processes[pid].lanes.get_mut(&partition)) {
                (Some(why), Some(lane)) => {
                    let act = lane.break_off(why);
                    self.act(pid, partition, act);
                }
                _ if is_open => self.ask_nats(pid, AtNats::Pull(name)),
                _ => {}
            }
        }
    }
}

/// Which write an epoch's record is of.
fn nonce_of(write: &Write) -> Option<String> {
    let Write::Put { key: Key::Epoch(_), value, .. } = write else { return None };
    records::read::<Epoch>(value.as_bytes()).ok().map(|record| record.by.0)
}
