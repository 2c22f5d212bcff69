//! The tables that are printed.
//!
//! Promises plain text without control codes, good in a terminal and in the log of a CI.

use harness::verdict::VerdictCounts;
use hdrhistogram::Histogram;

use super::Compared;
use super::compared::{self, Row, Spread};
use super::tables;
use crate::numbers::{count, latency, plural, rate, short};
use crate::result::{LatencyFigures, RunResult};

/// Rows of a latency histogram at most.
const BARS: usize = 20;
const BAR_WIDTH: f64 = 40.0;
/// Bounds within a power of ten, the finest first.
const STEPS: [&[f64]; 5] = [
    &[
        1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0, 3.3, 3.6, 3.9, 4.3, 4.7, 5.1, 5.6, 6.2, 6.8, 7.5,
        8.2, 9.1,
    ],
    &[1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2],
    &[1.0, 1.5, 2.2, 3.3, 4.7, 6.8],
    &[1.0, 2.0, 5.0],
    &[1.0],
];

/// A run: figures, histogram, stages, verdict.
pub fn run(result: &RunResult, all: &Histogram<u64>) -> String {
    let mut text = format!("\n{}: {}\n\n", plain(&result.workload.name), plain(&result.workload.about));
    for (name, value) in lines(result) {
        text += &format!("{name:<13}{}\n", plain(&value));
    }
    text += "\nlatency of all pushes\n";
    text += &histogram(all);
    if !result.groups.is_empty() {
        let rows = result.groups.iter().map(|group| (group.group.as_str(), &group.latency));
        text += &latencies("latency by kind of session, ms", ("session", "pushes"), rows);
    }
    if !result.classes.is_empty() {
        text += &table("latency by class of messages", tables::CLASSES, tables::classes(result));
    }
    if !result.stages.is_empty() {
        let rows = result.stages.iter().map(|stage| (stage.stage.as_str(), &stage.latency));
        text += &latencies("stages of the engine, ms", ("stage", "count"), rows);
    }
    if !result.queries.is_empty() {
        let rows = result.queries.iter().map(|of| (of.statement.as_str(), &of.latency));
        text += &latencies("statements of the database, by its own log, ms", ("statement", "count"), rows);
    }
    if !result.instances.is_empty() {
        text += &table("instances", tables::INSTANCES, tables::instances(result));
    }
    if !result.steps.is_empty() {
        text += &table("who came and went", tables::STEPS, tables::steps(result));
    }
    text + "\n" + &verdict(&result.verdict)
}

/// A table of words, each column as wide as its widest.
fn table<const N: usize>(title: &str, head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows.map(|row| row.map(|cell| plain(&cell))));
    let wide = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(wide).collect();
    let cells = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  "))
    };
    format!("\n{title}\n{}", all.iter().map(cells).collect::<String>())
}

fn lines(result: &RunResult) -> Vec<(&'static str, String)> {
    let figures = &result.figures;
    let mut lines = vec![
        ("engine", format!("{} (stores: {})", result.engine, result.stores)),
        ("protocol", tables::protocol(result)),
        ("machine", tables::machine(&result.machine)),
        ("commit", format!("{}, {}", result.commit, result.started)),
        ("load", tables::load(&result.workload)),
        ("events", format!("{} in {} s", count(figures.events), short(figures.seconds))),
        ("pushes", count(figures.pushes)),
        ("rate", tables::rates(figures)),
        ("latency", one_line(&figures.latency)),
    ];
    if figures.publisher_lag_max_ms > 0.0 {
        let lag = short(figures.publisher_lag_max_ms);
        lines.push(("publisher", format!("at most {lag} ms behind its schedule (counted in the latency)")));
    }
    lines.push(("CPU", tables::cpu(figures)));
    lines.push(("", format!("{} pushes per CPU-second", rate(figures.pushes_per_cpu_second))));
    lines.push(("memory", format!("peak RSS {} MiB{}", short(figures.peak_rss_mib), tables::whose_memory(result))));
    if let Some(allocations) = figures.allocations_per_push {
        lines.push(("allocations", format!("{} per push", short(allocations))));
    }
    if let Some(lookups) = tables::lookups(result) {
        lines.push(("lookups", lookups));
    }
    if let Some(notices) = tables::notices(result) {
        lines.push(("notices", notices));
    }
    if figures.moves > 0 {
        lines.push(("moves", plural(figures.moves, "user moved", "users moved")));
    }
    lines
}

fn one_line(latency: &LatencyFigures) -> String {
    if latency.count == 0 {
        return "none: no push came".to_owned();
    }
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ms",
        short(latency.p50_ms),
        short(latency.p90_ms),
        short(latency.p99_ms),
        short(latency.p999_ms),
        short(latency.max_ms),
    )
}

/// Bars of log-spaced ranges: share and share so far.
fn histogram(all: &Histogram<u64>) -> String {
    let bars = bars(all);
    let Some(most) = bars.iter().map(|(_, number)| *number).max() else { return "  no push came\n".to_owned() };
    let mut text = format!("  {:>9}  {:>14} {:>8} {:>10}\n", "up to", "pushes", "share", "so far");
    let mut sum = 0;
    for (bound, number) in bars {
        sum += number;
        let length = (number as f64 / most as f64 * BAR_WIDTH).round() as usize;
        // What is there is shown, however little.
        let bar = if number > 0 && length == 0 { ".".to_owned() } else { "#".repeat(length) };
        let share = |part: u64| part as f64 / all.len() as f64;
        // Rounding must not say that all came when some have not.
        let so_far = if sum < all.len() { (share(sum) * 100.0).min(99.9999) } else { 100.0 };
        let line = format!(
            "  {:>9}  {:>14} {:>7.2}% {so_far:>9.4}% {bar}",
            latency(bound),
            count(number),
            share(number) * 100.0,
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Upper bounds in milliseconds and how many values are in each range; empty without values.
fn bars(all: &Histogram<u64>) -> Vec<(f64, u64)> {
    if all.is_empty() {
        return Vec::new();
    }
    // Zeros are in the first bar; of nothing but zeros the least other value is not one.
    let high = all.lowest_equivalent(all.max()).max(1);
    let (low, high) = (all.min_nz().clamp(1, high) as f64 / 1e6, high as f64 / 1e6);
    let bounds = STEPS.iter().map(|steps| bounds(steps, low, high)).find(|bounds| bounds.len() <= BARS);
    let mut bars: Vec<_> =
        bounds.unwrap_or_else(|| bounds_of_all(low, high)).into_iter().map(|bound| (bound, 0)).collect();
    for value in all.iter_recorded() {
        // The bars are from the least of a value's equals, as is `low`.
        let ms = all.lowest_equivalent(value.value_iterated_to()) as f64 / 1e6;
        let at = bars.partition_point(|(bound, _)| *bound < ms).min(bars.len() - 1);
        bars[at].1 += value.count_at_value();
    }
    bars
}

/// From the first bound that `low` is not above, to the first that `high` is not above.
fn bounds(steps: &[f64], low: f64, high: f64) -> Vec<f64> {
    let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    let mut bounds: Vec<_> = all.skip_while(|bound| *bound < low).collect();
    let end = bounds.partition_point(|bound| *bound < high);
    bounds.truncate(end + 1);
    bounds
}

fn bounds_of_all(low: f64, high: f64) -> Vec<f64> {
    bounds(STEPS[STEPS.len() - 1], low, high)
}

fn latencies<'a>(
    title: &str,
    (name, number): (&str, &str),
    rows: impl Iterator<Item = (&'a str, &'a LatencyFigures)>,
) -> String {
    let mut text =
        format!("\n{title}\n  {name:<15} {number:>12} {:>10} {:>10} {:>10} {:>10}\n", "p50", "p90", "p99", "max");
    for (name, latency) in rows {
        text += &format!(
            "  {:<15} {:>12} {:>10} {:>10} {:>10} {:>10}\n",
            short_name(name),
            count(latency.count),
            short(latency.p50_ms),
            short(latency.p90_ms),
            short(latency.p99_ms),
            short(latency.max_ms),
        );
    }
    text
}

fn verdict(verdict: &VerdictCounts) -> String {
    let mut text = String::from("pushes by what became of them, warm-up included\n");
    for (name, number) in tables::verdict(verdict) {
        text += &format!("  {name:<13}{:>14}\n", count(number));
    }
    if verdict.may_repeat {
        text += "  (the workload cuts streams: repeats are allowed)\n";
    }
    for case in &verdict.cases {
        text += &format!("  case: {}\n", plain(case));
    }
    text + if verdict.is_clean { "verdict: clean\n" } else { "verdict: NOT CLEAN\n" }
}

/// Several engines: each figure's median, spread, and ratio to the first engine's.
pub fn compared(compared: &[Compared]) -> String {
    let mut text = String::from("\n");
    if let Some(run) = compared.iter().find_map(|engine| engine.runs.first()) {
        let trials = compared.iter().map(|engine| engine.runs.len()).max().unwrap_or(0) as u64;
        let workload = &run.workload;
        text += &format!("{}: {}\n", plain(&workload.name), plain(&workload.about));
        text += &format!("{}; {} each\n", tables::load(workload), plural(trials, "trial", "trials"));
        text += &format!("{}\n", plain(&tables::machine(&run.machine)));
    }
    let width = compared.iter().map(|engine| short_name(&engine.name).chars().count()).max().unwrap_or(0).max(6);
    for row in compared::rows(compared) {
        text += &figure(&row, compared, width);
    }
    text.push('\n');
    for engine in compared {
        let bad: Vec<_> = tables::trials_not_clean(engine);
        let words = if bad.is_empty() { "clean".to_owned() } else { format!("NOT CLEAN in trial {}", bad.join(", ")) };
        text += &format!("verdict: {:<width$} {words}\n", short_name(&engine.name));
    }
    text
}

fn figure(row: &Row, compared: &[Compared], width: usize) -> String {
    let better = if row.more_is_better { "more is better" } else { "less is better" };
    let mut text = format!("\n{} ({better})\n", row.figure);
    for ((engine, value), ratio) in compared.iter().zip(&row.values).zip(&row.ratios) {
        let Spread { median, min, max } = match value {
            Some(spread) => spread,
            None => continue,
        };
        let value = format!("{:>12}  {} .. {}", short(*median), short(*min), short(*max));
        let ratio = ratio.map_or_else(String::new, |ratio| tables::ratio(&ratio));
        text += format!("  {:<width$} {value:<40} {ratio}", short_name(&engine.name)).trim_end();
        text.push('\n');
    }
    text
}

/// Without control codes, which could do anything to a terminal.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A command line is too long for a table: its first 40 characters tell it apart, mostly.
fn short_name(name: &str) -> String {
    tables::shortened(&plain(name), 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram_of(values: impl IntoIterator<Item = (u64, u64)>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits");
        for (value, times) in values {
            histogram.record_n(value, times).expect("it resizes");
        }
        histogram
    }

    #[test]
    fn bars_hold_every_value_once_and_are_few() {
        for histogram in [
            histogram_of([(0, 3)]),
            histogram_of([(1, 1), (u64::MAX / 2, 1)]),
            histogram_of([(1_000_000, 1_000)]),
            histogram_of((0..5_000).map(|at| (50_000 + at * 997, at + 1))),
            histogram_of([(12_000, 5), (700_000_000, 2), (90_000_000_000, 1)]),
        ] {
            let bars = bars(&histogram);
            assert!(!bars.is_empty() && bars.len() <= BARS + 1, "{bars:?}");
            assert_eq!(bars.iter().map(|(_, number)| number).sum::<u64>(), histogram.len());
            assert!(bars.windows(2).all(|pair| pair[0].0 < pair[1].0), "{bars:?}");
        }
    }

    #[test]
    fn a_histogram_without_values_says_so() {
        assert_eq!(super::histogram(&histogram_of([])), "  no push came\n");
    }

    #[test]
    fn little_is_shown_and_all_is_only_said_of_all() {
        let text = super::histogram(&histogram_of([(1_000_000, 100_000_000), (5_000_000, 1)]));
        let last = text.lines().last().expect("bars");
        assert!(last.ends_with("100.0000% ."), "{text}");
        assert_eq!(text.matches("100.0000%").count(), 1, "{text}");
    }

    #[test]
    fn a_run_is_told_with_its_verdict_and_without_control_codes() {
        let nasty = "red\u{1b}[31m";
        let workload = serde_json::json!({
            "name": nasty, "about": nasty, "users": 2, "gateways": 1, "sessions": [{"count": 1, "members": 2}],
            "content_bytes": 64, "load": {"pushes_in_flight": 1000}, "warm_up_seconds": 0, "seconds": 1
        });
        let latency = LatencyFigures { count: 5, p50_ms: 1.0, max_ms: 2.0, ..LatencyFigures::default() };
        let cases = vec![format!("lost: {nasty}\nsession-1")];
        let mut result = RunResult {
            schema: 1,
            command: nasty.to_owned(),
            commit: nasty.to_owned(),
            started: nasty.to_owned(),
            machine: crate::result::Machine { cpu: nasty.to_owned(), ..Default::default() },
            versions: Default::default(),
            engine: nasty.to_owned(),
            stores: nasty.to_owned(),
            protocol: nasty.to_owned(),
            source: nasty.to_owned(),
            assignment: nasty.to_owned(),
            cores: 2,
            workload: serde_json::from_value(workload).expect("a workload"),
            figures: Default::default(),
            verdict: VerdictCounts { expected: 5, lost: 1, delivered: 4, cases, ..Default::default() },
            stages: vec![crate::result::StageFigures { stage: nasty.to_owned(), latency }],
            groups: vec![],
            classes: vec![],
            queries: vec![],
            counters: Default::default(),
            instances: vec![],
            steps: vec![],
            seconds: vec![],
        };
        let text = run(&result, &histogram_of([(1_000_000, 4)]));
        assert!(text.ends_with("verdict: NOT CLEAN\n"), "{text}");
        for part in ["lost                      1\n", "case: lost: red [31m session-1\n", "closed loop", "2 cores"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("per push"), "allocations were not counted: {text}");
        assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
        result.verdict.is_clean = true;
        result.figures.allocations_per_push = Some(0.5);
        let text = run(&result, &histogram_of([]));
        assert!(text.ends_with("verdict: clean\n") && text.contains("0.500 per push"), "{text}");
        assert!(text.contains("no push came"), "{text}");
    }
}
