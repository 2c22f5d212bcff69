//! The lanes between shards: one bounded queue for each ordered pair, one writer and one reader each.
//!
//! Promises that a send never waits and never drops: what a full lane does not take is parked at the sender, behind what
//! is parked already, so order holds; it is counted by lane. The park is bounded by the shards' own bounds on what is in
//! flight: each bundle on it is an open bundle of its home shard, each result answers one.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::model::ids::ShardId;
use crate::model::limits::MESH_LANE_MESSAGES;
use crate::model::outcome::Lane;
use crate::ports::mailbox::Wake;
use crate::push::bundle::{Bundle, BundleResult};
use crate::push::facts::Input;

/// Room for parked messages that is kept when none is.
const PARKED_KEPT: usize = 64;

/// What shards tell each other.
#[derive(Debug)]
pub enum MeshMessage {
    /// From the home shard to the gateway's owner.
    Bundle(Bundle),
    /// From the owner back home.
    Result(BundleResult),
}

impl MeshMessage {
    fn lane(&self) -> Lane {
        match self {
            Self::Bundle(_) => Lane::Bundles,
            Self::Result(_) => Lane::Results,
        }
    }

    fn into_input(self) -> Input {
        match self {
            Self::Bundle(bundle) => Input::Bundle(bundle),
            Self::Result(result) => Input::Result(result),
        }
    }
}

/// One shard's ends of all its lanes.
pub struct MeshEnd {
    outward: Vec<Outward>,
    inward: Vec<Receiver<MeshMessage>>,
    /// How often a message was parked, by lane.
    pub full: [u64; Lane::COUNT],
}

struct Outward {
    lane: Sender<MeshMessage>,
    /// Messages that surely find room. It is this end alone that takes it, so the lane is asked only when it is used up.
    room: usize,
    wake: Arc<Wake>,
    parked: VecDeque<MeshMessage>,
    is_fed: bool,
}

/// The mesh of as many shards as there are wakes; the ends stand in shard order.
pub fn mesh(wakes: &[Arc<Wake>]) -> Vec<MeshEnd> {
    let mut ends: Vec<_> =
        wakes.iter().map(|_| MeshEnd { outward: Vec::new(), inward: Vec::new(), full: [0; Lane::COUNT] }).collect();
    for from in 0..wakes.len() {
        for (to, wake) in wakes.iter().enumerate() {
            // Its memory is that of what is under way: made for all that may be, it grew with the square of the shards.
            let (lane, inward) = crossbeam_channel::unbounded();
            let room = if from == to { 0 } else { MESH_LANE_MESSAGES };
            ends[from].outward.push(Outward { lane, room, wake: wake.clone(), parked: VecDeque::new(), is_fed: false });
            if from != to {
                ends[to].inward.push(inward);
            }
        }
    }
    ends
}

impl Outward {
    /// Gives the message back when the lane is full.
    fn try_send(&mut self, message: MeshMessage) -> Result<(), MeshMessage> {
        if self.room == 0 {
            self.room = MESH_LANE_MESSAGES.saturating_sub(self.lane.len());
        }
        if self.room == 0 {
            return Err(message);
        }
        self.room -= 1;
        // A shard that is gone takes everything and forgets it.
        let _ = self.lane.send(message);
        Ok(())
    }

    /// Sends what is parked as far as there is room.
    fn unpark(&mut self) {
        while let Some(message) = self.parked.pop_front() {
            self.is_fed = true;
            if let Err(message) = self.try_send(message) {
                return self.parked.push_front(message);
            }
        }
        self.parked.shrink_to(PARKED_KEPT);
    }
}

impl MeshEnd {
    /// Sends to another shard; it is woken by [`flush`](Self::flush).
    pub fn send(&mut self, to: ShardId, message: MeshMessage) {
        let outward = &mut self.outward[usize::from(to.0)];
        outward.is_fed = true;
        if !outward.parked.is_empty() {
            self.full[message.lane() as usize] += 1;
            return outward.parked.push_back(message);
        }
        if let Err(message) = outward.try_send(message) {
            self.full[message.lane() as usize] += 1;
            outward.parked.push_back(message);
        }
    }

    /// Ends the turn: parked messages go as far as there is room, and each shard that got something is woken once.
    pub fn flush(&mut self) {
        for outward in &mut self.outward {
            if !outward.parked.is_empty() {
                outward.unpark();
            }
            if std::mem::take(&mut outward.is_fed) {
                outward.wake.wake();
            }
        }
    }

    /// Hands what other shards sent to `take`, at most `most` messages a lane; gives how many there were.
    pub fn receive(&mut self, most: usize, mut take: impl FnMut(Input)) -> usize {
        let mut received = 0;
        for lane in &self.inward {
            for message in lane.try_iter().take(most) {
                received += 1;
                take(message.into_input());
            }
        }
        received
    }

    /// Whether nothing is on its way in, or parked on its way out.
    pub fn is_quiet(&self) -> bool {
        self.inward.iter().all(Receiver::is_empty) && self.outward.iter().all(|outward| outward.parked.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::model::ids::{GatewayIx, Nanos, SessionIx};
    use crate::push::bundle::{EventIx, Group, SKIP_NONE};

    fn bundle(number: u32) -> MeshMessage {
        let group = Group::new("gw".into(), GatewayIx(0), 0, Box::new([]), Box::new([]));
        MeshMessage::Bundle(Bundle {
            home: ShardId(0),
            event: EventIx(number),
            session: SessionIx(0),
            msg_id: 0,
            message: Bytes::new(),
            group: Arc::new(group),
            skip: SKIP_NONE,
            attempt: 0,
            fences_before: 0,
            class: crate::model::priority::Priority::Normal,
            age_millis: 0,
            is_reserved: false,
            notice: 0,
            made_at: Nanos(0),
        })
    }

    #[test]
    fn a_full_lane_parks_in_order_and_is_counted() {
        let wakes = [Arc::new(Wake::default()), Arc::new(Wake::default())];
        let mut ends = mesh(&wakes);
        let sent = MESH_LANE_MESSAGES as u32 + 10;
        for number in 0..sent {
            ends[0].send(ShardId(1), bundle(number));
        }
        assert_eq!(ends[0].full[Lane::Bundles as usize], 10);
        let mut received = Vec::new();
        while received.len() < sent as usize {
            let mut take = |input| match input {
                Input::Bundle(bundle) => received.push(bundle.event.0),
                other => panic!("{other:?}"),
            };
            assert!(ends[1].receive(1000, &mut take) > 0, "all that was sent arrives");
            ends[0].flush();
        }
        assert_eq!(received, (0..sent).collect::<Vec<_>>());
        assert!(ends[0].is_quiet() && ends[1].is_quiet());
        assert!(ends[0].outward[1].parked.capacity() <= PARKED_KEPT, "what grew with load goes back");
        for number in 0..2 * sent {
            ends[0].send(ShardId(1), bundle(number));
        }
        assert_eq!(ends[1].inward[0].len(), MESH_LANE_MESSAGES, "a lane is bounded however often it was emptied");
    }
}
