//! The gateways one shard has heard of, by routes (as a home shard) or from the registry (as their owner).
//!
//! Promises that a gateway keeps its place while the process runs, and that a turn touches only the outboxes that
//! something happened to.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::ids::{GatewayId, GatewayIx, Nanos, ShardId, StreamNo};
use crate::limits::GATEWAYS_MAX;
use crate::meter::Stage;
use crate::ports::GatewayRecord;
use crate::push::Push;
use crate::push::bundle::Bundle;
use crate::push::facts::StreamFact;
use crate::push::outbox::{Effects, Outbox, OutboxSettings};

/// The table.
#[derive(Debug)]
pub struct Gateways {
    by_id: HashMap<GatewayId, GatewayIx>,
    outboxes: Vec<Outbox>,
    changed: VecDeque<GatewayIx>,
    settings: OutboxSettings,
    is_stopping: bool,
}

impl Gateways {
    /// An empty table.
    pub fn new(settings: OutboxSettings) -> Self {
        Self { by_id: HashMap::new(), outboxes: Vec::new(), changed: VecDeque::new(), settings, is_stopping: false }
    }

    /// The place of an id, made when new; none when there are too many.
    pub fn place_of(&mut self, id: &str) -> Option<GatewayIx> {
        if let Some(at) = self.by_id.get(id) {
            return Some(*at);
        }
        if self.outboxes.len() == GATEWAYS_MAX {
            return None;
        }
        let at = GatewayIx(self.outboxes.len() as u32);
        let id = GatewayId::from(id);
        self.by_id.insert(id.clone(), at);
        let mut outbox = Outbox::new(id, self.settings.clone());
        if self.is_stopping {
            outbox.stop();
        }
        self.outboxes.push(outbox);
        Some(at)
    }

    /// The id of a place.
    pub fn id(&self, at: GatewayIx) -> GatewayId {
        self.outboxes[at.0 as usize].id().clone()
    }

    /// The shard that owns the gateway's stream.
    pub fn owner(&self, at: GatewayIx, shards: u16) -> ShardId {
        ShardId((self.outboxes[at.0 as usize].id_hash() % u32::from(shards)) as u16)
    }

    /// The registry lists it.
    pub fn list(&mut self, record: GatewayRecord, now: Nanos) {
        if let Some(at) = self.place_of(&record.gateway_id) {
            self.outbox(at).list(record, now);
        }
    }

    /// The registry lists it no longer; its place, if it was heard of.
    pub fn unlist(&mut self, id: &str, now: Nanos) -> Option<GatewayIx> {
        let at = self.by_id.get(id).copied()?;
        self.outbox(at).unlist(now);
        Some(at)
    }

    /// All streams end once they are empty, those of gateways not heard of yet as well.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.changed = (0..self.outboxes.len() as u32).map(GatewayIx).collect();
        for outbox in &mut self.outboxes {
            outbox.stop();
        }
    }

    /// The outbox of a place; it is looked at when the turn ends.
    fn outbox(&mut self, at: GatewayIx) -> &mut Outbox {
        let outbox = &mut self.outboxes[at.0 as usize];
        if outbox.note_change() {
            self.changed.push_back(at);
        }
        outbox
    }

    /// Whether an outbox waits for a turn to write in.
    pub fn is_any_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The outboxes that were ever used.
    pub fn owned(&self) -> impl Iterator<Item = &Outbox> {
        self.outboxes.iter().filter(|outbox| outbox.is_used())
    }
}

impl Push {
    /// This shard owns the bundle's gateway: into its outbox.
    pub(super) fn own(&mut self, bundle: Bundle) {
        let at = match bundle.group.owner_place() {
            Some(at) => at,
            None => {
                let at = self.gateways.place_of(&bundle.group.gateway_id).unwrap_or(GatewayIx(0));
                bundle.group.set_owner_place(at);
                at
            }
        };
        let now = self.now;
        if let Err(refused) = self.gateways.outbox(at).put(bundle, now) {
            self.send_home(*refused);
        }
    }

    pub(super) fn take_stream_fact(&mut self, at: GatewayIx, stream: StreamNo, fact: StreamFact) {
        let mut effects = std::mem::take(&mut self.effects);
        self.gateways.outbox(at).take(stream, fact, self.now, &mut effects);
        self.carry_out(at, &mut effects);
        self.effects = effects;
    }

    pub(super) fn tick_outboxes(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for at in 0..self.gateways.outboxes.len() {
            if self.gateways.outboxes[at].tick(self.now, &mut effects) {
                self.gateways.outbox(GatewayIx(at as u32));
            }
            self.carry_out(GatewayIx(at as u32), &mut effects);
        }
        self.effects = effects;
    }

    pub(super) fn flush_outboxes(&mut self) {
        let mut changed = std::mem::take(&mut self.gateways.changed);
        let mut effects = std::mem::take(&mut self.effects);
        while self.turn.frame_bytes_left > 0
            && let Some(at) = changed.pop_front()
        {
            self.gateways.outboxes[at.0 as usize].flush(at, self.now, &mut effects);
            let written = effects.activity.frame_bytes;
            self.turn.frame_bytes_left = self.turn.frame_bytes_left.saturating_sub(written);
            self.carry_out(at, &mut effects);
        }
        // What is left goes first in the next turn; streams are opened and cut in this one.
        for at in &changed {
            self.gateways.outboxes[at.0 as usize].look_after_link(*at, self.now, &mut effects);
            self.carry_out(*at, &mut effects);
        }
        self.effects = effects;
        changed.append(&mut self.gateways.changed);
        self.gateways.changed = changed;
    }

    /// Leaves nothing of `effects` but its memory.
    fn carry_out(&mut self, at: GatewayIx, effects: &mut Effects) {
        let Effects { outputs, results, outbox_waits, gateway_waits, warning, activity } = effects;
        self.out.append(outputs);
        for wait in outbox_waits.drain(..) {
            self.stages.record(Stage::Outbox, wait);
        }
        for wait in gateway_waits.drain(..) {
            self.stages.record(Stage::Gateway, wait);
        }
        if self.settings.shards == 1 && self.local_results.is_empty() {
            // All of them are at home here.
            std::mem::swap(results, &mut self.local_results);
        }
        for result in results.drain(..) {
            self.send_home(result);
        }
        if let Some((reason, detail)) = warning.take() {
            self.warn_of(reason, Some(at), |_| detail);
        }
        self.activity.add(&std::mem::take(activity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_owner_is_the_shard_that_the_registry_tells() {
        let mut gateways = Gateways::new(OutboxSettings { delivery_timeout: Duration::from_secs(1) });
        for shards in [1, 2, 3, 5, 7] {
            for id in ["gateway-1", "gateway-service-437", "ä", ""] {
                let at = gateways.place_of(id).expect("there is room");
                assert_eq!(gateways.owner(at, shards), ShardId::of_gateway(id, shards), "{id} of {shards}");
            }
        }
    }
}
