//! Streams that are opened before anything is to be sent: a partition comes here, and its first pushes would wait for them.

use std::time::Duration;

use crate::model::ids::{GatewayIx, Nanos};
use crate::push::gateways::Gateways;

/// Streams that are opened at once; the others are opened by their first push.
const STREAMS_AT_ONCE: usize = 256;
/// Partitions come in numbers: the table is looked through once for many.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_secs(1);

impl Gateways {
    /// Has streams opened to the gateways that this shard owns and the registry lists.
    pub(in crate::push) fn open_ahead(&mut self, now: Nanos) {
        if self.is_stopping || self.opened_ahead.is_some_and(|at| now.since(at) < LOOKED_THROUGH_EVERY) {
            return;
        }
        self.opened_ahead = Some(now);
        let mut opened = 0;
        for at in 0..self.places.len() {
            let place = &mut self.places[at];
            if opened == STREAMS_AT_ONCE {
                break;
            }
            if place.is_listed && place.outbox.want_stream(now) {
                opened += 1;
                self.outbox(GatewayIx(at as u32));
            }
        }
    }
}
