//! A hash table of 64-bit hashes, each with a place in the ledger and a fingerprint: open addressing in one array of 16-byte
//! places.
//!
//! Promises that a key and its value share a cache line, and that the line is known before it is read, so that
//! [`Table::prefetch`] can ask for it; no general table offers that, and under single chats each operation here is a miss.
//! Refuses the key 0.

use crate::model::limits::{EVENTS_IN_FLIGHT_MAX, REPEAT_WINDOW_EVENTS};
use crate::model::prefetch::prefetch_to_write;

/// Three quarters full with a full shard and a full window.
const PLACES: usize = (EVENTS_IN_FLIGHT_MAX + REPEAT_WINDOW_EVENTS).div_ceil(3).next_power_of_two() * 4;
const _: () = assert!((EVENTS_IN_FLIGHT_MAX + REPEAT_WINDOW_EVENTS) * 4 <= PLACES * 3);

/// Of 16 bytes each.
const PLACES_A_LINE: usize = 4;

/// The place in the ledger, and the fingerprint.
type Pair = (u32, u32);

/// A key of 0 is a free place.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Place {
    key: u64,
    value: Pair,
}

/// The table; its memory is asked of the system with the first key, and all at once, so that no turn pays for growing.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// A power of two.
    places: Vec<Place>,
    len: usize,
}

impl Table {
    /// How many keys there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }

    /// A key's value.
    #[inline]
    pub fn get(&self, key: u64) -> Option<Pair> {
        self.find(key).map(|at| self.places[at].value)
    }

    /// Asks for the memory that belongs to a key: its line and the next one, into which every other search goes on.
    #[inline]
    pub fn prefetch(&self, key: u64) {
        if !self.places.is_empty() {
            let home = &raw const self.places[self.home(key)];
            prefetch_to_write(home);
            prefetch_to_write(home.wrapping_add(PLACES_A_LINE));
        }
    }

    /// Sets a key's value.
    #[inline]
    pub fn insert(&mut self, key: u64, value: Pair) {
        debug_assert!(key != 0);
        // A shard's bounds keep it from ever being so full; whoever passes them by finds a larger table, not a full one.
        if self.len * 8 >= self.places.len() * 7 {
            self.grow();
        }
        let at = self.place_of(key).expect("a place is free");
        let place = &mut self.places[at];
        self.len += usize::from(place.key == 0);
        *place = Place { key, value };
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: u64) {
        let Some(mut hole) = self.find(key) else { return };
        self.len -= 1;
        let mask = self.places.len() - 1;
        let mut next = hole;
        // What stands behind moves up, as long as it comes no nearer than where it belongs.
        loop {
            next = (next + 1) & mask;
            let Place { key, .. } = self.places[next];
            if key == 0 {
                break;
            }
            let from_home = next.wrapping_sub(self.home(key)) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[next];
                hole = next;
            }
        }
        self.places[hole] = Place::default();
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        key as usize & (self.places.len() - 1)
    }

    /// Where a key stands, or the first free place where it would; the table has places.
    #[inline]
    fn place_of(&self, key: u64) -> Option<usize> {
        let (home, mask) = (self.home(key), self.places.len() - 1);
        let mut places = (0..=mask).map(|step| (home + step) & mask);
        places.find(|at| self.places[*at].key == key || self.places[*at].key == 0)
    }

    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        self.place_of(key).filter(|at| self.places[*at].key == key)
    }

    fn grow(&mut self) {
        let places = if self.places.is_empty() { PLACES } else { self.places.len() * 2 };
        let old = std::mem::replace(&mut self.places, vec![Place::default(); places]);
        self.len = 0;
        for Place { key, value } in old.into_iter().filter(|place| place.key != 0) {
            self.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64, Pair),
        Remove(u64),
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        use proptest::prelude::*;
        // Few homes, at the end of the table as well, so that keys stand in each other's way and around its end.
        let key =
            (0..4u64, 1..40u64).prop_map(|(home, high)| (high << 40) | ((PLACES as u64 - 2 + home) % PLACES as u64));
        let step = prop_oneof![
            (key.clone(), any::<Pair>()).prop_map(|(key, value)| Step::Insert(key, value)),
            key.prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn it_holds_what_a_plain_map_holds(steps in steps()) {
            let (mut table, mut plain) = (Table::default(), HashMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        table.insert(key, value);
                        plain.insert(key, value);
                    }
                    Step::Remove(key) => {
                        table.remove(key);
                        plain.remove(&key);
                    }
                }
                proptest::prop_assert_eq!(table.len(), plain.len());
            }
            for home in 0..4u64 {
                for high in 1..40u64 {
                    let key = (high << 40) | ((PLACES as u64 - 2 + home) % PLACES as u64);
                    proptest::prop_assert_eq!(table.get(key), plain.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn more_than_a_shard_may_hold_makes_it_larger() {
        let mut table = Table::default();
        let keys = || (1..=PLACES as u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        keys().for_each(|key| table.insert(key, (key as u32, 7)));
        assert_eq!((table.len(), table.places.len()), (PLACES, 2 * PLACES));
        assert!(keys().all(|key| table.get(key) == Some((key as u32, 7))));
    }
}
