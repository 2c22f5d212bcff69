//! What the owner of partitions and the shards tell each other: which consumer generation a shard opens, how far it is settled,
//! and how it ended.
//!
//! A *generation* is one JetStream consumer of a partition. A successor that cannot ask the owner makes the next one and deletes
//! the older ones, so that whatever an older owner still says goes nowhere. Numbers are never used again.

use std::fmt;
use std::time::Duration;

use super::ids::Partition;

/// A time of this host's `CLOCK_BOOTTIME`, in nanoseconds: it goes on while the host sleeps, so what ended meanwhile is seen to have
/// ended. Two hosts' times cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boottime(pub u64);

impl Boottime {
    /// Before everything: a permit that ended then holds nothing open.
    pub const NEVER: Self = Self(0);

    /// Later by a duration; stays at the end of time rather than wrap.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Earlier by a duration; stays at 0.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A consumer's number within its partition; 0 is the one that stands under the plain name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

impl Generation {
    /// The consumer's name: `<durable>-<partition>`, and `-g<generation>` behind it from the first that was made anew.
    pub fn consumer_name(self, durable: &str, partition: Partition) -> String {
        match self.0 {
            0 => format!("{durable}-{}", partition.0),
            generation => format!("{durable}-{}-g{generation}", partition.0),
        }
    }

    /// The same for the input stream of the partitioner: `<durable>-in`.
    pub fn input_consumer_name(self, durable: &str) -> String {
        match self.0 {
            0 => format!("{durable}-in"),
            generation => format!("{durable}-in-g{generation}"),
        }
    }
}

/// The events of one partition that are settled: all up to a stream sequence, and some above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Every event of the partition up to this stream sequence is settled.
    pub floor: u64,
    /// Stream sequences above the floor that are settled too, ascending; at most the partition's window.
    pub above: Vec<u64>,
}

/// What a shard's reader is told. The orders of one shard are carried out one after the other, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardOrder {
    /// The partition will probably come here: its repeat window may be read back now, so that [`ShardOrder::Open`] need only read the
    /// tail. Ends with `Open` or `Drop`. Never answered.
    Prepare {
        /// Which.
        partition: Partition,
        /// The consumer that its owner reads.
        generation: Generation,
    },
    /// Read back the repeat window up to the floor, then pull from this generation. It exists. For a partition that is open
    /// already (it said [`ShardWord::Broken`]) this is its next generation: what is in flight stays there, and what comes
    /// again joins it. Answered by [`ShardWord::Opened`].
    Open {
        /// Which.
        partition: Partition,
        /// Its consumer.
        generation: Generation,
        /// What is settled of it.
        settled: Settled,
    },
    /// Ask for nothing more, let what is half done end, say where it stands; answered by [`ShardWord::Closed`], also by a
    /// partition that is broken or not open yet.
    Close {
        /// Which.
        partition: Partition,
    },
    /// A close that is taken back: pull again, also when [`ShardWord::Closed`] was said already. Answered by
    /// [`ShardWord::Opened`], which tells that a `Closed` before it was the old one.
    Reopen {
        /// Which.
        partition: Partition,
    },
    /// Forget it at once: nothing more is pulled, pushed or acknowledged. Never answered; nothing more is said of it.
    Drop {
        /// Which.
        partition: Partition,
    },
}

impl ShardOrder {
    /// Of which partition it is.
    pub fn partition(&self) -> Partition {
        match *self {
            Self::Prepare { partition, .. }
            | Self::Open { partition, .. }
            | Self::Close { partition }
            | Self::Reopen { partition }
            | Self::Drop { partition } => partition,
        }
    }
}

/// What a shard's reader says. The words of one shard arrive in the order in which they were said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardWord {
    /// The first pull is out.
    Opened {
        /// Which.
        partition: Partition,
    },
    /// Nothing of it is half done, and what was settled is acknowledged. Until the next order of the partition the shard
    /// says nothing more of it.
    Closed {
        /// Which.
        partition: Partition,
        /// What is settled of it.
        settled: Settled,
        /// The server knows exactly what this shard knows (nothing pending; as many deliveries as came here), so a
        /// successor may go on with the same generation.
        is_clean: bool,
    },
    /// Said at most each 250 ms while the oldest unsettled event is older than 250 ms, and once with `oldest: None` when
    /// that is over; also each 250 ms from [`ShardWord::Broken`] until the next generation is open or the partition closed,
    /// since what is acknowledged meanwhile is remembered by no consumer. It tells why a move waits, and is published so
    /// that a successor after a crash repeats less.
    Waits {
        /// Which.
        partition: Partition,
        /// What is settled of it.
        settled: Settled,
        /// Since when the oldest unsettled event is here.
        oldest: Option<Boottime>,
    },
    /// Deliveries may be lost or out of order from here on: nothing behind the hole was handed in. A next generation from
    /// the floor is needed.
    Broken {
        /// Which.
        partition: Partition,
        /// What is settled of it.
        settled: Settled,
        /// What happened.
        why: Break,
    },
}

/// Why an open partition cannot go on with its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Break {
    /// Consumer sequences have a hole.
    Hole,
    /// Two heartbeats of a pull were missed, or the consumer's leader changed.
    Silence,
    /// The connection is a new one and the server's account differs from ours.
    Reconnected,
    /// The consumer is gone: a successor deleted it, or a person.
    Deleted,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hole => "events of the partition were delivered and did not come; it is read anew behind the last that did",
            Self::Silence => "the server no longer says that the partition's pull stands; it is read anew behind the last event",
            Self::Reconnected => {
                "over the new connection the server does not know what came over the last one; the partition is read anew \
                 behind the last event"
            }
            Self::Deleted => {
                "the partition's consumer is gone or cannot be used: another instance took the partition, or somebody deleted or \
                 changed it"
            }
        })
    }
}
