//! When the shard that moved least lately last moved.
//!
//! Promises a time that is not later than that: a beat that was seen at a look may have come right after the look before it.

use std::sync::Arc;

use crate::model::ownership::Boottime;
use crate::telemetry::watchdog::Heartbeats;

pub(super) struct Beats {
    heartbeats: Arc<Heartbeats>,
    /// Of each shard: its beats at the last look, and when it moved at the earliest.
    seen: Vec<(Option<u64>, Boottime)>,
    looked: Boottime,
}

impl Beats {
    /// All shards count as moving now.
    pub(super) fn new(heartbeats: Arc<Heartbeats>, now: Boottime) -> Self {
        let seen = heartbeats.beats().map(|beat| (beat, now)).collect();
        Self { heartbeats, seen, looked: now }
    }

    /// Looks. A shard that has ended as it should is not missed.
    pub(super) fn oldest(&mut self, now: Boottime) -> Boottime {
        for ((beat, moved), is) in self.seen.iter_mut().zip(self.heartbeats.beats()) {
            if is.is_none() || is != *beat {
                (*beat, *moved) = (is, self.looked);
            }
        }
        self.looked = now;
        self.seen.iter().map(|(_, moved)| *moved).min().unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ShardId;

    fn second(number: u64) -> Boottime {
        Boottime(number * 1_000_000_000)
    }

    #[test]
    fn the_shard_that_stands_longest_counts_and_one_that_ended_does_not() {
        let heartbeats = Heartbeats::new(3);
        let mut beats = Beats::new(heartbeats.clone(), second(0));
        for now in 1..=4 {
            heartbeats.beat(ShardId(0));
            heartbeats.ended(ShardId(2));
            assert_eq!(beats.oldest(second(now)), second(0), "shard 1 has not moved since the start");
        }
        heartbeats.beat(ShardId(1));
        heartbeats.beat(ShardId(0));
        assert_eq!(beats.oldest(second(5)), second(4), "they may have moved right after the look before");
        heartbeats.beat(ShardId(0));
        assert_eq!(beats.oldest(second(6)), second(4));
    }
}
