//! The one document that a run leaves: what was run, on what, and what came out. Its JSON is what runs are kept and
//! compared as.
//!
//! Promises that every figure names its unit, and that a reader of an older document is told by `schema`. Refuses
//! secrets: the command line is kept as it was given, and the harness takes none.

use std::collections::BTreeMap;

use harness::verdict::VerdictCounts;
use harness::workload::{SessionGroup, Workload};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use task_engine::model::priority::Priority;

use crate::numbers;

/// Counts up when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`] of the harness that wrote it.
    pub schema: u32,
    /// The command line, quoted as a shell takes it.
    pub command: String,
    /// The commit of the harness's source, with `-dirty` when it had changes; `unknown` outside of a checkout.
    pub commit: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// What it ran on.
    pub machine: Machine,
    /// Versions by name: `task-engine`, `nats-server`, ...
    pub versions: BTreeMap<String, String>,
    /// What was driven: `embedded`, or the engine's command line.
    pub engine: String,
    /// `embedded` or `servers`.
    pub stores: String,
    /// Where events came from: `embedded`, `core` or `jetstream`; empty in older documents.
    #[serde(default)]
    pub source: String,
    /// `stream`, `unary` or `batch`.
    pub protocol: String,
    /// `queue` or `partitioned`.
    pub assignment: String,
    /// Shards of the engine.
    pub cores: u16,
    /// What was asked for, after all overrides.
    pub workload: Workload,
    /// What came out, warm-up apart.
    pub figures: Figures,
    /// Latency by kind of session, where the workload has more than one; empty in older documents.
    #[serde(default)]
    pub groups: Vec<GroupFigures>,
    /// Latency by class, where the workload's messages say theirs; empty in older documents.
    #[serde(default)]
    pub classes: Vec<ClassFigures>,
    /// Whether each push came once, in order, where it should; warm-up included.
    pub verdict: VerdictCounts,
    /// Each instance, where several ran beside each other; the figures above are over all of them.
    #[serde(default)]
    pub instances: Vec<InstanceFigures>,
    /// Instances that came and went while it was measured.
    #[serde(default)]
    pub steps: Vec<StepFigures>,
    /// The engine's own stages, in trip order; empty when the engine tells none.
    pub stages: Vec<StageFigures>,
    /// Statements of the database, warm-up included, where guests came and it tells; empty in older documents.
    #[serde(default)]
    pub queries: Vec<QueryFigures>,
    /// What the engine counted after the warm-up, by the names of its metrics; empty when it tells none. Users go on moving
    /// for the second that it takes until counts are told: their changes are in it, and not in `figures.moves`.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Each second after the warm-up.
    pub seconds: Vec<SecondFigures>,
}

/// What a run ran on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Physical memory.
    pub memory_mib: u64,
    /// As uname names it.
    pub kernel: String,
    /// The one-minute load average when the run began: above 0.5 on an otherwise idle machine, something else ran.
    pub load_average: f64,
}

/// What came out, warm-up apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Events published.
    pub events: u64,
    /// Pushes that came.
    pub pushes: u64,
    /// From the first event to the last push.
    pub seconds: f64,
    /// events / seconds.
    pub events_per_second: f64,
    /// pushes / seconds.
    pub pushes_per_second: f64,
    /// From the instant an event was meant to be sent to the instant its push was read by the gateway.
    pub latency: LatencyFigures,
    /// The most that the publisher was behind its schedule (its own lag, part of the latency above); 0 in a closed loop.
    pub publisher_lag_max_ms: f64,
    /// CPU of the engine, all its threads.
    pub engine_cpu_user_seconds: f64,
    /// CPU of the engine in the kernel.
    pub engine_cpu_system_seconds: f64,
    /// pushes / (user + system).
    pub pushes_per_cpu_second: f64,
    /// events / (user + system).
    pub events_per_cpu_second: f64,
    /// The most memory the engine held (its process; the embedded engine: this process, gateways and books included).
    pub peak_rss_mib: f64,
    /// Heap allocations of the engine's threads per push; only the embedded engine can be counted.
    pub allocations_per_push: Option<f64>,
    /// Users that moved to another gateway.
    pub moves: u64,
}

/// A latency distribution in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LatencyFigures {
    /// How many values.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// Nine of ten are not above it.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The most.
    pub max_ms: f64,
}

/// What came to the sessions of one group of the workload, warm-up apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupFigures {
    /// What it is called: `100 members`.
    pub group: String,
    /// How many sessions.
    pub sessions: u32,
    /// Members of each, the sender included.
    pub members: u32,
    /// Of the pushes to them.
    pub latency: LatencyFigures,
}

impl GroupFigures {
    /// By group of the workload; none when there is one, whose figures are the run's.
    pub fn of(workload: &Workload, by_group: &[Histogram<u64>]) -> Vec<Self> {
        if workload.sessions.len() < 2 {
            return Vec::new();
        }
        let groups = group_names(workload).into_iter().zip(&workload.sessions).zip(by_group);
        let figures = |((group, sessions), latency): ((String, &SessionGroup), &Histogram<u64>)| Self {
            group,
            sessions: sessions.count,
            members: sessions.members,
            latency: LatencyFigures::of(latency),
        };
        groups.map(figures).collect()
    }
}

/// What came of the messages of one class, warm-up apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassFigures {
    /// `urgent`, `normal`, `bulk` or `fleeting`.
    pub class: String,
    /// Of 100 pushes that came while events were published, how many were of it.
    pub percent_under_load: f64,
    /// Of the pushes of it.
    pub latency: LatencyFigures,
}

impl ClassFigures {
    /// By class; none where messages say none.
    pub fn of(by_class: &[(Histogram<u64>, u64)]) -> Vec<Self> {
        let all: u64 = by_class.iter().map(|(_, under_load)| under_load).sum();
        let figures = |(class, (latency, under_load)): (&Priority, &(Histogram<u64>, u64))| Self {
            class: class.label().to_owned(),
            percent_under_load: *under_load as f64 * 100.0 / all.max(1) as f64,
            latency: LatencyFigures::of(latency),
        };
        Priority::ALL.iter().zip(by_class).map(figures).collect()
    }
}

/// The database's statements of one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueryFigures {
    /// Which.
    pub statement: String,
    /// How long the database took, by its own log.
    pub latency: LatencyFigures,
}

impl QueryFigures {
    /// Of times in nanoseconds.
    pub fn of(statement: &str, nanos: &Histogram<u64>) -> Self {
        Self { statement: statement.to_owned(), latency: LatencyFigures::of(nanos) }
    }
}

/// What each group of sessions is called: by its members, and by its place where another has as many.
fn group_names(workload: &Workload) -> Vec<String> {
    let is_alone = |members| workload.sessions.iter().filter(|group| group.members == members).count() == 1;
    let name = |(at, group): (usize, &SessionGroup)| {
        let place = if is_alone(group.members) { String::new() } else { format!(" (group {})", at + 1) };
        format!("{} members{place}", numbers::count(group.members.into()))
    };
    workload.sessions.iter().enumerate().map(name).collect()
}

/// One instance of several, warm-up apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceFigures {
    /// Its name.
    pub instance: String,
    /// Partitions that it owned at the end.
    pub owned_at_end: u32,
    /// Events that came to it.
    pub events: u64,
    /// Recipients that it pushed to.
    pub pushes: u64,
    /// Partitions that came to it, by how: `clean`, `cut`, `unclean`.
    pub moved_in: BTreeMap<String, u64>,
    /// CPU of its processes, all threads.
    pub cpu_seconds: f64,
    /// The most memory that one of its processes held.
    pub peak_rss_mib: f64,
}

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// `leave`, `join` or `kill`.
    pub change: String,
    /// Who.
    pub instance: String,
    /// When, in seconds since the measured load began.
    pub at_seconds: f64,
    /// The longest that a push waited from its publish until it came, from this step to the next one or the end.
    pub longest_wait_ms: f64,
    /// Of one that left: from SIGTERM until its process had ended.
    pub ended_after_seconds: Option<f64>,
}

/// One of the engine's own stage histograms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageFigures {
    /// Its name, as the engine's metrics have it.
    pub stage: String,
    /// Its values.
    pub latency: LatencyFigures,
}

/// One second of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecondFigures {
    /// Seconds since the warm-up ended, at this one's end.
    pub at_seconds: f64,
    /// Pushes that came in it.
    pub pushes: u64,
    /// Their median latency.
    pub p50_ms: f64,
    /// Their 99th percentile.
    pub p99_ms: f64,
    /// The worst of them.
    pub max_ms: f64,
    /// The engine's CPU in it, as a share of one CPU.
    pub engine_cpus: f64,
}

/// The histograms behind a [`RunResult`], in nanoseconds.
pub struct Histograms {
    /// All pushes after the warm-up.
    pub all: Histogram<u64>,
    /// Each second's: when it ended, in seconds after the warm-up, how long it was, and its values.
    pub seconds: Vec<(f64, f64, Histogram<u64>)>,
}

impl LatencyFigures {
    /// Reads them from a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let count = histogram.len();
        if count == 0 {
            return Self::default();
        }
        Self {
            count,
            mean_ms: histogram.mean() / 1e6,
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: histogram.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names_of_their_own() {
        let mut workload = Workload::find("mixed").expect("mixed");
        assert_eq!(group_names(&workload), ["2 members", "100 members", "5,000 members"]);
        workload.sessions[2].members = 2;
        assert_eq!(group_names(&workload), ["2 members (group 1)", "100 members", "2 members (group 3)"]);
    }
}
