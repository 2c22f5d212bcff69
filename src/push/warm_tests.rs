//! A partition that comes here: what its events will need is looked up before they come.

use prost::Message;

use super::*;
use crate::model::delivery::LookupError;
use crate::model::gateway::{Endpoint, GatewayRecord, Protocols};
use crate::model::ids::Nanos;
use crate::model::names::{NameList, Route, RouteList};
use crate::model::proto::event::PushEvent;
use crate::push::facts::{Input, Output};
use crate::push::retreat::tests::{flush, push as untracked, take};

fn push() -> Push {
    let mut push = untracked();
    push.cx.settings.caches_routes = true;
    push.take(Input::RoutesTracked(true));
    push
}

fn settled(session: &str) -> bytes::Bytes {
    PushEvent { msg_id: -1, session_id: session.to_owned(), r#type: "text".to_owned(), ..PushEvent::default() }
        .encode_to_vec()
        .into()
}

fn comes(push: &mut Push, sessions: &[&str]) {
    push.take(Input::Known(sessions.iter().map(|session| settled(session)).collect()));
}

/// What a turn asked, in words: sessions of queries, users of MGETs, `push` for what goes to a gateway.
fn asked(push: &mut Push, out: &[Output]) -> Vec<String> {
    let mut all = Vec::new();
    for output in out {
        match output {
            Output::AskMembers { sessions, .. } => all.push(format!("members of {}", sessions.join(" "))),
            Output::AskRoutes { users, .. } => {
                all.push(format!("routes of {}", users.iter().collect::<Vec<_>>().join(" ")));
            }
            Output::Open { gateway_id, .. } => all.push(format!("stream to {gateway_id}")),
            _ => {}
        }
    }
    answer(push, out);
    all
}

/// Each session has one member of its name, at a gateway.
fn answer(push: &mut Push, out: &[Output]) {
    for output in out {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let lists =
                    sessions.iter().map(|id| [&*format!("{id}-ann")].into_iter().collect::<NameList>()).collect();
                push.take(Input::Members { ask: *ask, answer: Ok(lists) });
            }
            Output::AskRoutes { ask, users } => {
                let mut list = RouteList::new();
                users.iter().for_each(|_| list.push(Route::Gateway("gw-1")));
                push.take(Input::Routes { ask: *ask, answer: Ok(list) });
            }
            _ => {}
        }
    }
}

fn turn(push: &mut Push, millis: u64) -> Vec<String> {
    let out = flush(push, millis);
    asked(push, &out)
}

fn warmed(push: &Push) -> (u64, u64) {
    (push.activity().sessions_warmed, push.activity().sessions_left_cold)
}

#[test]
fn members_and_routes_of_a_partition_that_comes_are_known_before_its_events() {
    let mut push = push();
    comes(&mut push, &["a", "b", "a"]);
    assert_eq!(turn(&mut push, 1), ["members of a b"], "whose event was the last goes first");
    assert_eq!(turn(&mut push, 2), ["routes of a-ann b-ann"]);
    comes(&mut push, &["b"]);
    assert_eq!(turn(&mut push, 3), [""; 0], "known already");
    take(&mut push, "a", 1, 1);
    assert_eq!((turn(&mut push, 4), push.recipients_in_flight()), (vec![], 1), "bundled at once");
    assert_eq!(warmed(&push), (2, 0));
}

#[test]
fn what_was_looked_up_ahead_is_as_old_as_anything_else() {
    let mut push = push();
    comes(&mut push, &["a", "b"]);
    (1..4).for_each(|millis| _ = turn(&mut push, millis));
    push.take(Input::RouteChanged("a-ann".into()));
    take(&mut push, "a", 1, 1);
    assert_eq!(turn(&mut push, 5), ["routes of a-ann"]);
    push.set_now(Nanos(1_002_000_000));
    take(&mut push, "b", 1, 2);
    assert_eq!(turn(&mut push, 1_002), ["members of b"], "older than members.cache_ttl");

    push.cx.settings.members_ttl = std::time::Duration::ZERO;
    comes(&mut push, &["c"]);
    assert_eq!((turn(&mut push, 1_003), warmed(&push)), (vec![], (2, 0)), "good for no event");
}

#[test]
fn sessions_with_events_go_first_and_what_has_no_turn_in_time_is_left_to_its_events() {
    let mut push = push();
    comes(&mut push, &["ahead"]);
    take(&mut push, "s", 1, 1);
    let first = flush(&mut push, 1);
    comes(&mut push, &["late", "later"]);
    let none = flush(&mut push, 2);
    assert_eq!(asked(&mut push, &none), [""; 0], "two sets are under way: what is left of them is for events");
    take(&mut push, "t", 1, 2);
    assert_eq!(turn(&mut push, 3), ["members of t"]);
    push.set_now(Nanos(1_100_000_000));
    assert_eq!(asked(&mut push, &first), ["members of s", "members of ahead"]);
    let then = turn(&mut push, 1_100);
    assert!(then.iter().all(|asked| !asked.contains("late")), "{then:?}");
    assert_eq!(warmed(&push), (1, 2));
}

#[test]
fn an_event_waits_for_the_query_that_was_made_ahead() {
    let mut push = push();
    comes(&mut push, &["a"]);
    let ahead = flush(&mut push, 1);
    take(&mut push, "a", 1, 1);
    assert_eq!(turn(&mut push, 2), [""; 0]);
    assert_eq!(asked(&mut push, &ahead), ["members of a"]);
    assert_eq!(turn(&mut push, 3), ["routes of a-ann"]);
    assert_eq!((turn(&mut push, 4), push.recipients_in_flight()), (vec![], 1));
}

#[test]
fn of_too_many_those_named_last_are_looked_up() {
    let mut push = push();
    let names: Vec<String> = (0..1_030).map(|number| format!("s{number}")).collect();
    comes(&mut push, &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(warmed(&push), (0, 6));
    let out = flush(&mut push, 1);
    let sets = out.iter().filter_map(|output| match output {
        Output::AskMembers { sessions, .. } => Some((sessions.len(), sessions[0].clone())),
        _ => None,
    });
    assert_eq!(sets.collect::<Vec<_>>(), [(256, "s1029".into()), (256, "s773".into())]);
    for millis in 2..20 {
        answer(&mut push, &out);
        turn(&mut push, millis);
    }
    assert_eq!((warmed(&push), push.kept()), ((1_024, 6), (1_024, 1_024)));
}

#[test]
fn a_lookup_ahead_that_fails_blames_nobody_and_while_the_store_is_away_none_is_made() {
    let mut push = push();
    comes(&mut push, &["a"]);
    for millis in 1..=2 {
        for output in flush(&mut push, millis) {
            if let Output::AskMembers { ask, .. } = output {
                push.take(Input::Members { ask, answer: Err(LookupError::Unavailable("away".to_owned())) });
            }
        }
    }
    comes(&mut push, &["b"]);
    turn(&mut push, 1_000);
    assert_eq!(warmed(&push), (1, 1));
    // It is back.
    (0..100).for_each(|round| _ = turn(&mut push, 2_000 + 20 * round));
    take(&mut push, "a", 1, 1);
    (0..100).for_each(|round| _ = turn(&mut push, 5_000 + 20 * round));
    assert_eq!(
        (push.recipients_in_flight(), push.warnings().iter().any(|(reason, _)| *reason == "members_refused")),
        (1, false)
    );
}

#[test]
fn streams_to_listed_gateways_are_opened_once_before_the_first_push() {
    let mut push = push();
    let endpoints = vec![Endpoint { host: "127.0.0.1".into(), port: 1, secure: false }];
    let protocols = Protocols::STREAM;
    push.take(Input::GatewayListed(GatewayRecord {
        gateway_id: "gw-1".into(),
        endpoints,
        protocols,
        others: Vec::new(),
    }));
    assert_eq!(turn(&mut push, 1), [""; 0], "nothing comes");
    comes(&mut push, &[]);
    assert_eq!(turn(&mut push, 2), ["stream to gw-1"]);
    comes(&mut push, &["a"]);
    assert_eq!(turn(&mut push, 3), ["members of a"]);
    (4..8).for_each(|millis| _ = turn(&mut push, millis));
    take(&mut push, "a", 1, 1);
    assert_eq!((turn(&mut push, 8), push.recipients_in_flight()), (vec![], 1), "its stream is on its way");
}
