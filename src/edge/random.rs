//! One random number, for a wait that is to differ from those of other threads and instances. Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// Another number each time: the keys of a [`RandomState`] are never the same twice.
pub fn random() -> u64 {
    RandomState::new().hash_one(0)
}
