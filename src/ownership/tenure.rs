//! A partition that a shard has: what the shard says of it, when it is closed, and to whom it is handed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Ownership;
use super::slot::{Before, Phase};
use super::txns::Purpose;
use crate::model::ids::{Partition, ShardId};
use crate::model::ownership::{Boottime, Break, Generation, ShardOrder, ShardWord};
use crate::ownership::facts::{Ask, Compare, Intention, Is, Level, Move, MoveKind, Write};
use crate::ownership::keys::{Instance, Key, Revision};
use crate::ownership::records::{self, Epoch, How, Nonce, Owner, Published, State};
use crate::ownership::settled_text::union;

/// Moves that begin together: an eighth of what an instance has, within these bounds. Those that move together wait for each other's
/// round trips: with 8 of 21 together twice as many pushes were late as with 3. One that takes longer than [`MOVE_TIME`] does not
/// count, so that a few stuck ones hold up nobody.
const MOVES: RangeInclusive<u32> = 3..=8;
const MOVE_TIME: Duration = Duration::from_secs(1);
/// An opening that takes longer may be closed when the plan wants it elsewhere.
const OPENING_TIME: Duration = Duration::from_secs(2);
/// A blocked move is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A move that takes longer gets a line.
const SLOW_MOVE: Duration = Duration::from_secs(1);

/// Why a partition that should be elsewhere is still here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The taker is not among the members, leaves, or has no NATS.
    NoTaker(Instance),
    /// etcd did not answer lately.
    NoEtcd,
    /// Its oldest event waits for so long.
    Unsettled(Duration),
    /// It was called off, and is tried again after so long.
    CalledOff(Duration),
    /// Others move first.
    Turn,
    /// The taker reads the repeat window.
    Prepare,
}

impl Ownership {
    /// A shard said something.
    pub(super) fn heard(&mut self, shard: ShardId, word: ShardWord) {
        let (ShardWord::Opened { partition }
        | ShardWord::Closed { partition, .. }
        | ShardWord::Waits { partition, .. }
        | ShardWord::Broken { partition, .. }) = word;
        if !self.slots.get(partition.0 as usize).is_some_and(|slot| slot.is_open && slot.shard == Some(shard)) {
            return;
        }
        self.dirty.insert(partition);
        let layout = self.settings.layout.clone();
        let slot = self.slot(partition);
        match word {
            ShardWord::Opened { .. } => match slot.phase {
                Phase::Opening => self.opened(partition),
                Phase::Reopening => self.enter(partition, Phase::Owned),
                _ => {}
            },
            ShardWord::Closed { settled, is_clean, .. } => {
                // In any other phase it is the answer to an order that was taken back.
                if slot.phase == Phase::Closing {
                    let is_clean = is_clean && !slot.is_broken;
                    slot.settled = union(&slot.settled, &settled);
                    if !is_clean {
                        // In case that etcd does not get to hear of it.
                        let text = records::write(&Published::of(&slot.settled, &layout));
                        let generation = slot.epoch.generation();
                        self.out.push(Intention::PublishSettled { partition, generation, text });
                    }
                    let slot = self.slot(partition);
                    slot.is_open = false;
                    self.permit.forget(partition);
                    self.mind_sureness(partition);
                    self.enter(partition, Phase::Closed(is_clean));
                }
            }
            ShardWord::Waits { settled, oldest, .. } => {
                slot.oldest = oldest;
                if oldest.is_some() || slot.is_broken {
                    let text = records::write(&Published::of(&settled, &layout));
                    let generation = slot.epoch.generation();
                    self.out.push(Intention::PublishSettled { partition, generation, text });
                }
                self.slot(partition).settled = settled;
            }
            ShardWord::Broken { settled, why, .. } => {
                slot.settled = union(&slot.settled, &settled);
                if !slot.is_broken {
                    slot.is_broken = true;
                    // A successor deleted it, or a person. Nothing is pushed until etcd says who.
                    slot.is_doubted = why == Break::Deleted;
                    self.counts.broken[why as usize] += 1;
                }
                if matches!(self.slots[partition.0 as usize].phase, Phase::Opening | Phase::Owned | Phase::Reopening) {
                    self.enter(partition, Phase::Recording(BTreeSet::new(), false));
                }
            }
        }
    }

    fn opened(&mut self, partition: Partition) {
        self.enter(partition, Phase::Owned);
        let now = self.now;
        let slot = self.slot(partition);
        let began = std::mem::take(&mut slot.began);
        if began != Boottime::NEVER {
            let (kind, took) = (slot.kind, now.since(began));
            self.moved(Move { partition, is_in: true, kind, took });
        }
    }

    fn moved(&mut self, one: Move) {
        self.counts.moves[usize::from(!one.is_in)][one.kind as usize] += 1;
        self.out.push(Intention::Moved(one));
        if one.took > SLOW_MOVE {
            let (what, kind, took) = (self.settings.words(one.partition), one.kind.label(), one.took.as_secs_f64());
            let way = if one.is_in { "came" } else { "went" };
            self.say(Level::Info, format!("{what} {way} ({kind}) after {took:.1} s"));
        }
    }

    /// Whether the partition should be elsewhere. An unreadable plan wants nothing.
    pub(super) fn is_wanted_elsewhere(&self, partition: Partition) -> bool {
        let plan = self.view.plan.get();
        plan.is_some_and(|plan| plan.owner(partition).is_none_or(|owner| *owner != self.settings.instance))
    }

    /// The member that may take it: planned, there, and with NATS.
    fn taker(&self, partition: Partition) -> Option<(Instance, Revision)> {
        let name = self.view.plan.get()?.owner(partition)?;
        let (member, created) = self.view.member(name)?;
        let is_fit = *name != self.settings.instance && member.is_live() && member.nats;
        is_fit.then(|| (name.clone(), created))
    }

    /// Why a move cannot begin now; `None`: it can.
    pub(super) fn blocked(&self, partition: Partition) -> Option<Blocked> {
        let (slot, timings) = (&self.slots[partition.0 as usize], &self.settings.timings);
        if let Some(stop) = &self.stop {
            return self.blocked_in_stop(stop, partition);
        }
        let planned = self.view.plan.get().and_then(|plan| plan.owner(partition));
        if let Some(planned) = planned
            && self.taker(partition).is_none()
        {
            return Some(Blocked::NoTaker(planned.clone()));
        }
        let is_fresh = self.permit.last_kept().is_some_and(|kept| self.now.since(kept) < timings.proof_after);
        if !is_fresh || self.member.joined.is_none() || !slot.is_held {
            return Some(Blocked::NoEtcd);
        }
        if slot.not_before > self.now {
            return Some(Blocked::CalledOff(slot.not_before.since(self.now)));
        }
        if let Some(waits) = slot.oldest.map(|oldest| self.now.since(oldest)).filter(|waits| *waits > timings.unsettled)
        {
            return Some(Blocked::Unsettled(waits));
        }
        if !self.has_prepared() {
            return Some(Blocked::Prepare);
        }
        (self.closing >= self.moves_max()).then_some(Blocked::Turn)
    }

    pub(super) fn moves_max(&self) -> u32 {
        (self.mine.len() as u32 / 8).clamp(*MOVES.start(), *MOVES.end())
    }

    /// Whether those to whom the plan gives partitions have had the time to read repeat windows back.
    pub(super) fn has_prepared(&self) -> bool {
        self.now.since(self.planner.plan_seen) >= self.settings.timings.prepare
    }

    /// Sees to a partition that a shard has and whose generation is good.
    pub(super) fn hold(&mut self, partition: Partition) {
        let slot = &self.slots[partition.0 as usize];
        if slot.created.is_none() && self.etcd_holds() {
            self.asks.want(Ask::Info(partition, slot.epoch.generation()));
        }
        let slot = &self.slots[partition.0 as usize];
        match slot.phase {
            Phase::Opening => {
                let is_slow = self.now.since(slot.since) > OPENING_TIME && self.is_wanted_elsewhere(partition);
                if self.stop.is_some() || is_slow {
                    self.close(partition, true);
                } else {
                    self.look_again(partition, slot.since.after(OPENING_TIME).max(self.now.after(LOOK_AGAIN)));
                }
            }
            Phase::Owned => self.hold_owned(partition),
            Phase::Closing => self.hold_closing(partition),
            _ => {}
        }
    }

    fn hold_owned(&mut self, partition: Partition) {
        if self.stop.is_some() || self.is_wanted_elsewhere(partition) {
            match self.blocked(partition) {
                None => self.close(partition, false),
                Some(_) => self.look_again(partition, self.now.after(LOOK_AGAIN)),
            }
            return;
        }
        if self.better_shard(partition).is_some() {
            return self.close(partition, false);
        }
        let slot = &self.slots[partition.0 as usize];
        if slot.is_untidy && slot.txn.is_none() && slot.is_held && self.etcd_holds() {
            let epoch = Epoch { old: slot.epoch.generation, ..slot.epoch.clone() };
            let compares = self.compares_of(partition);
            self.commit_partition(Purpose::Tidy(partition), partition, compares, epoch, None);
        }
        let slot = &self.slots[partition.0 as usize];
        if slot.created.is_none() {
            self.look_again(partition, self.now.after(MOVE_TIME));
        }
    }

    fn hold_closing(&mut self, partition: Partition) {
        let timings = self.settings.timings;
        let slot = &self.slots[partition.0 as usize];
        if slot.is_doubted && slot.txn.is_none() && slot.is_held {
            // The drain cannot end while the gate is shut, and only etcd can open it.
            self.record_next(partition, BTreeSet::new(), false);
            return self.slot(partition).phase = Phase::Closing;
        }
        let end = slot.since.after(timings.drain);
        if self.stop.is_some() || slot.is_final || slot.is_broken {
            return;
        }
        let is_wanted_back = !self.is_wanted_elsewhere(partition) && self.better_shard(partition).is_none();
        if self.now >= end || is_wanted_back {
            if self.now >= end {
                self.counts.called_off += 1;
                let called_off = slot.called_off + 1;
                let wait = timings.retry_move.saturating_mul(1 << (called_off - 1).min(16)).min(timings.retry_move_max);
                let at = self.now.after(wait);
                let slot = self.slot(partition);
                (slot.called_off, slot.not_before) = (called_off, at);
                let text = format!(
                    "{} cannot move: its pushes did not end in {:.0} s; it goes on here and is tried again in {:.0} s",
                    self.settings.words(partition),
                    timings.drain.as_secs_f64(),
                    wait.as_secs_f64()
                );
                self.say(Level::Warn, text);
            }
            self.enter(partition, Phase::Reopening);
            return self.order(partition, ShardOrder::Reopen { partition });
        }
        self.look_again(partition, end);
    }

    /// Closes that began lately.
    pub(super) fn young_closes(&self) -> u32 {
        let slots = self.mine.iter().map(|at| &self.slots[at.0 as usize]);
        let is_young = |since: Boottime| self.now.since(since) < MOVE_TIME;
        slots.filter(|slot| slot.phase == Phase::Closing && is_young(slot.since)).count() as u32
    }

    /// Orders the shard to close it.
    pub(super) fn close(&mut self, partition: Partition, is_final: bool) {
        let now = self.now;
        self.closing += 1;
        let slot = self.slot(partition);
        slot.is_final = is_final;
        slot.began = now;
        self.enter(partition, Phase::Closing);
        self.order(partition, ShardOrder::Close { partition });
    }

    /// Hands on a partition that the shard closed.
    pub(super) fn hand_on(&mut self, partition: Partition) {
        let slot = &self.slots[partition.0 as usize];
        let Phase::Closed(is_clean) = slot.phase else { return };
        if slot.txn.is_some() || !slot.is_held {
            return;
        }
        if slot.retry_at > self.now {
            return self.look_again(partition, slot.retry_at);
        }
        if self.stop.is_none() && !self.is_wanted_elsewhere(partition) {
            if let Some(shard) = self.better_shard(partition) {
                self.change_shard(partition, shard);
            }
            self.slot(partition).began = Boottime::NEVER;
            return if is_clean { self.go_on(partition) } else { self.record_next(partition, BTreeSet::new(), false) };
        }
        let avoid = slot.avoid;
        match self.taker(partition).filter(|(_, created)| *created != avoid) {
            Some((taker, created)) => self.transfer(partition, is_clean, &taker, created),
            None => self.release(partition, if is_clean { State::Clean } else { State::Cut }),
        }
    }

    /// T2.
    fn transfer(&mut self, partition: Partition, is_clean: bool, taker: &Instance, created: Revision) {
        let Some((member, _)) = self.view.member(taker) else { return };
        let (lease, boot) = (member.lease(), member.boot.clone());
        let slot = &self.slots[partition.0 as usize];
        let mut epoch = self.record_of(partition, State::Open);
        epoch.epoch += 1;
        let how = if is_clean {
            How::Clean
        } else {
            epoch.generation += 1;
            How::Cut
        };
        let kind = if is_clean { MoveKind::Clean } else { MoveKind::Cut };
        debug_assert!(!slot.is_open, "only a closed partition is handed over");
        let record = Owner { instance: taker.clone(), boot, epoch: epoch.epoch, how, by: Nonce::default() };
        let owner = Write::Put { key: Key::Owner(partition), value: records::write(&record), lease: Some(lease) };
        let mut compares = self.compares_of(partition);
        compares.push(Compare { key: Key::Member(taker.clone()), is: Is::Created(created) });
        self.slot(partition).avoid = created;
        self.commit_partition(Purpose::Transfer(partition), partition, compares, epoch, Some(owner));
        self.enter(partition, Phase::Handing(kind));
    }

    /// T2'.
    fn release(&mut self, partition: Partition, state: State) {
        let epoch = self.record_of(partition, state);
        let compares = self.compares_of(partition);
        let owner = Write::Delete { key: Key::Owner(partition) };
        self.commit_partition(Purpose::Release(partition), partition, compares, epoch, Some(owner));
        let kind = match state {
            State::Clean => MoveKind::Clean,
            State::Cut => MoveKind::Cut,
            State::Open => MoveKind::Unclean,
        };
        self.enter(partition, Phase::Handing(kind));
    }

    /// The record with what is settled now.
    fn record_of(&self, partition: Partition, state: State) -> Epoch {
        let slot = &self.slots[partition.0 as usize];
        // Older generations that were deleted need not be deleted again.
        let old = if slot.is_untidy { slot.epoch.generation } else { slot.epoch.old };
        Epoch { state, old, ..slot.epoch.clone() }.with_settled(&slot.settled)
    }

    /// A partition that no shard has is given back at a stop, so that it need not wait for the end of our lease.
    pub(super) fn give_back_unopened(&mut self, partition: Partition) {
        let slot = self.slot(partition);
        slot.began = Boottime::NEVER;
        let state = match &slot.phase {
            Phase::Ready => State::Clean,
            Phase::Making(making) if !making.is_fenced => State::Cut,
            Phase::Looking(Before::Record(before), _) => *before,
            _ => State::Open,
        };
        self.release(partition, state);
    }

    /// A hand-over took effect.
    pub(super) fn gone(&mut self, partition: Partition, kind: MoveKind) {
        let slot = &self.slots[partition.0 as usize];
        if slot.began != Boottime::NEVER {
            let took = self.now.since(slot.began);
            self.moved(Move { partition, is_in: false, kind, took });
        }
        self.forget(partition);
    }

    /// A hand-over did not and will not take effect.
    pub(super) fn not_handed(&mut self, partition: Partition, purpose: Purpose) {
        let (seen, slot) = (&self.view.owners[partition.0 as usize], &self.slots[partition.0 as usize]);
        let Phase::Handing(kind) = slot.phase else { return };
        if seen.value != slot.owner_value {
            // Our lease went, and perhaps another has it by now. Nothing of it was at work here any more.
            return self.forget(partition);
        }
        if matches!(purpose, Purpose::Release(_)) {
            self.slot(partition).avoid = 0;
        }
        self.enter(partition, Phase::Closed(kind == MoveKind::Clean));
    }

    /// Whether every partition that is open here is surely held under the lease that is kept.
    pub(super) fn is_sure(&self) -> bool {
        self.member.joined.is_some() && self.unsure.is_empty()
    }

    /// Whether the lease surely stands now: nobody else can have claimed.
    pub(super) fn etcd_holds(&self) -> bool {
        self.permit.by_etcd(&self.settings.timings, self.is_sure()) > self.now
    }

    fn open_here(&self) -> impl Iterator<Item = (Partition, Generation)> {
        let open = self.mine.iter().map(|at| (*at, &self.slots[at.0 as usize])).filter(|(_, slot)| slot.is_open);
        open.map(|(partition, slot)| (partition, slot.epoch.generation()))
    }

    /// Until when gateways may be written to.
    pub(super) fn permit_until(&self) -> Boottime {
        if self.mine.iter().any(|at| self.slots[at.0 as usize].is_doubted) {
            return Boottime::NEVER;
        }
        let timings = &self.settings.timings;
        self.permit.by_etcd(timings, self.is_sure()).max(self.permit.by_nats(timings, self.open_here()))
    }

    /// Asks for a proof when one is due.
    pub(super) fn mind_proofs(&mut self) {
        let is_due = self.permit.is_proof_due(self.now, &self.settings.timings, self.is_sure());
        if !is_due || !self.is_alive() {
            return;
        }
        let known = self.open_here().filter(|(partition, _)| self.slots[partition.0 as usize].created.is_some());
        let of: Vec<_> = known.collect();
        let ask = self.number();
        self.permit.proving(self.now, ask);
        if !of.is_empty() {
            self.out.push(Intention::Prove { ask, of });
        }
    }
}
