//! Which shard of this instance has which partition: the one with the fewest. The partitioner's reader runs on the first.

use super::Ownership;
use super::slot::Phase;
use crate::model::ids::{Partition, ShardId};
use crate::model::ownership::ShardOrder;
use crate::ownership::facts::Intention;

impl Ownership {
    /// The partition's shard; chosen now when it has none.
    pub(super) fn shard_of(&mut self, partition: Partition) -> ShardId {
        if let Some(shard) = self.slots[partition.0 as usize].shard {
            return shard;
        }
        if self.settings.is_input(partition) {
            self.loads[0] += 1;
            self.slot(partition).shard = Some(ShardId(0));
            return ShardId(0);
        }
        let fewest = self.loads.iter().enumerate().min_by_key(|(at, load)| (**load, *at)).map_or(0, |(at, _)| at);
        let shard = ShardId(fewest as u16);
        self.loads[fewest] += 1;
        self.slot(partition).shard = Some(shard);
        shard
    }

    /// Gives an order to the partition's shard.
    pub(super) fn order(&mut self, partition: Partition, order: ShardOrder) {
        let shard = self.shard_of(partition);
        self.out.push(Intention::Order { shard, order });
    }

    /// The shard to which a partition should move within this instance: one that has at least two fewer, while nothing else moves.
    pub(super) fn better_shard(&self, partition: Partition) -> Option<ShardId> {
        let shard = self.slots[partition.0 as usize].shard.filter(|_| !self.settings.is_input(partition))?;
        let own = self.loads[usize::from(shard.0)];
        let (fewest, load) = self.loads.iter().enumerate().min_by_key(|(at, load)| (**load, *at))?;
        let is_calm =
            || self.mine.iter().all(|other| *other == partition || self.slots[other.0 as usize].phase == Phase::Owned);
        (load + 2 <= own && is_calm()).then_some(ShardId(fewest as u16))
    }

    /// Puts a partition that is closed onto another shard.
    pub(super) fn change_shard(&mut self, partition: Partition, to: ShardId) {
        let slot = self.slot(partition);
        if let Some(from) = slot.shard.replace(to) {
            self.loads[usize::from(from.0)] -= 1;
            self.out.push(Intention::Order { shard: from, order: ShardOrder::Drop { partition } });
        }
        self.loads[usize::from(to.0)] += 1;
    }
}
