//! What an engine counted of each class.

use harness::pages;
use task_engine::model::priority::Priority;

use super::Counters;
use super::shed::has;

/// The events that ended, by class, under the names under which they are kept; none where events have no classes.
pub(super) fn of(page: &str) -> Vec<(String, u64)> {
    let lines = || pages::series(page, "task_engine_events_ended_by_class_total");
    let of_class = |class: &Priority| {
        let values = lines().filter(|(labels, _)| has(labels, "class", class.label())).map(|(_, value)| value as u64);
        values.reduce(|sum, value| sum + value).map(|sum| (name_of(*class), sum))
    };
    Priority::ALL.iter().filter_map(of_class).collect()
}

fn name_of(class: Priority) -> String {
    format!("events_ended_{}", class.label())
}

impl Counters {
    /// Events that ended since the engine's start, as [`Priority::ALL`] has the classes; none of an engine that counts no events.
    pub fn ended_by_class(&self) -> Option<[u64; Priority::COUNT]> {
        let count = |class: Priority| self.0.get(&name_of(class)).copied().unwrap_or(0);
        self.0.contains_key("events_ended").then(|| std::array::from_fn(|at| count(Priority::ALL[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: &str = "task_engine_events_ended_total{end=\"settled\",shard=\"0\"} 9\n";

    #[test]
    fn the_ends_of_a_class_are_summed_up() {
        let by_class = "task_engine_events_ended_by_class_total{class=\"urgent\",end=\"settled\"} 3\n\
                        task_engine_events_ended_by_class_total{class=\"bulk\",end=\"settled\"} 4\n\
                        task_engine_events_ended_by_class_total{class=\"bulk\",end=\"lookup_failed\"} 2\n";
        assert_eq!(Counters::of(&format!("{ENDED}{by_class}")).ended_by_class(), Some([3, 0, 6, 0]));
    }

    #[test]
    fn an_engine_that_counts_events_and_no_classes_has_none_of_each_and_another_engine_says_nothing() {
        assert_eq!(Counters::of(ENDED).ended_by_class(), Some([0; 4]));
        assert_eq!(Counters::of("reference_events_total 9\n").ended_by_class(), None);
    }
}
