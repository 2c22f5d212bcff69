//! METRICS.md and METRICS.zh-CN.md, written from the table.

use std::fmt::Write;

use super::chinese;
use super::declare::{Kind, Metric};
use super::gateways::{GATEWAYS_NAMED, GatewayState};
use super::table;
use super::text::bound_text;
use crate::config::Language;
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
`priority`, those of \"Push latency\" only with `admin.push_latency: true`, and `stream_pending` and `stream_unsettled` only with
`consumer.mode: jetstream` while the broker answers. With `tracing.export: otlp`
OpenMetrics shows with the buckets of push latency the latest trace that the collector took (exemplars); text 0.0.4 has no place for them.

This file is written from the table in `src/telemetry/metrics/table.rs`:
`UPDATE_METRICS=1 cargo test --test admin metrics`.
";

const HEAD_CHINESE: &str = "# 监控指标

管理端口（`admin.listen`）的 `GET /metrics` 输出这些指标，默认是 Prometheus 文本格式 0.0.4；请求头 `Accept` 里写了
`application/openmetrics-text` 则按 OpenMetrics 1.0 输出，数值相同。

counter 从进程启动开始累计。同一页上同一个 shard 的数值取自同一时刻，所以每一页、每个 shard 都满足：`events_arrived_total` =
各 `events_ended_total` 之和 + `events_in_flight`，接收者同理。`inbox.store: off` 时，「收件箱与死信」里 `inbox_` 开头的指标不输出；
「分区归属」只在 `consumer.ownership: etcd` 时有数据，「事件分级」只在 `priority` 配了规则时有数据，
「推送耗时」只在 `admin.push_latency: true` 时有数据，`stream_pending`、`stream_unsettled` 只在 `consumer.mode: jetstream` 且 broker 有应答时有数据。
`tracing.export: otlp` 时，OpenMetrics 页面在推送耗时的桶后面带上采集器收下的最近一条 trace（exemplar）。

本页由 `src/telemetry/metrics/table.rs` 和 `chinese.rs` 里的表生成：`UPDATE_METRICS=1 cargo test --test admin metrics`。英文版见
[METRICS.md](METRICS.md)。
";

/// The whole text of METRICS.md, or of METRICS.zh-CN.md.
pub fn reference(language: Language) -> String {
    let is_english = language == Language::English;
    let of = |english: &'static str, chinese: &'static str| if is_english { english } else { chinese };
    let mut text = of(HEAD, HEAD_CHINESE).to_owned();
    let mut group = "";
    for metric in table::all() {
        if metric.group != group {
            group = metric.group;
            let columns = of("name | kind | labels | unit | meaning", "名称 | 类型 | 标签 | 单位 | 含义");
            write(&mut text, format_args!("\n## {}\n\n| {columns} |", of(group, chinese::group(group))));
            write(&mut text, format_args!("|---|---|---|---|---|"));
        }
        write(&mut text, format_args!("{}", row(metric, of(metric.help(), chinese::help(metric)))));
    }
    let columns = of("Labels\n\n| label | of | values", "标签\n\n| 标签 | 所属指标 | 取值");
    write(&mut text, format_args!("\n## {columns} |\n|---|---|---|"));
    for [label, of, values] in labels() {
        let in_words = |text: &str| if is_english { text.to_owned() } else { chinese::words(text).to_owned() };
        write(&mut text, format_args!("| `{label}` | {} | {} |", in_words(&of), in_words(&values)));
    }
    text
}

fn write(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn row(metric: &Metric, help: &str) -> String {
    let name = match metric.kind {
        Kind::Histogram => format!("`{0}_bucket`, `{0}_sum`, `{0}_count`", metric.sample()),
        _ => format!("`{}`", metric.sample()),
    };
    let kind = metric.kind.word();
    let unit = metric.unit.word().unwrap_or("");
    format!("| {name} | {kind} | {} | {unit} | {help} |", quoted(metric.labels.iter().copied()))
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn labels() -> [[String; 3]; 26] {
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
        of("outcome", &table::CONFIG_RELOADS, ["applied", "restart", "unchanged", "invalid"].into_iter()),
        of("mode", &table::PROCESS_CPU_SECONDS, ["user", "system"].into_iter()),
        ["dependency", "readiness", "the parts that `/readyz?verbose` names"].map(str::to_owned),
        ["partition", "the numbers of one partition", "its number, from 0; the partitions that are here"]
            .map(str::to_owned),
        of("kind", &table::PARTITION_MOVES, ["clean", "cut", "unclean"].into_iter()),
        of("kind", &table::STREAM_PENDING, ["topic", "urgent", "input"].into_iter()),
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
        let rows = labels();
        for words in rows.iter().flat_map(|[_, of, values]| [of, values]).filter(|words| !words.starts_with('`')) {
            assert_ne!(chinese::words(words), words, "src/telemetry/metrics/chinese.rs, WORDS");
        }
        let explained = rows.map(|[label, ..]| label);
        for label in table::all().flat_map(|metric| metric.labels) {
            assert!(explained.iter().any(|known| known == label), "{label}");
        }
    }
}
