//! What keys mean that say who this instance is, and which partitions it may read.

use super::sections::{Assignment, Config, ConsumerConfig, EngineConfig, Ownership};
use crate::model::priority::PriorityRules;

impl ConsumerConfig {
    /// The stream that takes the plain topic while the partitioner is on.
    pub fn input_stream(&self) -> String {
        format!("{}_IN", self.stream)
    }

    /// The subjects that the stream of events takes.
    pub fn stream_subjects(&self) -> Vec<String> {
        let topics = [&self.topic, &self.urgent_topic].into_iter().filter(|topic| !topic.is_empty());
        match self.assignment {
            Assignment::Queue => topics.cloned().collect(),
            Assignment::Partitioned => topics.map(|topic| format!("{topic}.*")).collect(),
        }
    }

    /// `consumer.durable` as one would write it: empty where the queue group's name is used.
    pub(super) fn durable_in_key(&self) -> String {
        if self.durable == self.queue_group { String::new() } else { self.durable.clone() }
    }

    /// What the assignment does not promise to several instances, and what to use instead.
    pub fn of_several(&self) -> Option<&'static str> {
        (self.assignment == Assignment::Queue).then_some(
            "consumer.assignment queue: with several instances the order of a session's events is not kept, and a copy of an event that \
             comes to another instance is pushed again; for several, set mode jetstream, assignment partitioned and ownership etcd \
             (and partitioner on where publishers know no partitions)",
        )
    }

    /// Whether partitions have owners: readers begin with none, and what may be done ends with a permit.
    pub fn is_owned(&self) -> bool {
        self.ownership == Ownership::Etcd
    }
}

impl Config {
    /// By which rules events get their class.
    pub fn rules_of_classes(&self) -> PriorityRules {
        PriorityRules { has_urgent_topic: !self.consumer.urgent_topic.is_empty(), ..self.priority.clone() }
    }
}

impl EngineConfig {
    /// `engine.instance` as one would write it: empty where the host's name is used.
    pub(super) fn instance_in_key(&self) -> String {
        if self.instance == host_name() { String::new() } else { self.instance.clone() }
    }
}

/// The host's name as an instance may have it.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_good = |letter: char| letter.is_ascii_graphic() && !['.', '*', '>', '/', '\\'].contains(&letter);
    let name: String = name.chars().map(|letter| if is_good(letter) { letter } else { '-' }).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
