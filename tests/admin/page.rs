//! The metric page parses, shows every end also at zero, and keeps the conservation law on each scrape under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use task_engine::model::outcome::{EventOutcome, Lane, RecipientOutcome};
use task_engine::telemetry::metrics::{
    Format, GatewayRow, GatewayState, Meter, ShardPublisher, ShardSnapshot, Stage, StageHistograms, table,
};

/// All samples of a page by `name{labels}`.
type Samples = BTreeMap<String, f64>;

/// Reads a page as strictly as it is written: one block a family, TYPE before samples, names that fit the type, no sample
/// twice, in OpenMetrics an end. It judges a page's format; tests that want a number read it with `harness::pages::series`.
fn parse(page: &str, format: Format) -> Samples {
    let is_text = format == Format::Text;
    let ends = if is_text { 0 } else { 1 };
    assert!(page.ends_with("# EOF\n") != is_text && page.matches("# EOF").count() == ends, "the end of the page");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut family, mut kind) = ("", "");
    for line in page.trim_end_matches("# EOF\n").lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(families.insert(name.to_owned()), "family {name} comes twice");
            assert!(!help.trim().is_empty() && help == help.trim(), "{name}: help {help:?}");
            (family, kind) = (name, "");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a name and a type");
            assert_eq!(name, family);
            kind = of;
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a name and a unit");
            assert!(!is_text && name == family && name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} under {family}"));
            let fits = match kind {
                "counter" if is_text => suffix.is_empty() && name.ends_with("_total"),
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "info" if !is_text => suffix == "_info",
                "histogram" => ["_sum", "_count", "_bucket"].contains(&suffix),
                other => panic!("{family} has the type {other:?}"),
            };
            assert!(fits && name.starts_with("task_engine_"), "{line}");
            check_labels(&series[name.len()..]);
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

/// `{a="x",b="y"}` or nothing; inside a value only escaped quotes.
fn check_labels(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut rest = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).expect("braces");
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("labels {text:?}"));
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "label {key:?}");
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &after[end.expect("a closing quote") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn sum(samples: &Samples, name: &str, shard: usize) -> u64 {
    let shard = format!("shard=\"{shard}\"");
    let found: Vec<_> =
        samples.iter().filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(&shard)).collect();
    assert!(!found.is_empty(), "{name} is missing for {shard}");
    found.iter().map(|(_, value)| **value as u64).sum()
}

#[test]
fn a_new_page_has_every_end_at_zero_in_both_formats() {
    let (meter, _publishers) = Meter::new(2);
    let of = |format| parse(&meter.render(format), format);
    let (text, open_metrics) = (of(Format::Text), of(Format::OpenMetrics));
    check_a_new_page(&text);
    assert!(text.keys().eq(open_metrics.keys()), "the same series in both");
}

fn check_a_new_page(samples: &Samples) {
    for shard in 0..2 {
        let zero = |name: String| assert_eq!(samples.get(&name), Some(&0.0), "{name}");
        for end in EventOutcome::ALL {
            zero(format!("task_engine_events_ended_total{{end=\"{}\",shard=\"{shard}\"}}", end.label()));
        }
        for end in RecipientOutcome::ALL {
            zero(format!("task_engine_recipients_ended_total{{end=\"{}\",shard=\"{shard}\"}}", end.label()));
        }
        for lane in Lane::ALL {
            zero(format!("task_engine_lane_full_total{{lane=\"{}\",shard=\"{shard}\"}}", lane.label()));
        }
        zero(format!("task_engine_events_in_flight{{shard=\"{shard}\"}}"));
        zero(format!("task_engine_turns_total{{shard=\"{shard}\"}}"));
    }
    for stage in Stage::ALL {
        assert_eq!(samples[&format!("task_engine_stage_seconds_count{{stage=\"{}\"}}", stage.label())], 0.0);
    }
    assert_eq!(samples["task_engine_gateway_backlog_recipients{gateway=\"other\"}"], 0.0);
    assert!(samples["task_engine_process_cpu_seconds_total{mode=\"user\"}"] >= 0.0);
    assert!(samples["task_engine_process_resident_memory_bytes"] > 1e6);
    assert!(samples["task_engine_process_start_time_seconds"] > 1.6e9);
    assert!(samples.keys().any(|key| key.starts_with("task_engine_build_info{version=")));
}

/// A shard under full load: events arrive and end as fast as it can count, published each turn. Bounded by turns.
fn load(mut publisher: ShardPublisher, turns: u64, done: &AtomicU64) {
    let mut snapshot = ShardSnapshot::default();
    let mut stages = StageHistograms::default();
    for turn in 0..turns {
        snapshot.counts.events_arrived += 3;
        snapshot.counts.recipients_arrived += 300;
        let ended = if turn % 2 == 0 { (0, 70) } else { (6, 510) };
        snapshot.counts.events_ended[EventOutcome::Settled as usize] += ended.0;
        snapshot.counts.recipients_ended[turn as usize % RecipientOutcome::COUNT] += ended.1;
        snapshot.events_in_flight = snapshot.events_in_flight + 3 - ended.0;
        snapshot.recipients_in_flight = snapshot.recipients_in_flight + 300 - ended.1;
        snapshot.turns += 1;
        publisher.publish(&snapshot);
        stages.record_n(Stage::Gateway, Duration::from_micros(turn % 5_000), 3);
        if turn % 1_000 == 0 {
            publisher.hand_over(&mut stages, |_| {});
        }
    }
    let give_up = Instant::now() + Duration::from_secs(20);
    while !publisher.hand_over(&mut stages, |_| {}) {
        assert!(Instant::now() < give_up, "nobody scrapes any more");
        std::thread::yield_now();
    }
    done.fetch_add(1, Ordering::Release);
}

#[test]
fn arrivals_are_endings_plus_in_flight_on_every_scrape_under_load() {
    const TURNS: u64 = 200_000;
    let (meter, publishers) = Meter::new(2);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for publisher in publishers {
            let done = &done;
            scope.spawn(move || load(publisher, TURNS, done));
        }
        loop {
            let last = done.load(Ordering::Acquire) == 2;
            for snapshot in meter.snapshots() {
                snapshot.check_conservation().unwrap();
            }
            let samples = parse(&meter.render(Format::Text), Format::Text);
            for shard in 0..2 {
                for (arrived, ended, in_flight) in [
                    ("events_arrived_total", "events_ended_total", "events_in_flight"),
                    ("recipients_arrived_total", "recipients_ended_total", "recipients_in_flight"),
                ] {
                    let [arrived, ended, in_flight] =
                        [arrived, ended, in_flight].map(|name| sum(&samples, &format!("task_engine_{name}"), shard));
                    assert_eq!(arrived, ended + in_flight, "shard {shard}");
                }
            }
            if last {
                break;
            }
        }
    });
    let snapshots = meter.snapshots();
    assert!(snapshots.iter().all(|snapshot| snapshot.turns == TURNS && snapshot.counts.events_arrived == 3 * TURNS));
    assert_eq!(meter.stages().count(Stage::Gateway), 2 * 3 * TURNS, "every recorded value is folded once");
}

#[test]
fn reports_and_registered_numbers_are_on_the_page() {
    let (meter, mut publishers) = Meter::new(1);
    let mut stages = StageHistograms::default();
    stages.record_n(Stage::Event, Duration::from_millis(3), 4);
    stages.record(Stage::Event, Duration::from_secs(500));
    let handed = publishers[0].hand_over(&mut stages, |report| {
        report.gateways.push(GatewayRow {
            gateway: "gw \"1\"\\\n".into(),
            state: GatewayState::Backoff,
            backlog_recipients: 11,
            oldest_push_seconds: 14,
            delivered: 12,
            timed_out: 13,
        });
    });
    assert!(handed);
    let read = Arc::new(AtomicU64::new(41));
    let handle = Arc::clone(&read);
    meter.register(&table::EVENTS_DROPPED, &[("reason", "stopping")], move || handle.load(Ordering::Relaxed));
    meter.register(&table::EVENTS_DROPPED, &[("reason", "another")], || 1);
    meter.register(&table::EVENTS_DROPPED, &[("reason", "another")], || 2);
    meter.register(&table::GATEWAYS_LISTED, &[], || 9);
    read.fetch_add(1, Ordering::Relaxed);

    let samples = parse(&meter.render(Format::Text), Format::Text);
    let gateway = r#"gateway="gw \"1\"\\\n""#;
    for (series, value) in [
        ("task_engine_events_dropped_total{reason=\"stopping\"}".to_owned(), 42.0),
        ("task_engine_events_dropped_total{reason=\"another\"}".to_owned(), 2.0),
        ("task_engine_gateways_listed".to_owned(), 9.0),
        (format!("task_engine_gateway_backlog_recipients{{{gateway}}}"), 11.0),
        (format!("task_engine_gateway_oldest_push_seconds{{{gateway}}}"), 14.0),
        (format!("task_engine_gateway_recipients_delivered_total{{{gateway}}}"), 12.0),
        (format!("task_engine_gateway_recipients_timed_out_total{{{gateway}}}"), 13.0),
        (format!("task_engine_gateway_state{{{gateway},state=\"backoff\"}}"), 1.0),
        (format!("task_engine_gateway_state{{{gateway},state=\"open\"}}"), 0.0),
        ("task_engine_stage_seconds_count{stage=\"event\"}".to_owned(), 5.0),
        ("task_engine_stage_seconds_bucket{le=\"0.0025\",stage=\"event\"}".to_owned(), 0.0),
        ("task_engine_stage_seconds_bucket{le=\"0.005\",stage=\"event\"}".to_owned(), 4.0),
        ("task_engine_stage_seconds_bucket{le=\"+Inf\",stage=\"event\"}".to_owned(), 5.0),
    ] {
        assert_eq!(samples.get(&series), Some(&value), "{series} in {samples:#?}");
    }
}
