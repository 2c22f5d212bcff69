//! The metric page: all numbers of one scrape.
//!
//! Promises that all numbers of one shard on one page come from one snapshot, so the conservation law can be checked on
//! any page; that every end has its line, also at zero; and that every name has a row in the [table]. Refuses
//! labels without a bound.

use std::sync::PoisonError;

use super::classes;
use super::declare::Metric;
use super::gateways::{GatewayLine, GatewayState};
use super::process;
use super::registered::{Line, Read, Registered, Value};
use super::snapshot::ShardSnapshot;
use super::table::{self, SCALARS};
use super::text::{Family, Format, Writer};
use super::{Meter, Totals};
use crate::model::outcome::{EventOutcome, Lane, RecipientOutcome};
use crate::model::stage::{Stage, StageHistograms};

/// The shards' numbers, each with its shard as the label shows it.
type Snapshots = [(String, ShardSnapshot)];

/// Gathers the numbers and writes the page.
pub(super) fn write(meter: &Meter, format: Format) -> String {
    let mut page = Writer::new(format);
    let snapshots: Vec<(String, ShardSnapshot)> =
        meter.snapshots().into_iter().enumerate().map(|(shard, numbers)| (shard.to_string(), numbers)).collect();
    write_ends(&mut page, &snapshots);
    write_scalars(&mut page, &snapshots);
    write_totals(&mut page, &meter.folded());
    let latency = meter.folded().latency();
    classes::write_push_latency(
        &mut page,
        latency.as_ref(),
        &meter.exemplars.lock().unwrap_or_else(PoisonError::into_inner),
    );
    write_registered(&mut page, &meter.registered());
    write_process(&mut page, meter.started_unix_seconds);
    page.finish()
}

fn write_ends(page: &mut Writer, snapshots: &Snapshots) {
    write_each(page, &table::EVENTS_ARRIVED, snapshots, |counts| counts.counts.events_arrived);
    let ended = |shard: &ShardSnapshot, end: &EventOutcome| shard.counts.events_ended[*end as usize];
    write_list(page, &table::EVENTS_ENDED, snapshots, EventOutcome::ALL.iter(), |end| end.label(), ended);
    write_each(page, &table::RECIPIENTS_ARRIVED, snapshots, |counts| counts.counts.recipients_arrived);
    let ended = |shard: &ShardSnapshot, end: &RecipientOutcome| shard.counts.recipients_ended[*end as usize];
    write_list(page, &table::RECIPIENTS_ENDED, snapshots, RecipientOutcome::ALL.iter(), |end| end.label(), ended);
    let unreached = |shard: &ShardSnapshot, end: &RecipientOutcome| shard.counts.unreached_by[*end as usize];
    let whys = RecipientOutcome::ALL.iter().filter(|end| end.is_unreached());
    write_list(page, &table::RECIPIENTS_UNREACHED, snapshots, whys, |end| end.label(), unreached);
    let full = |shard: &ShardSnapshot, lane: &Lane| shard.lane_full[*lane as usize];
    write_list(page, &table::LANE_FULL, snapshots, Lane::ALL.iter(), |lane| lane.label(), full);
}

fn write_each(page: &mut Writer, metric: &Metric, snapshots: &Snapshots, read: impl Fn(&ShardSnapshot) -> u64) {
    let mut family = page.family(metric);
    for (shard, snapshot) in snapshots {
        family.sample(&[("shard", shard)], read(snapshot));
    }
}

/// One line for each shard and each of a closed list, which is the first label.
fn write_list<'a, T: 'a>(
    page: &mut Writer,
    metric: &Metric,
    snapshots: &Snapshots,
    list: impl Iterator<Item = &'a T> + Clone,
    label: impl Fn(&T) -> &'static str,
    read: impl Fn(&ShardSnapshot, &T) -> u64,
) {
    let mut family = page.family(metric);
    for (shard, snapshot) in snapshots {
        for one in list.clone() {
            family.sample(&[(metric.labels[0], label(one)), ("shard", shard)], read(snapshot, one));
        }
    }
}

fn write_scalars(page: &mut Writer, snapshots: &Snapshots) {
    for scalar in SCALARS {
        write_each(page, &scalar.metric, snapshots, scalar.read);
    }
}

fn write_totals(page: &mut Writer, totals: &Totals) {
    write_stages(page, &totals.stages);
    write_gateways(page, &totals.gateways.lines());
    let mut family = page.family(&table::WARNINGS);
    for (reason, count) in totals.warnings() {
        family.sample(&[("reason", reason)], count);
    }
    classes::write(page, totals.classes().as_ref());
}

fn write_stages(page: &mut Writer, stages: &StageHistograms) {
    let mut family = page.family(&table::STAGE_SECONDS);
    for stage in Stage::ALL {
        let (sum, count) = (stages.sum_seconds(*stage), stages.count(*stage));
        family.histogram(&[("stage", stage.label())], sum, count, &stages.buckets(*stage));
    }
}

fn write_gateways(page: &mut Writer, lines: &[GatewayLine]) {
    type Read = fn(&GatewayLine) -> u64;
    let numbers: [(&Metric, Read); 4] = [
        (&table::GATEWAY_OLDEST_PUSH_SECONDS, |line| line.oldest_push_seconds),
        (&table::GATEWAY_BACKLOG_RECIPIENTS, |line| line.backlog_recipients),
        (&table::GATEWAY_RECIPIENTS_DELIVERED, |line| line.delivered),
        (&table::GATEWAY_RECIPIENTS_TIMED_OUT, |line| line.timed_out),
    ];
    for (metric, read) in numbers {
        let mut family = page.family(metric);
        lines.iter().for_each(|line| family.sample(&[("gateway", &line.label)], read(line)));
    }
    let mut family = page.family(&table::GATEWAY_STATE);
    for line in lines {
        for state in GatewayState::ALL {
            family.sample(&[("gateway", &line.label), ("state", state.label())], line.states[*state as usize]);
        }
    }
}

fn write_registered(page: &mut Writer, all: &[Registered]) {
    // All samples of a name stand together: they are kept sorted by name.
    for same in all.chunk_by(|a, b| a.metric.name == b.metric.name) {
        let metric = same[0].metric;
        let mut family = page.family(metric);
        for one in same {
            match &one.read {
                Read::Number(labels, read) => {
                    let labels: Vec<_> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
                    family.sample(&labels, read());
                }
                Read::Lines(read) => read().iter().for_each(|line| write_line(&mut family, metric, line)),
            }
        }
    }
}

fn write_line(family: &mut Family<'_>, metric: &Metric, (labels, value): &Line) {
    let labels: Vec<_> = metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
    match value {
        Value::Number(number) => family.sample(&labels, number),
        Value::Real(number) => family.sample(&labels, number),
        Value::Histogram { sum, buckets } => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.histogram(&labels, *sum, count, buckets);
        }
    }
}

fn write_process(page: &mut Writer, started_unix_seconds: f64) {
    let numbers = process::read();
    let mut family = page.family(&table::PROCESS_CPU_SECONDS);
    family.sample(&[("mode", "user")], numbers.cpu_user_seconds);
    family.sample(&[("mode", "system")], numbers.cpu_system_seconds);
    if let Some(bytes) = numbers.resident_bytes {
        page.family(&table::PROCESS_RESIDENT_MEMORY_BYTES).sample(&[], bytes);
    }
    page.family(&table::PROCESS_START_TIME_SECONDS).sample(&[], started_unix_seconds);
    page.family(&table::BUILD).sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}
