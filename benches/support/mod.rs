//! What all benches share: [`run`] times cases with criterion and prints, at the end, nanoseconds and allocations per
//! recipient; without `--bench` (that is `cargo test`) it runs each case once, so that none can rot.
//!
//! Promises that only what is inside [`Clock::time`] counts, for time and for allocations, and that allocations are
//! those of the thread that measures. Refuses to judge a time: no bench fails for being slow.
#![allow(dead_code, reason = "each bench uses its own part")]

pub mod allocations;
pub mod facts;
pub mod outbox;
pub mod world;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

/// Samples of a case, and how long all of them together take.
const SAMPLES: usize = 30;
const MEASURED: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures the parts of an iteration that are the engine's.
#[derive(Debug, Default)]
pub struct Clock {
    took: Duration,
    allocations: u64,
}

impl Clock {
    /// How long the measured work took, all together.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// How often the measured work allocated.
    pub fn allocations(&self) -> u64 {
        self.allocations
    }

    /// Runs and measures `work`. Its result is dropped outside.
    pub fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let allocations = allocations::of_this_thread();
        let began = Instant::now();
        let result = work();
        self.took += began.elapsed();
        self.allocations += allocations::of_this_thread() - allocations;
        result
    }
}

/// The cases of one stage, as they come.
pub struct Cases {
    criterion: Option<Criterion>,
    filter: Option<String>,
    stage: &'static str,
    rows: Vec<Row>,
}

struct Row {
    case: String,
    nanos: f64,
    allocations: f64,
}

/// Runs a stage's cases by the command line: `--bench` measures (all of criterion's flags hold), else each runs once.
pub fn run(stage: &'static str, cases: impl FnOnce(&mut Cases)) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let is_bench = has("--bench") && !has("--test");
    let criterion = is_bench.then(|| {
        let defaults = Criterion::default().sample_size(SAMPLES).measurement_time(MEASURED).warm_up_time(WARM_UP);
        defaults.configure_from_args()
    });
    let filter = args.into_iter().find(|arg| !is_bench && !arg.starts_with('-'));
    let mut all = Cases { criterion, filter, stage, rows: Vec::new() };
    cases(&mut all);
    all.print();
    if let Some(criterion) = &mut all.criterion {
        criterion.final_summary();
    }
}

impl Cases {
    /// Whether times are taken; else a case is only tried, and may be tiny.
    pub fn is_measuring(&self) -> bool {
        self.criterion.is_some()
    }

    /// The first when measuring, else the second.
    pub fn pick<T>(&self, measured: T, tried: T) -> T {
        if self.is_measuring() { measured } else { tried }
    }

    /// One case: `iteration` ends `units` recipients (events where a stage knows no recipients) each time it is called.
    pub fn case(&mut self, name: impl Into<String>, units: u64, mut iteration: impl FnMut(&mut Clock)) {
        let name = name.into();
        let Some(criterion) = &mut self.criterion else {
            let full_name = format!("{}/{name}", self.stage);
            if self.filter.as_ref().is_none_or(|filter| full_name.contains(filter.as_str())) {
                iteration(&mut Clock::default());
                println!("bench {full_name} ... ok");
            }
            return;
        };
        let mut samples = Vec::new();
        let mut group = criterion.benchmark_group(self.stage);
        group.throughput(Throughput::Elements(units));
        group.bench_function(BenchmarkId::from_parameter(&name), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut clock = Clock::default();
                (0..iterations).for_each(|_| iteration(&mut clock));
                let per_unit = 1.0 / (iterations * units) as f64;
                samples.push((clock.took.as_nanos() as f64 * per_unit, clock.allocations as f64 * per_unit));
                clock.took
            });
        });
        group.finish();
        // What came before the samples was the warm-up.
        let mut samples = samples.split_off(samples.len().saturating_sub(SAMPLES));
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((nanos, allocations)) = samples.get(samples.len() / 2).copied() {
            self.rows.push(Row { case: name, nanos, allocations });
        }
    }

    fn print(&self) {
        if self.rows.is_empty() {
            return;
        }
        let width = self.rows.iter().map(|row| row.case.len()).max().unwrap_or(0).max(self.stage.len());
        println!("\n{:width$}  {:>12}  {:>12}  (median sample, a recipient)", self.stage, "ns", "allocations");
        for Row { case, nanos, allocations } in &self.rows {
            println!("{case:width$}  {nanos:>12.2}  {allocations:>12.4}");
        }
        println!();
    }
}
