//! A push that its gateway cannot handle ends alone and soon, also where the gateway breaks before it has said anything: an
//! empty stream tells that it is there.

use std::time::Duration;

use super::engine::{Engine, PROTOCOLS, each_on_a_shard};
use super::peer::{Manner, Peer};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::ports::Protocol;
use task_engine::push::Push;

const TIMEOUT: Duration = Duration::from_secs(10);
const EVENTS: i64 = 20;
const BAD: i64 = 5;

fn is_idle(push: &Push) -> bool {
    push.events_in_flight() == 0
}

async fn bad_one_ends_alone(mut engine: Engine, case: (Protocol, Manner)) -> Result<String, String> {
    let (protocol, manner) = case;
    let peer = Peer::start(manner);
    engine.list(peer.address, protocol);
    (1..=EVENTS).for_each(|msg_id| engine.event("s", msg_id));
    // A "not now" is taken for what it says in the first half of the delivery timeout.
    let limit = if manner == Manner::FailsAt(BAD, 14) { TIMEOUT } else { TIMEOUT / 2 };
    let took = engine.run_until(limit, is_idle).await;
    let thrown_out = engine.ended(RecipientOutcome::BrokeStream) + engine.ended(RecipientOutcome::Refused);
    let delivered = engine.ended(RecipientOutcome::Delivered);
    let told = format!(
        "{took:?}; {}; {} copies, {} connections; {:?}",
        engine.ends(),
        peer.seen.most_copies(),
        peer.connections(),
        engine.warnings
    );
    let is_well = took.is_some() && thrown_out == 2 && delivered == 2 * (EVENTS as u64 - 1);
    // On `stream` its second recipient is written after the first, and on `unary` it is tried twice as often.
    let is_well = is_well
        && peer.seen.most_copies() <= if limit < TIMEOUT { 7 } else { 18 }
        && engine.warnings.iter().any(|said| said.contains("msg_id 5"));
    if is_well { Ok(told) } else { Err(told) }
}

#[test]
fn a_bad_push_ends_alone_whether_or_not_the_response_had_begun() {
    let manners = [Manner::FailsAt(BAD, 13), Manner::FailsAt(BAD, 2), Manner::FailsAt(BAD, 14), Manner::DiesAt(BAD)];
    let cases = manners.iter().flat_map(|manner| PROTOCOLS.map(|protocol| (protocol, *manner)));
    each_on_a_shard(&cases.collect::<Vec<_>>(), TIMEOUT, |engine, case| Box::pin(bad_one_ends_alone(engine, case)));
}

async fn first_is_bad(mut engine: Engine, protocol: Protocol) -> Result<String, String> {
    let peer = Peer::start(Manner::DiesAt(BAD));
    engine.list(peer.address, protocol);
    (BAD..=EVENTS).for_each(|msg_id| engine.event(&format!("s{}", msg_id % 3), msg_id));
    let took = engine.run_until(Duration::from_secs(5), is_idle).await;
    let told = format!("{took:?}; {}; {} copies", engine.ends(), peer.seen.most_copies());
    let is_well = took.is_some() && engine.ended(RecipientOutcome::Delivered) == 2 * (EVENTS - BAD) as u64;
    if is_well { Ok(told) } else { Err(told) }
}

#[test]
fn a_bad_push_ends_alone_when_it_is_the_first_of_all() {
    each_on_a_shard(&PROTOCOLS, TIMEOUT, |engine, protocol| Box::pin(first_is_bad(engine, protocol)));
}
