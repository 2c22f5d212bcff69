//! Per-shard counters and HDR histograms, folded only when read.
//!
//! Promises that every number is a row of the [table], that a shard pays some eighty plain stores per turn and one swap per second for all that is seen of it, that every
//! page is consistent (see [`ShardMeter`]: arrivals = endings + in flight holds on each), and that the page is bounded.
//! Refuses locks on the shards' side: the mutexes below are met by readers only.

mod chinese;
mod classes;
mod declare;
mod exemplars;
mod gateways;
mod page;
pub mod process;
mod reference;
mod registered;
mod seqlock;
mod shard;
mod snapshot;
pub mod table;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::model::stage::{BUCKETS, Stage, StageHistograms};
pub use declare::{Kind, Metric, PREFIX, Unit};
pub use exemplars::Exemplar;
pub use gateways::{GATEWAYS_NAMED, GatewayRow, GatewayState};
pub use reference::reference;
pub use registered::{Line, Value};
pub use shard::{ShardMeter, ShardPublisher, ShardReport};
pub use snapshot::{Activity, ShardSnapshot, WORDS};
pub use text::Format;

use crate::model::ids::ShardId;
use crate::model::priority::ClassCounts;
use crate::model::push_latency::PushLatency;
use registered::{Read, Registered};

/// The numbers of all shards and of whatever else registers some. Cheap to share as an `Arc`.
#[derive(Debug)]
pub struct Meter {
    shards: Vec<shard::ShardEnd>,
    totals: Mutex<Totals>,
    registered: Mutex<Vec<Registered>>,
    exemplars: Mutex<exemplars::Exemplars>,
    started_unix_seconds: f64,
}

#[derive(Debug)]
struct Totals {
    stages: StageHistograms,
    gateways: gateways::GatewayTable,
    warnings: Vec<BTreeMap<&'static str, u64>>,
    classes: Vec<Option<Box<ClassCounts>>>,
    latency: Vec<Option<Box<PushLatency>>>,
}

impl Meter {
    /// A meter for so many shards, and the end that each of them takes with it.
    pub fn new(shards: u16) -> (Arc<Self>, Vec<ShardPublisher>) {
        let (publishers, ends): (Vec<_>, Vec<_>) = (0..shards).map(|_| shard::ends()).unzip();
        let meter = Self {
            totals: Mutex::new(Totals {
                stages: StageHistograms::default(),
                gateways: gateways::GatewayTable::new(ends.len()),
                warnings: vec![BTreeMap::new(); ends.len()],
                classes: vec![None; ends.len()],
                latency: vec![None; ends.len()],
            }),
            shards: ends,
            registered: Mutex::default(),
            exemplars: Mutex::default(),
            started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        };
        (Arc::new(meter), publishers)
    }

    /// How many shards it has.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// The newest snapshot of one shard.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn shard(&self, shard: ShardId) -> ShardSnapshot {
        self.shards[usize::from(shard.0)].meter.read()
    }

    /// The newest snapshots of all shards, each consistent in itself (not with each other: they run on).
    pub fn snapshots(&self) -> Vec<ShardSnapshot> {
        self.shards.iter().map(|end| end.meter.read()).collect()
    }

    /// Adds a number that `read` reads at each scrape. The same row may come with other values of its labels; the same row
    /// and values replace the older one. The values must be a bounded set.
    ///
    /// # Panics
    /// When the row is neither a counter nor a gauge, or has other labels.
    pub fn register(
        &self,
        metric: &'static Metric,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        registered::put(&mut self.registered(), Registered { metric, read: Read::Number(labels, Box::new(read)) });
    }

    /// Adds a row all of whose lines `read` gives at each scrape, each with a value for each label of the row. They must be a bounded
    /// set; the row is on the page also when there is none. The same row replaces the older one.
    pub fn register_lines(&self, metric: &'static Metric, read: impl Fn() -> Vec<Line> + Send + Sync + 'static) {
        registered::put(&mut self.registered(), Registered { metric, read: Read::Lines(Box::new(read)) });
    }

    /// These pushes, which are in the histogram of push latency, are in traces that their collector has.
    pub fn note_exemplars(&self, exemplars: impl IntoIterator<Item = Exemplar>) {
        let mut all = self.exemplars.lock().unwrap_or_else(PoisonError::into_inner);
        exemplars.into_iter().for_each(|exemplar| all.note(exemplar));
    }

    /// Takes what the shards have handed over. A scrape does it too; the watchdog does it once a second, so that a scrape
    /// after a long pause does not find reports from its beginning.
    pub fn fold(&self) {
        drop(self.folded());
    }

    /// The histograms of all shards together, since the start.
    pub fn stages(&self) -> StageHistograms {
        self.folded().stages.clone()
    }

    /// The metric page.
    pub fn render(&self, format: Format) -> String {
        page::write(self, format)
    }

    /// The histograms of all shards together as JSON: `{"unit":"nanoseconds","stages":{"<stage>":{"count":0,
    /// "sum_seconds":0.0,"v2":"<HDR V2, base64>"}}}`. Two of them subtract to what happened in between.
    pub fn histograms(&self) -> String {
        let stages = self.stages();
        let map: serde_json::Map<_, _> = Stage::ALL
            .iter()
            .map(|&stage| {
                let one = serde_json::json!({
                    "count": stages.count(stage),
                    "sum_seconds": stages.sum_seconds(stage),
                    "v2": stages.encode_v2(stage),
                });
                (stage.label().to_owned(), one)
            })
            .collect();
        serde_json::json!({ "unit": "nanoseconds", "stages": map }).to_string()
    }

    fn registered(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folded(&self) -> MutexGuard<'_, Totals> {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, end) in self.shards.iter().enumerate() {
            end.take_reports(|report| {
                totals.stages.add(&report.stages);
                totals.gateways.replace(shard, &report.gateways);
                totals.warnings[shard].extend(report.warnings.iter().copied());
                totals.classes[shard].clone_from(&report.classes);
                totals.latency[shard].clone_from(&report.latency);
            });
        }
        totals
    }
}

impl Totals {
    fn warnings(&self) -> Vec<(&'static str, u64)> {
        let mut sums = BTreeMap::new();
        for (reason, count) in self.warnings.iter().flatten() {
            *sums.entry(*reason).or_insert(0) += count;
        }
        sums.into_iter().collect()
    }

    /// None where nobody wants to know.
    fn latency(&self) -> Option<PushLatency> {
        self.latency.iter().flatten().fold(None, |sum: Option<PushLatency>, of_shard| {
            let mut sum = sum.unwrap_or_default();
            sum.add(of_shard);
            Some(sum)
        })
    }

    /// None where events have no classes.
    fn classes(&self) -> Option<ClassCounts> {
        self.classes.iter().flatten().fold(None, |sum: Option<ClassCounts>, of_shard| {
            let mut sum = sum.unwrap_or_default();
            sum.add(of_shard);
            Some(sum)
        })
    }
}
