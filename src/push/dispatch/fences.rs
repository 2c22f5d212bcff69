//! The users whose messages wait for their place in the order, and what waits for each.
//!
//! Promises that what waits for a user stands in the order of arrival. Refuses to decide when it goes: that is
//! [`reroute`](crate::push::reroute)'s.

use std::collections::HashSet;

use hashbrown::HashMap;

use crate::model::ids::{GatewayIx, SessionIx, UserIx};
use crate::model::outcome::RecipientOutcome;
use crate::push::bundle::EventIx;

/// A message that waits for a user.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The event's place in the order of arrivals.
    pub order: u64,
    /// The event.
    pub event: EventIx,
    /// The gateway that did not take it for this user, and its outcome unless the user is elsewhere now.
    pub tried: Option<(GatewayIx, RecipientOutcome)>,
}

/// The messages of one session that wait for one user.
#[derive(Debug, Default)]
pub struct Fence {
    /// In the order of arrival.
    pub waiting: Vec<Held>,
    /// They wait until these lanes of the session are done.
    pub behind: Vec<Behind>,
}

/// What a fence waits for.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// The gateway.
    pub gateway: GatewayIx,
    /// Its lane of the session is to be done with this many bundles.
    pub until: u32,
    /// Whether it is waited for also when the user is still at that gateway.
    pub is_left: bool,
}

/// All fences of a shard, by session and user.
#[derive(Debug, Default)]
pub struct Fences {
    of: HashMap<(SessionIx, UserIx), Fence>,
    raised: u8,
}

impl Fences {
    /// Whether messages of this session wait for this user.
    pub fn has(&self, at: SessionIx, user: UserIx) -> bool {
        self.of.contains_key(&(at, user))
    }

    /// How many were raised, modulo 256.
    pub fn raised(&self) -> u8 {
        self.raised
    }

    /// From now on messages of this session wait for this user.
    pub fn raise(&mut self, at: SessionIx, user: UserIx, behind: Vec<Behind>) {
        self.of.insert((at, user), Fence { waiting: Vec::new(), behind });
        self.raised = self.raised.wrapping_add(1);
    }

    /// One message more waits for this user, for whom a fence was raised.
    pub fn hold(&mut self, at: SessionIx, user: UserIx, held: Held) {
        let waiting = &mut self.of.get_mut(&(at, user)).expect("raised by the caller").waiting;
        let place = waiting.partition_point(|before| before.order < held.order);
        waiting.insert(place, held);
    }

    /// The fence of this session before this user.
    pub fn get_mut(&mut self, at: SessionIx, user: UserIx) -> Option<&mut Fence> {
        self.of.get_mut(&(at, user))
    }

    /// Takes the fence away, with what waits.
    pub fn lower(&mut self, at: SessionIx, user: UserIx) -> Option<Fence> {
        self.of.remove(&(at, user))
    }

    /// The gateways that they refer to.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayIx> {
        self.of.values().flat_map(|fence| {
            let tried = fence.waiting.iter().filter_map(|held| held.tried).map(|(gateway, _)| gateway);
            fence.behind.iter().map(|behind| behind.gateway).chain(tried)
        })
    }
}

impl Fence {
    /// Takes these events out; those of them that waited.
    pub fn take_out(&mut self, events: &HashSet<EventIx>) -> Vec<EventIx> {
        let gone = self.waiting.extract_if(.., |held| events.contains(&held.event));
        gone.map(|held| held.event).collect()
    }
}
