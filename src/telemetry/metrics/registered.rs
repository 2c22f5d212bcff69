//! Numbers that other parts of the engine add to the page: a row of the table and a closure that reads the value.

use super::declare::{Kind, Metric};

/// One number that is read when the page is.
pub(super) struct Registered {
    pub(super) metric: &'static Metric,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.metric.name;
        f.debug_struct("Registered").field("name", &name).field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Puts `new` among `all`, which stay sorted by name; one of the same name and labels is replaced.
///
/// # Panics
/// When it is no plain number, or its labels are not those of its row: both are mistakes of the program.
pub(super) fn put(all: &mut Vec<Registered>, new: Registered) {
    let Metric { name, kind, labels, .. } = new.metric;
    assert!(matches!(kind, Kind::Counter | Kind::Gauge), "{name} is a {}, not one number", kind.word());
    assert!(new.labels.iter().map(|label| label.0).eq(labels.iter().copied()), "{name} has the labels {labels:?}");
    let start = all.partition_point(|one| one.metric.name < *name);
    let end = all.partition_point(|one| one.metric.name <= *name);
    match all[start..end].iter_mut().find(|one| one.labels == new.labels) {
        Some(old) => *old = new,
        None => all.insert(end, new),
    }
}
