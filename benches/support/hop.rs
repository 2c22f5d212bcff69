//! A turn's bundles over the mesh, from one shard to all others of so many, on one thread.
//!
//! Promises that all the mesh does happens inside [`task_engine_hop`]: sending, waking, and each other shard's look into
//! all its lanes.

use std::sync::Arc;

use bytes::Bytes;
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::push::facts::Input;
use task_engine::shard::mesh::{MeshEnd, MeshMessage, mesh};

use super::facts::{bundle, group};

/// The ends of all shards.
pub struct Hops {
    ends: Vec<MeshEnd>,
    messages: Vec<(ShardId, MeshMessage)>,
    received: Vec<Input>,
}

/// It has a name of its own in the binary so that callgrind counts it and what it calls, and nothing else.
#[allow(unsafe_code, reason = "callgrind is told this function by its name")]
#[unsafe(no_mangle)]
#[inline(never)]
pub fn task_engine_hop(ends: &mut [MeshEnd], messages: &mut Vec<(ShardId, MeshMessage)>, received: &mut Vec<Input>) {
    let [from, others @ ..] = ends else { return };
    for (to, message) in messages.drain(..) {
        from.send(to, message);
    }
    from.flush();
    for end in others {
        end.receive(usize::MAX, |fact| received.push(fact));
        end.flush();
    }
}

impl Hops {
    /// A mesh of so many shards.
    pub fn new(shards: usize) -> Self {
        let wakes: Vec<_> = (0..shards).map(|_| Arc::default()).collect();
        Self { ends: mesh(&wakes), messages: Vec::new(), received: Vec::new() }
    }

    /// Turns of so many bundles each.
    ///
    /// # Panics
    /// When a bundle does not arrive.
    pub fn run(&mut self, turns: u64, bundles: usize) {
        let (group, message) = (group(10), Bytes::from_static(&[7; 200]));
        for turn in 0..turns as i64 {
            let others = self.ends.len() - 1;
            self.messages.extend((0..bundles).map(|at| {
                let to = ShardId((1 + at % others) as u16);
                (to, MeshMessage::Bundle(bundle(&group, turn * bundles as i64 + at as i64, &message, Nanos(1))))
            }));
            task_engine_hop(&mut self.ends, &mut self.messages, &mut self.received);
            assert_eq!(self.received.drain(..).count(), bundles);
        }
    }
}
