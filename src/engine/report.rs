//! What a stop says in one line.

use std::fmt;
use std::time::Duration;

use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::words::counted;
use crate::ports::intake::{DropReason, ReaderCounts};
use crate::telemetry::metrics::Meter;

/// The sums over all shards when the engine had stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Events that arrived at the shards.
    pub events: u64,
    /// Those that ended with an end for each recipient.
    pub settled: u64,
    /// Those of them that the broker does not know as settled, since it refused to hear of it: it delivers them again.
    pub acks_refused: u64,
    /// Those that were cut off.
    pub events_cut_off: u64,
    /// Those without an end (a shard that did not stop).
    pub events_in_flight: u64,
    /// Events that were read and that no shard took: the stop did not wait for them.
    pub events_dropped: u64,
    /// Shards that ended before they were told to.
    pub shards_failed: usize,
    /// Recipients that their gateway answered for.
    pub delivered: u64,
    /// Recipients who have their row in the inbox instead.
    pub stored: u64,
    /// Recipients that ended otherwise, the senders not counted.
    pub not_delivered: u64,
    /// Recipients that were cut off.
    pub recipients_cut_off: u64,
    /// How long the stop took.
    pub took: Duration,
}

impl StopReport {
    pub(super) fn of(meter: &Meter, readers: &ReaderCounts, shards_failed: usize, took: Duration) -> Self {
        let mut report = Self {
            events: 0,
            settled: 0,
            acks_refused: readers.acks_refused(),
            events_cut_off: 0,
            events_in_flight: 0,
            events_dropped: 0,
            shards_failed,
            delivered: 0,
            stored: 0,
            not_delivered: 0,
            recipients_cut_off: 0,
            took,
        };
        for shard in meter.snapshots() {
            let recipients = |end: RecipientOutcome| shard.counts.recipients_ended[end as usize];
            report.events += shard.counts.events_arrived;
            report.settled += shard.counts.events_ended[EventOutcome::Settled as usize];
            report.events_cut_off += shard.counts.events_ended[EventOutcome::CutByStop as usize];
            report.events_in_flight += shard.events_in_flight;
            report.delivered += recipients(RecipientOutcome::Delivered);
            report.stored += recipients(RecipientOutcome::Stored);
            let unreached = RecipientOutcome::ALL.iter().filter(|end| end.is_unreached());
            report.not_delivered += unreached.map(|end| recipients(*end)).sum::<u64>();
            report.recipients_cut_off += recipients(RecipientOutcome::CutByStop);
        }
        // Refused once intake was over, or left in the lane of a shard that was gone or did not move.
        report.events_dropped = readers.dropped(DropReason::Stopping) + readers.taken().saturating_sub(report.events);
        report
    }

    /// Whether all that was read had its end, and the broker knows it, and each shard its own.
    pub fn is_clean(&self) -> bool {
        let left = self.events_cut_off + self.events_in_flight + self.events_dropped + self.acks_refused;
        left == 0 && self.shards_failed == 0
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stopped in {:.2} s: {}, {} settled, {} delivered, {} stored, {} not delivered; cut off: {}, {}; dropped at the stop: {}",
            self.took.as_secs_f64(),
            counted(self.events, "event"),
            self.settled.saturating_sub(self.acks_refused),
            counted(self.delivered, "push"),
            self.stored,
            self.not_delivered,
            counted(self.events_cut_off + self.events_in_flight, "event"),
            counted(self.recipients_cut_off, "push"),
            counted(self.events_dropped, "event"),
        )?;
        match self.acks_refused {
            0 => Ok(()),
            refused => write!(
                f,
                "; the broker refused the acks of {} more, and delivers them again",
                counted(refused, "event")
            ),
        }
    }
}
