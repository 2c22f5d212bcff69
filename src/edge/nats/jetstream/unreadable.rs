//! Events whose headers the client cannot read: a line without a colon, or bytes that are no UTF-8. Servers take them;
//! the client gives up the connection over which one comes, and it would come again, for ever.
//!
//! Promises that once two connections broke shortly after another, such an event is found among those that were
//! delivered and not settled, and handed in like any other, without its headers, which nothing here reads. Refuses to
//! hand in one of a partition that stands behind others that have not come: they would be overtaken.

#![allow(deprecated)]

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nats::HeaderMap;
use serde::Deserialize;

use super::api::{Api, ConsumerInfo, Request, covers};
use super::connect::Arrival;
use super::desk::Desk;

/// Sequences of the stream that are looked at for one consumer.
const SCAN_MAX: u64 = 256 * 1024;
/// Looked at with one wait.
const SCAN_AT_ONCE: u64 = 256;

#[derive(Deserialize)]
struct Stored {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// What is found, as if it had been pulled.
///
/// # Errors
/// When the server does not answer; in words.
pub(super) fn find(api: &Api<'_>, desk: &Desk, infos: &[ConsumerInfo]) -> Result<Vec<Arrival>, String> {
    let mut found = Vec::new();
    for (at, info) in infos.iter().enumerate().filter(|(_, info)| info.num_ack_pending > 0) {
        let known = desk.flight().sequences(at);
        let last = info.delivered.stream_seq.min(info.ack_floor.stream_seq + SCAN_MAX);
        let mut from = info.ack_floor.stream_seq + 1;
        let mut is_over = false;
        while from <= last && !is_over {
            let to = last.min(from + SCAN_AT_ONCE - 1);
            is_over = look(api, desk, (at, info), from..=to, &known, &mut found)?;
            from = to + 1;
        }
    }
    if !found.is_empty() {
        tracing::warn!(
            reader = desk.plan.reader,
            events = found.len(),
            "JetStream: events have headers that are none and break their connection; they are taken without them"
        );
    }
    Ok(found)
}

/// Looks at some sequences; true when nothing behind them may be handed in.
fn look(
    api: &Api<'_>,
    desk: &Desk,
    (at, info): (usize, &ConsumerInfo),
    sequences: std::ops::RangeInclusive<u64>,
    known: &HashSet<u64>,
    found: &mut Vec<Arrival>,
) -> Result<bool, String> {
    let plan = &desk.plan;
    let (stream, consumer) = (&plan.stream, &plan.consumers[at]);
    let sequences: Vec<u64> = sequences.filter(|sequence| !known.contains(sequence)).collect();
    let ask = |sequence| Request {
        subject: format!("$JS.API.STREAM.MSG.GET.{stream}"),
        body: format!(r#"{{"seq":{sequence}}}"#),
    };
    let asks: Vec<Request> = sequences.iter().map(ask).collect();
    let answers = api.call_all::<Stored>(&asks).map_err(|error| error.to_string())?;
    for (sequence, answer) in sequences.into_iter().zip(answers) {
        // One that is gone from the stream is nobody's.
        let Ok(Stored { message }) = answer else { continue };
        if !covers(&consumer.filter, &message.subject) {
            continue;
        }
        let headers = BASE64.decode(&message.hdrs).unwrap_or_default();
        let is_readable = headers.is_empty() || HeaderMap::try_from(&headers[..]).is_ok();
        if !is_readable && let Ok(data) = BASE64.decode(&message.data) {
            // Delivered at least twice, and no later than what was delivered last.
            let (name, delivery) = (&consumer.name, info.delivered.consumer_seq);
            let reply = format!("$JS.ACK.{stream}.{name}.2.{sequence}.{delivery}.0.0");
            found.push(Arrival { subject: message.subject, reply: Some(reply), data, status: None });
        }
        if plan.is_ordered() {
            return Ok(true);
        }
    }
    Ok(false)
}
