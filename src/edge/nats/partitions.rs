//! The way to the readers of partitions that have owners: orders in, words out.

use std::fmt;
use std::sync::Arc;

use super::Shared;
use super::control::Mail;
use crate::model::ids::ShardId;
use crate::model::ownership::{ShardOrder, ShardWord};
use crate::ports::ownership::ShardDesk;

/// See the module. Of use only with `consumer.ownership: etcd`.
#[derive(Clone)]
pub struct Partitions(pub(super) Arc<Shared>);

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").finish_non_exhaustive()
    }
}

impl Partitions {
    /// Who hears what the readers say; called on the shards, must not wait. The first one stays.
    pub fn on_word(&self, hear: impl Fn(ShardId, ShardWord) + Send + Sync + 'static) {
        let _ = self.0.hearer.set(Box::new(hear));
    }

    /// Tells a shard's reader what to do with a partition; orders are carried out in the order in which they are given. Never
    /// waits.
    ///
    /// # Errors
    /// Gives it back when there is no such reader, or none yet: the source has to be started.
    pub fn order(&self, shard: ShardId, order: ShardOrder) -> Result<(), ShardOrder> {
        // The input stream has a reader of its own.
        let start = match order.partition().0 >= self.0.consumer.partitions {
            true => self.0.partitioner(),
            false => self.0.readers.get().and_then(|readers| readers.get(usize::from(shard.0))),
        };
        let Some(start) = start else { return Err(order) };
        match start.control.tell(Mail::Order(order)) {
            Err(Mail::Order(order)) => Err(order),
            _ => Ok(()),
        }
    }
}

impl ShardDesk for Partitions {
    fn order(&mut self, shard: ShardId, order: ShardOrder) -> Result<(), ShardOrder> {
        Self::order(self, shard, order)
    }
}
