//! The engine's own counters, read from its page `/metrics`.
//!
//! Refuses nothing: an engine without that page, or without one of them, is said nothing of.

mod classes;
mod shed;

use std::collections::BTreeMap;

use harness::pages::{self, Page};

/// What a run's document keeps, as the page names them between `task_engine_` and `_total`.
const KEPT: [&str; 18] = [
    "events_ended",
    "member_queries",
    "member_query_sessions",
    "mgets",
    "mget_keys",
    "route_changes",
    "rerouted_recipients",
    "resent_recipients",
    "gateway_breaks",
    "frame_bytes",
    "content_asks",
    "inbox_asked_rows",
    "recipient_copies",
    "recipient_copies_missed",
    "turns",
    "notices",
    "notices_conflated",
    "notices_without_content",
];

/// Ends of recipients that it keeps as well.
const ENDS: [&str; 3] = ["readable", "noticed", "conflated"];
/// Ends of events that are another one's as well, or after which the event comes again.
const ENDS_THAT_DO_NOT_COUNT: [&str; 3] = ["repeat", "given_back", "cut_by_stop"];

/// How many events have ended for good since the engine's start; `None` while some are in flight.
pub fn events_ended(port: u16) -> Option<u64> {
    let page = pages::get(port, "/metrics").and_then(Page::ok)?;
    let in_flight = sum(&page, "task_engine_events_in_flight").unwrap_or(0);
    let ended = pages::series(&page, "task_engine_events_ended_total");
    let counted = ended.filter(|(labels, _)| ENDS_THAT_DO_NOT_COUNT.iter().all(|end| !shed::has(labels, "end", end)));
    let counted = counted.map(|(_, value)| value as u64).sum();
    (in_flight == 0).then_some(counted)
}

/// Counts since the engine's start, by name.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads them.
    pub fn read(port: u16) -> Self {
        Self::of(&pages::get(port, "/metrics").and_then(Page::ok).unwrap_or_default())
    }

    /// Those of a page.
    pub fn of(page: &str) -> Self {
        let kept =
            KEPT.iter().filter_map(|name| Some((name.to_string(), sum(page, &format!("task_engine_{name}_total"))?)));
        let ended = ENDS.iter().filter_map(|end| {
            let ended = pages::series(page, "task_engine_recipients_ended_total");
            let such = ended.filter(|(labels, _)| shed::has(labels, "end", end)).map(|(_, value)| value as u64);
            such.reduce(|sum, value| sum + value).map(|count| (end.to_string(), count))
        });
        Self(kept.chain(ended).chain(shed::of(page)).chain(classes::of(page)).collect())
    }

    /// With those of another engine.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    /// Rows that were asked of the inbox.
    pub fn asked_rows(&self) -> u64 {
        self.0.get("inbox_asked_rows").copied().unwrap_or(0)
    }

    /// Recipients who were told by notices: of a message by its own, and by that of a newer one.
    pub fn told(&self) -> [u64; 2] {
        ["noticed", "conflated"].map(|end| self.0.get(end).copied().unwrap_or(0))
    }

    /// What was counted since `earlier`.
    pub fn since(mut self, earlier: &Self) -> BTreeMap<String, u64> {
        for (name, count) in &mut self.0 {
            *count = count.saturating_sub(earlier.0.get(name).copied().unwrap_or(0));
        }
        self.0
    }
}

/// The sum of a counter over all its labels; none when the page does not have it.
pub(super) fn sum(page: &str, name: &str) -> Option<u64> {
    let values = pages::series(page, name).map(|(_, value)| value);
    values.reduce(|sum, value| sum + value).map(|sum| sum as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let page = "task_engine_mgets_total{shard=\"0\"} 5\ntask_engine_mgets_total{shard=\"1\"} 7\n";
        assert_eq!(sum(page, "task_engine_mgets_total"), Some(12));
        assert_eq!(sum(page, "task_engine_mget_keys_total"), None);
    }

    #[test]
    fn what_was_counted_before_is_left_out() {
        let counters = |mgets| Counters(BTreeMap::from([("mgets".to_owned(), mgets)]));
        assert_eq!(counters(12).since(&counters(5)), BTreeMap::from([("mgets".to_owned(), 7)]));
        assert_eq!(counters(12).since(&Counters::default()), BTreeMap::from([("mgets".to_owned(), 12)]));
    }
}
