//! What keys mean that say who this instance is, and which partitions it may read.

use super::sections::{Assignment, Config, ConsumerConfig, ConsumerMode, EngineConfig, Ownership, Partitioner};
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

    /// Why `consumer.urgent_topic` cannot be read as the other keys are, and what to do instead; none where it can, or is not set.
    ///
    /// Owners and the partitioner each keep an order that has one subject: owners prove of one consumer a partition that nothing of their
    /// predecessor is under way, and the partitioner moves what one stream took.
    pub fn urgent_topic_fault(&self) -> Option<&'static str> {
        let (urgent, topic) = (&self.urgent_topic, &self.topic);
        if urgent.is_empty() {
            return None;
        }
        let after_topic = urgent.strip_prefix(topic.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let rules = [
            (
                self.mode == ConsumerMode::Core,
                "needs consumer.mode jetstream: in core NATS nothing waits that it could pass; publish on consumer.topic and give \
                 urgent events their class by priority.header or priority.types",
            ),
            (
                self.is_owned() || self.partitioner == Partitioner::On,
                "is not read with consumer.ownership etcd or consumer.partitioner on; take one of the two back, or leave \
                 consumer.urgent_topic out, publish on consumer.topic and give urgent events their class by priority.header or \
                 priority.types: then they pass others in the engine, though not in the stream",
            ),
            (
                urgent == topic,
                "is consumer.topic as well, so that each event would be pushed twice; take another subject",
            ),
            (
                after_topic.is_some_and(|rest| rest.parse::<u32>().is_ok()),
                "is the subject of a partition of consumer.topic; take one that does not end with a number",
            ),
            (
                urgent.strip_prefix(self.stream.as_str()).is_some_and(|rest| rest.starts_with("_DLQ.")),
                "is a subject of the dead letters; take another",
            ),
        ];
        rules.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
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
