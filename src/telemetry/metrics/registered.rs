//! Numbers that other parts of the engine add to the page: a name and a closure that reads it.

use super::snapshot::Kind;

/// One number that is read when the page is.
pub(super) struct Registered {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Puts `new` among `all`, which stay sorted by name; one of the same name and labels is replaced.
///
/// # Panics
/// When the name is not a metric name, or is there already as the other kind: both are mistakes of the program.
pub(super) fn put(all: &mut Vec<Registered>, new: Registered) {
    assert!(is_metric_name(new.name), "{:?} is not a metric name (lower case, no _total)", new.name);
    let start = all.partition_point(|one| one.name < new.name);
    let end = all.partition_point(|one| one.name <= new.name);
    let same_name = &mut all[start..end];
    assert!(same_name.iter().all(|one| one.kind == new.kind), "{} is registered as another kind", new.name);
    match same_name.iter_mut().find(|one| one.labels == new.labels) {
        Some(old) => *old = new,
        None => all.insert(end, new),
    }
}

fn is_metric_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !name.ends_with("_total")
}
