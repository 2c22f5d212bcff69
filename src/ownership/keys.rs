//! The keys in etcd, below the root `/resonance/task-engine/<stream>/<durable>/`.

use std::fmt;
use std::sync::Arc;

use crate::model::ids::Partition;

/// An instance's name (`engine.instance`).
pub type Instance = Arc<str>;

/// An etcd lease's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// A revision of etcd. 0 stands for "there is no such key", as in etcd's own compares.
pub type Revision = i64;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// What all instances must agree on. Made once, under no lease.
    Layout,
    /// An instance that is there, under its own lease.
    Member(Instance),
    /// An instance that shall own nothing although it runs; `task-engine partitions drain` puts it, `undrain` deletes it.
    Drained(Instance),
    /// Who should own what. Under no lease.
    Plan,
    /// Who owns a partition, under the owner's lease.
    Owner(Partition),
    /// How far a partition has come: epoch, generation, start. Under no lease.
    Epoch(Partition),
}

impl Key {
    /// The key behind the root; `None` for what no version of this program puts there.
    pub fn parse(path: &str) -> Option<Self> {
        let partition = |text: &str| {
            let number = text.parse().ok()?;
            // One key has one spelling: `owners/07` would be a second one of `owners/7`.
            (u32::to_string(&number) == text).then_some(Partition(number))
        };
        let name = |text: &str| (!text.is_empty()).then(|| Instance::from(text));
        match path.split_once('/') {
            None if path == "layout" => Some(Self::Layout),
            None if path == "plan" => Some(Self::Plan),
            Some(("members", instance)) => name(instance).map(Self::Member),
            Some(("drained", instance)) => name(instance).map(Self::Drained),
            Some(("owners", number)) => partition(number).map(Self::Owner),
            Some(("epochs", number)) => partition(number).map(Self::Epoch),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    /// The key behind the root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("layout"),
            Self::Plan => f.write_str("plan"),
            Self::Member(instance) => write!(f, "members/{instance}"),
            Self::Drained(instance) => write!(f, "drained/{instance}"),
            Self::Owner(partition) => write!(f, "owners/{}", partition.0),
            Self::Epoch(partition) => write!(f, "epochs/{}", partition.0),
        }
    }
}

/// What etcd holds under a key at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Which key.
    pub key: Key,
    /// The value; `None` when there is no such key.
    pub value: Option<Arc<[u8]>>,
    /// The revision of its last write, 0 when there is no such key.
    pub mod_revision: Revision,
    /// The revision at which it was made, 0 when there is no such key.
    pub create_revision: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_written_is_read_the_same() {
        let name = || Instance::from("host/1");
        let keys = [Key::Layout, Key::Plan, Key::Member(name()), Key::Drained(name()), Key::Owner(Partition(7))];
        for key in keys.into_iter().chain([Key::Epoch(Partition(4095))]) {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
    }

    #[test]
    fn what_nobody_writes_is_read_as_nothing() {
        for path in ["", "layout/", "owners", "owners/", "owners/07", "owners/+7", "owners/7/8", "members/", "other/1"]
        {
            assert_eq!(Key::parse(path), None, "{path}");
        }
    }
}
