//! The ids of events that are stored, so that their copies are not published: as many as there is room for, the oldest go first.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Ids that are kept: those of a second at full speed. What is older the broker knows, for its window.
const KNOWN_MAX: usize = 1 << 17;

/// Ids are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64 ^ (number >> 64) as u64);
    }
}

#[derive(Debug, Default)]
pub(super) struct Known {
    ids: HashSet<u128, BuildHasherDefault<KeyHasher>>,
    order: VecDeque<u128>,
}

impl Known {
    pub(super) fn contains(&self, id: u128) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn insert(&mut self, id: u128) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut known = Known::default();
        (0..KNOWN_MAX as u128).for_each(|id| known.insert(id));
        known.insert(0);
        assert!(known.contains(0) && known.contains(KNOWN_MAX as u128 - 1));
        known.insert(u128::MAX);
        assert!(!known.contains(0) && known.contains(1) && known.contains(u128::MAX));
        assert_eq!((known.ids.len(), known.order.len()), (KNOWN_MAX, KNOWN_MAX));
    }
}
