//! A model of JetStream: one stream of partitions, consumers by generation, pulls, explicit acks, redelivery. While the cluster is
//! split, one server goes on with a copy of what it knew.

use std::collections::{BTreeMap, BTreeSet};

use task_engine::model::ids::Partition;
use task_engine::model::ownership::Generation;
use task_engine::ownership::facts::ConsumerInfo;

/// After this an event that was not acknowledged is delivered again.
pub const ACK_WAIT: u64 = 4_000_000_000;
/// Events of a consumer that are not acknowledged.
const WINDOW: usize = 16;

/// Which consumer.
pub type Name = (Partition, Generation);

/// An event on its way to who pulls.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Of which consumer.
    pub of: Name,
    /// Counts its deliveries.
    pub number: u64,
    /// The event.
    pub sequence: u64,
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    start: u64,
    /// When it was made.
    pub created: u64,
    /// The next stream sequence that was never delivered.
    next: u64,
    /// Deliveries so far.
    pub delivered: u64,
    /// Not acknowledged, and when each is delivered again.
    pub pending: BTreeMap<u64, u64>,
    acked: BTreeSet<u64>,
    /// Who pulls: the process, by number.
    pub pullers: Vec<usize>,
}

/// All consumers, as a server knows them.
#[derive(Clone, Default)]
pub struct Broker {
    /// Each event's partition, by stream sequence less one.
    pub stream: Vec<Partition>,
    /// By name.
    pub consumers: BTreeMap<Name, Consumer>,
    /// The last message of each subject of `<stream>_OWN`.
    pub published: BTreeMap<Name, Vec<u8>>,
    made: u64,
}

impl Broker {
    /// An event was stored; its sequence.
    pub fn publish(&mut self, partition: Partition) -> u64 {
        self.stream.push(partition);
        self.stream.len() as u64
    }

    /// Makes a consumer, unless there is one.
    pub fn create(&mut self, name: Name, start: u64) -> ConsumerInfo {
        self.made += 1;
        let consumer = Consumer {
            start: start.max(1),
            created: self.made,
            next: start.max(1),
            delivered: 0,
            pending: BTreeMap::new(),
            acked: BTreeSet::new(),
            pullers: Vec::new(),
        };
        self.consumers.entry(name).or_insert(consumer);
        self.info(name).unwrap_or_default()
    }

    /// INFO.
    pub fn info(&self, name: Name) -> Option<ConsumerInfo> {
        let consumer = self.consumers.get(&name)?;
        // As 2.9.10: 0 until the first ack.
        let floor = if consumer.acked.is_empty() { 0 } else { self.floor(name.0, consumer) };
        Some(ConsumerInfo { floor, start: consumer.start, delivered: consumer.delivered, created: consumer.created })
    }

    fn floor(&self, partition: Partition, consumer: &Consumer) -> u64 {
        let first_pending = consumer.pending.keys().next().copied();
        let last =
            self.stream[..(consumer.next as usize - 1).min(self.stream.len())].iter().rposition(|of| *of == partition);
        first_pending.map_or(last.map_or(0, |at| at as u64 + 1), |first| first - 1)
    }

    /// An ack.
    pub fn ack(&mut self, name: Name, sequence: u64) {
        if let Some(consumer) = self.consumers.get_mut(&name)
            && consumer.pending.remove(&sequence).is_some()
        {
            consumer.acked.insert(sequence);
        }
    }

    /// A standing pull; false when there is no such consumer.
    pub fn pull(&mut self, name: Name, who: usize) -> bool {
        let Some(consumer) = self.consumers.get_mut(&name) else { return false };
        if !consumer.pullers.contains(&who) {
            consumer.pullers.push(who);
        }
        true
    }

    /// A pull ends.
    pub fn unsubscribe(&mut self, name: Name, who: usize) {
        if let Some(consumer) = self.consumers.get_mut(&name) {
            consumer.pullers.retain(|puller| *puller != who);
        }
    }

    /// All pulls of a connection end.
    pub fn disconnect(&mut self, who: usize) {
        self.consumers.values_mut().for_each(|consumer| consumer.pullers.retain(|puller| *puller != who));
    }

    /// What is delivered now, and to whom. `may_pull` says whose connection is on this server.
    pub fn deliveries(
        &mut self,
        now: u64,
        may_pull: impl Fn(usize) -> bool,
        mut pick: impl FnMut(usize) -> usize,
    ) -> Vec<(usize, Delivery)> {
        let mut out = Vec::new();
        for (name, consumer) in &mut self.consumers {
            let pullers: Vec<usize> = consumer.pullers.iter().copied().filter(|who| may_pull(*who)).collect();
            if pullers.is_empty() {
                continue;
            }
            let due = consumer.pending.iter().filter(|(_, due)| **due <= now).map(|(sequence, _)| *sequence);
            let mut deliver: Vec<u64> = due.collect();
            while consumer.pending.len() + deliver.len() < WINDOW && consumer.next <= self.stream.len() as u64 {
                let sequence = consumer.next;
                consumer.next += 1;
                if self.stream[sequence as usize - 1] == name.0 {
                    deliver.push(sequence);
                    consumer.pending.insert(sequence, 0);
                }
            }
            for sequence in deliver {
                consumer.delivered += 1;
                consumer.pending.insert(sequence, now + ACK_WAIT);
                let delivery = Delivery { of: *name, number: consumer.delivered, sequence };
                out.push((pullers[pick(pullers.len())], delivery));
            }
        }
        out
    }
}
