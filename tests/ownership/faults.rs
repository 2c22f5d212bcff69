//! What fails, carried out.

use task_engine::model::ids::Partition;
use task_engine::ownership::facts::{Compare, Fact, Txn, Write};
use task_engine::ownership::keys::Key;
use task_engine::ownership::records::{self, Drained};

use crate::plan::Fault;
use crate::process::name_of;
use crate::world::{Happens, MILLI, SECOND, World};

impl World {
    /// etcd is what it was so long ago.
    fn put_back(&mut self, millis: u64) {
        let since = self.now.saturating_sub(millis * MILLI);
        let kept = self.etcd_kept.iter().rev().find(|(at, _)| *at <= since).cloned();
        if let Some((_, earlier)) = kept {
            self.oracle.put_back_at = Some(self.now);
            self.etcd.restore(earlier, self.now);
        }
    }

    /// A person deletes a consumer.
    fn delete_some(&mut self) {
        let names: Vec<_> = self.broker.consumers.keys().copied().collect();
        if !names.is_empty() {
            let name = names[self.rng.below(names.len())];
            self.oracle.meddled.insert(name.0);
            self.delete_consumer(name);
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|pid| !self.processes[*pid].is_dead).collect()
    }

    /// Something fails.
    pub fn fail(&mut self, fault: Fault) {
        let alive = self.alive();
        if alive.is_empty() {
            return;
        }
        let pid = alive[self.rng.below(alive.len())];
        self.trace_fault(pid, fault);
        let now = self.now;
        let until = |millis: u64| now + millis * MILLI;
        match fault {
            Fault::Kill => self.kill(pid),
            Fault::Pause(millis) => {
                let process = &mut self.processes[pid];
                if process.paused_until <= now {
                    process.paused_from = now;
                }
                process.paused_until = until(millis);
                self.oracle.pauses.push((pid, now));
            }
            Fault::Stop => {
                let after = self.rng.within(1_000, 6_000) * MILLI;
                self.stop(pid, after);
            }
            Fault::Drain => self.drain(pid),
            Fault::CutEtcd(millis) => self.processes[pid].etcd_cut_until = until(millis),
            Fault::CutNats(millis) => self.cut_nats(pid, until(millis)),
            Fault::CutBoth(millis) => {
                let end = until(millis);
                self.processes[pid].etcd_cut_until = end;
                self.cut_nats(pid, end);
            }
            Fault::EtcdAway(millis) => {
                let end = until(millis);
                self.etcd.away_until = end;
                self.etcd.restart(end);
                for pid in alive {
                    self.lose_watch(pid);
                }
            }
            Fault::CutWatch => self.lose_watch(pid),
            Fault::Revoke(millis) => {
                self.etcd.lies_until = until(millis);
                if let Some(lease) = self.etcd.some_lease(&mut self.rng) {
                    let changes = self.etcd.revoke(lease);
                    self.watched(changes);
                }
            }
            Fault::Wipe => {
                self.etcd.wipe();
                for pid in alive {
                    self.lose_watch(pid);
                }
            }
            Fault::Restore(millis) => {
                self.put_back(millis);
                alive.into_iter().for_each(|pid| self.lose_watch(pid));
            }
            Fault::Delete => self.delete_some(),
            Fault::Split(millis) => self.split(pid, until(millis)),
            Fault::SlowGateway(millis) => self.processes[pid].slow_gateway_until = until(millis),
            Fault::Namesake => {
                let name = self.processes[pid].name;
                self.start(name, false);
            }
        }
    }

    fn trace_fault(&mut self, pid: usize, fault: Fault) {
        self.tell(|_| format!("FAULT {fault:?} of {pid}"));
    }

    fn kill(&mut self, pid: usize) {
        let name = self.processes[pid].name;
        let process = &self.processes[pid];
        let last = if process.paused_until > self.now { process.paused_from } else { self.now };
        self.oracle.killed.insert(pid, last);
        self.end(pid, false);
        let again = self.now + self.rng.within(500, 12_000) * MILLI;
        if self.processes[pid].is_own_host {
            self.at(again, Happens::Start(name));
        }
    }

    fn stop(&mut self, pid: usize, after: u64) {
        if std::mem::replace(&mut self.processes[pid].is_stopping, true) {
            return;
        }
        let deadline = self.processes[pid].clock(self.now + after);
        self.at(self.now, Happens::Fact(pid, Box::new(Fact::Stop { deadline })));
    }

    fn drain(&mut self, pid: usize) {
        let key = Key::Drained(name_of(self.processes[pid].name).into());
        let write = match self.etcd.text(&key) {
            Some(_) => Write::Delete { key },
            None => Write::Put { key, value: records::write(&Drained::default()), lease: None },
        };
        self.write(write);
    }

    fn write(&mut self, write: Write) {
        let compares: Vec<Compare> = Vec::new();
        let (_, changes) = self.etcd.commit(&Txn { compares, writes: vec![write] });
        self.watched(changes);
    }

    fn cut_nats(&mut self, pid: usize, end: u64) {
        self.processes[pid].nats_cut_until = end;
        self.processes[pid].is_nats_broken = true;
        self.oracle.cut_from_nats.entry(pid).or_insert(self.now);
        self.broker.disconnect(pid);
    }

    /// A watch ends; the process hears of it after a while.
    fn lose_watch(&mut self, pid: usize) {
        if std::mem::take(&mut self.processes[pid].is_watching) {
            let due = self.now + self.rng.within(10, 3_000) * MILLI;
            self.at(due, Happens::Fact(pid, Box::new(Fact::WatchLost)));
        }
    }

    fn split(&mut self, pid: usize, end: u64) {
        if self.minority.is_some() {
            return;
        }
        self.minority = Some(self.broker.clone());
        self.minority_until = self.now + self.rng.within(6_000, 10_000) * MILLI;
        self.processes[pid].is_in_minority = true;
        self.processes[pid].etcd_cut_until = end;
        self.oracle.cut_from_nats.entry(pid).or_insert(self.now);
        self.at(end, Happens::Heal(pid));
    }

    /// A split is over: the connections are new ones.
    pub fn heal(&mut self, pid: usize) {
        self.minority = None;
        self.broker.disconnect(pid);
        let process = &mut self.processes[pid];
        process.is_in_minority = false;
        process.has_nats = false;
        if !process.is_dead {
            self.at(self.now, Happens::Fact(pid, Box::new(Fact::Nats { is_connected: false })));
        }
    }

    /// Nothing fails any more; whoever is gone comes back, whoever is drained is not.
    pub fn calm(&mut self) {
        self.tell(|_| "CALM".to_owned());
        self.is_calm = true;
        let now = self.now;
        self.etcd.away_until = self.etcd.away_until.min(now);
        if self.minority.is_some() {
            for pid in self.alive() {
                if self.processes[pid].is_in_minority {
                    self.heal(pid);
                }
            }
            self.minority = None;
        }
        (0..self.processes.len()).for_each(|pid| self.goes_on(pid));
        for process in &mut self.processes {
            process.etcd_cut_until = process.etcd_cut_until.min(now);
            process.nats_cut_until = process.nats_cut_until.min(now);
            process.slow_gateway_until = 0;
        }
        for name in 0..self.plan.instances {
            let key = Key::Drained(name_of(name).into());
            if self.etcd.text(&key).is_some() {
                self.write(Write::Delete { key });
            }
            self.at(now + SECOND, Happens::Start(name));
        }
    }

    /// Whether each partition is owned by somebody who has opened it.
    pub fn is_all_owned(&self) -> bool {
        let mut owned = vec![false; self.plan.partitions as usize];
        for pid in self.alive() {
            for held in self.processes[pid].core.status().held {
                owned[held.partition.0 as usize] |= held.state == "owned" && held.blocked.is_none();
            }
        }
        owned.into_iter().all(|is| is)
    }

    /// What is wrong with ownership, for a message.
    pub fn owners(&self) -> String {
        let mut text = String::new();
        for pid in self.alive() {
            let status = self.processes[pid].core.status();
            let held = status.held.iter().map(|held| (held.partition.0, held.state, held.epoch, held.blocked.clone()));
            text += &format!(
                "process {pid} ({}): {:?} {}\n",
                name_of(self.processes[pid].name),
                held.collect::<Vec<_>>(),
                status.line().1
            );
        }
        for partition in 0..self.plan.partitions {
            let key = |key: fn(Partition) -> Key| self.etcd.text(&key(Partition(partition))).unwrap_or_default();
            text += &format!("{partition}: {} {}\n", key(Key::Owner), key(Key::Epoch));
        }
        text + &self.etcd.text(&Key::Plan).unwrap_or_default()
    }
}
