//! What all readers together have seen, and for how long they took nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::partitioner::Counts;

/// Why an event that reached this process never reached a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Intake was over before it could be handed in.
    Stopping,
}

impl DropReason {
    /// Every reason, in the order of the metric page.
    pub const ALL: &'static [Self] = &[Self::Stopping];

    /// The label on the metric page and in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
        }
    }
}

/// What part of what is published to the broker some of its consumers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// The topic, or its partitions.
    Topic,
    /// The topic of urgent events.
    Urgent,
    /// The input stream of the partitioner.
    Input,
}

impl StreamPart {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Topic, Self::Urgent, Self::Input];

    /// The label on the metric page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Urgent => "urgent",
            Self::Input => "input",
        }
    }
}

/// What a broker holds, by its own figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that it has not delivered.
    pub pending: u64,
    /// Events that it delivered, and that are not settled.
    pub unsettled: u64,
}

/// The latest figures of each part; none while they are unknown. Met by the thread that asks the broker and by who reads the
/// page.
#[derive(Debug, Default)]
pub struct Backlogs([Mutex<Option<Backlog>>; StreamPart::ALL.len()]);

impl Backlogs {
    /// This is what the broker says now, or that it says nothing.
    pub fn set(&self, part: StreamPart, backlog: Option<Backlog>) {
        *self.0[part as usize].lock().unwrap_or_else(PoisonError::into_inner) = backlog;
    }

    /// What it said last.
    pub fn of(&self, part: StreamPart) -> Option<Backlog> {
        *self.0[part as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts that are known.
    pub fn known(&self) -> impl Iterator<Item = (StreamPart, Backlog)> {
        StreamPart::ALL.iter().filter_map(|part| Some((*part, self.of(*part)?)))
    }
}

/// What the partitioner has done since the start.
#[derive(Debug, Default)]
pub struct PartitionerCounts {
    counts: [AtomicU64; 6],
    waiting: AtomicU64,
}

/// A number of the partitioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// Events that the partitioned stream has.
    Moved,
    /// Copies that were left out.
    Copies,
    /// Publishes that were refused.
    Refused,
    /// Events that became letters.
    Letters,
    /// Events that the input stream dropped before they were delivered.
    Gap,
    /// Messages that somebody else put into the partitioned stream.
    Foreign,
}

impl PartitionerCounts {
    /// These are the numbers now; `waiting` events are held.
    pub fn set(&self, counts: &Counts, waiting: u64) {
        let Counts { moved, copies, refused, letters, gap, foreign, .. } = *counts;
        for (at, number) in self.counts.iter().zip([moved, copies, refused, letters, gap, foreign]) {
            at.store(number, Ordering::Release);
        }
        self.waiting.store(waiting, Ordering::Release);
    }

    /// One of them.
    pub fn of(&self, number: Moves) -> u64 {
        self.counts[number as usize].load(Ordering::Acquire)
    }

    /// Events that are held.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }
}

/// What all readers together have seen. What was read is taken, or dropped as [`DropReason::Stopping`].
#[derive(Debug, Default)]
pub struct ReaderCounts {
    pub(super) read: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) dropped: [AtomicU64; DropReason::ALL.len()],
    pub(super) cut_off: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) acks_refused: AtomicU64,
    pub(super) partial_windows: AtomicU64,
    shut: AtomicU64,
    shut_millis: AtomicU64,
    partitioner: Arc<PartitionerCounts>,
    backlogs: Arc<Backlogs>,
}

impl ReaderCounts {
    /// Events that readers got from the source.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// Events that are, or were, in a shard's lane.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Connections that the broker cut since they were not read for too long; what it held for them is lost.
    pub fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Events that the broker will not deliver again although they were not settled.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Acquire)
    }

    /// Events that are settled here and not at the broker, which refused to hear of it; known at the stop.
    pub fn acks_refused(&self) -> u64 {
        self.acks_refused.load(Ordering::Acquire)
    }

    /// Partitions that were opened without all of their repeat window.
    pub fn partial_windows(&self) -> u64 {
        self.partial_windows.load(Ordering::Acquire)
    }

    /// How often readers had to stop taking events since they first could, and for how many seconds until now.
    pub fn shut(&self) -> (u64, u64) {
        (self.shut.load(Ordering::Acquire), self.shut_millis.load(Ordering::Acquire) / 1000)
    }

    /// What the partitioner has done.
    pub fn partitioner(&self) -> &Arc<PartitionerCounts> {
        &self.partitioner
    }

    /// What the broker holds for the readers.
    pub fn backlogs(&self) -> &Arc<Backlogs> {
        &self.backlogs
    }

    /// Events that never reached a shard.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Acquire)
    }
}

/// Why readers take nothing, and since when the time was counted.
#[derive(Debug, Default)]
pub(super) struct Shut {
    pub(super) why: String,
    /// None before they could take events for the first time: nobody was left then.
    since: Option<Instant>,
}

impl Shut {
    /// The intake is shut or open from now on.
    pub(super) fn note(&mut self, was_shut: bool, is_shut: bool, now: Instant, counts: &ReaderCounts) {
        let since = match is_shut {
            true => self.since.as_mut().map(|since| std::mem::replace(since, now)),
            false => self.since.replace(now),
        };
        let Some(since) = since else { return };
        if was_shut {
            let millis = now.saturating_duration_since(since).as_millis() as u64;
            counts.shut_millis.fetch_add(millis, Ordering::Release);
        } else if is_shut {
            counts.shut.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_without_events_is_counted_from_the_first_time_that_they_were_taken() {
        let (mut shut, counts, began) = (Shut::default(), ReaderCounts::default(), Instant::now());
        let mut at = |seconds, was_shut, is_shut| {
            shut.note(was_shut, is_shut, began + Duration::from_secs(seconds), &counts);
            counts.shut()
        };
        assert_eq!([at(1, false, true), at(5, true, true), at(7, true, false)], [(0, 0); 3], "the start");
        assert_eq!(at(20, false, true), (1, 0));
        assert_eq!(at(23, true, true), (1, 3), "while it lasts as well");
        assert_eq!(at(25, true, false), (1, 5));
        assert_eq!([at(60, false, true), at(61, true, false)], [(2, 5), (2, 6)]);
    }
}
