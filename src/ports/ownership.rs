//! What stands between the thread that drives partition ownership and the parts that it speaks with: facts in, orders to shards, asks
//! about consumers.
//!
//! Promises that telling never waits, and that nothing which ownership rests on is lost without a word: a full queue drops only what
//! comes again, and anything else that it cannot take ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::model::ids::{Partition, ShardId};
use crate::model::ownership::{Generation, ShardOrder, ShardWord};
use crate::ownership::facts::{Ask, AskNo, Fact};

/// Facts that may wait for the owner's thread: far more than all shards say in the time after which a silent thread has lost its lease.
const FACTS_MAX: usize = 64 * 1024;

/// Where facts for the owner's thread go, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnerFacts {
    sender: Sender<Fact>,
    has_lost: Arc<AtomicBool>,
}

impl OwnerFacts {
    /// Hands a fact in. Never waits. Nobody may listen any more: then it is dropped.
    pub fn tell(&self, fact: Fact) {
        let may_be_lost = may_be_lost(&fact);
        let is_taken = self.sender.try_send(fact).is_ok() || self.sender.is_closed();
        if !is_taken && !may_be_lost {
            self.has_lost.store(true, Ordering::Release);
        }
    }

    /// Hands in what a shard's reader says.
    pub fn word(&self, shard: ShardId, word: ShardWord) {
        self.tell(Fact::Shard { shard, word });
    }
}

/// What is said again, or asked for again when it has no answer.
fn may_be_lost(fact: &Fact) -> bool {
    !matches!(
        fact,
        Fact::Nats { .. }
            | Fact::Stop { .. }
            | Fact::Shard { word: ShardWord::Opened { .. } | ShardWord::Closed { .. } | ShardWord::Broken { .. }, .. }
    )
}

/// The other end: held by the owner's thread.
#[derive(Debug)]
pub struct OwnerInbox {
    receiver: Receiver<Fact>,
    has_lost: Arc<AtomicBool>,
}

impl OwnerInbox {
    /// Both ends.
    pub fn new() -> (OwnerFacts, Self) {
        Self::with_room(FACTS_MAX)
    }

    fn with_room(facts: usize) -> (OwnerFacts, Self) {
        let (sender, receiver) = channel(facts);
        let has_lost = Arc::new(AtomicBool::new(false));
        (OwnerFacts { sender, has_lost: has_lost.clone() }, Self { receiver, has_lost })
    }

    /// The next fact, waited for; `None` when nobody can tell one any more.
    pub async fn next(&mut self) -> Option<Fact> {
        self.receiver.recv().await
    }

    /// The next fact, if there is one.
    pub fn try_next(&mut self) -> Option<Fact> {
        self.receiver.try_recv().ok()
    }

    /// Whether a fact was lost on which ownership rests.
    pub fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Acquire)
    }
}

/// The shards' readers. What they say comes back by [`OwnerFacts::word`].
pub trait ShardDesk: Send + 'static {
    /// Hands an order to a shard's reader; the orders of one shard in the order in which they are given. Must not wait.
    ///
    /// # Errors
    /// Gives it back when there is no such reader yet, or it has no room: it is handed in again a moment later.
    fn order(&mut self, shard: ShardId, order: ShardOrder) -> Result<(), ShardOrder>;
}

/// Who manages consumers at NATS. Everything is only handed in, and must not wait; answers come back by [`OwnerFacts::tell`], as does
/// [`Fact::Nats`] at each change. What gets no answer is asked for again.
pub trait ConsumerDesk: Send + 'static {
    /// Answered by [`Fact::Answered`].
    fn ask(&mut self, ask: AskNo, what: Ask);

    /// Answered by [`Fact::Proved`] within 800 ms; what was asked for before and has no answer yet may be forgotten.
    fn prove(&mut self, ask: AskNo, of: Vec<(Partition, Generation)>);

    /// Publishes what is settled of a partition to the subject of this partition and generation in `<stream>_OWN`. Never answered.
    fn publish_settled(&mut self, partition: Partition, generation: Generation, text: String);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(partition: u32) -> ShardWord {
        ShardWord::Opened { partition: Partition(partition) }
    }

    #[test]
    fn a_full_queue_drops_what_comes_again_and_says_when_it_dropped_anything_else() {
        let (facts, mut inbox) = OwnerInbox::with_room(1);
        facts.word(ShardId(0), opened(1));
        facts.tell(Fact::Time);
        facts.tell(Fact::WatchLost);
        assert!(!inbox.has_lost());
        facts.word(ShardId(0), opened(2));
        assert!(inbox.has_lost());
        assert_eq!(inbox.try_next(), Some(Fact::Shard { shard: ShardId(0), word: opened(1) }));
        assert_eq!(inbox.try_next(), None);
    }

    #[test]
    fn nobody_who_listens_is_no_loss() {
        let (facts, inbox) = OwnerInbox::with_room(1);
        let lost = inbox.has_lost.clone();
        drop(inbox);
        (0..3).for_each(|at| facts.word(ShardId(0), opened(at)));
        assert!(!lost.load(Ordering::Acquire));
    }
}
