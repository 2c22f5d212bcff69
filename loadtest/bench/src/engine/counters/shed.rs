//! What an engine counted of fleeting events.

use harness::pages;
use harness::verdict::ShedByEngine;
use task_engine::model::outcome::RecipientOutcome::{Delivered, Shed, SkippedSender};
use task_engine::model::priority::{Priority, ShedReason};

use super::{Counters, sum};

const RECIPIENTS: &str = "recipients_shed";
const WHOLE_EVENTS: &str = "events_shed_as_they_came";
const UNREACHED: &str = "fleeting_recipients_unreached";

/// Those of a page, by the names under which they are kept; none where events have no classes.
pub(super) fn of(page: &str) -> Vec<(String, u64)> {
    let Some(recipients) = sum(page, "task_engine_recipients_shed_total") else { return Vec::new() };
    let those = |name, is_one: fn(&str) -> bool| {
        let values = pages::series(page, name).filter(|(labels, _)| is_one(labels)).map(|(_, value)| value as u64);
        values.sum::<u64>()
    };
    let whole_events =
        those("task_engine_events_shed_total", |labels| has(labels, "reason", ShedReason::Shard.label()));
    let unreached = those("task_engine_recipients_ended_by_class_total", |labels| {
        let is_other = [Delivered, SkippedSender, Shed].iter().all(|end| !has(labels, "end", end.label()));
        has(labels, "class", Priority::Fleeting.label()) && is_other
    });
    let all = [(RECIPIENTS, recipients), (WHOLE_EVENTS, whole_events), (UNREACHED, unreached)];
    all.map(|(name, count)| (name.to_owned(), count)).into()
}

pub(super) fn has(labels: &str, name: &str, value: &str) -> bool {
    labels.contains(&format!("{name}=\"{value}\""))
}

impl Counters {
    /// What it says of fleeting events since the engine's start.
    pub fn shed(&self) -> ShedByEngine {
        let count = |name| self.0.get(name).copied().unwrap_or(0);
        ShedByEngine { recipients: count(RECIPIENTS), whole_events: count(WHOLE_EVENTS), unreached: count(UNREACHED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shed_is_told_from_what_was_not_reached() {
        let page = "task_engine_events_shed_total{reason=\"shard\"} 3\ntask_engine_events_shed_total{reason=\"late\"} 5\n\
                    task_engine_recipients_shed_total{reason=\"late\"} 50\ntask_engine_recipients_shed_total{reason=\"outbox\"} 7\n\
                    task_engine_recipients_ended_by_class_total{class=\"fleeting\",end=\"delivered\"} 900\n\
                    task_engine_recipients_ended_by_class_total{class=\"fleeting\",end=\"skipped_sender\"} 90\n\
                    task_engine_recipients_ended_by_class_total{class=\"fleeting\",end=\"shed\"} 57\n\
                    task_engine_recipients_ended_by_class_total{class=\"fleeting\",end=\"offline\"} 4\n\
                    task_engine_recipients_ended_by_class_total{class=\"bulk\",end=\"offline\"} 8\n";
        assert_eq!(Counters::of(page).shed(), ShedByEngine { recipients: 57, whole_events: 3, unreached: 4 });
    }

    #[test]
    fn of_an_engine_without_classes_nothing_is_said() {
        assert!(of("task_engine_turns_total 5\n").is_empty());
        assert_eq!(Counters::default().shed(), ShedByEngine::default());
    }
}
