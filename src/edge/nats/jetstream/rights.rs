//! Whether the user may do what reading needs beside the API: acknowledge, and pull.
//!
//! Promises to change nothing. NATS says nothing of a publish that it lets pass, but it says at once which one it does not,
//! before it answers the round trip after it. So what is published means nothing to the server: an ack of no event, and a
//! pull without a place to send to.
#![allow(deprecated)]

use std::io;
use std::time::Duration;

use nats::Connection;

use super::desk::ReaderPlan;
use super::lines::Lines;

/// The end of an ack subject of no event: delivered once, and the stream's sequence 0.
const NO_EVENT: &str = "1.0.0.0.0";

/// Whether a refused publish was one of a [`probe`].
pub(in crate::edge::nats) fn is_of_probe(subject: &str) -> bool {
    subject.strip_suffix(NO_EVENT).is_some_and(|start| start.starts_with("$JS.ACK.") && start.ends_with('.'))
}

/// When it returns, the server has said what it refuses.
///
/// # Errors
/// When the connection broke.
pub(super) fn probe(connection: &Connection, plan: &ReaderPlan, pulls: bool, timeout: Duration) -> io::Result<()> {
    let mut lines = Lines::default();
    for consumer in &plan.consumers {
        if pulls {
            lines.put(&format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", plan.stream, consumer.name), None, "");
        }
        lines.put(&format!("$JS.ACK.{}.{}.{NO_EVENT}", plan.stream, consumer.name), None, "+WPI");
    }
    lines.write(|subject, payload| connection.publish(subject, payload))?;
    connection.flush_timeout(timeout)
}
