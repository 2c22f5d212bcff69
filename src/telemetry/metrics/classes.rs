//! The page's lines by class of events.

use super::declare::Metric;
use super::exemplars::Exemplars;
use super::table;
use super::text::{Family, Writer};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::{ClassCounts, ClassLatency, Priority, ShedReason};
use crate::model::push_latency::PushLatency;
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
    counts.iter().for_each(|counts| write_latency(&mut family, &counts.latency, |_, _| None));
    write_shed(page, &table::EVENTS_SHED, counts.map(|counts| &counts.events_shed));
    write_shed(page, &table::RECIPIENTS_SHED, counts.map(|counts| &counts.recipients_shed));
    let mut family = page.family(&table::UNKNOWN_PRIORITIES);
    counts.iter().for_each(|counts| family.sample(&[], counts.unknown_said));
}

/// Writes how long pushes took; where nobody wants to know the names stand without lines.
pub(super) fn write_push_latency(page: &mut Writer, latency: Option<&PushLatency>, exemplars: &Exemplars) {
    let mut family = page.family(&table::PUSH_LATENCY_SECONDS);
    let of = |class, bucket| exemplars.text_of(class, bucket);
    latency.iter().for_each(|latency| write_latency(&mut family, &latency.by_class, of));
    let mut family = page.family(&table::PUSH_LATENCY_UNKNOWN);
    latency.iter().for_each(|latency| family.sample(&[], latency.unknown));
}

fn write_latency(
    family: &mut Family<'_>,
    by_class: &[ClassLatency; Priority::COUNT],
    exemplar: impl Fn(Priority, usize) -> Option<String>,
) {
    for (class, ClassLatency { buckets, nanos }) in Priority::ALL.iter().zip(by_class) {
        let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
        let lines: Vec<_> = bounds.zip(*buckets).collect();
        let (seconds, count) = (*nanos as f64 / 1e9, buckets.iter().sum());
        family.histogram_with(&[("class", class.label())], seconds, count, &lines, |at| exemplar(*class, at));
    }
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
