//! What an instance used and counted.

use std::collections::BTreeMap;

use harness::pages::{self, Page};

use crate::cost::Cpu;
use crate::engine::{Counters, Process};
use crate::result::InstanceFigures;

const ARRIVED: &str = "task_engine_events_arrived_total";
const ENDED: &str = "task_engine_recipients_ended_total";
const STATES: &str = "task_engine_partitions";
const EPOCHS: &str = "task_engine_partition_owner_epoch";
const PAUSES: &str = "task_engine_partition_pause_seconds_bucket";
const MOVES: &str = "task_engine_partition_moves_total";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// CPU time.
    pub cpu: Cpu,
    /// The most memory that one of its processes held.
    pub peak_rss_mib: f64,
    /// What a run's document keeps of all engines together.
    pub counters: Counters,
    events: u64,
    pushes: u64,
    /// Partitions that came, by how.
    moved_in: BTreeMap<String, u64>,
}

impl Tally {
    /// Of a process that runs.
    pub fn read(process: &Process, admin_port: u16) -> Self {
        let page = pages::get(admin_port, "/metrics").and_then(Page::ok).unwrap_or_default();
        let sum = |name, label: &str| {
            let those = pages::series(&page, name).filter(|(labels, _)| labels.contains(label));
            those.map(|(_, value)| value).sum::<f64>() as u64
        };
        Self {
            cpu: process.cpu().unwrap_or_default(),
            peak_rss_mib: process.peak_rss_mib().unwrap_or_default(),
            events: sum(ARRIVED, ""),
            pushes: sum(ENDED, "end=\"delivered\""),
            moved_in: moved_in(&page),
            counters: Counters::of(&page),
        }
    }

    /// With another process's.
    pub fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.plus(other.cpu);
        self.peak_rss_mib = self.peak_rss_mib.max(other.peak_rss_mib);
        self.events += other.events;
        self.pushes += other.pushes;
        self.counters.add(&other.counters);
        for (kind, moves) in &other.moved_in {
            *self.moved_in.entry(kind.clone()).or_default() += moves;
        }
    }

    /// What came after `earlier`; memory is of all time.
    pub fn since(mut self, earlier: &Self) -> Self {
        self.cpu = self.cpu.since(earlier.cpu);
        self.events = self.events.saturating_sub(earlier.events);
        self.pushes = self.pushes.saturating_sub(earlier.pushes);
        for (kind, moves) in &mut self.moved_in {
            *moves = moves.saturating_sub(earlier.moved_in.get(kind).copied().unwrap_or(0));
        }
        self
    }

    /// As a document has it.
    pub fn figures(self, instance: &str, owned_at_end: u32) -> InstanceFigures {
        let Self { cpu, peak_rss_mib, events, pushes, moved_in, .. } = self;
        let (instance, cpu_seconds) = (instance.to_owned(), cpu.total());
        InstanceFigures { instance, owned_at_end, events, pushes, moved_in, cpu_seconds, peak_rss_mib }
    }
}

/// Partitions that came, by how.
pub fn moved_in(page: &str) -> BTreeMap<String, u64> {
    let moves = pages::series(page, MOVES).filter(|(labels, _)| labels.contains("way=\"in\""));
    let kind = |labels: &str| labels.split("kind=\"").nth(1)?.split('"').next().map(str::to_owned);
    moves.filter_map(|(labels, value)| Some((kind(labels)?, value as u64))).collect()
}

/// Adds a page's pauses of clean moves, by bound in seconds.
pub(super) fn add_buckets(sum: Vec<(f64, u64)>, page: &str) -> Vec<(f64, u64)> {
    let clean = pages::series(page, PAUSES).filter(|(labels, _)| labels.contains("kind=\"clean\""));
    let bound = |labels: &str| match labels.split("le=\"").nth(1)?.split('"').next()? {
        "+Inf" => Some(f64::INFINITY),
        bound => bound.parse().ok(),
    };
    let buckets = clean.filter_map(|(labels, value)| Some((bound(labels)?, value as u64)));
    let buckets: Vec<_> = buckets.collect();
    if sum.is_empty() {
        return buckets;
    }
    // Engines of one build have the same bounds.
    sum.into_iter().zip(buckets).map(|((bound, all), (_, more))| (bound, all + more)).collect()
}

/// How many partitions are owned, by a page of metrics; none when there is no such line on it.
pub(super) fn owned(page: &str) -> Option<u32> {
    let owned = pages::series(page, STATES).find(|(labels, _)| labels.contains("state=\"owned\""));
    owned.map(|(_, value)| value as u32)
}

/// Which.
pub(super) fn owns(page: &str) -> Vec<u32> {
    let number = |labels: &str| labels.split('"').nth(1)?.parse().ok();
    pages::series(page, EPOCHS).filter_map(|(labels, _)| number(labels)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "task_engine_partitions{state=\"absent\"} 40\ntask_engine_partitions{state=\"owned\"} 24\n\
                        task_engine_partition_owner_epoch{partition=\"7\"} 3\ntask_engine_partition_owner_epoch{partition=\"12\"} 1\n\
                        task_engine_partition_moves_total{kind=\"clean\",way=\"in\"} 5\n\
                        task_engine_partition_moves_total{kind=\"unclean\",way=\"in\"} 2\n\
                        task_engine_partition_moves_total{kind=\"clean\",way=\"out\"} 9\n";

    #[test]
    fn what_is_owned_and_what_came_is_read_from_the_page() {
        assert_eq!((owned(PAGE), owned("")), (Some(24), None));
        assert_eq!(owns(PAGE), [7, 12]);
        let moved = moved_in(PAGE);
        assert_eq!(moved, BTreeMap::from([("clean".to_owned(), 5), ("unclean".to_owned(), 2)]));
    }

    #[test]
    fn what_an_ended_process_counted_stays_and_what_was_before_is_left_out() {
        let tally = |events, clean| Tally {
            events,
            moved_in: BTreeMap::from([("clean".to_owned(), clean)]),
            peak_rss_mib: events as f64,
            ..Tally::default()
        };
        let mut all = tally(5, 1);
        all.add(&tally(7, 2));
        let figures = all.since(&tally(4, 1)).figures("a", 3);
        assert_eq!((figures.events, figures.moved_in["clean"], figures.peak_rss_mib), (8, 2, 7.0));
        assert_eq!((figures.instance.as_str(), figures.owned_at_end), ("a", 3));
    }
}
