//! Per-shard counters and HDR histograms, folded only when read.
//!
//! Promises that a shard pays some fifty plain stores a turn and one swap a second for all that is seen of it, that every
//! page is consistent (see [`ShardMeter`]: arrivals = endings + in flight holds on each), and that the page is bounded.
//! Refuses locks on the shards' side: the mutexes below are met by readers only.

mod gateways;
mod page;
pub mod process;
mod registered;
mod shard;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub use crate::model::stage::{BUCKETS, Stage, StageHistograms};
pub use gateways::{GATEWAYS_NAMED, GatewayRow, GatewayState};
pub use shard::{ShardMeter, ShardPublisher, ShardReport};
pub use snapshot::{Kind, SCALARS, Scalar, ShardSnapshot, WORDS};

use crate::model::ids::ShardId;
use registered::Registered;

/// What [`Meter::render`] writes, for the HTTP header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers of all shards and of whatever else registers some. Cheap to share as an `Arc`.
#[derive(Debug)]
pub struct Meter {
    inner: Arc<Inner>,
    registry: Registry,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<shard::ShardEnd>,
    totals: Mutex<Totals>,
    registered: Mutex<Vec<Registered>>,
    started_unix_seconds: f64,
}

#[derive(Debug)]
struct Totals {
    stages: StageHistograms,
    gateways: gateways::GatewayTable,
    warnings: Vec<BTreeMap<&'static str, u64>>,
}

impl Meter {
    /// A meter for so many shards, and the end that each of them takes with it.
    pub fn new(shards: u16) -> (Arc<Self>, Vec<ShardPublisher>) {
        let (publishers, ends): (Vec<_>, Vec<_>) = (0..shards).map(|_| shard::ends()).unzip();
        let inner = Arc::new(Inner {
            totals: Mutex::new(Totals {
                stages: StageHistograms::default(),
                gateways: gateways::GatewayTable::new(ends.len()),
                warnings: vec![BTreeMap::new(); ends.len()],
            }),
            shards: ends,
            registered: Mutex::default(),
            started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        });
        let mut registry = Registry::with_prefix("task_engine");
        registry.register_collector(Box::new(page::Page(Arc::clone(&inner))));
        (Arc::new(Self { inner, registry }), publishers)
    }

    /// How many shards it has.
    pub fn shards(&self) -> u16 {
        self.inner.shards.len() as u16
    }

    /// The newest snapshot of one shard.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn shard(&self, shard: ShardId) -> ShardSnapshot {
        self.inner.shards[usize::from(shard.0)].meter.read()
    }

    /// The newest snapshots of all shards, each consistent in itself (not with each other: they run on).
    pub fn snapshots(&self) -> Vec<ShardSnapshot> {
        self.inner.shards.iter().map(|end| end.meter.read()).collect()
    }

    /// Adds a counter that `read` reads at each scrape. `name` without the prefix and without `_total`; the same name may
    /// come with other labels; the same name and labels replace the older one. The labels' values must be a bounded set.
    ///
    /// # Panics
    /// When `name` is not a metric name, or is registered as a gauge.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.register(Kind::Counter, name, help, labels, Box::new(read));
    }

    /// Adds a gauge; see [`counter`](Self::counter).
    ///
    /// # Panics
    /// When `name` is not a metric name, or is registered as a counter.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.register(Kind::Gauge, name, help, labels, Box::new(read));
    }

    fn register(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: Box<dyn Fn() -> u64 + Send + Sync>,
    ) {
        let taken = page::OWN_NAMES.contains(&name) || SCALARS.iter().any(|scalar| scalar.name == name);
        assert!(!taken, "{name} is one of the meter's own");
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        registered::put(&mut self.inner.registered(), Registered { kind, name, help, labels, read });
    }

    /// Takes what the shards have handed over. A scrape does it too; the watchdog does it once a second, so that a scrape
    /// after a long pause does not find reports from its beginning.
    pub fn fold(&self) {
        drop(self.inner.fold());
    }

    /// The histograms of all shards together, since the start.
    pub fn stages(&self) -> StageHistograms {
        self.inner.fold().stages.clone()
    }

    /// The metric page, as OpenMetrics text ([`CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(64 * 1024);
        text::encode(&mut page, &self.registry).expect("a string takes everything");
        page
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
}

impl Inner {
    fn registered(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fold(&self) -> MutexGuard<'_, Totals> {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, end) in self.shards.iter().enumerate() {
            end.take_reports(|report| {
                totals.stages.add(&report.stages);
                totals.gateways.replace(shard, &report.gateways);
                totals.warnings[shard].extend(report.warnings.iter().copied());
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
}
