//! What the owner of partitions and the shards tell each other: which consumer generation a shard opens, how far it is settled,
//! and how it ended.
//!
//! A *generation* is one JetStream consumer of a partition. A successor that cannot ask the owner makes the next one and deletes
//! the older ones, so that whatever an older owner still says goes nowhere. Numbers are never used again.

use super::ids::Partition;

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

/// What a shard's reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardOrder {
    /// Read back the repeat window up to the floor, then pull from this generation. It exists.
    Open { partition: Partition, generation: Generation, settled: Settled },
    /// Ask for nothing more, let what is half done end, say where it stands; answered by [`ShardWord::Closed`].
    Close { partition: Partition },
    /// A close that is taken back: pull again.
    Reopen { partition: Partition },
    /// Forget it at once: nothing more is pulled, pushed or acknowledged.
    Drop { partition: Partition },
}

/// What a shard's reader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardWord {
    /// The first pull is out.
    Opened { partition: Partition },
    /// Nothing of it is half done, and what was settled is acknowledged.
    Closed {
        partition: Partition,
        settled: Settled,
        /// The server knows exactly what this shard knows (nothing pending; as many deliveries as came here), so a
        /// successor may go on with the same generation.
        is_clean: bool,
    },
    /// Deliveries may be lost or out of order from here on: nothing behind the hole was handed in. A next generation from
    /// the floor is needed.
    Broken { partition: Partition, settled: Settled, why: Break },
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
