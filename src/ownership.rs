//! Which instance owns which partition: a plain state machine, facts in ([`facts::Fact`]) and intentions out ([`facts::Intention`]).
//!
//! etcd says who should own a partition and notices the dead; consumer generations at NATS say who still may; a permit ends before a
//! successor can begin. Refuses to know a client library, a clock or randomness: time is a fact, so the same facts give the same
//! intentions.
//!
//! - [`keys`], [`records`], [`settled_text`]: what stands in etcd and in `<stream>_OWN`.
//! - `view`: what is known of it. `txns`: transactions until their end is known. `asks`: requests about consumers.
//! - `member`: the lease and our key (T0). `planner`, [`plan`]: who should own what.
//! - `claim`: from free to open (T1, T3). `tenure`: owned, closing, handed over (T2, T2'). `stop`: when all is. `record`: others' changes of our record,
//!   and taking it back (T4). `slot`: what is known of one partition.
//! - `permit`: until when gateways may be written to. `status`: what an operator sees.

mod asks;
mod claim;
pub mod facts;
pub mod keys;
mod member;
mod permit;
pub mod plan;
mod planner;
mod record;
pub mod records;
pub mod settings;
pub mod settled_text;
mod shards;
mod slot;
pub mod status;
mod stop;
mod tenure;
mod txns;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use self::asks::Asks;
use self::facts::{AskNo, Fact, Intention, Level};
use self::keys::Key;
use self::member::Membership;
use self::permit::Permit;
use self::planner::Planner;
use self::settings::Settings;
use self::slot::{Phase, Slot};
use self::stop::Stop;
use self::txns::Txns;
use self::view::View;
use crate::model::ids::Partition;
use crate::model::ownership::Boottime;

/// Between two listings while etcd does not answer.
const LIST_RETRY: Duration = Duration::from_secs(1);
/// A listing without an answer is asked for again.
const LIST_TIME: Duration = Duration::from_secs(10);
/// The same words are said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// This instance's part in the ownership of all partitions. See the module, and [`facts`] for how it is driven.
pub struct Ownership {
    settings: Settings,
    now: Boottime,
    started: Boottime,
    out: Vec<Intention>,
    numbers: u64,
    view: View,
    txns: Txns,
    asks: Asks,
    permit: Permit,
    member: Membership,
    planner: Planner,
    slots: Vec<Slot>,
    /// Partitions that are not absent.
    mine: BTreeSet<Partition>,
    /// Partitions that are open here and not surely held.
    unsure: BTreeSet<Partition>,
    /// Partitions that must be looked at.
    dirty: BTreeSet<Partition>,
    /// When others must be.
    due: BTreeSet<(Boottime, Partition)>,
    /// Closes that began within the last second.
    closing: u32,
    /// Partitions by shard.
    loads: Vec<u32>,
    beat: Boottime,
    list_asked: Option<Boottime>,
    list_not_before: Boottime,
    /// The highest revision that was heard of when the listing was asked for.
    list_known: keys::Revision,
    stop: Option<Stop>,
    is_ended: bool,
    has_met_layout: bool,
    /// What etcd refused in its own words, and when.
    etcd_refuses: Option<(Boottime, String)>,
    /// What was said, and when.
    said: Vec<(Boottime, String)>,
    counts: status::Counts,
}

impl Ownership {
    /// Knows nothing yet, and asks for a lease and a listing.
    pub fn new(settings: Settings, now: Boottime) -> Self {
        let partitions = settings.partitions();
        Self {
            now,
            started: now,
            out: Vec::new(),
            numbers: 0,
            view: View::new(partitions),
            txns: Txns::default(),
            asks: Asks::default(),
            permit: Permit::default(),
            member: Membership::default(),
            planner: Planner::default(),
            slots: vec![Slot::default(); partitions as usize],
            mine: BTreeSet::new(),
            unsure: BTreeSet::new(),
            dirty: BTreeSet::new(),
            due: BTreeSet::new(),
            closing: 0,
            loads: vec![0; usize::from(settings.shards.max(1))],
            beat: now,
            list_asked: None,
            list_not_before: Boottime::NEVER,
            list_known: 0,
            stop: None,
            is_ended: false,
            has_met_layout: false,
            etcd_refuses: None,
            said: Vec::new(),
            counts: status::Counts::default(),
            settings,
        }
    }

    /// Takes a fact in; `now` is the time of `CLOCK_BOOTTIME`.
    pub fn take(&mut self, now: Boottime, fact: Fact) {
        self.now = self.now.max(now);
        if self.is_ended {
            return;
        }
        let begin = self.out.len();
        self.dispatch(fact);
        self.turn();
        if !self.is_ended {
            let until = self.permit_until();
            if let Some(until) = self.permit.news(until) {
                self.out.insert(begin, Intention::Permit(until));
            }
        }
    }

    /// What is to be done now, in order.
    pub fn intentions(&mut self) -> Vec<Intention> {
        std::mem::take(&mut self.out)
    }

    /// When [`Fact::Time`] is to be given at the latest.
    pub fn wake_at(&self) -> Boottime {
        let timings = &self.settings.timings;
        let list = if self.view.is_listed {
            None
        } else {
            Some(self.list_asked.map_or(self.list_not_before, |asked| asked.after(LIST_TIME)))
        };
        let has_open = self.mine.iter().any(|partition| self.slots[partition.0 as usize].is_open);
        let proof = (has_open && self.is_alive()).then(|| self.permit.proof_due(timings, self.is_sure()));
        let stop =
            self.stop.map(|stop| stop.at.after(Duration::from_secs(1)).max(self.now.after(Duration::from_millis(100))));
        let due = self.due.first().map(|(at, _)| *at);
        let all = [self.txns.wake_at(), self.asks.wake_at(), list, proof, stop, due, self.planner.wake_at()];
        let first = all.into_iter().flatten().min();
        let membership = self.membership_wake().max(self.now.after(Duration::from_millis(10)));
        first.map_or(membership, |first| first.min(membership))
    }

    fn dispatch(&mut self, fact: Fact) {
        match fact {
            Fact::Time => {}
            Fact::Listed { revision, keys } => {
                self.list_asked = None;
                let (news, is_another) = self.view.list(self.list_known, revision, &keys);
                if is_another {
                    let text = "etcd was restored or emptied: its revision went back; all keys are read again";
                    self.say(Level::Warn, text.to_owned());
                }
                self.news(&news);
                // What came while nothing was listed was known and not acted on.
                self.dirty_all();
            }
            Fact::Watched { revision, changes } => {
                let news = changes.iter().filter(|(at, state)| self.view.learn(*at, state));
                let news: Vec<Key> = news.map(|(_, state)| state.key.clone()).collect();
                self.view.revision = self.view.revision.max(revision);
                self.news(&news);
            }
            Fact::WatchLost => {
                self.view.is_listed = false;
                self.list_asked = None;
                self.list_not_before = self.now.after(LIST_RETRY);
            }
            Fact::Granted { ask, lease } => self.granted(ask, lease),
            Fact::KeptAlive { ask, ttl, revision } => self.kept_alive(ask, ttl, revision),
            Fact::Committed { ask, answer } => {
                // An answer of an etcd that was restored or emptied since: all keys are read again.
                self.view.is_listed &= !self.txns.is_of_another_etcd(ask, &answer);
                let (ends, news) = self.txns.answered(self.now, ask, answer, &mut self.view);
                ends.into_iter().for_each(|(part, end)| self.ended(&part, &end));
                self.news(&news);
            }
            Fact::Nats { is_connected } => {
                self.member.nats(self.now, is_connected);
                self.dirty_all();
            }
            Fact::Answered { ask, answer } => self.answered(ask, answer),
            Fact::Proved { ask, is_confirmed, found } => {
                let known = found.into_iter().filter(|(partition, _, created)| {
                    let slot = self.slots.get(partition.0 as usize);
                    slot.is_some_and(|slot| slot.created == Some(*created))
                });
                self.permit.proved(ask, is_confirmed, known.map(|(partition, generation, _)| (partition, generation)));
            }
            Fact::Shard { shard, word } => self.heard(shard, word),
            Fact::Heartbeat { oldest } => {
                let was_alive = self.is_alive();
                self.beat = self.beat.max(oldest);
                if !was_alive {
                    self.dirty_all();
                }
            }
            Fact::Stop { deadline } => {
                self.begin_stop(deadline);
            }
        }
    }

    /// What follows from all that is known now.
    fn turn(&mut self) {
        if !self.view.is_listed
            && self.now >= self.list_not_before
            && self.list_asked.is_none_or(|asked| self.now.since(asked) >= LIST_TIME)
        {
            self.list_asked = Some(self.now);
            self.list_known = self.view.revision;
            self.out.push(Intention::List);
        }
        self.mind_layout();
        self.mind_membership();
        self.mind_plan();
        self.closing = self.young_closes();
        self.mind_stop_begin();
        while let Some((_, partition)) = self.due.first().copied().filter(|(at, _)| *at <= self.now) {
            self.due.pop_first();
            self.slots[partition.0 as usize].due = None;
            self.dirty.insert(partition);
        }
        // Each step of a partition may ask for the next one at once; the number bounds a fault, not a way.
        for _ in 0..16 {
            let dirty = std::mem::take(&mut self.dirty);
            if dirty.is_empty() || self.is_ended {
                break;
            }
            dirty.into_iter().for_each(|partition| self.look_at(partition));
        }
        self.mind_stop();
        if self.is_ended {
            return;
        }
        self.mind_proofs();
        let numbers = &mut self.numbers;
        let mut number = || {
            *numbers += 1;
            AskNo(*numbers)
        };
        let txns = self.txns.flush(self.now, self.view.revision, &mut number).into_iter();
        self.out.extend(txns.map(|(ask, txn)| Intention::Commit { ask, txn }));
        let (mine, slots) = (&self.mine, &self.slots);
        let asks = self.asks.flush(self.now, |ask| asks::wants(mine, slots, ask), &mut number).into_iter();
        self.out.extend(asks.map(|(ask, what)| Intention::Ask { ask, what }));
    }

    fn look_at(&mut self, partition: Partition) {
        if self.is_ended {
            return;
        }
        self.compare_record(partition);
        if self.is_ended {
            return;
        }
        match self.slots[partition.0 as usize].phase {
            Phase::Absent => self.consider(partition),
            Phase::Claiming(_) | Phase::Handing(_) => {}
            Phase::Looking(..) | Phase::Fencing(_) | Phase::Recording(..) | Phase::Making(_) | Phase::Ready => {
                self.advance(partition);
            }
            Phase::Opening | Phase::Owned | Phase::Closing | Phase::Reopening => self.hold(partition),
            Phase::Closed(_) => self.hand_on(partition),
        }
    }

    /// Keys changed: whoever depends on them is looked at.
    fn news(&mut self, keys: &[Key]) {
        for key in keys {
            match key {
                Key::Owner(partition) | Key::Epoch(partition) => {
                    self.dirty.insert(*partition);
                    self.planner.is_stale |= matches!(key, Key::Owner(_)) && self.view.plan.is_absent();
                }
                Key::Plan => {
                    self.planner.is_stale = true;
                    self.planner.plan_seen = self.now;
                    self.dirty_all();
                }
                Key::Member(_) => {
                    self.planner.is_stale = true;
                    self.planner.members_changed = self.now;
                    self.dirty.extend(self.mine.iter().copied());
                }
                Key::Drained(_) => self.planner.is_stale = true,
                Key::Layout => self.dirty_all(),
            }
        }
    }

    fn dirty_all(&mut self) {
        self.dirty.extend((0..self.slots.len() as u32).map(Partition));
    }

    fn slot(&mut self, partition: Partition) -> &mut Slot {
        &mut self.slots[partition.0 as usize]
    }

    fn number(&mut self) -> AskNo {
        self.numbers += 1;
        AskNo(self.numbers)
    }

    /// Goes into a phase.
    fn enter(&mut self, partition: Partition, phase: Phase) {
        let now = self.now;
        if phase == Phase::Absent {
            self.mine.remove(&partition)
        } else {
            self.mine.insert(partition)
        };
        let slot = self.slot(partition);
        (slot.phase, slot.since) = (phase, now);
        self.dirty.insert(partition);
    }

    /// Looks at a partition again at a time.
    fn look_again(&mut self, partition: Partition, at: Boottime) {
        let slot = &mut self.slots[partition.0 as usize];
        if slot.due.is_none_or(|due| due > at) {
            if let Some(due) = slot.due.replace(at) {
                self.due.remove(&(due, partition));
            }
            self.due.insert((at, partition));
        }
    }

    /// A line for the log, unless it was said lately.
    fn say(&mut self, level: Level, text: String) {
        self.said.retain(|(at, _)| self.now.since(*at) < SAY_AGAIN);
        if !self.said.iter().any(|(_, said)| *said == text) {
            self.said.push((self.now, text.clone()));
            self.out.push(Intention::Say { level, text });
        }
    }

    fn refused_by_etcd(&mut self, why: String) {
        self.say(Level::Warn, format!("etcd refuses to write ({why}): no partition can move"));
        self.etcd_refuses = Some((self.now, why));
    }
}
