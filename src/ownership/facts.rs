//! What goes into partition ownership and what comes out of it. Nothing else crosses that line: an edge for etcd, one for NATS and the
//! glue to the shards are written against this file alone.
//!
//! Whoever holds an `Ownership` runs one loop on one thread:
//!
//! ```text
//! take(now, fact)            for each fact that came, with CLOCK_BOOTTIME read just before
//! intentions()               carry them out, one after the other, without waiting for any
//! wait for a fact, at most until wake_at(); then take(now, Fact::Time)
//! ```
//!
//! Rules for whoever carries intentions out:
//! - An intention never fails in place. What becomes of it comes back as the fact that it names, or never.
//! - Nothing is tried again at the edge: the core asks again by itself. An edge may give up after its own time limit and say so.
//! - Order counts: a [`Intention::Permit`] is in force before the next intention is begun.
//! - The core counts a keepalive and a proof as sent when it asked for them, which is before they are. An edge that lets
//!   them wait costs permit, and no safety.

use std::sync::Arc;
use std::time::Duration;

use crate::model::ids::{Partition, ShardId};
use crate::model::ownership::{Boottime, Generation, ShardOrder, ShardWord};
use crate::ownership::keys::{Key, KeyState, LeaseId, Revision};

/// Numbers a request, so that its answer finds who waits. Never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskNo(pub u64);

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Nothing happened but time.
    Time,
    /// The answer to [`Intention::List`]: all keys below the root at one revision.
    Listed {
        /// Of the response's header.
        revision: Revision,
        /// Every key that [`Key::parse`] knows.
        keys: Vec<KeyState>,
    },
    /// The watch told of changes, in its order. A deletion is a state without a value. What one transaction wrote comes in one fact.
    Watched {
        /// Of the watch response's header.
        revision: Revision,
        /// What changed, each with the revision at which it did (`mod_revision` of the event, also of a deletion).
        changes: Vec<(Revision, KeyState)>,
    },
    /// The watch ended, was compacted, or was never begun because the listing failed: answered by [`Intention::List`]. Said also of
    /// one that is silent although etcd should have told of its progress: an instance that does not know that it is blind owns
    /// what it owns for ever.
    WatchLost,
    /// The answer to [`Intention::Grant`].
    Granted {
        /// Which ask.
        ask: AskNo,
        /// The new lease; `None` when etcd gave none or did not answer.
        lease: Option<LeaseId>,
    },
    /// The answer to [`Intention::KeepAlive`]. Only an answer that is surely to this one counts: keepalives have no number on the
    /// wire, so an edge numbers them by their order on one stream, and forgets those of a stream that broke.
    KeptAlive {
        /// Which ask.
        ask: AskNo,
        /// What is left by etcd's word; zero when there is no such lease.
        ttl: Duration,
        /// Of the response's header: one that went back tells of an etcd that was restored.
        revision: Revision,
    },
    /// The answer to [`Intention::Commit`].
    Committed {
        /// Which ask.
        ask: AskNo,
        /// What became of it.
        answer: Commit,
    },
    /// NATS can be reached, or not, from the connection on which consumers are managed. Told on each change; before the first
    /// word it counts as not.
    Nats {
        /// Whether it can be reached.
        is_connected: bool,
    },
    /// The answer to [`Intention::Ask`].
    Answered {
        /// Which ask.
        ask: AskNo,
        /// The answer, or why there is none.
        answer: Result<Answer, Refusal>,
    },
    /// The answer to [`Intention::Prove`], when all parts of it have come, or after 800 ms with what has.
    Proved {
        /// Which ask.
        ask: AskNo,
        /// The publish was confirmed by its stream.
        is_confirmed: bool,
        /// The consumers of which INFO said that they exist, each with its `created` (see [`ConsumerInfo::created`]).
        found: Vec<(Partition, Generation, u64)>,
    },
    /// A word of a shard.
    Shard {
        /// Which.
        shard: ShardId,
        /// What it says.
        word: ShardWord,
    },
    /// When the shard that moved least lately last moved. Told each 250 ms or oftener, whatever it is; when it is told no more,
    /// this instance loses its lease.
    Heartbeat {
        /// The oldest of all shards' last heartbeats.
        oldest: Boottime,
    },
    /// This instance stops: everything it owns is given back. What a shard did not close by itself it closes at the engine's
    /// drain deadline; so the words come a little after that.
    Stop {
        /// `engine.drain_timeout` from now.
        deadline: Boottime,
    },
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// All compares held, and the writes are done.
    Applied {
        /// Of the response's header: the `mod_revision` of what was written.
        revision: Revision,
    },
    /// Some compare did not hold, and nothing was written.
    Refused {
        /// Of the response's header.
        revision: Revision,
        /// Each key of the transaction's compares and writes, as it was then; read in the else-branch.
        found: Vec<KeyState>,
    },
    /// etcd answered with an error, and nothing was written: no such lease, no right, or no space. etcd does the transaction that
    /// takes the last space and answers it with "no space" as well: after that word the edge has looked whether it was done.
    Rejected(Rejection),
    /// No answer, or one that leaves open whether it was done or will be: it may still take effect at any later time.
    Unknown,
}

/// Why etcd wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// `requested lease not found`.
    NoLease,
    /// Anything else, in etcd's words (no space, permission denied, too large).
    Other(String),
}

/// An intention.
#[derive(Clone, Debug, PartialEq)]
pub enum Intention {
    /// Read all keys below the root, then watch from the revision behind that one. An older watch ends. Answered by
    /// [`Fact::Listed`] and [`Fact::Watched`], or by [`Fact::WatchLost`].
    List,
    /// Make a lease. Answered by [`Fact::Granted`].
    Grant {
        /// Its number.
        ask: AskNo,
        /// How long the lease lasts without a keepalive.
        ttl: Duration,
    },
    /// Keep a lease alive. Answered by [`Fact::KeptAlive`].
    KeepAlive {
        /// Its number.
        ask: AskNo,
        /// Which lease.
        lease: LeaseId,
    },
    /// Revoke a lease: of a dead predecessor, or our own at the end. Never answered; the watch tells.
    Revoke {
        /// Which lease.
        lease: LeaseId,
    },
    /// Run a transaction, once. Answered by [`Fact::Committed`].
    Commit {
        /// Its number.
        ask: AskNo,
        /// What.
        txn: Txn,
    },
    /// Ask NATS about consumers of the stream. Many are under way at once. Answered by [`Fact::Answered`].
    Ask {
        /// Its number.
        ask: AskNo,
        /// What.
        what: Ask,
    },
    /// Prove that NATS still knows us: at the same time publish one message with an acknowledgement to this instance's subject of
    /// `<stream>_OWN`, and ask INFO of each of these. Without a connection nothing is sent. Answered by [`Fact::Proved`].
    ///
    /// Why the publish: one server of a split cluster goes on answering INFO for seconds, but it cannot confirm a publish into a
    /// stream with replicas.
    Prove {
        /// Its number.
        ask: AskNo,
        /// Which consumers.
        of: Vec<(Partition, Generation)>,
    },
    /// Publish what is settled of a partition to the subject of this partition and generation in `<stream>_OWN` (the last message of
    /// a subject is kept), so that a successor after a crash repeats less. Never answered: a lost, late or old one is harmless.
    /// Without the generation in the subject an owner that was fenced and does not know it would overwrite what his successor
    /// published.
    PublishSettled {
        /// Which partition.
        partition: Partition,
        /// Of which generation.
        generation: Generation,
        /// The message.
        text: String,
    },
    /// Hand an order to a shard's reader. Its words come back as [`Fact::Shard`].
    Order {
        /// Which shard.
        shard: ShardId,
        /// What.
        order: ShardOrder,
    },
    /// From now on gateways are written to, and events are taken and acknowledged, until this time and no longer. Told when it
    /// changes. [`Boottime::NEVER`] shuts the gate.
    Permit(Boottime),
    /// The process may end. Comes once, after [`Fact::Stop`].
    Released {
        /// Everything is given back, and the lease revoked. If not, etcd did not answer, or pushes had no answer when the stop's time
        /// was over: the lease ends by its time, since until then the kernel may hold what was written to their gateways.
        is_whole: bool,
    },
    /// The process must end: reset all gateway streams (`SO_LINGER` 0), give nothing back, acknowledge nothing, exit. Nothing follows.
    Exit {
        /// [`EXIT_FENCED`] or [`EXIT_LAYOUT`].
        code: u8,
        /// For the last line of the log.
        sentence: String,
    },
    /// A partition has come or gone: for counters, histograms and a line when it took long.
    Moved(Move),
    /// A line for the log.
    Say {
        /// How loud.
        level: Level,
        /// The line.
        text: String,
    },
}

/// Exit code: another instance has what we owned.
pub const EXIT_FENCED: u8 = 3;
/// Exit code: the instances are not configured alike.
pub const EXIT_LAYOUT: u8 = 2;

/// One partition that came here or went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: Partition,
    /// Whether it came.
    pub is_in: bool,
    /// In which way.
    pub kind: MoveKind,
    /// In: from when it was ours to take until its first pull. Out: from the order to close until it was given away.
    pub took: Duration,
}

/// How an owner followed another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MoveKind {
    /// The same generation goes on.
    Clean,
    /// The old owner told how far it was, and the next generation begins there.
    Cut,
    /// The old owner said nothing: fenced.
    Unclean,
}

impl MoveKind {
    /// All, in the order of [`Self::label`]s.
    pub const ALL: [Self; 3] = [Self::Clean, Self::Cut, Self::Unclean];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Cut => "cut",
            Self::Unclean => "unclean",
        }
    }
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Part of normal running.
    Info,
    /// An operator should read it.
    Warn,
}

/// A transaction: all writes when all compares hold, else a read of every key that it names.
///
/// At most 32 partitions are in one, which is at most 65 compares and 65 writes; etcd's default bound is 128 of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// No key comes twice.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Each key that the transaction names, once, in order: what the else-branch reads.
    pub fn keys(&self) -> Vec<Key> {
        let compared = self.compares.iter().map(|compare| &compare.key);
        let mut keys: Vec<Key> = compared.chain(self.writes.iter().map(Write::key)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which key.
    pub key: Key,
    /// What of it.
    pub is: Is,
}

/// What a key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    /// Not there.
    Absent,
    /// Of this value. Each value names the write that made it, so this is that very write; a `mod_revision` may be of another one,
    /// as revisions begin anew where etcd was emptied or restored.
    Value(Arc<[u8]>),
    /// Of this `create_revision`.
    Created(Revision),
}

impl Is {
    /// As it was seen.
    pub fn seen(value: Option<&Arc<[u8]>>) -> Self {
        value.map_or(Self::Absent, |value| Self::Value(value.clone()))
    }

    /// Whether a key's state is so.
    pub fn holds(&self, state: &KeyState) -> bool {
        match self {
            Self::Absent => state.value.is_none(),
            Self::Value(value) => state.value.as_ref() == Some(value),
            Self::Created(revision) => state.create_revision == *revision,
        }
    }
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put a value.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: String,
        /// Under which lease; `None`: under none, also when the key was under one.
        lease: Option<LeaseId>,
    },
    /// Delete a key.
    Delete {
        /// Which.
        key: Key,
    },
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A question or a request about consumers. Each may be asked again after it was done: an edge takes "there is already one with just
/// this configuration" for [`Answer::Created`] and "there is none" for [`Answer::Deleted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// The names of all consumers of this durable, of all partitions (the input stream's among them, if there is one). One ask
    /// is enough for many partitions, so the core has at most one under way.
    Names,
    /// INFO of one.
    Info(Partition, Generation),
    /// Make one whose first event is the one at this stream sequence, or the first behind it.
    Create(Partition, Generation, u64),
    /// Delete one. Answered only when a server said that it is gone: not by silence.
    Delete(Partition, Generation),
    /// The last message of the subject of this partition and generation in `<stream>_OWN`.
    ReadSettled(Partition, Generation),
}

/// What NATS answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Names`].
    Names(Vec<(Partition, Generation)>),
    /// To [`Ask::Info`]; `None` when there is none of that name.
    Info(Option<ConsumerInfo>),
    /// To [`Ask::Create`]: it stands, and this is its INFO.
    Created(ConsumerInfo),
    /// To [`Ask::Delete`]: it is gone.
    Deleted,
    /// To [`Ask::ReadSettled`]: the message, `None` when there is none.
    Settled(Option<Vec<u8>>),
}

/// What INFO says of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// `ack_floor.stream_seq`.
    pub floor: u64,
    /// `config.opt_start_seq`; 1 when there is none.
    pub start: u64,
    /// `delivered.consumer_seq`: 0 when it never delivered anything.
    pub delivered: u64,
    /// `created`, as Unix nanoseconds by the server's clock. A consumer that was deleted and made again under the same name (a create
    /// request that was delayed) differs in it, and proves nothing.
    pub created: u64,
}

/// Why NATS did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not connected, or no answer in the edge's time: it may still be done.
    NoAnswer,
    /// Refused, in the server's words (`10026 maximum consumers limit reached`).
    Refused(String),
}
