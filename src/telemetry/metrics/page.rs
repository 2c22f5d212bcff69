//! The metric page: all numbers of one scrape in OpenMetrics text.
//!
//! Promises that all numbers of one shard on one page come from one snapshot, so the conservation law can be checked on
//! any page; that every end has its line, also at zero; and names with units under `task_engine_`. Refuses
//! labels without a bound.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::Inner;
use super::gateways::{GatewayLine, GatewayState};
use super::process;
use super::registered::Registered;
use super::snapshot::{Kind, SCALARS, ShardSnapshot};
use crate::model::outcome::{EventEnd, Lane, RecipientEnd};
use crate::model::stage::{Stage, StageHistograms};

type Labels<'a> = [(&'a str, &'a str)];
/// Never made: none of our counters carries an exemplar.
type NoExemplar<'a> = Option<&'a Exemplar<Vec<(&'a str, &'a str)>, u64>>;

/// The names below that others must not register; the meter's scalars come on top.
pub(super) const OWN_NAMES: &[&str] = &[
    "events_arrived",
    "events_ended",
    "recipients_arrived",
    "recipients_ended",
    "lane_full",
    "stage_seconds",
    "gateway_backlog_recipients",
    "gateway_recipients_delivered",
    "gateway_recipients_timed_out",
    "gateway_state",
    "warnings",
    "process_cpu_seconds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "build",
];

/// Gathers and writes the page when it is asked for.
#[derive(Debug)]
pub(super) struct Page(pub(super) std::sync::Arc<Inner>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let inner = &*self.0;
        let snapshots: Vec<(String, ShardSnapshot)> =
            inner.shards.iter().enumerate().map(|(shard, end)| (shard.to_string(), end.meter.read())).collect();
        write_ends(&mut encoder, &snapshots)?;
        write_scalars(&mut encoder, &snapshots)?;
        {
            let totals = inner.fold();
            write_stages(&mut encoder, &totals.stages)?;
            write_gateways(&mut encoder, &totals.gateways.lines())?;
            write_warnings(&mut encoder, &totals.warnings())?;
        }
        write_registered(&mut encoder, &inner.registered())?;
        write_process(&mut encoder, inner.started_unix_seconds)
    }
}

/// A counter a gateway: its name, its help, and how it is read.
type GatewayCounter = (&'static str, &'static str, fn(&GatewayLine) -> u64);

fn counter(metric: &mut MetricEncoder<'_>, labels: &Labels<'_>, value: impl EncodeCounterValue) -> fmt::Result {
    let exemplar: NoExemplar<'_> = None;
    if labels.is_empty() {
        return metric.encode_counter(&value, exemplar);
    }
    metric.encode_family(&labels)?.encode_counter(&value, exemplar)
}

fn gauge(metric: &mut MetricEncoder<'_>, labels: &Labels<'_>, value: impl EncodeGaugeValue) -> fmt::Result {
    if labels.is_empty() {
        return metric.encode_gauge(&value);
    }
    metric.encode_family(&labels)?.encode_gauge(&value)
}

const fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    }
}

fn write_ends(encoder: &mut DescriptorEncoder<'_>, snapshots: &[(String, ShardSnapshot)]) -> fmt::Result {
    let mut each =
        |name: &str, help: &str, write: &dyn Fn(&mut MetricEncoder<'_>, &str, &ShardSnapshot) -> fmt::Result| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            snapshots.iter().try_for_each(|(shard, snapshot)| write(&mut metric, shard, snapshot))
        };
    each("events_arrived", "Events taken by the shard.", &|metric, shard, snapshot| {
        counter(metric, &[("shard", shard)], snapshot.counts.events_arrived)
    })?;
    each("events_ended", "Events by how they ended.", &|metric, shard, snapshot| {
        EventEnd::ALL.iter().try_for_each(|end| {
            counter(metric, &[("end", end.label()), ("shard", shard)], snapshot.counts.events_ended[*end as usize])
        })
    })?;
    each("recipients_arrived", "Recipients of bundled events.", &|metric, shard, snapshot| {
        counter(metric, &[("shard", shard)], snapshot.counts.recipients_arrived)
    })?;
    each("recipients_ended", "Recipients by how they ended.", &|metric, shard, snapshot| {
        RecipientEnd::ALL.iter().try_for_each(|end| {
            counter(metric, &[("end", end.label()), ("shard", shard)], snapshot.counts.recipients_ended[*end as usize])
        })
    })?;
    each(
        "recipients_unreached",
        "Recipients that could not be reached, by why; counted when they end.",
        &|metric, shard, snapshot| {
            RecipientEnd::ALL.iter().filter(|end| end.is_unreached()).try_for_each(|end| {
                counter(metric, &[("why", end.label()), ("shard", shard)], snapshot.counts.unreached_by[*end as usize])
            })
        },
    )?;
    each("lane_full", "Times a full lane between shards was met.", &|metric, shard, snapshot| {
        Lane::ALL.iter().try_for_each(|lane| {
            counter(metric, &[("lane", lane.label()), ("shard", shard)], snapshot.lane_full[*lane as usize])
        })
    })
}

fn write_scalars(encoder: &mut DescriptorEncoder<'_>, snapshots: &[(String, ShardSnapshot)]) -> fmt::Result {
    for scalar in SCALARS {
        let mut metric = encoder.encode_descriptor(scalar.name, scalar.help.trim(), None, metric_type(scalar.kind))?;
        for (shard, snapshot) in snapshots {
            let (labels, value) = ([("shard", shard.as_str())], (scalar.read)(snapshot));
            match scalar.kind {
                Kind::Counter => counter(&mut metric, &labels, value)?,
                Kind::Gauge => gauge(&mut metric, &labels, value)?,
            }
        }
    }
    Ok(())
}

fn write_stages(encoder: &mut DescriptorEncoder<'_>, stages: &StageHistograms) -> fmt::Result {
    let help = "How long each stage of an event's trip takes; outbox and gateway count recipients, the others events.";
    let mut metric = encoder.encode_descriptor("stage_seconds", help, None, MetricType::Histogram)?;
    for stage in Stage::ALL {
        let labels: &Labels<'_> = &[("stage", stage.label())];
        metric.encode_family(&labels)?.encode_histogram::<Vec<(&str, &str)>>(
            stages.sum_seconds(*stage),
            stages.count(*stage),
            &stages.buckets(*stage),
            None,
        )?;
    }
    Ok(())
}

fn write_gateways(encoder: &mut DescriptorEncoder<'_>, lines: &[GatewayLine]) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "gateway_backlog_recipients",
        "Recipients that wait for the gateway, unsent or unanswered.",
        None,
        MetricType::Gauge,
    )?;
    for line in lines {
        gauge(&mut metric, &[("gateway", &line.label)], line.backlog_recipients)?;
    }
    let delivered = |line: &GatewayLine| line.delivered;
    let timed_out = |line: &GatewayLine| line.timed_out;
    let counters: [GatewayCounter; 2] = [
        ("gateway_recipients_delivered", "Recipients the gateway answered for without an error.", delivered),
        ("gateway_recipients_timed_out", "Recipients that timed out on the gateway.", timed_out),
    ];
    for (name, help, read) in counters {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for line in lines {
            counter(&mut metric, &[("gateway", &line.label)], read(line))?;
        }
    }
    let help = "1 for the state the gateway is in; on the line `other`, how many gateways are.";
    let mut metric = encoder.encode_descriptor("gateway_state", help, None, MetricType::Gauge)?;
    for line in lines {
        for state in GatewayState::ALL {
            let labels = [("gateway", line.label.as_ref()), ("state", state.label())];
            gauge(&mut metric, &labels, line.states[*state as usize])?;
        }
    }
    Ok(())
}

fn write_warnings(encoder: &mut DescriptorEncoder<'_>, warnings: &[(&'static str, u64)]) -> fmt::Result {
    let help = "Warnings by reason, those that the log left out included.";
    let mut metric = encoder.encode_descriptor("warnings", help, None, MetricType::Counter)?;
    warnings.iter().try_for_each(|(reason, count)| counter(&mut metric, &[("reason", reason)], *count))
}

fn write_registered(encoder: &mut DescriptorEncoder<'_>, all: &[Registered]) -> fmt::Result {
    // One descriptor a name, then all its lines: they are kept sorted by name.
    for same in all.chunk_by(|a, b| a.name == b.name) {
        let first = &same[0];
        let mut metric = encoder.encode_descriptor(first.name, first.help, None, metric_type(first.kind))?;
        for one in same {
            let labels: Vec<_> = one.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            match one.kind {
                Kind::Counter => counter(&mut metric, &labels, (one.read)())?,
                Kind::Gauge => gauge(&mut metric, &labels, (one.read)())?,
            }
        }
    }
    Ok(())
}

fn write_process(encoder: &mut DescriptorEncoder<'_>, started_unix_seconds: f64) -> fmt::Result {
    let numbers = process::read();
    let help = "CPU time of all threads of the process.";
    let mut metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
    counter(&mut metric, &[("mode", "user")], numbers.cpu_user_seconds)?;
    counter(&mut metric, &[("mode", "system")], numbers.cpu_system_seconds)?;
    if let Some(bytes) = numbers.resident_bytes {
        let help = "Resident memory of the process.";
        gauge(
            &mut encoder.encode_descriptor("process_resident_memory_bytes", help, None, MetricType::Gauge)?,
            &[],
            bytes,
        )?;
    }
    let help = "When the engine started, in seconds of Unix time.";
    let mut metric = encoder.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?;
    gauge(&mut metric, &[], started_unix_seconds)?;
    let mut metric = encoder.encode_descriptor("build", "What is running.", None, MetricType::Info)?;
    metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}
