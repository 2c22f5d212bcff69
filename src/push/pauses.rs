//! Why a session's events wait though all is known, and in which line.

use crate::model::priority::Priority;

/// The line that a session waits in, by the best class of its events that wait; the first one goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineOf(u8);

impl LineOf {
    /// Urgent events.
    pub const FIRST: Self = Self(0);
    /// Normal ones.
    pub const NORMAL: Self = Self(1);
    /// Bulk and fleeting ones.
    pub const LAST: Self = Self(2);
    /// How many lines there are.
    pub const COUNT: usize = 3;

    /// The line of a class.
    pub const fn class(class: Priority) -> Self {
        match class {
            Priority::Urgent => Self::FIRST,
            Priority::Normal => Self::NORMAL,
            Priority::Bulk | Priority::Fleeting => Self::LAST,
        }
    }

    /// Its place in tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The line of a place.
    pub const fn of_index(index: usize) -> Self {
        Self(index as u8)
    }

    /// Its bit where a session says in which lines it waits.
    pub const fn bit(self) -> u8 {
        1 << self.0
    }
}

/// Why a session's events wait though all is known.
#[derive(Debug)]
pub struct Pauses {
    /// Until none of its events is in flight.
    pub is_paused: bool,
    /// The lines in which it waits until the shard has room for their recipients, a bit each.
    pub stalled_in: u8,
    /// The lines in which it waits for a turn, a bit each.
    pub waits_in: u8,
    /// The line in which it waits: that of the best class of its events.
    pub line: LineOf,
    /// The order of its latest event that is urgent, and normal: what waits before it goes with its class.
    pub best_until: [u64; 2],
}

impl Default for Pauses {
    fn default() -> Self {
        Self { is_paused: false, stalled_in: 0, waits_in: 0, line: LineOf::NORMAL, best_until: [0; 2] }
    }
}
