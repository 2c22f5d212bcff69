//! What must hold at each step, whatever fails.

use std::collections::{BTreeMap, BTreeSet};

use task_engine::model::ids::Partition;
use task_engine::ownership::facts::MoveKind;

use crate::broker::Name;

/// A published hole is at most so old, and what is settled is acknowledged soon after: with less than this before a crash an event may
/// come again (250 ms until a hole counts, 250 ms between two words, the way there, and late words of a shard).
const PUBLISHED_WITHIN: u64 = 1_200_000_000;
/// An owner that lives writes its records within this into an etcd that was put back.
const REWRITTEN_WITHIN: u64 = 6_000_000_000;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its partition.
    pub partition: Partition,
    /// Its session.
    pub session: usize,
    /// Counts the session's events.
    pub number: u64,
    /// Pushes that arrived at the gateway: when, by which tenure.
    pub pushes: Vec<(u64, u64)>,
    /// When its push was answered, to whoever had it last.
    pub settled_at: Option<u64>,
}

/// One opening of a partition by one process.
#[derive(Clone, Debug)]
struct Tenure {
    partition: Partition,
    process: usize,
    kind: Option<MoveKind>,
    /// Its process took it without a word of the owner before.
    is_claimed: bool,
    /// When its process asked etcd for it.
    claimed: u64,
}

/// See the module.
#[derive(Default)]
pub struct Oracle {
    /// By stream sequence less one.
    pub events: Vec<Event>,
    tenures: Vec<Tenure>,
    /// The tenure whose pushes arrived last, by partition.
    last: BTreeMap<Partition, u64>,
    next: BTreeMap<usize, u64>,
    /// When a process was first cut from NATS: what it settled from then on may be told to nobody.
    pub cut_from_nats: BTreeMap<usize, u64>,
    /// Partitions of which a person deleted a consumer: with its owner dead too, nobody knows how far it was.
    pub meddled: BTreeSet<Partition>,
    /// Processes that stood still, and from when: what was settled just before may have been told to nobody.
    pub pauses: Vec<(usize, u64)>,
    /// When etcd was last put back to an earlier state.
    pub put_back_at: Option<u64>,
    /// When a process was killed.
    pub killed: BTreeMap<usize, u64>,
    /// When a process heard that others have what it owned. Who claimed that may have given it away before it was open.
    pub fenced: BTreeMap<usize, u64>,
    deleted: BTreeMap<Name, u64>,
    /// Who made a generation first.
    makers: BTreeMap<Name, usize>,
    /// Repeats that are allowed, and moves by kind.
    pub repeats: u64,
    /// See [`Self::repeats`].
    pub moves: [u64; 3],
}

impl Oracle {
    /// A shard was told to open a partition that it has not; the tenure's number.
    pub fn opens(&mut self, now: u64, partition: Partition, process: usize, is_claimed: bool) -> u64 {
        self.tenures.push(Tenure { partition, process, kind: None, is_claimed, claimed: now });
        self.tenures.len() as u64 - 1
    }

    /// The core says how it came.
    pub fn came(&mut self, now: u64, partition: Partition, process: usize, kind: MoveKind, took: u64) {
        self.moves[kind as usize] += 1;
        let own =
            self.tenures.iter_mut().rev().find(|tenure| tenure.partition == partition && tenure.process == process);
        if let Some(tenure) = own {
            tenure.kind = Some(kind);
            tenure.claimed = now.saturating_sub(took + took / 50);
        }
    }

    /// A push arrived at the gateway.
    ///
    /// # Panics
    /// When it breaks I3 or I5.
    pub fn pushed(&mut self, now: u64, sequence: u64, tenure: u64) {
        let event = self.events[sequence as usize - 1].clone();
        let last = self.last.entry(event.partition).or_insert(tenure);
        assert!(
            *last <= tenure,
            "I3: process {} pushed {sequence} of partition {} after its successor's first push",
            self.tenures[tenure as usize].process,
            event.partition.0
        );
        *last = tenure;
        if event.pushes.is_empty() {
            let next = self.next.entry(event.session).or_default();
            assert_eq!(*next, event.number, "I5: session {} out of order at {sequence}", event.session);
            *next += 1;
        } else {
            self.judge_repeat(&event, sequence, tenure);
            self.repeats += 1;
            // Whoever pushed it before is judged; from now on who pushes it now.
            self.events[sequence as usize - 1].settled_at = None;
        }
        self.events[sequence as usize - 1].pushes.push((now, tenure));
    }

    fn judge_repeat(&self, event: &Event, sequence: u64, tenure: u64) {
        let one = &self.tenures[tenure as usize];
        let (_, before) = *event.pushes.last().expect("it was pushed");
        let who = format!("event {sequence} of partition {} by process {}", event.partition.0, one.process);
        assert!(before != tenure, "a repeat within one tenure: {who}");
        let Some(settled) = event.settled_at else { return };
        // Of a chain of owners, one unclean change may have lost what all before it knew; so the worst of them counts.
        let between = &self.tenures[before as usize + 1..=tenure as usize];
        let mut between = between.iter().filter(|other| other.partition == event.partition);
        // Who claimed it and gave it away before it was open said of no kind.
        let is_unclean = between.any(|other| other.kind.map_or(other.is_claimed, |kind| kind == MoveKind::Unclean));
        // A record of before the last move may say that the partition is closed, until its owner writes it anew: a second fault before that.
        if self.put_back_at.is_some_and(|at| settled <= at + REWRITTEN_WITHIN) {
            return;
        }
        assert!(is_unclean, "a repeat after a {:?} move: {who}, settled at {settled}", one.kind);
        let process = self.tenures[before as usize].process;
        let was_cut = self.cut_from_nats.get(&process).is_some_and(|cut| settled + PUBLISHED_WITHIN >= *cut);
        let mut stood = self.pauses.iter().filter(|(who, _)| *who == process);
        let was_paused = stood.any(|(_, from)| (settled..=settled + PUBLISHED_WITHIN).contains(from));
        let next = self.tenures[before as usize + 1..].iter().find(|other| other.partition == event.partition);
        let claimed = next.map_or(one.claimed, |next| next.claimed);
        let claimed = self.fenced.get(&process).map_or(claimed, |fenced| claimed.min(*fenced));
        // The old owner may have been dead, stopped or cut off since its lease was last kept; and what it settles after the
        // successor looked may be repeated as well.
        let fence = PUBLISHED_WITHIN + 6_000_000_000;
        let is_late = match self.killed.get(&process) {
            Some(killed) => settled + PUBLISHED_WITHIN >= (*killed).min(claimed),
            None => settled + fence >= claimed,
        };
        assert!(
            was_cut || is_late || was_paused || self.meddled.contains(&event.partition),
            "a repeat of what was settled long before an unclean move: {who}, settled at {settled}, claimed at {claimed}"
        );
    }

    /// A consumer was deleted.
    pub fn deleted(&mut self, now: u64, name: Name) {
        self.deleted.entry(name).or_insert(now);
    }

    /// A consumer is made by a request that was sent at a time.
    ///
    /// # Panics
    /// When a name is used a second time.
    pub fn creates(&mut self, sent: u64, name: Name, process: usize) {
        let maker = *self.makers.entry(name).or_insert(process);
        // Who lost the answer to his request makes it once more, and a person or a successor may have deleted the first one meanwhile:
        // it stands there and nobody opens it.
        let deleted = self.deleted.get(&name).filter(|_| maker != process);
        assert!(deleted.is_none_or(|deleted| sent <= *deleted), "I4: generation {name:?} is made a second time");
    }

    /// Everything was pushed.
    ///
    /// # Panics
    /// When something was lost.
    pub fn nothing_is_lost(&self) {
        let lost: BTreeSet<usize> =
            (0..self.events.len()).filter(|at| self.events[*at].pushes.is_empty()).map(|at| at + 1).collect();
        assert!(lost.is_empty(), "I4: lost {lost:?}");
    }

    /// Whether everything was pushed.
    pub fn is_all_pushed(&self) -> bool {
        self.events.iter().all(|event| !event.pushes.is_empty())
    }
}
