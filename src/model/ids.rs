//! The names of things, each a type of its own: a number or a string never travels bare.
//!
//! Promises that two kinds of id cannot be mixed up, and that every function that maps a name to a place
//! (`fnv1a32`, [`Partition::of`], [`ShardId::of_gateway`]) is the same on every machine and in every version.

use std::fmt;
use std::sync::Arc;

/// FNV-1a, 32 bits: what NATS's own `{{partition(N,1)}}` subject mapping computes, so publishers, the broker and
/// the engine agree. Source: draft-eastlake-fnv, offset basis 0x811c9dc5, prime 0x01000193.
pub const fn fnv1a32(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

/// One of this process's shards, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard that owns the one stream to a gateway.
    pub fn of_gateway(gateway: &str, shards: u16) -> Self {
        Self((fnv1a32(gateway.as_bytes()) % u32::from(shards)) as u16)
    }

    /// The shard that takes all sessions of a partition.
    pub fn of_partition(partition: Partition, shards: u16) -> Self {
        Self((partition.0 % u32::from(shards)) as u16)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A slice of all sessions, counted from 0; `consumer.partitions` says how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u32);

impl Partition {
    /// The partition of a session: FNV-1a of its id's bytes, modulo the number of partitions.
    pub fn of(session_id: &[u8], partitions: u32) -> Self {
        Self(fnv1a32(session_id) % partitions)
    }
}

/// A gateway's id as routes and the registry write it, shared by reference count.
pub type GatewayId = Arc<str>;

/// A session's id as events and MySQL write it.
pub type SessionId = Box<str>;

/// A session's place in one shard's table. Valid on that shard only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionIx(pub u32);

/// A user's place in one shard's table. Valid on that shard only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserIx(pub u32);

/// A gateway's place in one shard's table. Valid on that shard only, and there until the gateway is forgotten: then nothing
/// refers to it any more, and another gateway may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayIx(pub u32);

/// A connection attempt to a gateway: facts that carry an older one are about a stream that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamNo(pub u32);

/// Nanoseconds since the engine started, from one monotonic clock for all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later by a duration; stays at the end of time rather than wrap.
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// The time this much earlier; the first one when there was none.
    pub fn before(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos() as u64))
    }

    /// How long ago `earlier` was; zero when it is later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The same in nanoseconds, for what is done for each push.
    #[inline]
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same in whole microseconds, in half a word: no more than `most`.
    #[inline]
    pub fn micros_since(self, earlier: Self, most: u32) -> u32 {
        u32::try_from(self.nanos_since(earlier) / 1_000).map_or(most, |micros| micros.min(most))
    }

    /// Later by so many microseconds; stays at the end of time rather than wrap.
    #[inline]
    pub fn after_micros(self, micros: u32) -> Self {
        Self(self.0.saturating_add(u64::from(micros) * 1_000))
    }
}

/// Which shard a thing belongs to, for names of threads and metrics.
pub fn shard_name(shard: ShardId) -> String {
    format!("shard-{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a32_is_the_published_function() {
        for (text, hash) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fnv1a32(text.as_bytes()), hash, "{text}");
        }
    }
}
