//! The page's lines by class of events.

use super::declare::Metric;
use super::table;
use super::text::Writer;
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::{ClassCounts, ClassLatency, Priority, ShedReason};
use crate::model::stage::BUCKETS;

/// Writes them; where events have no classes the names stand without lines.
pub(super) fn write(page: &mut Writer, counts: Option<&ClassCounts>) {
    write_ends(page, &table::EVENTS_ENDED_BY_CLASS, EventOutcome::ALL.iter().map(|end| end.label()), |class| {
        counts.map(|counts| &counts.events_ended[class][..])
    });
    write_ends(page, &table::RECIPIENTS_ENDED_BY_CLASS, RecipientOutcome::ALL.iter().map(|end| end.label()), |class| {
        counts.map(|counts| &counts.recipients_ended[class][..])
    });
    let mut family = page.family(&table::EVENT_SECONDS_BY_CLASS);
    for class in counts.iter().flat_map(|_| Priority::ALL) {
        let ClassLatency { buckets, nanos } = counts.map_or_else(Default::default, |all| all.latency[*class as usize]);
        let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
        let lines: Vec<_> = bounds.zip(buckets).collect();
        family.histogram(&[("class", class.label())], nanos as f64 / 1e9, buckets.iter().sum(), &lines);
    }
    write_shed(page, &table::EVENTS_SHED, counts.map(|counts| &counts.events_shed));
    write_shed(page, &table::RECIPIENTS_SHED, counts.map(|counts| &counts.recipients_shed));
    let mut family = page.family(&table::UNKNOWN_PRIORITIES);
    counts.iter().for_each(|counts| family.sample(&[], counts.unknown_said));
}

fn write_ends<'a>(
    page: &mut Writer,
    metric: &Metric,
    ends: impl Iterator<Item = &'static str> + Clone,
    counts: impl Fn(usize) -> Option<&'a [u64]>,
) {
    let mut family = page.family(metric);
    for class in Priority::ALL {
        for (end, count) in ends.clone().zip(counts(*class as usize).into_iter().flatten()) {
            family.sample(&[("class", class.label()), ("end", end)], *count);
        }
    }
}

fn write_shed(page: &mut Writer, metric: &Metric, counts: Option<&[u64; ShedReason::COUNT]>) {
    let mut family = page.family(metric);
    for (why, count) in ShedReason::ALL.iter().zip(counts.into_iter().flatten()) {
        family.sample(&[("reason", why.label())], *count);
    }
}
