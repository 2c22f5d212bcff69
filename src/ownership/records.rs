//! The values in etcd, and what an owner publishes of a partition: JSON with `"v":1`.
//!
//! A record of a version that this program does not know, or that cannot be read, is [`Unreadable`]: who meets one keeps what is owned,
//! claims nothing by it, and says so. Each value names in `by` the write that made it (`instance/boot/number`), so that who lost
//! the answer to a transaction finds out that it took effect.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::settled_text;
use crate::model::ids::Partition;
use crate::model::ownership::{Generation, Settled};
use crate::ownership::keys::{Instance, LeaseId};

/// The version that is written, and the highest that is read.
pub const VERSION: u32 = 1;
/// Longer values are not read.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Which write made a value: `instance/boot/number`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// What all instances must agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// `consumer.partitions`.
    pub partitions: u32,
    /// `consumer.topic`.
    pub topic: String,
    /// How a session's partition is found.
    pub hash: String,
    /// When the stream was made, in the server's words. Sequences of another stream of the same name mean nothing here.
    pub stream_created: String,
    /// Whether there is an input stream (`consumer.partitioner`).
    #[serde(default)]
    pub has_input: bool,
}

impl Layout {
    /// Whether a partition is the input stream of the partitioner: the one behind those of the stream.
    pub fn is_input(&self, partition: Partition) -> bool {
        self.has_input && partition.0 == self.partitions
    }
}

/// Whether a member takes partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It does.
    #[default]
    Live,
    /// It stops: it gives all away.
    Leaving,
}

/// An instance that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its lease.
    pub lease: i64,
    /// Random, new in each process.
    pub boot: String,
    /// Its cores.
    pub weight: u32,
    /// Whether it takes partitions.
    pub state: Presence,
    /// Whether it reaches NATS.
    pub nats: bool,
    /// Where its admin pages are.
    pub admin: String,
    /// The program's version.
    pub version: String,
    /// The highest version of records that it reads.
    pub reads: u32,
    /// The id of its state directory's lock file.
    pub lock: String,
    /// Its kernel's boot id.
    pub kernel: String,
    /// Which write made it.
    pub by: Nonce,
}

impl Member {
    /// Its lease.
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.lease)
    }

    /// Whether it takes partitions.
    pub fn is_live(&self) -> bool {
        self.state == Presence::Live
    }
}

/// Who should own what: a wish, which costs moves when it is wrong, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Counts up.
    pub version: u64,
    /// Which write made it.
    pub by: Nonce,
    /// Instances.
    pub names: Vec<Instance>,
    /// For each partition the place of its owner in `names`; -1: nobody.
    pub owners: Vec<i32>,
}

impl Plan {
    /// The planned owner of a partition.
    pub fn owner(&self, partition: Partition) -> Option<&Instance> {
        let at = *self.owners.get(partition.0 as usize)?;
        self.names.get(usize::try_from(at).ok()?)
    }
}

/// How an owner got its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// From the one before, who closed it: the same generation goes on.
    Clean,
    /// From the one before, who told how far it was: the next generation begins there.
    Cut,
    /// It was free.
    #[default]
    Claimed,
}

/// Who owns a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The instance.
    pub instance: Instance,
    /// Its process.
    pub boot: String,
    /// Counts the owners.
    pub epoch: u64,
    /// How it got it.
    pub how: How,
    /// Which write made it.
    pub by: Nonce,
}

/// What a free partition's next owner must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Somebody owns it, or died while he did: fence.
    Open,
    /// Its last owner closed it: go on.
    #[default]
    Clean,
    /// Its last owner told how far it was: the next generation from `start`.
    Cut,
}

/// How far a partition has come. Where there is none: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counts the owners.
    pub epoch: u64,
    /// The highest generation that was ever meant to be made.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Every event of the partition before this stream sequence is settled; 0 counts as 1.
    pub start: u64,
    /// The lowest generation that may still exist.
    pub old: u32,
    /// What the next owner must do.
    pub state: State,
    /// What is settled from `start` on ([`settled_text`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub above: String,
    /// Which write made it.
    pub by: Nonce,
}

impl Epoch {
    /// The generation.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// What is settled by this record.
    pub fn settled(&self) -> Settled {
        let floor = self.start.saturating_sub(1);
        Settled { floor, above: settled_text::decode(floor, &self.above).unwrap_or_default() }
    }

    /// The same record with another account of what is settled.
    pub fn with_settled(self, settled: &Settled) -> Self {
        Self { start: settled.floor + 1, above: settled_text::encode(settled), ..self }
    }
}

/// An instance that shall own nothing although it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Who asked for it, for those who wonder.
    #[serde(default)]
    pub by: Nonce,
}

/// What an owner publishes of a partition whose oldest event waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// As [`Layout::stream_created`]: what was published of another stream does not count.
    pub stream: String,
    /// Every event up to here is settled.
    pub floor: u64,
    /// What is settled above it ([`settled_text`]).
    #[serde(default)]
    pub above: String,
}

impl Published {
    /// What is to be published.
    pub fn of(settled: &Settled, layout: &Layout) -> Self {
        Self { stream: layout.stream_created.clone(), floor: settled.floor, above: settled_text::encode(settled) }
    }

    /// What was published of this stream; nothing of another one.
    pub fn settled(&self, layout: &Layout) -> Option<Settled> {
        let above = settled_text::decode(self.floor, &self.above)?;
        (self.stream == layout.stream_created).then_some(Settled { floor: self.floor, above })
    }
}

/// Why a record was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its `v` is not known.
    Version(u64),
    /// It is damaged, or not of this program.
    Damaged(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "it has version {version}, and this program reads up to {VERSION}"),
            Self::Damaged(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

#[derive(Deserialize)]
struct Head {
    v: u64,
}

#[derive(Serialize)]
struct Whole<'a, T> {
    v: u32,
    #[serde(flatten)]
    record: &'a T,
}

/// The text of a record.
pub fn write<T: Serialize>(record: &T) -> String {
    serde_json::to_string(&Whole { v: VERSION, record }).unwrap_or_default()
}

/// A record of its text.
///
/// # Errors
/// When the version is not known or the text is damaged.
pub fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unreadable> {
    let Head { v } = head(value)?;
    if v == 0 || v > u64::from(VERSION) {
        return Err(Unreadable::Version(v));
    }
    serde_json::from_slice(value).map_err(|why| Unreadable::Damaged(why.to_string()))
}

/// A member of any version: what it has of the fields that are known. Each version of this program must find out what the others read.
///
/// # Errors
/// When the text is damaged.
pub fn read_member(value: &[u8]) -> Result<Member, Unreadable> {
    head(value)?;
    serde_json::from_slice(value).map_err(|why| Unreadable::Damaged(why.to_string()))
}

fn head(value: &[u8]) -> Result<Head, Unreadable> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Unreadable::Damaged(format!("it has {} bytes", value.len())));
    }
    serde_json::from_slice(value).map_err(|why| Unreadable::Damaged(why.to_string()))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
