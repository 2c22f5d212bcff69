//! Whether the NATS servers can be used as they are, for `task-engine doctor`.
//!
//! Promises to change nothing and to take no event from anybody.

use super::jetstream::inspect;
use super::protocol::ErrorKind;
use super::wire::{Wire, WireError};
use crate::config::{Assignment, Config, ConsumerMode, NatsConfig, NatsServer};
use crate::edge::reach::{Way, reach};
use crate::model::finding::{Check, Findings};

const WAY: Way = Way { name: Check::NatsName, tcp: Check::NatsTcp, key: "nats.url" };

/// Looks at all of them; what is behind a login is asked of the first that lets us in.
pub fn look(config: &Config, found: &mut Findings<'_>) {
    let nats = &config.nats;
    let mut first = None;
    for server in &nats.servers {
        if reach(WAY, &server.at, nats.timeout, found).is_none() {
            continue;
        }
        found.begin(Check::NatsLogin);
        match login(nats, server) {
            Ok(wire) => {
                let how = if wire.is_tls() { "TLS is spoken" } else { "plain" };
                found.ok(Check::NatsTls, format!("{}: {how}", server.at));
                found.ok(Check::NatsLogin, format!("{} lets us in", server.at));
                first = first.or(Some(wire));
            }
            Err(error) => {
                let words = error.to_string();
                // What has to do with TLS says so, with its keys.
                let is_of_tls = words.contains("TLS") || words.contains("nats.tls");
                found.fail_in_words(if is_of_tls { Check::NatsTls } else { Check::NatsLogin }, &words);
            }
        }
    }
    let Some(wire) = first else { return };
    match config.consumer.mode {
        ConsumerMode::Core => subscribes(wire, config, found),
        ConsumerMode::JetStream => inspect::look(wire, config, found),
    }
}

fn login(nats: &NatsConfig, server: &NatsServer) -> Result<Wire, WireError> {
    let one = NatsConfig { servers: vec![server.clone()], ..nats.clone() };
    Wire::connect(&one, "doctor")
}

/// Core NATS: subscriptions are all that is needed.
fn subscribes(mut wire: Wire, config: &Config, found: &mut Findings<'_>) {
    found.begin(Check::NatsPermissions);
    let consumer = &config.consumer;
    let topic = match consumer.assignment {
        Assignment::Queue => consumer.topic.clone(),
        Assignment::Partitioned => format!("{}.*", consumer.topic),
    };
    match wire.try_to_subscribe(&topic) {
        Ok(()) => found.ok(Check::NatsPermissions, format!("{topic} may be subscribed to")),
        Err(error) => {
            let is_forbidden =
                wire.refusal.as_ref().is_some_and(|said| matches!(said.kind, ErrorKind::MayNotSubscribe { .. }));
            let advice = format!("let the user subscribe to {topic} (queue group {})", consumer.queue_group);
            match is_forbidden {
                true => found.fail(Check::NatsPermissions, error.to_string(), advice),
                false => found.fail_in_words(Check::NatsLogin, &error.to_string()),
            }
        }
    }
}
