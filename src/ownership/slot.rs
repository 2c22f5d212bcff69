//! One partition on one instance: where it stands, and what is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::txns::Purpose;
use crate::model::ids::ShardId;
use crate::model::ownership::{Boottime, Generation, Settled};
use crate::ownership::facts::{ConsumerInfo, MoveKind};
use crate::ownership::keys::Revision;
use crate::ownership::records::{Epoch, State};

/// What a partition's record said before it was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// There was none.
    Nothing,
    /// This.
    Record(State),
}

/// What a fence must know before it can be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fencing {
    /// The generations that were found, with what INFO says of each; `None` inside: it was gone when it was asked for.
    pub found: BTreeMap<Generation, Option<Option<ConsumerInfo>>>,
    /// The generations that there may have been, with what was published of each, once that is known.
    pub published: BTreeMap<Generation, Option<Settled>>,
}

/// The making of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// Older generations whose deletion is not confirmed.
    pub deletes: BTreeSet<Generation>,
    /// Whether the old owner may still be at work, so that the first pull waits after the deletions.
    pub is_fenced: bool,
    /// When all deletions were confirmed.
    pub deleted_at: Option<Boottime>,
    /// Whether the generation stands.
    pub is_made: bool,
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not here.
    Absent,
    /// T1 is under way.
    Claiming(Before),
    /// It is ours; the names of its consumers are asked for by an ask with a higher number than this.
    Looking(Before, u64),
    /// How far the old owner was is asked.
    Fencing(Fencing),
    /// T3 is under way; these generations are to be deleted then, and whether the old owner may still be at work.
    Recording(BTreeSet<Generation>, bool),
    /// Older generations are deleted, and the new one is made.
    Making(Making),
    /// The generation stands; waits for etcd's word that it is still ours.
    Ready,
    /// The shard was told to open it.
    Opening,
    /// The shard pulls.
    Owned,
    /// The shard was told to close it.
    Closing,
    /// A close was taken back.
    Reopening,
    /// The shard closed it; whether a successor may go on with the same generation.
    Closed(bool),
    /// T2 or T2' is under way: the only ways on are its end, or a transaction that changes the owner's record.
    Handing(MoveKind),
}

impl Phase {
    /// The state's name on the status page and in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Claiming(_) => "claiming",
            Self::Looking(..) | Self::Fencing(_) => "fencing",
            Self::Recording(..) | Self::Making(_) => "creating",
            Self::Ready | Self::Opening | Self::Reopening => "opening",
            Self::Owned => "owned",
            Self::Closing | Self::Closed(_) => "closing",
            Self::Handing(_) => "handing over",
        }
    }
}

/// The labels of all phases, for a table that shows each.
pub const PHASES: [&str; 8] =
    ["absent", "claiming", "fencing", "creating", "opening", "owned", "closing", "handing over"];

/// A transaction of a partition that is under way.
#[derive(Clone, Debug)]
pub struct Writing {
    /// Its part's number.
    pub number: u64,
    /// What for.
    pub purpose: Purpose,
    /// The record that it writes.
    pub epoch: Epoch,
    /// The same as it is written.
    pub epoch_value: Arc<[u8]>,
    /// What it writes into `owners/p`; `None`: it leaves or deletes what is there.
    pub owner_value: Option<Arc<[u8]>>,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Boottime,
    /// When it became ours to take.
    pub began: Boottime,
    /// In which way it comes or goes.
    pub kind: MoveKind,
    /// The shard that has it, or will have.
    pub shard: Option<ShardId>,
    /// It was told to prepare for it.
    pub is_prepared: bool,
    /// A shard was told to open it and has not said that it is closed: it may push.
    pub is_open: bool,
    /// As far as is known, `owners/p` is ours under the lease that we keep alive.
    pub is_held: bool,
    /// etcd has forgotten it, so names of consumers must confirm that nobody else had it: by an ask with a higher number.
    pub recheck: Option<u64>,
    /// The transaction that is under way.
    pub txn: Option<Writing>,
    /// The record of our tenure as we wrote it.
    pub epoch: Epoch,
    /// The epoch of our last tenure that is over; 0 where etcd has no record.
    pub epoch_left: u64,
    /// The value of `owners/p` of our tenure.
    pub owner_value: Option<Arc<[u8]>>,
    /// The value of `epochs/p` as of our last write.
    pub epoch_value: Option<Arc<[u8]>>,
    /// What is settled.
    pub settled: Settled,
    /// When the server made our consumer.
    pub created: Option<u64>,
    /// Since when its oldest unsettled event waits.
    pub oldest: Option<Boottime>,
    /// Moves that were called off one after the other.
    pub called_off: u32,
    /// No move before, since one was called off.
    pub not_before: Boottime,
    /// No transaction before, since etcd refused one.
    pub retry_at: Boottime,
    /// Its consumer is gone and nobody knows why: the gate is shut until etcd says that it is ours.
    pub is_doubted: bool,
    /// The shard cannot go on with the generation.
    pub is_broken: bool,
    /// Its older generations are deleted, and the record does not know.
    pub is_untidy: bool,
    /// A close that cannot be taken back, since the shard may not have answered the order to open.
    pub is_final: bool,
    /// The member (by `create_revision`) whose lease is gone although the watch still shows it.
    pub avoid: Revision,
    /// When it is looked at again.
    pub due: Option<Boottime>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            phase: Phase::Absent,
            since: Boottime::NEVER,
            began: Boottime::NEVER,
            kind: MoveKind::Unclean,
            shard: None,
            is_prepared: false,
            is_open: false,
            is_held: false,
            recheck: None,
            txn: None,
            epoch: Epoch::default(),
            epoch_left: 0,
            owner_value: None,
            epoch_value: None,
            settled: Settled::default(),
            created: None,
            oldest: None,
            called_off: 0,
            not_before: Boottime::NEVER,
            retry_at: Boottime::NEVER,
            is_doubted: false,
            is_broken: false,
            is_untidy: false,
            is_final: false,
            avoid: 0,
            due: None,
        }
    }
}

impl Slot {
    /// Whether the record is ours, so far as is known, and a change of it by others matters.
    pub fn has_tenure(&self) -> bool {
        !matches!(self.phase, Phase::Absent | Phase::Claiming(_) | Phase::Handing(_))
    }
}
