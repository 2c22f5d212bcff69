//! What one reader reads of a stream: its consumers, and how much of them at once.

use std::time::Duration;

use crate::config::{Assignment, ConsumerConfig};
use crate::model::ids::{Partition, ShardId};
use crate::model::limits::{JETSTREAM_PARTITION_WINDOW_MIN, PARTITIONER_WINDOW, URGENT_RESERVE_PART};
use crate::model::ownership::Generation;

/// One consumer of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConsumerPlan {
    pub name: String,
    pub filter: String,
}

#[derive(Clone, Debug)]
pub(in crate::edge::nats) struct ReaderPlan {
    pub reader: u16,
    /// The shard whose partitions they are; none: each event goes to its session's shard.
    pub own: Option<ShardId>,
    pub stream: String,
    /// What the names of its consumers begin with.
    pub(super) durable: String,
    pub(super) consumers: Vec<ConsumerPlan>,
    /// Partition numbers of the consumers: the first, and the step to the next.
    partitions: (u32, u32),
    /// It is the input stream of the partitioner.
    pub(in crate::edge::nats) is_input: bool,
    /// What it reads is urgent.
    pub(super) is_urgent: bool,
    /// Another reader reads this subject: none of the consumers may bring it.
    pub(super) apart: Option<String>,
    pub(super) ack_wait: Duration,
    /// Events out of one consumer.
    pub(super) window: u32,
    /// It begins with no consumer and is told which to read: there is one for each partition, without a name until then.
    pub(super) is_owned: bool,
}

impl ReaderPlan {
    /// The plan of each reader, at the place of its number: those of the topic, then those of urgent events. With partitions each has its
    /// share of the window, but at least [`JETSTREAM_PARTITION_WINDOW_MIN`].
    pub(in crate::edge::nats) fn all(config: &ConsumerConfig, shards: u16, partitions: u32) -> Vec<Self> {
        let mut all = Self::of_topic(config, shards, partitions);
        if config.urgent_topic.is_empty() {
            return all;
        }
        all.iter_mut().for_each(|plan| plan.apart = Some(config.urgent_topic.clone()));
        let urgent = ConsumerConfig {
            topic: config.urgent_topic.clone(),
            durable: format!("{}-urgent", config.durable),
            max_ack_pending: (config.max_ack_pending / URGENT_RESERVE_PART as u32).max(JETSTREAM_PARTITION_WINDOW_MIN),
            ..config.clone()
        };
        let first = all.len() as u16;
        all.extend((first..).zip(Self::of_topic(&urgent, shards, partitions)).map(|(reader, plan)| Self {
            reader,
            is_urgent: true,
            apart: Some(config.topic.clone()),
            ..plan
        }));
        all
    }

    fn of_topic(config: &ConsumerConfig, shards: u16, partitions: u32) -> Vec<Self> {
        let topic = &config.topic;
        let one = |reader, own, consumers, partitions, window| Self {
            reader,
            own,
            stream: config.stream.clone(),
            durable: config.durable.clone(),
            consumers,
            partitions,
            is_input: false,
            is_urgent: false,
            apart: None,
            ack_wait: config.ack_wait,
            window,
            is_owned: false,
        };
        match config.assignment {
            Assignment::Queue => {
                let consumer = ConsumerPlan { name: config.durable.clone(), filter: topic.clone() };
                vec![one(0, None, vec![consumer], (0, 1), config.max_ack_pending.max(1))]
            }
            Assignment::Partitioned => {
                let window = partition_window(config, partitions);
                let of = |partition| ConsumerPlan {
                    name: format!("{}-{partition}", config.durable),
                    filter: format!("{topic}.{partition}"),
                };
                let reader = |shard: u16| {
                    let first = u32::from(shard);
                    let consumers: Vec<_> = (first..partitions).step_by(usize::from(shards)).map(of).collect();
                    one(shard, Some(ShardId(shard)), consumers, (first, u32::from(shards)), window)
                };
                (0..shards).map(reader).filter(|plan| !plan.consumers.is_empty()).collect()
            }
        }
    }

    /// On which of so many shards its reader runs.
    pub(in crate::edge::nats) fn shard(&self, shards: u16) -> ShardId {
        self.own.unwrap_or(ShardId(self.reader % shards))
    }

    /// The same where partitions have owners: each shard has a reader, which may be told to read any of them.
    pub(in crate::edge::nats) fn owned(config: &ConsumerConfig, shards: u16, partitions: u32) -> Vec<Self> {
        let of = |partition| ConsumerPlan { name: String::new(), filter: format!("{}.{partition}", config.topic) };
        let reader = |shard| Self {
            reader: shard,
            own: Some(ShardId(shard)),
            stream: config.stream.clone(),
            durable: config.durable.clone(),
            consumers: (0..partitions).map(of).collect(),
            partitions: (0, 1),
            ack_wait: config.ack_wait,
            window: partition_window(config, partitions),
            is_input: false,
            is_urgent: false,
            apart: None,
            is_owned: true,
        };
        (0..shards).map(reader).collect()
    }

    /// The plan of the partitioner's reader, which is the next after `reader` others.
    pub(in crate::edge::nats) fn input(config: &ConsumerConfig, reader: u16) -> Self {
        let name = Generation::default().input_consumer_name(&config.durable);
        Self {
            reader,
            own: Some(ShardId(0)),
            stream: config.input_stream(),
            consumers: vec![ConsumerPlan { name, filter: config.topic.clone() }],
            durable: config.durable.clone(),
            partitions: (config.partitions, 1),
            is_input: true,
            is_urgent: false,
            apart: None,
            ack_wait: config.ack_wait,
            window: config.max_ack_pending.clamp(1, PARTITIONER_WINDOW),
            is_owned: false,
        }
    }

    /// The same where partitions have owners, of which the input stream is one more: it is told which generation to read.
    pub(in crate::edge::nats) fn owned_input(config: &ConsumerConfig, reader: u16) -> Self {
        let consumers = vec![ConsumerPlan { name: String::new(), filter: config.topic.clone() }];
        Self { consumers, is_owned: true, ..Self::input(config, reader) }
    }

    /// The place of a partition among the consumers.
    pub(super) fn place(&self, partition: Partition) -> Option<usize> {
        let (first, step) = self.partitions;
        let at = (partition.0.checked_sub(first)? / step) as usize;
        (at < self.consumers.len()).then_some(at)
    }

    /// The partition at a place.
    pub(super) fn partition(&self, at: usize) -> Partition {
        let (first, step) = self.partitions;
        Partition(first + at as u32 * step)
    }

    /// What a generation of a partition is called.
    pub(super) fn name_of(&self, partition: Partition, generation: Generation) -> String {
        match self.is_input {
            true => generation.input_consumer_name(&self.durable),
            false => generation.consumer_name(&self.durable, partition),
        }
    }

    /// How many events of all consumers may be out.
    pub(in crate::edge::nats) fn events_out_max(&self) -> usize {
        self.window as usize * self.consumers.len()
    }

    /// It begins with no consumer and is told which to read.
    pub(in crate::edge::nats) fn is_owned(&self) -> bool {
        self.is_owned
    }

    /// The consumers are partitions: the order of their events is kept.
    pub(super) fn is_ordered(&self) -> bool {
        self.own.is_some()
    }

    /// Which of the consumers a name is.
    pub(super) fn consumer(&self, name: &str) -> Option<usize> {
        let at = match self.own {
            None => 0,
            Some(_) if self.is_input => 0,
            Some(_) => {
                let (start, end) = name.rsplit_once('-')?;
                let is_generation = self.is_owned && end.starts_with('g');
                let partition = if is_generation { start.rsplit_once('-')?.1 } else { end };
                self.place(Partition(partition.parse().ok()?))?
            }
        };
        (self.consumers.get(at)?.name == name).then_some(at)
    }

    /// Those that are read, each with its place.
    pub(super) fn read(&self) -> impl Iterator<Item = (usize, &ConsumerPlan)> {
        self.consumers.iter().enumerate().filter(|(_, consumer)| !consumer.name.is_empty())
    }
}

/// Events out of one partition.
pub(super) fn partition_window(config: &ConsumerConfig, partitions: u32) -> u32 {
    (config.max_ack_pending / partitions.max(1)).max(JETSTREAM_PARTITION_WINDOW_MIN)
}

/// The partition and the generation that a consumer's name says, if it is one of ours.
pub(super) fn named(durable: &str, name: &str) -> Option<(Partition, Generation)> {
    let rest = name.strip_prefix(durable)?.strip_prefix('-')?;
    let (partition, generation) = match rest.split_once("-g") {
        Some((partition, generation)) => (partition, generation.parse().ok()?),
        None => (rest, 0),
    };
    let which = (Partition(partition.parse().ok()?), Generation(generation));
    (which.1.consumer_name(durable, which.0) == name).then_some(which)
}

/// The same of the input stream, which has one partition.
pub(super) fn named_input(durable: &str, name: &str) -> Option<Generation> {
    let rest = name.strip_prefix(durable)?.strip_prefix("-in")?;
    let generation = match rest.strip_prefix("-g") {
        Some(generation) => Generation(generation.parse().ok()?),
        None => Generation::default(),
    };
    (generation.input_consumer_name(durable) == name).then_some(generation)
}
