//! The reader: moves messages from the client into the lanes, in order, and does nothing else.
//!
//! Promises to hand in all of an older connection's messages before the first of a newer one, and to end only when the
//! keeper has ended and nothing is left. When intake is over it goes on to the end all the same, so that each message
//! is counted.

use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::link::{Feed, FeedState};
use crate::model::ids::ShardId;
use crate::ports::{DeliveryTag, Intake};

/// How long an idle reader waits before it looks whether its connection was given up.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Reads until the keeper is gone.
pub(super) fn run(intake: &Intake, reader: u16, own: Option<ShardId>, feeds: &Receiver<Feed>) {
    let mut number = 0;
    for mut feed in feeds {
        loop {
            let mut burst = intake.burst();
            let moved = feed.take_burst(|data| {
                let tag = DeliveryTag { reader, number };
                number += 1;
                let payload = Bytes::from(data);
                // A refusal is counted where it is made.
                match own {
                    Some(shard) => burst.put_to(shard, payload, tag),
                    None => burst.put(payload, tag),
                };
            });
            drop(burst);
            if moved == 0 && feed.wait(IDLE_LOOK) == FeedState::Over {
                break;
            }
        }
    }
}
