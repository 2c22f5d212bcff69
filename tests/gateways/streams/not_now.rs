//! A hop that says "not now", in whatever way, costs the pushes behind it time and nothing else.

use std::time::Duration;

use super::engine::{Engine, PROTOCOLS, USERS, each_on_a_shard};
use super::peer::{Manner, Peer};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::ports::Protocol;
use task_engine::push::Push;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the hop says so.
const REFUSING: Duration = Duration::from_secs(4);
const EVENTS: i64 = 20;

#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: Protocol,
    manner: Manner,
    /// Each event is of a session of its own, not all of one.
    is_spread: bool,
}

fn is_idle(push: &Push) -> bool {
    push.events_in_flight() == 0
}

async fn all_are_pushed(mut engine: Engine, case: Case) -> Result<String, String> {
    let peer = Peer::start(case.manner);
    engine.list(peer.address, case.protocol);
    for msg_id in 1..=EVENTS {
        let session = if case.is_spread { format!("s{msg_id}") } else { "s".to_owned() };
        engine.event(&session, msg_id);
    }
    let early = engine.run_until(REFUSING, is_idle).await;
    let refused = peer.connections();
    peer.behave(Manner::Good);
    let took = engine.run_until(Duration::from_secs(5), is_idle).await;
    let delivered = engine.ended(RecipientOutcome::Delivered);
    let told = format!(
        "idle early {early:?}, then {took:?}; {refused} connections while it refused, {} copies; {}; {:?}",
        peer.seen.most_copies(),
        engine.ends(),
        engine.warnings
    );
    let is_well = took.is_some() && delivered == EVENTS as u64 * USERS.len() as u64 && refused <= 40;
    if is_well { Ok(told) } else { Err(told) }
}

fn run(manners: &[Manner], protocols: &[Protocol], spreads: &[bool]) {
    let mut cases = Vec::new();
    for manner in manners {
        for protocol in protocols {
            cases.extend(spreads.iter().map(|spread| Case {
                protocol: *protocol,
                manner: *manner,
                is_spread: *spread,
            }));
        }
    }
    each_on_a_shard(&cases, TIMEOUT, |engine, case| Box::pin(all_are_pushed(engine, case)));
}

#[test]
fn not_now_in_a_status_waits_on_each_protocol() {
    run(&[Manner::Status(14), Manner::Status(8), Manner::ReadsThenStatus(14)], &PROTOCOLS, &[false, true]);
}

#[test]
fn not_now_of_http_waits_on_each_protocol() {
    let manners = [503, 429, 502, 500, 403].map(Manner::Http);
    run(&manners, &PROTOCOLS, &[false]);
    run(&[Manner::WebPage, Manner::HangsThenHttp(2_000, 504)], &PROTOCOLS, &[false]);
}

#[test]
fn what_never_opens_waits_on_each_protocol() {
    let manners = [Manner::Closes, Manner::GoesAway, Manner::Http1, Manner::Reset(7), Manner::ClosesAtRequest];
    run(&manners, &PROTOCOLS, &[false]);
}

#[test]
fn failures_that_all_pushes_meet_are_no_pushs() {
    let manners = [13, 2, 4, 10, 16, 7, 1, 12].map(Manner::Status);
    run(&manners, &PROTOCOLS, &[false]);
    run(&[Manner::Status(13), Manner::Reset(2)], &PROTOCOLS, &[true]);
}
