//! Only what fits counts as progress: whatever a gateway answers that was not asked, a push is written to it a few times, the
//! connections come ever more slowly, and everything has its end within the delivery timeout.

use std::time::Duration;

use super::engine::{Engine, PROTOCOLS, each_on_a_shard};
use super::peer::{Manner, Peer, Strange};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::ports::Protocol;
use task_engine::push::Push;

const TIMEOUT: Duration = Duration::from_secs(3);
const EVENTS: i64 = 10;
/// Sent with all others, then at the front with others behind it, then alone until it is given up.
const COPIES_MAX: usize = 6;
/// Calls that all fail with a status are made until their time is over, ever more slowly.
const CALLS_MAX: usize = 8;
/// Pauses grow from 50 ms (half of that at the least) to a second.
const CONNECTIONS_MAX: usize = 4 * EVENTS as usize;

fn is_idle(push: &Push) -> bool {
    push.events_in_flight() == 0
}

async fn flooded(mut engine: Engine, (protocol, manner): (Protocol, Manner)) -> Result<String, String> {
    let peer = Peer::start(manner);
    engine.list(peer.address, protocol);
    (1..=EVENTS).for_each(|msg_id| engine.event("s", msg_id));
    // One that answers some in between may take thrice as long, as any slow one.
    let took = engine.run_until(3 * TIMEOUT + Duration::from_secs(2), is_idle).await;
    let (copies, connections) = (peer.seen.most_copies(), peer.connections());
    let warned = engine.warnings.iter().any(|warning| warning.contains("gateway A: "));
    let ends = engine.ends();
    let told = format!("{took:?}, {copies} copies, {connections} connections; {ends}; {:?}", engine.warnings);
    let is_late = took
        .is_none_or(|took| took > TIMEOUT + Duration::from_secs(2) && engine.ended(RecipientOutcome::Delivered) == 0);
    let is_delivered = engine.ended(RecipientOutcome::Delivered) == 2 * EVENTS as u64;
    let is_status = protocol == Protocol::Unary && matches!(manner, Manner::Strange(Strange::HeadersThen(_)));
    let is_well = !is_late
        && copies <= (if is_status { CALLS_MAX } else { COPIES_MAX })
        && connections <= CONNECTIONS_MAX
        && (warned || is_delivered);
    if is_well { Ok(told) } else { Err(told) }
}

#[test]
fn what_does_not_fit_is_no_progress() {
    let strange = [
        Strange::Zero,
        Strange::Counter,
        Strange::Twice,
        Strange::First,
        Strange::RightThenWrong,
        Strange::UnknownUser,
        Strange::Garbage,
        Strange::Compressed,
        Strange::Endless,
        Strange::HeadersThen(14),
        Strange::HeadersThen(13),
        Strange::EndsWell,
    ];
    let cases = strange.iter().flat_map(|strange| PROTOCOLS.map(|protocol| (protocol, Manner::Strange(*strange))));
    each_on_a_shard(&cases.collect::<Vec<_>>(), TIMEOUT, |engine, case| Box::pin(flooded(engine, case)));
}

#[test]
fn what_is_refused_for_ever_is_asked_for_ever_more_slowly() {
    let manners = [
        Manner::Status(14),
        Manner::Status(1),
        Manner::Status(4),
        Manner::Status(12),
        Manner::ReadsThenStatus(14),
        Manner::Reset(2),
        Manner::ClosesAtRequest,
        Manner::GoesAway,
        Manner::Closes,
        Manner::Strange(Strange::Empty),
    ];
    let cases = manners.iter().flat_map(|manner| PROTOCOLS.map(|protocol| (protocol, *manner)));
    each_on_a_shard(&cases.collect::<Vec<_>>(), TIMEOUT, |engine, case| Box::pin(flooded_long(engine, case)));
}

/// The same where nothing is told and nothing is read to be copied often: only time ends it.
async fn flooded_long(mut engine: Engine, (protocol, manner): (Protocol, Manner)) -> Result<String, String> {
    let peer = Peer::start(manner);
    engine.list(peer.address, protocol);
    (1..=EVENTS).for_each(|msg_id| engine.event("s", msg_id));
    let took = engine.run_until(TIMEOUT + Duration::from_secs(2), is_idle).await;
    let connections = peer.connections();
    let told = format!("{took:?}, {connections} connections; {}; {:?}", engine.ends(), engine.warnings);
    let is_well = took.is_some() && connections <= CONNECTIONS_MAX && engine.ended(RecipientOutcome::Delivered) == 0;
    if is_well { Ok(told) } else { Err(told) }
}

#[test]
fn one_answer_a_stream_is_slow_and_no_flood() {
    let manners = [Strange::AnswersOnceAndEnds, Strange::AnswersOnceAndGoes].map(Manner::Strange);
    let cases =
        manners.iter().flat_map(|manner| [Protocol::Stream, Protocol::Batch].map(|protocol| (protocol, *manner)));
    each_on_a_shard(&cases.collect::<Vec<_>>(), TIMEOUT, |engine, case| Box::pin(flooded(engine, case)));
}

async fn unasked(mut engine: Engine, protocol: Protocol) -> Result<String, String> {
    let peer = Peer::start(Manner::Good);
    engine.list(peer.address, protocol);
    engine.event("s", 1);
    let first = engine.run_until(TIMEOUT, is_idle).await;
    // From now on each new stream is greeted by an answer to nothing; a break makes the next one.
    peer.behave(Manner::Strange(Strange::First));
    engine.list(peer.address, if protocol == Protocol::Batch { Protocol::Stream } else { Protocol::Batch });
    engine.event("s", 2);
    let second = engine.run_until(TIMEOUT + Duration::from_secs(2), is_idle).await;
    let before = peer.connections();
    let none = engine.run_until(Duration::from_secs(1), |_| false).await;
    let told = format!("{first:?} {second:?}, {before} connections, {} later; {}", peer.connections(), engine.ends());
    let is_well = first.is_some() && second.is_some() && none.is_none() && peer.connections() <= before + 1;
    let is_well = is_well && peer.seen.most_copies() <= COPIES_MAX;
    if is_well { Ok(told) } else { Err(told) }
}

#[test]
fn answers_to_nothing_open_no_streams() {
    let protocols = [Protocol::Stream, Protocol::Batch];
    each_on_a_shard(&protocols, TIMEOUT, |engine, protocol| Box::pin(unasked(engine, protocol)));
}
