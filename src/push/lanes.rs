//! A session's lanes: how many of its bundles to each gateway have no end.

use crate::model::ids::GatewayIx;

/// Bundles of one session to one gateway, counted; they end in the order they were made, but for those that
/// [end out of turn](crate::push::results).
#[derive(Clone, Copy, Debug)]
pub struct SessionLane {
    /// The gateway.
    pub gateway: GatewayIx,
    /// Bundles made.
    pub sent: u32,
    /// Bundles ended.
    pub done: u32,
}
