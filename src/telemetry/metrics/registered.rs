//! Numbers that other parts of the engine add to the page: a row of the table and a closure that reads the values.

use super::declare::{Kind, Metric};

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Number(u64),
    /// Anything else, such as seconds.
    Real(f64),
    /// Values by size.
    Histogram {
        /// Their sum.
        sum: f64,
        /// How many fell below each bound (not cumulative); the last bound is infinite.
        buckets: Vec<(f64, u64)>,
    },
}

/// A line of the page: the values of the row's labels, and what stands behind them.
pub type Line = (Vec<String>, Value);

/// What is read when the page is.
pub(super) enum Read {
    /// One number, whose labels are known beforehand.
    Number(Vec<(&'static str, String)>, Box<dyn Fn() -> u64 + Send + Sync>),
    /// All lines of the row.
    Lines(Box<dyn Fn() -> Vec<Line> + Send + Sync>),
}

impl Read {
    fn labels(&self) -> &[(&'static str, String)] {
        match self {
            Self::Number(labels, _) => labels,
            Self::Lines(_) => &[],
        }
    }
}

/// A row, or a line of one.
pub(super) struct Registered {
    pub(super) metric: &'static Metric,
    pub(super) read: Read,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.metric.name;
        f.debug_struct("Registered").field("name", &name).field("labels", &self.read.labels()).finish_non_exhaustive()
    }
}

/// Puts `new` among `all`, which stay sorted by name; one of the same name and labels is replaced.
///
/// # Panics
/// When a single number is of another kind, or its labels are not those of its row: both are mistakes of the program.
pub(super) fn put(all: &mut Vec<Registered>, new: Registered) {
    let Metric { name, kind, labels, .. } = new.metric;
    if let Read::Number(given, _) = &new.read {
        assert!(matches!(kind, Kind::Counter | Kind::Gauge), "{name} is a {}, not one number", kind.word());
        assert!(given.iter().map(|label| label.0).eq(labels.iter().copied()), "{name} has the labels {labels:?}");
    }
    let start = all.partition_point(|one| one.metric.name < *name);
    let end = all.partition_point(|one| one.metric.name <= *name);
    match all[start..end].iter_mut().find(|one| one.read.labels() == new.read.labels()) {
        Some(old) => *old = new,
        None => all.insert(end, new),
    }
}
