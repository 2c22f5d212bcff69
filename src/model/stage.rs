//! How long each stage of an event's trip takes, as HDR histograms.
//!
//! Promises that recording is plain arithmetic on memory of one thread (no clock, no lock, no allocation), and an error of
//! at most 1 %. Refuses to be exact outside 1 µs to 120 s: shorter is counted in the first step, longer as 120 s.

use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

const SHORTEST: Duration = Duration::from_micros(1);
const LONGEST: Duration = Duration::from_secs(120);
/// Two digits: 21 KiB a histogram, so that a shard's set stays in its second-level cache.
const DIGITS: u8 = 2;

/// The upper bounds of the buckets on the metric page, in seconds; above the last comes `+Inf`.
pub const BUCKETS: [f64; 20] = [
    0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 25.0, 60.0, 120.0,
];

/// A part of an event's trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// An event: from its reader having it to the turn of its shard that handles it.
    Intake,
    /// An event: from its turn in the session until its members are known.
    Members,
    /// An event: from its members until all their routes are known.
    Routes,
    /// A recipient: from its bundle until its frame is written.
    Outbox,
    /// A recipient: from its frame being written until the gateway's answer.
    Gateway,
    /// An event: from its arrival until all its recipients have ended.
    Event,
}

impl Stage {
    /// Every stage, in trip order.
    pub const ALL: &'static [Self] =
        &[Self::Intake, Self::Members, Self::Routes, Self::Outbox, Self::Gateway, Self::Event];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label on the metric page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Members => "members",
            Self::Routes => "routes",
            Self::Outbox => "outbox",
            Self::Gateway => "gateway",
            Self::Event => "event",
        }
    }
}

/// One histogram a stage, in nanoseconds.
#[derive(Clone, Debug)]
pub struct StageHistograms {
    stages: [Histogram<u64>; Stage::COUNT],
    /// Exact sums. A busy shard adds thousands of seconds each second, which 64 bits hold for some days only.
    sums: [u128; Stage::COUNT],
}

impl Default for StageHistograms {
    fn default() -> Self {
        let one = || {
            Histogram::new_with_bounds(SHORTEST.as_nanos() as u64, LONGEST.as_nanos() as u64, DIGITS)
                .expect("constants within what the crate takes")
        };
        Self { stages: std::array::from_fn(|_| one()), sums: [0; Stage::COUNT] }
    }
}

impl StageHistograms {
    /// Records one value.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        self.record_n(stage, took, 1);
    }

    /// Records the same value `count` times, for the price of one.
    pub fn record_n(&mut self, stage: Stage, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.stages[stage as usize].saturating_record_n(nanos.min(LONGEST.as_nanos() as u64), count);
        self.sums[stage as usize] += u128::from(nanos) * u128::from(count);
    }

    /// How many values a stage has.
    pub fn count(&self, stage: Stage) -> u64 {
        self.stages[stage as usize].len()
    }

    /// The value below which the share `quantile` (0.0 to 1.0) of a stage's values lies; zero when it has none.
    pub fn quantile(&self, stage: Stage, quantile: f64) -> Duration {
        Duration::from_nanos(self.stages[stage as usize].value_at_quantile(quantile))
    }

    /// The sum of a stage's values, in seconds.
    pub fn sum_seconds(&self, stage: Stage) -> f64 {
        self.sums[stage as usize] as f64 / 1e9
    }

    /// Adds all values of another set.
    pub fn add(&mut self, other: &Self) {
        for at in 0..Stage::COUNT {
            if !other.stages[at].is_empty() {
                self.stages[at].add(&other.stages[at]).expect("both have the same bounds");
            }
            self.sums[at] += other.sums[at];
        }
    }

    /// Forgets all values; keeps the memory.
    pub fn clear(&mut self) {
        for histogram in &mut self.stages {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.sums = [0; Stage::COUNT];
    }

    /// How many values fall into each of [`BUCKETS`] and, last, above them all (not cumulative). A value within 1 % over
    /// a bound may be counted under it.
    pub fn buckets(&self, stage: Stage) -> [(f64, u64); BUCKETS.len() + 1] {
        let mut buckets = std::array::from_fn(|at| (BUCKETS.get(at).copied().unwrap_or(f64::INFINITY), 0));
        let histogram = &self.stages[stage as usize];
        let mut at = 0;
        for value in histogram.iter_recorded() {
            let seconds = histogram.lowest_equivalent(value.value_iterated_to()) as f64 / 1e9;
            while seconds > buckets[at].0 {
                at += 1;
            }
            buckets[at].1 += value.count_since_last_iteration();
        }
        buckets
    }

    /// A stage as HDR's own V2 format in base64, values in nanoseconds: any HDR tool reads it, and two of them subtract
    /// to what happened in between.
    pub fn encode_v2(&self, stage: Stage) -> String {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&self.stages[stage as usize], &mut bytes)
            .expect("a vector takes all bytes, and the bounds are within the format's");
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_each_value_once_and_a_bound_is_inside_its_bucket() {
        let mut stages = StageHistograms::default();
        stages.record(Stage::Gateway, Duration::ZERO);
        stages.record_n(Stage::Gateway, Duration::from_millis(1), 5);
        stages.record(Stage::Gateway, Duration::from_micros(1_020));
        stages.record(Stage::Gateway, Duration::from_secs(4_000));
        let buckets = stages.buckets(Stage::Gateway);
        let at = |bound: f64| buckets.iter().find(|bucket| bucket.0 == bound).unwrap().1;
        assert_eq!((at(0.000_01), at(0.001), at(0.002_5), at(120.0), at(f64::INFINITY)), (1, 5, 1, 1, 0));
        assert_eq!(buckets.iter().map(|bucket| bucket.1).sum::<u64>(), 8);
        assert!((stages.sum_seconds(Stage::Gateway) - 4_000.006_02).abs() < 1e-6);
        assert_eq!(stages.count(Stage::Event), 0);
    }

    #[test]
    fn values_survive_the_v2_format_within_one_percent() {
        let mut stages = StageHistograms::default();
        for micros in 1..=10_000 {
            stages.record(Stage::Event, Duration::from_micros(micros));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(stages.encode_v2(Stage::Event)).unwrap();
        let back: Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(back.len(), 10_000);
        let p99 = back.value_at_quantile(0.99) as f64;
        assert!((p99 / 9_900_000.0 - 1.0).abs() < 0.01, "{p99}");
    }

    #[test]
    fn sets_add_up_and_clear() {
        let (mut total, mut part) = (StageHistograms::default(), StageHistograms::default());
        part.record_n(Stage::Intake, Duration::from_micros(30), 7);
        total.add(&part);
        total.add(&part);
        part.clear();
        assert_eq!((total.count(Stage::Intake), part.count(Stage::Intake)), (14, 0));
        assert_eq!(part.sum_seconds(Stage::Intake), 0.0);
        assert!((total.sum_seconds(Stage::Intake) - 14.0 * 30e-6).abs() < 1e-12);
        let p50 = total.quantile(Stage::Intake, 0.5).as_nanos() as f64;
        assert!((p50 / 30_000.0 - 1.0).abs() < 0.03, "{p50}");
    }
}
