//! Values in places that are used again, each known by the number of its place.
//!
//! Promises that a place can be asked for before it is read or written: [`Slots::prefetch`] and [`Slots::prefetch_next`] take its
//! address and never look into it. The slab of crates.io looks whether a place is taken first, which under single chats was the
//! cache miss that was to be spared.

use std::ops::{Index, IndexMut};

use crate::model::prefetch::{prefetch_all, prefetch_to_write_all};

/// The places; memory is asked of the system with the first value, for as many as are expected at the most, so that no value waits until the
/// others are moved; it is not touched before it is used, and never given back before the whole is dropped.
#[derive(Debug)]
pub struct Slots<T, const EXPECTED_MAX: usize = 0> {
    places: Vec<Option<T>>,
    /// The last one is used next: it is the likeliest to be in a cache.
    free: Vec<u32>,
}

impl<T, const EXPECTED_MAX: usize> Default for Slots<T, EXPECTED_MAX> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T, const EXPECTED_MAX: usize> Slots<T, EXPECTED_MAX> {
    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values with their places, in the order of the places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places.iter().zip(0..).filter_map(|(place, at)| place.as_ref().map(|value| (at, value)))
    }

    /// The value at a place, if there is one.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.as_ref()
    }

    /// Puts a value into the place that became free last, or into a new one.
    ///
    /// # Panics
    /// With 2^32 values.
    #[inline]
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(at) = self.free.pop() {
            let was = self.places[at as usize].replace(value);
            debug_assert!(was.is_none(), "what is free has no value");
            // Not asked again whether there is something to drop.
            std::mem::forget(was);
            return at;
        }
        if self.places.is_empty() {
            self.reserve();
        }
        let at = u32::try_from(self.places.len()).expect("bounds of the shard are far below");
        self.places.push(Some(value));
        at
    }

    #[cold]
    fn reserve(&mut self) {
        self.places.reserve_exact(EXPECTED_MAX);
        self.free.reserve_exact(EXPECTED_MAX);
    }

    /// Takes a value out.
    ///
    /// # Panics
    /// Where there is none.
    #[inline]
    pub fn remove(&mut self, at: u32) -> T {
        let value = self.places[at as usize].take().expect(NONE_THERE);
        self.free.push(at);
        value
    }

    /// The same for whoever needs the value no more: it is dropped where it stands.
    ///
    /// # Panics
    /// Where there is none.
    #[inline]
    pub fn discard(&mut self, at: u32) {
        let place = &mut self.places[at as usize];
        assert!(place.is_some(), "{NONE_THERE}");
        *place = None;
        self.free.push(at);
    }

    /// This place is read soon.
    #[inline]
    pub fn prefetch(&self, at: u32) {
        if let Some(place) = self.places.get(at as usize) {
            prefetch_all(place);
        }
    }

    /// So many values are put in soon.
    #[inline]
    pub fn prefetch_next(&self, values: usize) {
        for &at in self.free.iter().rev().take(values) {
            prefetch_to_write_all(&self.places[at as usize]);
        }
    }
}

const NONE_THERE: &str = "a value stands at its place until it is removed";

impl<T, const EXPECTED_MAX: usize> Index<u32> for Slots<T, EXPECTED_MAX> {
    type Output = T;
    #[inline]
    fn index(&self, at: u32) -> &T {
        self.places[at as usize].as_ref().expect(NONE_THERE)
    }
}

impl<T, const EXPECTED_MAX: usize> IndexMut<u32> for Slots<T, EXPECTED_MAX> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.places[at as usize].as_mut().expect(NONE_THERE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_grows_no_further_than_its_fullest(steps in prop::collection::vec(any::<Option<u8>>(), 0..200)) {
            let (mut slots, mut plain, mut fullest) = (Slots::<usize, 7>::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    None => {
                        let at = slots.insert(plain.len());
                        prop_assert_eq!(plain.insert(at, slots[at]), None, "a place of its own");
                        slots[at] += 1;
                        plain.entry(at).and_modify(|value| *value += 1);
                    }
                    Some(which) => {
                        let Some(&at) = plain.keys().nth(usize::from(which) % plain.len().max(1)) else { continue };
                        let value = plain.remove(&at);
                        match which % 2 {
                            0 => prop_assert_eq!(Some(slots.remove(at)), value),
                            _ => slots.discard(at),
                        }
                        prop_assert_eq!(slots.get(at), None);
                    }
                }
                fullest = fullest.max(plain.len());
                slots.prefetch_next(3);
                slots.prefetch(u32::MAX);
                prop_assert_eq!((slots.len(), slots.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert!(slots.iter().eq(plain.iter().map(|(at, value)| (*at, value))));
                prop_assert!(slots.places.len() <= fullest);
            }
        }
    }
    #[test]
    fn what_is_expected_is_never_moved_and_takes_no_memory_before_the_first() {
        let mut slots = Slots::<u64, 1_000>::default();
        assert_eq!((slots.places.capacity(), slots.free.capacity()), (0, 0));
        slots.insert(0);
        let home = slots.places.as_ptr();
        (1..1_000).for_each(|value| _ = slots.insert(value));
        (0..1_000).for_each(|at| slots.discard(at));
        assert_eq!((slots.places.as_ptr(), slots.free.capacity()), (home, 1_000));
    }
}
