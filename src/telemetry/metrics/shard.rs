//! What one shard tells the meter: a snapshot each turn, histograms and gateway rows once per second.
//!
//! Promises that the shard never waits and never locks, that every read is a snapshot the shard really published
//! (never half of one and half of the next), and that no recorded value is lost when nobody reads for long.
//! Refuses a second writer: a [`ShardPublisher`] cannot be cloned.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::gateways::GatewayRow;
use super::seqlock::SeqLock;
use super::snapshot::{ShardSnapshot, WORDS};
use crate::model::priority::ClassCounts;
use crate::model::push_latency::PushLatency;
use crate::model::stage::StageHistograms;

/// Reports that wait for the meter. With one more in the shard's hands this is all the memory they take.
const REPORTS_WAITING: usize = 2;

/// One shard's published numbers: written by its [`ShardPublisher`], read by any thread.
#[derive(Debug)]
#[repr(align(128))] // a pair of cache lines: the neighbour shard's writes must not disturb ours
pub struct ShardMeter(SeqLock<WORDS>);

impl ShardMeter {
    fn new() -> Self {
        Self(SeqLock::new())
    }

    /// The newest whole snapshot. Waits only while a publication (some 80 stores) is under way.
    pub fn read(&self) -> ShardSnapshot {
        ShardSnapshot::unflatten(&self.0.read())
    }

    fn write(&self, words: &[u64; WORDS]) {
        self.0.write(words);
    }
}

/// What a shard hands over once per second.
#[derive(Debug, Default)]
pub struct ShardReport {
    /// What was recorded since the last report that was taken.
    pub stages: StageHistograms,
    /// All gateways this shard owns, with totals since each became known.
    pub gateways: Vec<GatewayRow>,
    /// Warnings by reason, totals since the shard started. The reasons are texts of the program, so there are few.
    pub warnings: Vec<(&'static str, u64)>,
    /// Ends by class, totals since the shard started; none where events have no classes.
    pub classes: Option<Box<ClassCounts>>,
    /// How long pushes took since the shard started; none where nobody wants to know.
    pub latency: Option<Box<PushLatency>>,
}

/// The shard's own end: the only writer of its [`ShardMeter`].
#[derive(Debug)]
pub struct ShardPublisher {
    meter: Arc<ShardMeter>,
    filled: Sender<Box<ShardReport>>,
    empty: Receiver<Box<ShardReport>>,
}

/// The meter's end of one shard.
#[derive(Debug)]
pub(super) struct ShardEnd {
    pub(super) meter: Arc<ShardMeter>,
    filled: Receiver<Box<ShardReport>>,
    empty: Sender<Box<ShardReport>>,
}

/// Both ends of one shard.
pub(super) fn ends() -> (ShardPublisher, ShardEnd) {
    let meter = Arc::new(ShardMeter::new());
    let (filled, filled_end) = bounded(REPORTS_WAITING);
    let (empty_end, empty) = bounded(REPORTS_WAITING);
    for _ in 0..REPORTS_WAITING {
        let _ = empty_end.try_send(Box::default());
    }
    let publisher = ShardPublisher { meter: Arc::clone(&meter), filled, empty };
    (publisher, ShardEnd { meter, filled: filled_end, empty: empty_end })
}

impl ShardPublisher {
    /// Publishes the shard's numbers; once per turn of the pump.
    pub fn publish(&mut self, snapshot: &ShardSnapshot) {
        self.meter.write(&snapshot.flatten());
    }

    /// Hands over what `stages` holds and leaves it empty; `fill` writes the rows and warnings into the report (both
    /// come empty). Once a second. Returns false, with nothing changed and `fill` not called, when the meter has not yet
    /// taken the reports before: the shard goes on recording and the next report holds it all.
    pub fn hand_over(&mut self, stages: &mut StageHistograms, fill: impl FnOnce(&mut ShardReport)) -> bool {
        let Ok(mut report) = self.empty.try_recv() else { return false };
        std::mem::swap(&mut report.stages, stages);
        fill(&mut report);
        match self.filled.try_send(report) {
            Ok(()) => true,
            // There are as many boxes as places in the lane, so only a meter that is gone gets here: nobody reads any more.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl ShardEnd {
    /// Takes all reports that wait, oldest first.
    pub(super) fn take_reports(&self, mut each: impl FnMut(&ShardReport)) {
        while let Ok(mut report) = self.filled.try_recv() {
            each(&report);
            report.stages.clear();
            report.gateways.clear();
            report.warnings.clear();
            (report.classes, report.latency) = (None, None);
            // Cannot be full: there are as many boxes as places. A shard that is gone needs none.
            let _ = self.empty.try_send(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::model::stage::Stage;

    /// Every word of a publication is the same number, so a torn read shows itself. Bounded by iterations on both sides.
    #[test]
    fn a_read_is_never_torn_under_a_hammering_writer() {
        const WRITES: u64 = 300_000;
        let meter = ShardMeter::new();
        let (reads, changes) = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut last, mut reads, mut changes) = (0, 0_u64, 0_u64);
                        while last != WRITES {
                            let words = meter.read().flatten();
                            assert!(words.iter().all(|word| *word == words[0]), "torn: {words:?}");
                            assert!(words[0] >= last, "back in time: {} after {last}", words[0]);
                            changes += u64::from(words[0] != last);
                            last = words[0];
                            reads += 1;
                        }
                        (reads, changes)
                    })
                })
                .collect();
            for number in 1..=WRITES {
                meter.write(&[number; WORDS]);
            }
            readers.into_iter().map(|reader| reader.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        });
        assert!(changes >= 2 && reads >= changes, "{reads} reads, {changes} changes");
    }

    #[test]
    fn a_full_lane_keeps_what_was_recorded_for_the_next_report() {
        let (mut publisher, end) = ends();
        let mut stages = StageHistograms::default();
        let mut taken = 0;
        for round in 0..5 {
            stages.record(Stage::Event, Duration::from_millis(1));
            let fits = publisher.hand_over(&mut stages, |report| report.warnings.push(("full", round)));
            assert_eq!(fits, round < REPORTS_WAITING as u64);
        }
        assert_eq!(stages.count(Stage::Event), 3);
        let mut rounds = Vec::new();
        end.take_reports(|report| {
            taken += report.stages.count(Stage::Event);
            rounds.extend(report.warnings.iter().map(|warning| warning.1));
        });
        assert_eq!((taken, rounds), (2, vec![0, 1]));
        assert!(publisher.hand_over(&mut stages, |report| assert!(report.warnings.is_empty())));
        end.take_reports(|report| taken += report.stages.count(Stage::Event));
        assert_eq!((taken, stages.count(Stage::Event)), (5, 0));
    }
}
