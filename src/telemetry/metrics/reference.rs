//! METRICS.md, written from the table.

use std::fmt::Write;

use super::declare::{Kind, Metric};
use super::gateways::{GATEWAYS_NAMED, GatewayState};
use super::table;
use super::text::bound_text;
use crate::model::outcome::{EventOutcome, Lane, RecipientOutcome};
use crate::model::priority::{Priority, ShedReason};
use crate::model::stage::{BUCKETS, Stage};
use crate::model::trace::SpanLoss;

const HEAD: &str = "# Metrics

`GET /metrics` on the admin port (`admin.listen`) shows these numbers. The answer is Prometheus text format 0.0.4; a request
whose `Accept` header asks for `application/openmetrics-text` gets OpenMetrics 1.0 with the same numbers.

Counters count since the process started. All numbers of one shard on one page are of one instant, so on every page and
for every shard: `events_arrived_total` = the sum of `events_ended_total` + `events_in_flight`, and the same holds for
recipients. With `inbox.store: off` the numbers named `inbox_` of \"Inbox and dead letters\" are not on the page. Those of
\"Partition ownership\" have lines only with `consumer.ownership: etcd`, those of \"Classes of events\" only with rules in
`priority`, those of \"Push latency\" only with `admin.push_latency: true`. With `tracing.export: otlp`
OpenMetrics shows with the buckets of push latency the latest trace that the collector took (exemplars); text 0.0.4 has no place for them.

This file is written from the table in `src/telemetry/metrics/table.rs`:
`UPDATE_METRICS=1 cargo test --test admin metrics`.
";

/// The whole text of METRICS.md.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut group = "";
    for metric in table::all() {
        if metric.group != group {
            group = metric.group;
            write(&mut text, format_args!("\n## {group}\n\n| name | kind | labels | unit | meaning |"));
            write(&mut text, format_args!("|---|---|---|---|---|"));
        }
        write(&mut text, format_args!("{}", row(metric)));
    }
    write(&mut text, format_args!("\n## Labels\n\n| label | of | values |\n|---|---|---|"));
    for [label, of, values] in labels() {
        write(&mut text, format_args!("| `{label}` | {of} | {values} |"));
    }
    text
}

fn write(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn row(metric: &Metric) -> String {
    let name = match metric.kind {
        Kind::Histogram => format!("`{0}_bucket`, `{0}_sum`, `{0}_count`", metric.sample()),
        _ => format!("`{}`", metric.sample()),
    };
    let kind = metric.kind.word();
    let unit = metric.unit.word().unwrap_or("");
    format!("| {name} | {kind} | {} | {unit} | {} |", quoted(metric.labels.iter().copied()), metric.help())
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn labels() -> [[String; 3]; 24] {
    let recipient = |end: &&RecipientOutcome| end.is_unreached();
    let bounds = BUCKETS.map(bound_text);
    [
        ["shard", "the numbers of one shard", "its number, from 0"].map(str::to_owned),
        of("end", &table::EVENTS_ENDED, EventOutcome::ALL.iter().map(|end| end.label())),
        of("end", &table::RECIPIENTS_ENDED, RecipientOutcome::ALL.iter().map(|end| end.label())),
        of("why", &table::RECIPIENTS_UNREACHED, RecipientOutcome::ALL.iter().filter(recipient).map(|end| end.label())),
        of("class", &table::EVENTS_ENDED_BY_CLASS, Priority::ALL.iter().map(|class| class.label())),
        of("stage", &table::STAGE_SECONDS, Stage::ALL.iter().map(|stage| stage.label())),
        of("le", &table::STAGE_SECONDS, bounds.iter().map(String::as_str).chain(["+Inf"])),
        of("lane", &table::LANE_FULL, Lane::ALL.iter().map(|lane| lane.label())),
        of("state", &table::GATEWAY_STATE, GatewayState::ALL.iter().map(|state| state.label())),
        of(
            "state",
            &table::PARTITIONS,
            ["absent", "claiming", "fencing", "creating", "opening", "owned", "closing", "handing over"].into_iter(),
        ),
        of("why", &table::GENERATIONS_BROKEN, ["hole", "silence", "reconnected", "deleted"].into_iter()),
        [
            "gateway".to_owned(),
            "the numbers of one gateway".to_owned(),
            format!("its id, for {GATEWAYS_NAMED} gateways at once; `other` for the rest together"),
        ],
        of("reason", &table::SPANS_DROPPED, SpanLoss::ALL.iter().map(|why| why.label())),
        of("reason", &table::EVENTS_SHED, ShedReason::ALL.iter().map(|why| why.label())),
        ["reason", "what else was dropped, refused or warned of", "one of the program's words, the same as in the log"]
            .map(str::to_owned),
        of("mode", &table::PROCESS_CPU_SECONDS, ["user", "system"].into_iter()),
        ["dependency", "readiness", "the parts that `/readyz?verbose` names"].map(str::to_owned),
        ["partition", "the numbers of one partition", "its number, from 0; the partitions that are here"]
            .map(str::to_owned),
        of("kind", &table::PARTITION_MOVES, ["clean", "cut", "unclean"].into_iter()),
        of("way", &table::PARTITION_MOVES, ["in", "out"].into_iter()),
        of("source", &table::PERMIT_SECONDS, ["etcd", "nats"].into_iter()),
        of("op", &table::ETCD_REQUESTS, ["txn", "keepalive", "grant"].into_iter()),
        ["result", "what became of a request", "one of the program's words"].map(str::to_owned),
        ["version".to_owned(), format!("`{}`", table::BUILD.sample()), "the version of the package".to_owned()],
    ]
}

fn of<'a>(label: &str, metric: &Metric, values: impl Iterator<Item = &'a str>) -> [String; 3] {
    [label.to_owned(), format!("`{}`", metric.sample()), quoted(values)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_of_the_table_is_explained() {
        let explained = labels().map(|[label, ..]| label);
        for label in table::all().flat_map(|metric| metric.labels) {
            assert!(explained.iter().any(|known| known == label), "{label}");
        }
    }
}
