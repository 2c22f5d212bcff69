//! The JetStream end of one connection: its inbox, what was prepared, and its writer.
//!
//! Everything here is called by the link thread, on which the keeper waits with a deadline.
#![allow(deprecated)]

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use nats::{Connection, Message, Subscription};

use super::api::{Api, ApiError};
use super::desk::Desk;
use super::fit;
use super::given_up::{self, GivenUp};
use super::prepare::{Prepared, prepare};
use super::pulls::{Status, Terms};
use super::rights;
use super::writer::{Wanted, Wire, Writer};
use crate::edge::nats::link::LinkState;
use crate::ports::Intake;
use crate::telemetry::log_limiter::LogLimiter;

/// What a connection has for its reader and keeper.
pub(in crate::edge::nats) struct Opened {
    /// None once only acks are left to be written.
    pub inbox: Option<Subscription>,
    pub terms: Vec<Terms>,
    /// What was found without a pull, for its reader.
    pub found: Vec<Arrival>,
    pub asks: Sender<Wanted>,
    /// The writer ends when this is dropped.
    pub _over: Sender<()>,
}

struct ClientWire {
    connection: Connection,
    timeout: Duration,
}

impl Wire for ClientWire {
    fn publish(&self, subject: &str, payload: &str) -> io::Result<()> {
        self.connection.publish(subject, payload)
    }

    fn flush(&self) -> io::Result<()> {
        self.connection.flush_timeout(self.timeout)
    }
}

/// Subscribes, prepares and starts the writer.
///
/// # Errors
/// What is wrong and what to do, in words without an address.
pub(in crate::edge::nats) fn open(
    connection: &Connection,
    desk: &Arc<Desk>,
    timeout: Duration,
    state: &Arc<LinkState>,
    intake: &Intake,
) -> Result<Opened, String> {
    let is_reading = !desk.is_leaving();
    let failed = |error: io::Error| format!("the connection broke ({error})");
    let prefix = connection.new_inbox();
    // The first subscription of the connection: leaving counts on it.
    let inbox = match is_reading {
        true => Some(connection.subscribe(&format!("{prefix}.>")).map_err(failed)?),
        false => None,
    };
    connection.flush_timeout(timeout).map_err(failed)?;
    // Also when only acks are left: what the server knows of its deliveries decides which may be written.
    let api = Api { connection, timeout, forbidden: &|| state.take_refusal() };
    let prepared = prepare(&api, desk)?;
    // An event whose ack is refused comes again for ever: none is asked for before it is known that acks pass.
    rights::probe(connection, &desk.plan, is_reading, timeout).map_err(failed)?;
    if let Some(text) = state.take_refusal() {
        return Err(ApiError::Forbidden(text).to_string());
    }
    let (asks, asked) = bounded(prepared.terms.len() + 16);
    let (over, is_over) = bounded(0);
    let given_up = GivenUp {
        subscription: connection.subscribe(&given_up::subject(&desk.plan.stream)).ok(),
        intake: intake.clone(),
        said: LogLimiter::default(),
    };
    if is_reading {
        fit::watch(connection.clone(), timeout, desk.clone(), state.clone(), is_over.clone()).map_err(failed)?;
    }
    let wire = ClientWire { connection: connection.clone(), timeout };
    let writer = Writer {
        wire,
        desk: desk.clone(),
        inbox: prefix,
        asks: asked,
        given_up,
        over: is_over,
        ack_wait: prepared.ack_wait,
    };
    start_writer(writer, state).map_err(failed)?;
    let Prepared { terms, found, .. } = prepared;
    Ok(Opened { inbox, terms, found, asks, _over: over })
}

fn start_writer(writer: Writer<ClientWire>, state: &Arc<LinkState>) -> io::Result<()> {
    let state = state.clone();
    thread::Builder::new().name(format!("nats-write-{}", writer.desk.plan.reader)).spawn(move || {
        if let Err(error) = writer.run() {
            state.lose(format!("acks cannot be written ({error})"));
        }
    })?;
    Ok(())
}

/// What came over an inbox.
#[derive(Clone, Debug)]
pub(in crate::edge::nats) struct Arrival {
    pub subject: String,
    pub reply: Option<String>,
    pub data: Vec<u8>,
    pub status: Option<Status>,
}

impl From<Message> for Arrival {
    fn from(message: Message) -> Self {
        // A publisher may set headers of these names as well; but its events have a subject to be acknowledged with.
        let status = match (&message.reply, &message.headers) {
            (None, Some(headers)) => headers.get("Status").and_then(|code| code.parse().ok()).map(|code| Status {
                code,
                text: headers.get("Description").cloned().unwrap_or_default(),
                pending: headers.get("Nats-Pending-Messages").and_then(|count| count.parse().ok()),
            }),
            _ => None,
        };
        Self { subject: message.subject, reply: message.reply, data: message.data, status }
    }
}
