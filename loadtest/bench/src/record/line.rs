//! One trial in one line of JSON: what is compared over months. The rest of a document is an artifact.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::Compared;
use crate::result::RunResult;

/// Counts up when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// A trial as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The schema of the line: 1.
    pub schema: u32,
    /// The campaign: a date and a commit.
    pub campaign: String,
    /// The document's name.
    pub name: String,
    /// Which trial of the engine in this document, from 1.
    pub trial: usize,
    /// When it began, RFC 3339, UTC.
    pub date: String,
    /// The commit of the source.
    pub commit: String,
    /// CPU and CPUs, memory, kernel.
    pub machine: String,
    /// The one-minute load average when it began.
    pub load_average: f64,
    /// What was driven.
    pub engine: String,
    /// The workload's name.
    pub workload: String,
    /// `stream`, `unary` or `batch`.
    pub protocol: String,
    /// Where events came from: `embedded`, `core` or `jetstream`.
    pub source: String,
    /// Shards of the engine.
    pub cores: u16,
    /// Pushes per event, on average.
    pub fan_out: f64,
    /// Events per second.
    pub events_per_second: f64,
    /// Pushes per second.
    pub pushes_per_second: f64,
    /// The median latency of a push.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The engine's CPU time per push, user and system; none when nothing was pushed.
    pub cpu_us_per_push: Option<f64>,
    /// The most memory the engine held.
    pub peak_rss_mib: f64,
    /// Whether each push came once, in order, where it should.
    pub is_clean: bool,
}

impl Line {
    fn of(campaign: &str, name: &str, trial: usize, engine: &str, run: &RunResult) -> Self {
        let (figures, machine) = (&run.figures, &run.machine);
        let cpu_seconds = figures.engine_cpu_user_seconds + figures.engine_cpu_system_seconds;
        Self {
            schema: SCHEMA,
            campaign: campaign.to_owned(),
            name: name.to_owned(),
            trial,
            date: run.started.clone(),
            commit: run.commit.clone(),
            machine: format!(
                "{}, {} CPUs, {} MiB, Linux {}",
                machine.cpu, machine.cpus, machine.memory_mib, machine.kernel
            ),
            load_average: machine.load_average,
            engine: engine.to_owned(),
            workload: run.workload.name.clone(),
            protocol: run.protocol.clone(),
            source: run.source.clone(),
            cores: run.cores,
            fan_out: short(figures.pushes as f64 / figures.events.max(1) as f64),
            events_per_second: short(figures.events_per_second),
            pushes_per_second: short(figures.pushes_per_second),
            p50_ms: short(figures.latency.p50_ms),
            p99_ms: short(figures.latency.p99_ms),
            cpu_us_per_push: (figures.pushes > 0).then(|| short(cpu_seconds * 1e6 / figures.pushes as f64)),
            peak_rss_mib: short(figures.peak_rss_mib),
            is_clean: run.verdict.is_clean,
        }
    }
}

/// Three places after the point are more than any run is sure of.
fn short(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The trials of a document: one of a run, all of a comparison.
///
/// # Errors
/// When it is neither.
pub(super) fn of_document(text: &[u8], campaign: &str, name: &str) -> serde_json::Result<Vec<Line>> {
    let mut document: Value = serde_json::from_slice(text)?;
    let Some(engines) = document.get_mut("engines") else {
        let run: RunResult = serde_json::from_value(document)?;
        return Ok(vec![Line::of(campaign, name, 1, &run.engine, &run)]);
    };
    let engines: Vec<Compared> = serde_json::from_value(engines.take())?;
    let trials = |engine: &Compared| {
        let runs = engine.runs.iter().enumerate();
        runs.map(|(index, run)| Line::of(campaign, name, index + 1, &engine.name, run)).collect::<Vec<_>>()
    };
    Ok(engines.iter().flat_map(trials).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::result::{Figures, LatencyFigures, SCHEMA as DOCUMENT};
    use harness::verdict::VerdictCounts;
    use harness::workload::Workload;

    /// The document of a run with 10 events of 100 pushes and 2 ms of CPU.
    pub fn result(commit: &str) -> RunResult {
        RunResult {
            schema: DOCUMENT,
            command: "loadtest run".to_owned(),
            commit: commit.to_owned(),
            started: "2026-11-28T00:00:00Z".to_owned(),
            machine: Default::default(),
            versions: Default::default(),
            engine: "task-engine".to_owned(),
            stores: "servers".to_owned(),
            source: "core".to_owned(),
            protocol: "stream".to_owned(),
            assignment: "queue".to_owned(),
            cores: 1,
            workload: Workload::find("group-100").expect("a workload"),
            figures: Figures {
                events: 10,
                pushes: 1_000,
                latency: LatencyFigures { p99_ms: 1.234_567, ..Default::default() },
                engine_cpu_user_seconds: 0.001,
                engine_cpu_system_seconds: 0.001,
                ..Default::default()
            },
            groups: Vec::new(),
            classes: Vec::new(),
            queries: Vec::new(),
            verdict: VerdictCounts { is_clean: true, ..Default::default() },
            stages: Vec::new(),
            counters: Default::default(),
            instances: vec![],
            steps: vec![],
            seconds: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_one_line() {
        let document = serde_json::to_vec(&result("0123")).expect("JSON");
        let lines = of_document(&document, "day-1", "a").expect("lines");
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!((line.fan_out, line.cpu_us_per_push, line.p99_ms), (100.0, Some(2.0), 1.235));
        assert_eq!((line.workload.as_str(), line.commit.as_str(), line.is_clean), ("group-100", "0123", true));
    }

    #[test]
    fn a_comparison_is_a_line_a_trial_of_each_engine() {
        let runs = vec![result("0123"), result("0123")];
        let engines = ["old", "new"].map(|name| Compared { name: name.to_owned(), runs: runs.clone() });
        let document = serde_json::to_vec(&serde_json::json!({ "schema": 1, "engines": engines })).expect("JSON");
        let lines = of_document(&document, "day-1", "a").expect("lines");
        let named: Vec<_> = lines.iter().map(|line| (line.engine.as_str(), line.trial)).collect();
        assert_eq!(named, [("old", 1), ("old", 2), ("new", 1), ("new", 2)]);
        assert!(of_document(b"{}", "day-1", "a").is_err());
    }
}
