//! What the server gave up: a consumer that somebody made with `max_deliver` is not sent an event again after so many
//! deliveries. The event stays in the stream and nobody is told but by an advisory.
//!
//! Promises that each advisory about a consumer of this reader is counted and, once a while, said with its place in the
//! stream. With several instances each of them says it. Refuses to need it: a user who may not subscribe to advisories
//! reads all the same.
#![allow(deprecated)]

use nats::Subscription;
use serde::Deserialize;

use super::desk::Desk;
use crate::ports::Intake;
use crate::telemetry::log_limiter::LogLimiter;

/// Advisories looked at with one look.
const LOOKED_AT: usize = 1024;

/// The advisories of a stream's consumers.
pub(super) struct GivenUp {
    /// None where subscribing failed, and without a server.
    pub subscription: Option<Subscription>,
    pub intake: Intake,
    pub said: LogLimiter,
}

#[derive(Deserialize)]
struct Advisory {
    consumer: String,
    #[serde(default)]
    stream_seq: u64,
    #[serde(default)]
    deliveries: u64,
}

/// Where a server says it.
pub(super) fn subject(stream: &str) -> String {
    format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.*")
}

impl GivenUp {
    /// Says and counts what came since the last look.
    pub(super) fn look(&self, desk: &Desk) {
        let Some(subscription) = &self.subscription else { return };
        for _ in 0..LOOKED_AT {
            let Some(message) = subscription.try_next() else { return };
            let Ok(advisory) = serde_json::from_slice::<Advisory>(&message.data) else { continue };
            if desk.plan.consumer(&advisory.consumer).is_none() {
                continue;
            }
            self.intake.given_up_by_broker(1);
            if let Some(left_out) = self.said.allow() {
                tracing::warn!(
                    left_out,
                    stream = desk.plan.stream,
                    consumer = advisory.consumer,
                    stream_sequence = advisory.stream_seq,
                    deliveries = advisory.deliveries,
                    "JetStream: the server gave an event up, since its consumer has max_deliver: it was not settled and is \
                     not delivered again; set max_deliver of the consumer to -1, and publish the event again"
                );
            }
        }
    }
}
