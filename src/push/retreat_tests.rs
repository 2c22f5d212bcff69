//! A retreat, without a store.

use std::time::Duration;

use prost::Message;

use super::*;
use crate::ids::{Nanos, ShardId};
use crate::names::{NameList, Route, RouteList};
use crate::ports::{DeliveryTag, SettleAs, Settled};
use crate::proto::event::PushEvent;
use crate::push::Settings;
use crate::push::facts::{Input, Output};
use crate::push::inbox::InboxStore;

const ALL: Away = Away { lookups: true, inbox: true, letters: true };

fn push() -> Push {
    Push::new(Settings {
        shard: ShardId(0),
        shards: 1,
        events_window: usize::MAX,
        group_users_max: 256,
        members_ttl: Duration::from_secs(1),
        empty_wait: Duration::from_secs(5),
        caches_routes: false,
        delivery_timeout: Duration::from_secs(10),
        registry_forget_after: Duration::from_secs(300),
        gateway_table: crate::push::TableBounds::default(),
        max_retry: 3,
        retry_interval: Duration::from_secs(1),
        inbox: InboxStore::Off,
    })
}

fn take(push: &mut Push, session: &str, msg_id: i64, number: u64) {
    let event = PushEvent { msg_id, session_id: session.to_owned(), r#type: "text".to_owned(), ..PushEvent::default() };
    let tag = DeliveryTag { reader: 0, number };
    push.take(Input::Event { payload: event.encode_to_vec().into(), tag });
}

fn flush(push: &mut Push, millis: u64) -> Vec<Output> {
    push.set_now(Nanos(millis * 1_000_000));
    let mut out = Vec::new();
    push.flush(&mut out);
    out
}

fn given_back(out: &[Output]) -> Vec<u64> {
    let each = out.iter().filter_map(|output| match output {
        Output::Settle(Settled { tag, how: SettleAs::GivenBack }) => Some(tag.number),
        _ => None,
    });
    each.collect()
}

fn conserved(push: &Push) -> bool {
    let ended: u64 = push.counts().events_ended.iter().sum();
    push.counts().events_arrived == ended + push.events_in_flight() as u64
}

#[test]
fn what_waits_is_given_back_in_the_order_of_arrival_and_is_new_when_it_comes_again() {
    let mut push = push();
    for (number, session) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        take(&mut push, session, number as i64 + 1, number as u64);
    }
    // A repeat of the third.
    take(&mut push, "a", 3, 5);
    let asked = flush(&mut push, 1);
    assert!(push.waits_only_for(ALL) && !push.waits_only_for(Away { lookups: false, ..ALL }));
    push.take(Input::Retreat(true));
    assert_eq!(given_back(&flush(&mut push, 2)), [0, 1, 2, 5, 3, 4]);
    assert_eq!((push.events_in_flight(), push.counts().events_ended[EventEnd::GivenBack as usize]), (0, 6));
    assert!(conserved(&push) && !push.waits_only_for(ALL), "nothing waits");
    // What comes during the retreat is not taken.
    take(&mut push, "a", 6, 6);
    assert_eq!((given_back(&flush(&mut push, 3)), push.events_in_flight()), (vec![6], 0));
    // The answer of the store that was away finds nobody; then the same event is a new one.
    push.take(Input::Retreat(false));
    take(&mut push, "a", 3, 7);
    assert_eq!(push.events_in_flight(), 1);
    let Some(Output::AskMembers { ask, sessions, .. }) = asked.into_iter().next() else { panic!("members are asked") };
    push.take(Input::Members { ask, answer: Ok(vec![["ann"].into_iter().collect::<NameList>(); sessions.len()]) });
    let out = flush(&mut push, 1_001);
    assert!(out.iter().any(|output| matches!(output, Output::AskRoutes { .. })), "{out:?}");
    assert_eq!(given_back(&flush(&mut push, 3_000)), [0; 0]);
    assert!(conserved(&push));
}

fn asked_for_members(out: &[Output]) -> u64 {
    let ask = out.iter().find_map(|output| match output {
        Output::AskMembers { ask, .. } => Some(*ask),
        _ => None,
    });
    ask.expect("members are asked")
}

fn asked_for_routes(out: &[Output]) -> Option<u64> {
    out.iter().find_map(|output| match output {
        Output::AskRoutes { ask, .. } => Some(*ask),
        _ => None,
    })
}

fn one_member() -> Vec<NameList> {
    vec![["ann"].into_iter().collect()]
}

/// The answer that the first one waited for comes between two ticks.
#[test]
fn what_follows_an_event_that_was_given_back_is_not_pushed_before_it() {
    let mut push = push();
    take(&mut push, "a", 1, 1);
    let ask = asked_for_members(&flush(&mut push, 1));
    push.take(Input::Retreat(true));
    assert_eq!(given_back(&flush(&mut push, 2)), [1]);
    assert!(push.room() > 0);
    take(&mut push, "a", 2, 2);
    push.take(Input::Members { ask, answer: Ok(one_member()) });
    let out = flush(&mut push, 3);
    assert_eq!((given_back(&out), asked_for_routes(&out)), (vec![2], None));
    assert!(conserved(&push) && push.events_in_flight() == 0);
}

/// All is known of its session: it would be pushed at once.
#[test]
fn an_event_that_waits_for_nothing_is_not_taken_in_a_retreat_either() {
    let mut push = push();
    take(&mut push, "a", 1, 1);
    let ask = asked_for_members(&flush(&mut push, 1));
    push.take(Input::Members { ask, answer: Ok(one_member()) });
    let ask = asked_for_routes(&flush(&mut push, 2)).expect("routes are asked");
    push.take(Input::Retreat(true));
    // The first one was given back, what it had asked for is known, and the second would find all of it.
    push.take(Input::Routes { ask, answer: Ok([Route::Offline].into_iter().collect::<RouteList>()) });
    take(&mut push, "a", 2, 2);
    assert_eq!(given_back(&flush(&mut push, 3)), [1, 2]);
    // A repeat of one that was given back comes again as well.
    take(&mut push, "a", 1, 3);
    assert_eq!(given_back(&flush(&mut push, 4)), [3]);
    push.take(Input::Retreat(false));
    take(&mut push, "a", 1, 4);
    assert_eq!((given_back(&flush(&mut push, 5)), push.events_in_flight()), (vec![], 1));
    assert!(conserved(&push));
}
