//! From free to open: claim, find out how far the old owner was, fence it, make the next generation, order a shard to open it.

use std::collections::{BTreeMap, BTreeSet};

use super::Ownership;
use super::asks::wants;
use super::settled_text::union;
use super::slot::{Before, Fencing, Making, Phase};
use super::txns::Purpose;
use crate::model::ids::Partition;
use crate::model::ownership::{Generation, Settled, ShardOrder};
use crate::ownership::facts::{Answer, Ask, AskNo, Compare, ConsumerInfo, Is, Level, MoveKind, Refusal};
use crate::ownership::keys::Key;
use crate::ownership::records::{self, Epoch, How, Published, State};

/// A refusal is said when the same request was refused so often.
const REFUSALS_SAID: u32 = 3;
/// Of so many generations before the last it is asked what was published: those of takers who did not get to open theirs.
const PUBLISHED_LOOKS: u32 = 16;

impl Ownership {
    /// A partition that is not here: take it when it is given to us, claim it when it is free and planned for us.
    pub(super) fn consider(&mut self, partition: Partition) {
        let at = partition.0 as usize;
        if self.slots[at].txn.is_some() || self.member.joined.is_none() || !self.view.is_listed {
            return;
        }
        let is_planned = self.planned(partition) && self.stop.is_none();
        let (owner, epoch) = (&self.view.owners[at], &self.view.epochs[at]);
        if epoch.is_absent() {
            self.slots[at].epoch_left = 0;
        }
        if let Some(why) = owner.fault().or(epoch.fault()) {
            let text = format!(
                "the record of {} is not understood ({why}): it is not claimed",
                self.settings.words(partition)
            );
            return self.say(Level::Warn, text);
        }
        match owner.get() {
            Some(owner) if owner.instance == self.settings.instance && owner.boot == self.settings.boot => {
                if epoch.get().is_some_and(|epoch| epoch.epoch == owner.epoch) {
                    self.receive(partition);
                }
            }
            Some(_) => self.prepare(partition, is_planned),
            None if is_planned => self.claim(partition),
            None => self.prepare(partition, false),
        }
    }

    /// Whether the plan gives it to us.
    pub(super) fn planned(&self, partition: Partition) -> bool {
        let plan = self.view.plan.get();
        plan.and_then(|plan| plan.owner(partition)).is_some_and(|owner| *owner == self.settings.instance)
    }

    /// Has the repeat window read back while another still works, or takes that back.
    fn prepare(&mut self, partition: Partition, is_coming: bool) {
        let slot = self.slot(partition);
        if is_coming == slot.is_prepared {
            return;
        }
        slot.is_prepared = is_coming;
        if is_coming {
            let record = self.view.epochs[partition.0 as usize].get();
            let generation = record.map_or_else(Generation::default, Epoch::generation);
            self.order(partition, ShardOrder::Prepare { partition, generation });
        } else {
            self.forget(partition);
        }
    }

    /// T1.
    fn claim(&mut self, partition: Partition) {
        let (Some(lease), Some(joined)) = (self.member.lease, self.member.joined) else { return };
        let at = partition.0 as usize;
        let can = self.has_met_layout && self.member.has_nats() && self.is_alive();
        if !can || self.slots[at].retry_at > self.now {
            return;
        }
        let seen = &self.view.epochs[at];
        let found = seen.get().cloned().unwrap_or_default();
        let before = if seen.is_absent() { Before::Nothing } else { Before::Record(found.state) };
        let mut epoch = Epoch { epoch: found.epoch + 1, state: State::Open, ..found.clone() };
        if found.state == State::Cut {
            epoch.generation = found.generation + 1;
            epoch.old = found.old.min(found.generation);
        }
        let compares = vec![
            Compare { key: Key::Owner(partition), is: Is::Absent },
            Compare { key: Key::Epoch(partition), is: Is::seen(seen.value.as_ref()) },
            self.compare_me(joined),
        ];
        let owner = self.own(partition, epoch.epoch, lease);
        let now = self.now;
        self.commit_partition(Purpose::Claim(partition), partition, compares, epoch, Some(owner));
        self.slot(partition).began = now;
        self.enter(partition, Phase::Claiming(before));
    }

    /// Another handed it to us by T2.
    fn receive(&mut self, partition: Partition) {
        let at = partition.0 as usize;
        let (owner, epoch) = (&self.view.owners[at], &self.view.epochs[at]);
        let (owner_value, epoch_value) = (owner.value.clone(), epoch.value.clone());
        let record = epoch.get().cloned().unwrap_or_default();
        // A tenure that was ours before: etcd was put back, and whoever had it since may still be at work.
        let is_over = record.epoch <= self.slots[at].epoch_left;
        let how = owner.get().filter(|_| !is_over).map_or(How::Claimed, |owner| owner.how);
        let now = self.now;
        let slot = self.slot(partition);
        slot.began = now;
        slot.is_held = true;
        (slot.owner_value, slot.epoch_value) = (owner_value, epoch_value);
        slot.settled = record.settled();
        slot.epoch = record;
        match how {
            How::Clean => self.go_on(partition),
            How::Cut => self.make(partition, BTreeSet::new(), MoveKind::Cut),
            // Our own claim, of which the answer was lost and the record has it: as after T1 of an open record.
            How::Claimed => self.look(partition, Before::Record(State::Open)),
        }
    }

    /// What follows when a transaction took effect.
    pub(super) fn applied(&mut self, partition: Partition, purpose: Purpose) {
        let phase = self.slots[partition.0 as usize].phase.clone();
        match (purpose, phase) {
            (Purpose::Claim(_), Phase::Claiming(before)) => {
                let slot = self.slot(partition);
                slot.settled = slot.epoch.settled();
                self.look(partition, before);
            }
            (Purpose::Fence(_), Phase::Recording(deletes, is_fenced)) => {
                let kind = if is_fenced { MoveKind::Unclean } else { MoveKind::Cut };
                self.make(partition, deletes, kind);
            }
            (Purpose::TakeBack(_), _) => {
                if self.slots[partition.0 as usize].recheck.is_some() {
                    self.asks.want(Ask::Names);
                }
                self.mind_sureness(partition);
            }
            (Purpose::Tidy(_), _) => self.slot(partition).is_untidy = false,
            (Purpose::Transfer(_) | Purpose::Release(_), Phase::Handing(kind)) => self.gone(partition, kind),
            _ => {}
        }
    }

    /// What follows when one did not and will not. What others did instead is seen by
    /// [`compare_record`](Self::compare_record) right after.
    pub(super) fn not_applied(&mut self, partition: Partition, purpose: Purpose) {
        let phase = self.slots[partition.0 as usize].phase.clone();
        match (purpose, phase) {
            (Purpose::Claim(_), Phase::Claiming(_)) => self.forget(partition),
            (Purpose::Transfer(_) | Purpose::Release(_), Phase::Handing(_)) => self.not_handed(partition, purpose),
            _ => {}
        }
    }

    /// Finds out which consumers there are.
    fn look(&mut self, partition: Partition, before: Before) {
        let numbers = self.numbers;
        self.asks.want(Ask::Names);
        self.enter(partition, Phase::Looking(before, numbers));
    }

    /// NATS answered.
    pub(super) fn answered(&mut self, ask: AskNo, answer: Result<Answer, Refusal>) {
        let Some(what) = self.asks.what(ask) else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                if !wants(&self.mine, &self.slots, what) {
                    return self.asks.forget(ask);
                }
                let failures = self.asks.failed(self.now, ask);
                if let Refusal::Refused(why) = why
                    && failures == REFUSALS_SAID
                {
                    self.say(Level::Warn, format!("NATS refuses {what:?}: {why}"));
                }
                return;
            }
        };
        self.asks.answered(ask);
        match (what, answer) {
            (Ask::Names, Answer::Names(names)) => self.named(ask, &names),
            (Ask::Info(partition, generation), Answer::Info(info)) => self.informed(partition, generation, info),
            (Ask::ReadSettled(partition, generation), Answer::Settled(text)) => {
                let read = text.and_then(|text| records::read::<Published>(&text).ok());
                let settled = read.and_then(|published| published.settled(&self.settings.layout));
                if let Phase::Fencing(fencing) = &mut self.slot(partition).phase
                    && let Some(known) = fencing.published.get_mut(&generation)
                {
                    *known = Some(settled.unwrap_or_default());
                }
                self.dirty.insert(partition);
            }
            (Ask::Create(partition, generation, _), Answer::Created(info)) => {
                let is_sure = self.etcd_holds();
                let slot = self.slot(partition);
                if slot.epoch.generation() == generation
                    && let Phase::Making(making) = &mut slot.phase
                {
                    making.is_made = true;
                    // Only while the lease surely stands can nobody else have deleted it and a late request made it anew.
                    slot.created = is_sure.then_some(info.created);
                }
                self.dirty.insert(partition);
            }
            (Ask::Delete(partition, generation), Answer::Deleted) => {
                if let Phase::Making(making) = &mut self.slot(partition).phase {
                    making.deletes.remove(&generation);
                }
                self.dirty.insert(partition);
            }
            _ => {}
        }
    }

    /// The names of all consumers are known, as of after the ask.
    fn named(&mut self, ask: AskNo, names: &[(Partition, Generation)]) {
        let mut by_partition: BTreeMap<Partition, BTreeSet<Generation>> = BTreeMap::new();
        names.iter().for_each(|(partition, generation)| {
            by_partition.entry(*partition).or_default().insert(*generation);
        });
        for partition in self.mine.clone() {
            let found = by_partition.get(&partition).cloned().unwrap_or_default();
            let slot = self.slot(partition);
            if slot.recheck.is_some_and(|after| ask.0 > after) {
                slot.recheck = None;
                let own = slot.epoch.generation();
                self.mind_sureness(partition);
                if let Some(newer) = found.last().filter(|found| **found > own) {
                    let (number, newer) = (partition.0, newer.0);
                    return self.fenced(format!(
                        "fenced by one whom etcd has forgotten: partition {number} has generation {newer}, ours is {}",
                        own.0
                    ));
                }
            } else if let Phase::Looking(before, after) = slot.phase
                && ask.0 > after
            {
                self.found(partition, before, found);
            }
        }
        // Those that came after this one was asked need another.
        if wants(&self.mine, &self.slots, Ask::Names) {
            self.asks.want(Ask::Names);
        }
    }

    /// Decides what a claimed partition needs.
    fn found(&mut self, partition: Partition, before: Before, found: BTreeSet<Generation>) {
        let own = self.slots[partition.0 as usize].epoch.generation();
        let is_unknown = found.last().is_some_and(|last| match before {
            Before::Record(State::Cut) => *last >= own,
            _ => *last > own,
        });
        match before {
            Before::Nothing if found.is_empty() => self.make(partition, BTreeSet::new(), MoveKind::Clean),
            Before::Record(State::Cut) if !is_unknown => self.make(partition, found, MoveKind::Cut),
            Before::Record(State::Clean) if !is_unknown && found.contains(&own) => self.go_on(partition),
            Before::Record(State::Clean) if !is_unknown => {
                // Somebody deleted it. Its owner closed it, so nobody is at work; but a name is never used twice.
                self.record_next(partition, found, false);
            }
            Before::Nothing | Before::Record(_) => {
                let epoch = &self.slots[partition.0 as usize].epoch;
                // Where etcd was emptied the record knows none of them; and one that was made and not opened yet, when that happened
                // again, has nothing published, but one shortly before it has.
                let last = found.last().map_or(epoch.generation, |last| last.0.max(epoch.generation));
                let first = epoch.old.min(epoch.generation).max(last.saturating_sub(PUBLISHED_LOOKS));
                let recorded = (first..=last).map(Generation);
                let published = recorded.chain(found.iter().copied()).map(|generation| (generation, None)).collect();
                let found = found.into_iter().map(|generation| (generation, None)).collect();
                self.enter(partition, Phase::Fencing(Fencing { found, published }));
            }
        }
    }

    /// INFO of a consumer came.
    fn informed(&mut self, partition: Partition, generation: Generation, info: Option<ConsumerInfo>) {
        let is_sure = self.etcd_holds();
        let slot = self.slot(partition);
        match &mut slot.phase {
            Phase::Fencing(fencing) => {
                if let Some(known) = fencing.found.get_mut(&generation) {
                    *known = Some(info);
                }
            }
            Phase::Absent | Phase::Claiming(_) => {}
            _ if slot.epoch.generation() == generation && slot.created.is_none() && is_sure => {
                slot.created = info.map(|info| info.created);
            }
            _ => {}
        }
        self.dirty.insert(partition);
    }

    /// The same generation goes on.
    pub(super) fn go_on(&mut self, partition: Partition) {
        self.slot(partition).kind = MoveKind::Clean;
        self.enter(partition, Phase::Ready);
    }

    /// T3: records the next generation, with all that is known to be settled. `found` are the older ones, as far as they are known.
    pub(super) fn record_next(&mut self, partition: Partition, found: BTreeSet<Generation>, is_fenced: bool) {
        let slot = self.slot(partition);
        let last = found.last().copied().unwrap_or_default().0.max(slot.epoch.generation);
        let first = found.first().map_or(slot.epoch.old, |first| first.0.min(slot.epoch.old)).min(last);
        // All in between too: one whose making was under way when its maker died may stand by now.
        let deletes = (slot.epoch.old.min(slot.epoch.generation)..=last).map(Generation).chain(found).collect();
        let record = Epoch { generation: last + 1, old: first, state: State::Open, ..slot.epoch.clone() };
        let epoch = record.with_settled(&slot.settled.clone());
        let compares = self.compares_of(partition);
        self.commit_partition(Purpose::Fence(partition), partition, compares, epoch, None);
        self.enter(partition, Phase::Recording(deletes, is_fenced));
    }

    /// Deletes what is older and makes the recorded generation.
    fn make(&mut self, partition: Partition, mut deletes: BTreeSet<Generation>, kind: MoveKind) {
        let slot = self.slot(partition);
        let own = slot.epoch.generation();
        deletes.extend((slot.epoch.old.min(own.0)..own.0).map(Generation));
        deletes.remove(&own);
        if !slot.is_open {
            slot.kind = kind;
        }
        slot.created = None;
        // Those of a generation that is not made yet are not deleted for sure: a late request may have made one anew.
        slot.is_untidy = false;
        let is_fenced = kind == MoveKind::Unclean;
        let making = Making { deletes, is_fenced, deleted_at: None, is_made: false };
        self.enter(partition, Phase::Making(making));
    }

    /// Goes on with what has become possible.
    pub(super) fn advance(&mut self, partition: Partition) {
        let slot = &self.slots[partition.0 as usize];
        if self.stop.is_some() && !slot.is_open && slot.txn.is_none() && slot.is_held {
            return self.give_back_unopened(partition);
        }
        if slot.is_open && (self.stop.is_some() || self.is_wanted_elsewhere(partition)) {
            // It pulls nothing until it has its next generation, which the taker can make as well.
            return self.close(partition, true);
        }
        match slot.phase.clone() {
            Phase::Fencing(fencing) => self.fence(partition, &fencing),
            Phase::Recording(deletes, is_fenced) if slot.txn.is_none() && slot.is_held => {
                // It was refused although the record is ours, or could not be begun.
                self.record_next(partition, deletes, is_fenced);
            }
            Phase::Making(making) => self.go_on_making(partition, making),
            Phase::Ready => self.open(partition),
            _ => {}
        }
    }

    fn fence(&mut self, partition: Partition, fencing: &Fencing) {
        let unknown = fencing.found.iter().filter(|(_, info)| info.is_none());
        let unread = fencing.published.iter().filter(|(_, settled)| settled.is_none());
        let missing: Vec<Ask> = unknown
            .map(|(generation, _)| Ask::Info(partition, *generation))
            .chain(unread.map(|(generation, _)| Ask::ReadSettled(partition, *generation)))
            .collect();
        if !missing.is_empty() {
            missing.into_iter().for_each(|ask| self.asks.want(ask));
            return;
        }
        // Each is true of its time, and what is settled stays settled: so the highest floor and all that is above it.
        let mut settled = self.slots[partition.0 as usize].settled.clone();
        for info in fencing.found.values().flatten().flatten() {
            let floor = info.floor.max(info.start.saturating_sub(1));
            settled = union(&settled, &Settled { floor, above: Vec::new() });
        }
        for published in fencing.published.values().flatten() {
            settled = union(&settled, published);
        }
        let slot = self.slot(partition);
        slot.settled = settled;
        if slot.txn.is_none() && slot.is_held {
            self.record_next(partition, fencing.found.keys().copied().collect(), true);
        }
    }

    fn go_on_making(&mut self, partition: Partition, mut making: Making) {
        let now = self.now;
        let slot = &self.slots[partition.0 as usize];
        let own = slot.epoch.generation();
        let start = slot.settled.floor + 1;
        for generation in &making.deletes {
            self.asks.want(Ask::Delete(partition, *generation));
        }
        if !making.deletes.is_empty() {
            return;
        }
        // Deleted first: a stream at its limit of consumers takes no further one, and the wait begins earlier.
        let deleted_at = *making.deleted_at.get_or_insert(now);
        if !making.is_made {
            self.asks.want(Ask::Create(partition, own, start));
        }
        let until = deleted_at.after(self.settings.timings.fence);
        let is_over = !making.is_fenced || now >= until;
        let is_ready = making.is_made && is_over;
        let slot = self.slot(partition);
        slot.phase = Phase::Making(making);
        if is_ready {
            slot.is_untidy = slot.epoch.old < slot.epoch.generation;
            self.enter(partition, Phase::Ready);
        } else if !is_over {
            self.look_again(partition, until);
        }
    }

    /// Orders the shard to open it, once etcd's word that it is ours is fresh.
    fn open(&mut self, partition: Partition) {
        let slot = &self.slots[partition.0 as usize];
        // A generation that a late request made anew would prove itself; so nothing is opened on NATS's word alone.
        if !slot.is_held || slot.txn.is_some() || !self.etcd_holds() {
            return self.look_again(partition, self.now.after(std::time::Duration::from_millis(100)));
        }
        let (generation, settled) = (slot.epoch.generation(), slot.settled.clone());
        let slot = self.slot(partition);
        slot.is_open = true;
        slot.is_prepared = false;
        slot.is_broken = false;
        slot.is_final = false;
        slot.oldest = None;
        self.enter(partition, Phase::Opening);
        self.order(partition, ShardOrder::Open { partition, generation, settled });
        self.mind_sureness(partition);
    }
}
