//! How long the stages of this shard's events took, gathered into runs before they reach the histograms.
//!
//! Promises the same histograms as recording each value by itself, for one compare and one addition a value where
//! neighbours are equal: what one turn does happens at one instant, so most are.

use std::time::Duration;

use crate::telemetry::metrics::{Stage, StageHistograms};

/// The histograms, and a run of equal values for each stage that is not in them yet.
#[derive(Debug, Default)]
pub struct StageTimes {
    histograms: StageHistograms,
    /// Nanoseconds, and how many took so long.
    runs: [(u64, u64); Stage::COUNT],
}

impl StageTimes {
    /// Records one value: in nanoseconds, for to make a duration of each takes a division.
    #[inline]
    pub fn record(&mut self, stage: Stage, took_nanos: u64) {
        let run = &mut self.runs[stage as usize];
        if run.0 == took_nanos {
            run.1 += 1;
        } else {
            let ended = std::mem::replace(run, (took_nanos, 1));
            self.keep(stage, ended);
        }
    }

    /// The histograms with all that was recorded.
    pub fn histograms_mut(&mut self) -> &mut StageHistograms {
        for stage in Stage::ALL {
            let ended = std::mem::take(&mut self.runs[*stage as usize]);
            self.keep(*stage, ended);
        }
        &mut self.histograms
    }

    fn keep(&mut self, stage: Stage, (took_nanos, count): (u64, u64)) {
        if count > 0 {
            self.histograms.record_n(stage, Duration::from_nanos(took_nanos), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_recorded_as_single_values_are() {
        let (mut runs, mut single) = (StageTimes::default(), StageHistograms::default());
        for micros in [0, 0, 7, 7, 7, 9, 7, 0] {
            for stage in [Stage::Outbox, Stage::Event] {
                runs.record(stage, micros * 1_000);
                single.record(stage, Duration::from_micros(micros));
            }
            if micros == 9 {
                assert_eq!(runs.histograms_mut().count(Stage::Event), 6);
            }
        }
        for stage in Stage::ALL {
            assert_eq!(runs.histograms_mut().buckets(*stage), single.buckets(*stage));
            assert_eq!(runs.histograms_mut().sum_seconds(*stage), single.sum_seconds(*stage));
        }
    }
}
