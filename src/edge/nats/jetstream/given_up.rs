//! What the server gave up: a consumer that somebody made with `max_deliver` is not sent an event again after so many
//! deliveries. The event stays in the stream and nobody is told but by an advisory.
//!
//! Promises that each advisory about a consumer of this reader is counted and, once a while, said with its place in the
//! stream. With several instances each of them says it. Refuses to need it: a user who may not subscribe to advisories
//! reads all the same.

use serde::Deserialize;

use super::plan::ReaderPlan;
use crate::ports::Intake;
use crate::telemetry::log_limiter::LogLimiter;

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

/// Counts and says what an advisory tells.
pub(super) fn hear(payload: &[u8], plan: &ReaderPlan, intake: &Intake, said: &LogLimiter) {
    let Ok(advisory) = serde_json::from_slice::<Advisory>(payload) else { return };
    if plan.consumer(&advisory.consumer).is_none() {
        return;
    }
    intake.given_up_by_broker(1);
    if let Some(left_out) = said.allow() {
        tracing::warn!(
            left_out,
            stream = plan.stream,
            consumer = advisory.consumer,
            stream_sequence = advisory.stream_seq,
            deliveries = advisory.deliveries,
            "JetStream: the server gave an event up, since its consumer has max_deliver: it was not settled and is not \
             delivered again; set max_deliver of the consumer to -1, and publish the event again"
        );
    }
}
