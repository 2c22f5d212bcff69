//! What a stop says in one line.

use std::fmt;
use std::time::Duration;

use crate::meter::Meter;
use crate::outcome::{EventEnd, RecipientEnd};

/// The sums over all shards when the engine had stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Events that arrived at the shards.
    pub events: u64,
    /// Those that ended with an end for each recipient.
    pub settled: u64,
    /// Those that were cut off.
    pub events_cut_off: u64,
    /// Those without an end (a shard that did not stop).
    pub events_in_flight: u64,
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
    pub(super) fn of(meter: &Meter, took: Duration) -> Self {
        let mut report = Self {
            events: 0,
            settled: 0,
            events_cut_off: 0,
            events_in_flight: 0,
            delivered: 0,
            stored: 0,
            not_delivered: 0,
            recipients_cut_off: 0,
            took,
        };
        for shard in meter.snapshots() {
            let recipients = |end: RecipientEnd| shard.counts.recipients_ended[end as usize];
            report.events += shard.counts.events_arrived;
            report.settled += shard.counts.events_ended[EventEnd::Settled as usize];
            report.events_cut_off += shard.counts.events_ended[EventEnd::CutByStop as usize];
            report.events_in_flight += shard.events_in_flight;
            report.delivered += recipients(RecipientEnd::Delivered);
            report.stored += recipients(RecipientEnd::Stored);
            let unreached = RecipientEnd::ALL.iter().filter(|end| end.is_unreached());
            report.not_delivered += unreached.map(|end| recipients(*end)).sum::<u64>();
            report.recipients_cut_off += recipients(RecipientEnd::CutByStop);
        }
        report
    }

    /// Whether everything had its end.
    pub fn is_clean(&self) -> bool {
        self.events_cut_off == 0 && self.events_in_flight == 0
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stopped in {:.2} s: {} events, {} settled, {} pushes delivered, {} stored, {} not delivered; cut off: {} events, {} pushes",
            self.took.as_secs_f64(),
            self.events,
            self.settled,
            self.delivered,
            self.stored,
            self.not_delivered,
            self.events_cut_off + self.events_in_flight,
            self.recipients_cut_off,
        )
    }
}
