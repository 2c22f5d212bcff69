//! What trials of several engines say: medians, spreads, ratios.
//!
//! Promises that a ratio compares trials that ran one after the other, so that what else happened on the machine is in
//! both; its spread is the spread of those ratios. Refuses a ratio to nothing: it is left out.

use serde::{Deserialize, Serialize};

use super::Compared;
use crate::result::{LatencyFigures, RunResult};

/// The document of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// As a run's.
    pub schema: u32,
    /// Figures, each with all engines.
    pub rows: Vec<Row>,
    /// The engines with all their runs, in the order they were given.
    pub engines: Vec<Compared>,
}

/// One figure of all engines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is, and its unit.
    pub figure: String,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Each engine's, in the order they were given; none without trials.
    pub values: Vec<Option<Spread>>,
    /// Each engine's ratio to the first, trial by trial.
    pub ratios: Vec<Option<Spread>>,
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of them are not above it.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

type Figure = (&'static str, bool, fn(&RunResult) -> Option<f64>);

const FIGURES: [Figure; 6] = [
    ("pushes per CPU-second", true, |run| Some(run.figures.pushes_per_cpu_second)),
    ("pushes per second", true, |run| Some(run.figures.pushes_per_second)),
    ("latency p50, ms", false, |run| latency(run).map(|latency| latency.p50_ms)),
    ("latency p99, ms", false, |run| latency(run).map(|latency| latency.p99_ms)),
    ("latency max, ms", false, |run| latency(run).map(|latency| latency.max_ms)),
    ("peak RSS, MiB", false, |run| Some(run.figures.peak_rss_mib)),
];

/// Of a run without pushes there is none: 0 would be the best of all.
fn latency(run: &RunResult) -> Option<&LatencyFigures> {
    Some(&run.figures.latency).filter(|latency| latency.count > 0)
}

impl Spread {
    /// Of no values there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let is_even = values.len().is_multiple_of(2);
        let median = if is_even { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] };
        Some(Self { median, min, max })
    }
}

/// Every figure of the engines.
pub fn rows(compared: &[Compared]) -> Vec<Row> {
    FIGURES.iter().map(|figure| row(figure, compared)).collect()
}

fn row(&(figure, more_is_better, read): &Figure, compared: &[Compared]) -> Row {
    let first = compared.first().map_or(&[][..], |engine| &engine.runs[..]);
    let ratios = |engine: &Compared| {
        let pairs = engine.runs.iter().zip(first).filter_map(|(run, base)| Some((read(run)?, read(base)?)));
        Spread::of(pairs.filter(|(_, base)| *base > 0.0).map(|(value, base)| value / base))
    };
    Row {
        figure: figure.to_owned(),
        more_is_better,
        values: compared.iter().map(|engine| Spread::of(engine.runs.iter().filter_map(read))).collect(),
        ratios: compared.iter().map(ratios).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, f64::NAN, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
