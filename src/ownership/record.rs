//! The transactions of a partition, what became of them, and what others do to its record.

use std::sync::Arc;

use super::Ownership;
use super::slot::{Phase, Slot, Writing};
use super::txns::{End, Part, Purpose};
use crate::model::ids::Partition;
use crate::model::ownership::{Boottime, ShardOrder};
use crate::ownership::facts::{Compare, EXIT_FENCED, EXIT_LAYOUT, Intention, Is, Level, Rejection, Write};
use crate::ownership::keys::{Key, LeaseId, Revision};
use crate::ownership::records::{self, Epoch, How, Layout, Nonce, Owner, State};

impl Ownership {
    /// Asks for a transaction; the values are made with its nonce.
    pub(super) fn commit(
        &mut self,
        purpose: Purpose,
        mark: Key,
        compares: Vec<Compare>,
        writes: impl FnOnce(Nonce) -> Vec<Write>,
    ) -> u64 {
        let number = self.number().0;
        let by = Nonce(format!("{}/{}/{number}", self.settings.instance, self.settings.boot));
        let writes = writes(by.clone());
        self.txns.push(Part { purpose, number, by, mark, compares, writes });
        number
    }

    /// A transaction of a partition: `epoch` is what it writes into `epochs/p`, `owner` what it does to `owners/p`.
    pub(super) fn commit_partition(
        &mut self,
        purpose: Purpose,
        partition: Partition,
        compares: Vec<Compare>,
        epoch: Epoch,
        owner: Option<Write>,
    ) {
        let (mark, record) = (Key::Epoch(partition), epoch.clone());
        let (mut epoch_value, mut owner_value) = (Arc::default(), None);
        let number = self.commit(purpose, mark.clone(), compares, |by| {
            let value = records::write(&Epoch { by: by.clone(), ..record });
            epoch_value = value.as_bytes().into();
            let owner = owner.map(|write| match write {
                // The value came without a nonce, since it is known only here.
                Write::Put { key, value, lease } => {
                    let owner: Owner = records::read(value.as_bytes()).unwrap_or_default();
                    let value = records::write(&Owner { by, ..owner });
                    owner_value = Some(value.as_bytes().into());
                    Write::Put { key, value, lease }
                }
                delete @ Write::Delete { .. } => delete,
            });
            owner.into_iter().chain([Write::Put { key: mark, value, lease: None }]).collect()
        });
        self.slot(partition).txn = Some(Writing { number, purpose, epoch, epoch_value, owner_value });
    }

    /// Both keys are as we know them.
    pub(super) fn compares_of(&self, partition: Partition) -> Vec<Compare> {
        let slot = &self.slots[partition.0 as usize];
        vec![
            Compare { key: Key::Owner(partition), is: Is::seen(slot.owner_value.as_ref()) },
            Compare { key: Key::Epoch(partition), is: Is::seen(slot.epoch_value.as_ref()) },
        ]
    }

    /// We are still the member that we think we are.
    pub(super) fn compare_me(&self, joined: Revision) -> Compare {
        Compare { key: Key::Member(self.settings.instance.clone()), is: Is::Created(joined) }
    }

    /// `owners/p` with our name.
    pub(super) fn own(&self, partition: Partition, epoch: u64, lease: LeaseId) -> Write {
        let record = Owner {
            instance: self.settings.instance.clone(),
            boot: self.settings.boot.clone(),
            epoch,
            how: How::Claimed,
            by: Nonce::default(),
        };
        Write::Put { key: Key::Owner(partition), value: records::write(&record), lease: Some(lease) }
    }

    /// What became of a part of a transaction.
    pub(super) fn ended(&mut self, part: &Part, end: &End) {
        match part.purpose {
            Purpose::Layout => {}
            Purpose::Join | Purpose::Member => self.member_written(end),
            Purpose::Plan => self.plan_written(end),
            purpose => {
                if let Some(partition) = purpose.partition() {
                    self.partition_written(partition, part.number, end);
                }
            }
        }
        if *end == End::Applied {
            self.etcd_refuses = None;
        }
    }

    /// What became of a partition's transaction.
    fn partition_written(&mut self, partition: Partition, number: u64, end: &End) {
        let slot = self.slot(partition);
        let Some(writing) = slot.txn.take_if(|writing| writing.number == number) else { return };
        let purpose = writing.purpose;
        self.txns.is_done(number);
        self.dirty.insert(partition);
        match end {
            End::Applied => {
                self.record_is(partition, writing);
                self.applied(partition, purpose);
            }
            End::Refused => self.not_applied(partition, purpose),
            End::Rejected(Rejection::NoLease) if matches!(purpose, Purpose::Transfer(_)) => {
                self.not_applied(partition, purpose);
            }
            End::Rejected(Rejection::NoLease) => {
                self.not_applied(partition, purpose);
                self.lose_lease();
            }
            End::Rejected(Rejection::Other(why)) => {
                self.refused_by_etcd(why.clone());
                let at = self.now.after(std::time::Duration::from_secs(1));
                self.slot(partition).retry_at = at;
                self.look_again(partition, at);
                self.not_applied(partition, purpose);
            }
        }
    }

    fn record_is(&mut self, partition: Partition, writing: Writing) {
        // The watch may already know of a later change of it: then it is not held.
        let is_held = self.view.owners[partition.0 as usize].value == writing.owner_value;
        let slot = self.slot(partition);
        slot.epoch = writing.epoch;
        slot.epoch_value = Some(writing.epoch_value);
        slot.is_doubted = false;
        if matches!(writing.purpose, Purpose::Claim(_) | Purpose::TakeBack(_)) {
            slot.owner_value = writing.owner_value;
            slot.is_held = is_held;
        }
    }

    /// Sees what others did to the record of a partition that is ours.
    pub(super) fn compare_record(&mut self, partition: Partition) {
        let at = partition.0 as usize;
        if let Some(writing) = &self.slots[at].txn
            && self.view.epochs[at].value.as_ref() == Some(&writing.epoch_value)
        {
            // The watch was faster than the answer, or there will be none.
            let number = writing.number;
            self.partition_written(partition, number, &End::Applied);
        }
        if !self.slots[at].has_tenure() {
            return;
        }
        let (owner, epoch, slot) = (&self.view.owners[at], &self.view.epochs[at], &self.slots[at]);
        let is_restored = epoch.is_absent() && slot.epoch_value.is_some();
        let is_changed = epoch.value != slot.epoch_value && !is_restored;
        let own = format!("{}/{}/", self.settings.instance, self.settings.boot);
        let is_own_late = is_changed && epoch.get().is_some_and(|epoch| epoch.by.0.starts_with(&own));
        if is_own_late && owner.value == slot.owner_value && slot.txn.is_none() {
            if epoch.get().is_some_and(|record| record.generation < slot.epoch.generation) {
                // etcd was put back to before a write of ours: what was made since must not be made again.
                return self.take_back(partition);
            }
            // A write of ours that had been refused at another try.
            let (record, value) = (epoch.get().cloned().unwrap_or_default(), epoch.value.clone());
            let slot = self.slot(partition);
            (slot.epoch, slot.epoch_value) = (record, value);
            return;
        }
        if (!owner.is_absent() && owner.value != slot.owner_value) || is_changed {
            return self.lost_to_another(partition);
        }
        if owner.is_absent() {
            self.slot(partition).is_held = false;
            // What no shard was told to open needs no taking back: whoever claims it fences.
            if !self.slots[at].is_open && !matches!(self.slots[at].phase, Phase::Closed(_)) {
                return self.forget(partition);
            }
            self.take_back(partition);
        } else if !self.slots[at].is_held {
            // A lease of ours that was taken for lost stands, or stands again: the record may be under it, and is put under the one we keep.
            self.take_back(partition);
        }
        self.mind_sureness(partition);
    }

    /// Notes whether etcd's lease surely covers a partition that a shard has.
    pub(super) fn mind_sureness(&mut self, partition: Partition) {
        let slot = &self.slots[partition.0 as usize];
        if slot.is_open && (!slot.is_held || slot.recheck.is_some()) {
            self.unsure.insert(partition);
        } else {
            self.unsure.remove(&partition);
        }
    }

    /// T4: our lease went, and nobody claimed; the record is absent, or as we wrote it.
    fn take_back(&mut self, partition: Partition) {
        let (Some(lease), Some(joined)) = (self.member.lease, self.member.joined) else { return };
        let at = partition.0 as usize;
        let slot = &self.slots[at];
        if slot.txn.is_some() || slot.retry_at > self.now {
            return;
        }
        let is_emptied = self.view.epochs[at].is_absent();
        let compares = vec![
            Compare { key: Key::Owner(partition), is: Is::seen(self.view.owners[at].value.as_ref()) },
            Compare { key: Key::Epoch(partition), is: Is::seen(self.view.epochs[at].value.as_ref()) },
            self.compare_me(joined),
        ];
        let epoch = Epoch { epoch: slot.epoch.epoch + 1, state: State::Open, ..slot.epoch.clone() };
        let owner = self.own(partition, epoch.epoch, lease);
        if is_emptied {
            // Somebody may have claimed it in the emptied etcd, before that was emptied again: the consumers tell.
            let numbers = self.numbers;
            self.slot(partition).recheck = Some(numbers);
        }
        self.commit_partition(Purpose::TakeBack(partition), partition, compares, epoch, Some(owner));
    }

    /// The record names another, or was changed by one.
    fn lost_to_another(&mut self, partition: Partition) {
        let at = partition.0 as usize;
        let owner = &self.view.owners[at];
        let epoch = self.view.epochs[at].get().map_or(0, |epoch| epoch.epoch);
        let who = match owner.get() {
            Some(owner) => format!("by {}, epoch {}", owner.instance, owner.epoch),
            None => format!("by one that is gone, epoch {epoch}"),
        };
        if self.slots[at].is_open {
            return self.fenced(format!("fenced {who}: {} is not ours any more", self.settings.words(partition)));
        }
        self.forget(partition);
    }

    /// Another owns what a shard here still has: this process ends, since nobody can prove that nothing of it still acts.
    pub(super) fn fenced(&mut self, sentence: String) {
        self.counts.fenced += 1;
        self.exit(EXIT_FENCED, sentence);
    }

    fn exit(&mut self, code: u8, sentence: String) {
        self.out.push(Intention::Permit(Boottime::NEVER));
        self.permit.news(Boottime::NEVER);
        if let Some(lease) = self.member.lease {
            self.out.push(Intention::Revoke { lease });
        }
        self.out.push(Intention::Exit { code, sentence });
        self.is_ended = true;
    }

    /// The partition is not here any more, and nothing is said of it.
    pub(super) fn forget(&mut self, partition: Partition) {
        let slot = self.slot(partition);
        let was_told = slot.is_open || slot.is_prepared || matches!(slot.phase, Phase::Handing(_) | Phase::Closed(_));
        let shard = slot.shard.take();
        // A transaction whose end is not known stays with the partition: no other is begun before.
        let epoch_left =
            if slot.phase == Phase::Absent { slot.epoch_left } else { slot.epoch_left.max(slot.epoch.epoch) };
        *slot = Slot { txn: slot.txn.take(), due: slot.due, retry_at: slot.retry_at, epoch_left, ..Slot::default() };
        if let Some(shard) = shard {
            self.loads[usize::from(shard.0)] -= 1;
            if was_told {
                self.out.push(Intention::Order { shard, order: ShardOrder::Drop { partition } });
            }
        }
        self.permit.forget(partition);
        self.unsure.remove(&partition);
        self.enter(partition, Phase::Absent);
    }

    /// Sees that all instances are configured alike, and says so first of all.
    pub(super) fn mind_layout(&mut self) {
        if !self.view.is_listed || self.has_met_layout {
            return;
        }
        let ours = &self.settings.layout;
        if self.view.layout.is_absent() {
            if self.member.joined.is_some() && self.txns.is_idle() {
                let compare = Compare { key: Key::Layout, is: Is::Absent };
                let value = records::write(ours);
                self.commit(Purpose::Layout, Key::Layout, vec![compare], |_| {
                    vec![Write::Put { key: Key::Layout, value, lease: None }]
                });
            }
            return;
        }
        match &self.view.layout.record {
            Some(Ok(theirs)) if theirs == ours => {
                self.has_met_layout = true;
                self.dirty_all();
            }
            Some(Ok(theirs)) => {
                let sentence = format!(
                    "the instances are not configured alike: here {}; in etcd (key layout) {}. Configure them alike; or, to change \
                     it, stop all, run etcdctl del --prefix /resonance/task-engine/<consumer.stream>/<consumer.durable>/, and start",
                    told(ours),
                    told(theirs)
                );
                self.exit(EXIT_LAYOUT, sentence);
            }
            Some(Err(why)) => {
                let text = format!("the key layout in etcd is not understood ({why}): nothing is claimed");
                self.say(Level::Warn, text);
            }
            None => {}
        }
    }
}

fn told(layout: &Layout) -> String {
    let Layout { partitions, topic, hash, stream_created, has_input } = layout;
    let input = if *has_input { "on" } else { "off" };
    format!("{partitions} partitions of {topic} by {hash}, partitioner {input}, stream made {stream_created}")
}
