//! A queue from which urgent items come first.
//!
//! Promises that the others are not starved: after [`URGENT_IN_ROW_MAX`] urgent ones comes one of them. In each class the order is
//! that in which items were put in. Without urgent items it is a plain queue.

use std::collections::VecDeque;

/// Urgent items that may pass one that is not.
pub const URGENT_IN_ROW_MAX: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct UrgentFirst<T> {
    urgent: VecDeque<T>,
    others: VecDeque<T>,
    in_row: u32,
}

impl<T> Default for UrgentFirst<T> {
    fn default() -> Self {
        Self { urgent: VecDeque::new(), others: VecDeque::new(), in_row: 0 }
    }
}

impl<T> UrgentFirst<T> {
    /// One more, behind all of its class.
    #[inline]
    pub fn push_back(&mut self, item: T, is_urgent: bool) {
        if is_urgent { &mut self.urgent } else { &mut self.others }.push_back(item);
    }

    /// One that was taken out goes back before all that are not urgent.
    pub fn push_front(&mut self, item: T) {
        self.others.push_front(item);
    }

    /// The next one.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        self.pop_front_of().map(|(item, _)| item)
    }

    /// The next one, and whether it is urgent.
    #[inline]
    pub fn pop_front_of(&mut self) -> Option<(T, bool)> {
        let is_others_turn = self.in_row >= URGENT_IN_ROW_MAX && !self.others.is_empty();
        if self.urgent.is_empty() || is_others_turn {
            self.in_row = 0;
            return self.others.pop_front().map(|item| (item, false));
        }
        self.in_row += u32::from(!self.others.is_empty());
        self.urgent.pop_front().map(|item| (item, true))
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.others.is_empty()
    }

    /// All of them, urgent ones first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.urgent.iter().chain(&self.others)
    }

    /// Takes out one by its place in [`iter`](Self::iter).
    pub fn remove(&mut self, at: usize) -> Option<T> {
        match at.checked_sub(self.urgent.len()) {
            None => self.urgent.remove(at),
            Some(at) => self.others.remove(at),
        }
    }

    /// Leaves only those that are to stay.
    pub fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.urgent.retain(&mut stays);
        self.others.retain(stays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_ones_go_first_and_let_one_of_the_others_go_in_nine() {
        let mut queue = UrgentFirst::default();
        (0..4).for_each(|number| queue.push_back(number, false));
        (100..120).for_each(|number| queue.push_back(number, true));
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop_front()).collect();
        let others: Vec<_> = order.iter().enumerate().filter(|(_, item)| **item < 100).collect();
        assert_eq!(others, [(8, &0), (17, &1), (22, &2), (23, &3)], "{order:?}");
        assert!(order.iter().filter(|item| **item >= 100).is_sorted());
    }
}
