//! What one reader reads of a stream: its consumers, and how much of them at once.

use std::time::Duration;

use crate::config::{Assignment, ConsumerConfig};
use crate::model::ids::ShardId;
use crate::model::limits::{JETSTREAM_PARTITION_WINDOW_MIN, PARTITIONER_WINDOW};
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
    pub(super) consumers: Vec<ConsumerPlan>,
    /// Partition numbers of the consumers: the first, and the step to the next.
    partitions: (u32, u32),
    /// It is the input stream of the partitioner.
    pub(in crate::edge::nats) is_input: bool,
    pub(super) ack_wait: Duration,
    /// Events out of one consumer.
    pub(super) window: u32,
}

impl ReaderPlan {
    /// The plan of each reader. With partitions each has its share of the window, but at least
    /// [`JETSTREAM_PARTITION_WINDOW_MIN`].
    pub(in crate::edge::nats) fn all(config: &ConsumerConfig, shards: u16, partitions: u32) -> Vec<Self> {
        let topic = &config.topic;
        let one = |reader, own, consumers, partitions, window| Self {
            reader,
            own,
            stream: config.stream.clone(),
            consumers,
            partitions,
            is_input: false,
            ack_wait: config.ack_wait,
            window,
        };
        match config.assignment {
            Assignment::Queue => {
                let consumer = ConsumerPlan { name: config.durable.clone(), filter: topic.clone() };
                vec![one(0, None, vec![consumer], (0, 1), config.max_ack_pending.max(1))]
            }
            Assignment::Partitioned => {
                let window = (config.max_ack_pending / partitions.max(1)).max(JETSTREAM_PARTITION_WINDOW_MIN);
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

    /// The plan of the partitioner's reader, which is the next after `reader` others.
    pub(in crate::edge::nats) fn input(config: &ConsumerConfig, reader: u16, generation: Generation) -> Self {
        let name = generation.input_consumer_name(&config.durable);
        Self {
            reader,
            own: Some(ShardId(0)),
            stream: config.input_stream(),
            consumers: vec![ConsumerPlan { name, filter: config.topic.clone() }],
            partitions: (0, 1),
            is_input: true,
            ack_wait: config.ack_wait,
            window: config.max_ack_pending.clamp(1, PARTITIONER_WINDOW),
        }
    }

    /// How many events of all consumers may be out.
    pub(in crate::edge::nats) fn events_out_max(&self) -> usize {
        self.window as usize * self.consumers.len()
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
                let partition: u32 = name.rsplit_once('-')?.1.parse().ok()?;
                (partition.checked_sub(self.partitions.0)? / self.partitions.1) as usize
            }
        };
        (self.consumers.get(at)?.name == name).then_some(at)
    }
}
