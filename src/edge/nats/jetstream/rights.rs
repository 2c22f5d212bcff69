//! Whether the user may do what reading needs beside the API: acknowledge, and pull.
//!
//! Promises to change nothing. NATS says nothing of a publish that it lets pass, but it says at once which one it does not,
//! before it answers the round trip after it. So what is published means nothing to the server: an ack of no event, and a
//! pull without a place to send to.

use super::plan::ReaderPlan;

/// What follows the consumer in the subject of an ack of no event.
const NO_EVENT: &str = "1.0.0.0.0";

/// Whether a subject is that of such an ack.
pub(super) fn is_of_probe(subject: &str) -> bool {
    subject.strip_suffix(NO_EVENT).is_some_and(|start| start.starts_with("$JS.ACK.") && start.ends_with('.'))
}

/// What is to be published, subject and payload, before a round trip; `pulls` when events are to be read.
pub(super) fn probe(plan: &ReaderPlan, pulls: bool) -> impl Iterator<Item = (String, &'static str)> + '_ {
    plan.read().flat_map(move |(_, consumer)| {
        let (stream, name) = (&plan.stream, &consumer.name);
        let pull = pulls.then(|| (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), ""));
        pull.into_iter().chain([(format!("$JS.ACK.{stream}.{name}.{NO_EVENT}"), "+WPI")])
    })
}

/// Why nothing can be read or acknowledged, when the server's refusal to let us publish to a subject means that.
pub(super) fn missing(subject: &str, who: &str, text: &str) -> Option<String> {
    let right = match subject {
        _ if subject.starts_with("$JS.ACK.") => "$JS.ACK.>",
        _ if subject.starts_with("$JS.") => "$JS.API.>",
        _ => return None,
    };
    Some(format!("{who} may not publish to {subject}: grant the user publish on {right} ({text})"))
}
