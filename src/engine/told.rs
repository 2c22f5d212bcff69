//! What the admin port shows, put together from the engine's parts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::admin::{AdminState, HealthCheck};
use crate::config::{Config, Recorder};
use crate::ports::ends::EndsDesk;
use crate::ports::mailbox::FactSender;
use crate::ports::tap::TapDesk;
use crate::shard::pump::Shared;
use crate::telemetry::metrics::Meter;

/// What shards remember of ends, where they do; and who looks on at events.
pub(super) fn desks_of(config: &Config, senders: &[FactSender]) -> (EndsDesk, TapDesk) {
    let ends = EndsDesk::new((config.engine.recorder == Recorder::On).then(|| senders.to_vec()));
    (ends, TapDesk::new(senders.to_vec(), config.admin.tap_content))
}

/// All that is shown.
pub(super) fn admin_state(
    meter: &Arc<Meter>,
    shared: &Shared,
    health: Vec<(&'static str, HealthCheck)>,
    stopping: &Arc<AtomicBool>,
) -> AdminState {
    let Shared { heartbeats, ends, tap, .. } = shared;
    let (meter, heartbeats, stopping) = (meter.clone(), heartbeats.clone(), stopping.clone());
    AdminState { meter, heartbeats, health, stopping, ends: ends.clone(), tap: tap.clone() }
}
