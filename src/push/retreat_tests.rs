//! A retreat, without a store.

use std::time::Duration;

use prost::Message;

use super::*;
use crate::model::delivery::{DeliveryTag, Disposition, LookupError, Settled};
use crate::model::ids::{Nanos, ShardId};
use crate::model::names::{NameList, Route, RouteList};
use crate::model::priority::Said;
use crate::model::proto::event::PushEvent;
use crate::push::Settings;
use crate::push::bundle::{BundleEnd, BundleResult, Refusal};
use crate::push::facts::{AskNo, Input, Output};
use crate::push::inbox::InboxStore;

const ALL: Away = Away { lookups: true, inbox: true, letters: true };

pub(in crate::push) fn push() -> Push {
    push_with(InboxStore::Off)
}

fn push_with(inbox: InboxStore) -> Push {
    push_of(1, inbox)
}

/// The first of so many shards.
fn push_of(shards: u16, inbox: InboxStore) -> Push {
    Push::new(Settings {
        shard: ShardId(0),
        shards,
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
        inbox,
    })
}

pub(in crate::push) fn take(push: &mut Push, session: &str, msg_id: i64, number: u64) {
    let event = PushEvent { msg_id, session_id: session.to_owned(), r#type: "text".to_owned(), ..PushEvent::default() };
    let tag = DeliveryTag { reader: 0, number };
    push.take(Input::Event { payload: event.encode_to_vec().into(), tag, said: Said::Nothing });
}

pub(in crate::push) fn flush(push: &mut Push, millis: u64) -> Vec<Output> {
    push.set_now(Nanos(millis * 1_000_000));
    let mut out = Vec::new();
    push.flush(&mut out);
    out
}

fn given_back(out: &[Output]) -> Vec<u64> {
    let each = out.iter().filter_map(|output| match output {
        Output::Settle(Settled { tag, how: Disposition::Nak }) => Some(tag.number),
        _ => None,
    });
    each.collect()
}

fn conserved(push: &Push) -> bool {
    let counts = push.counts();
    let (ended, told) = (counts.events_ended.iter().sum::<u64>(), counts.recipients_ended.iter().sum::<u64>());
    counts.events_arrived == ended + push.events_in_flight() as u64
        && counts.recipients_arrived == told + push.recipients_in_flight() as u64
}

/// Answers members and routes of a turn; a user without a route here is offline. Gives what else the turn wants.
fn answer(push: &mut Push, out: Vec<Output>, members: &[&str], routes: &[(&str, &str)]) -> Vec<Output> {
    let mut rest = Vec::new();
    for output in out {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let lists = sessions.iter().map(|_| members.iter().copied().collect::<NameList>()).collect();
                push.take(Input::Members { ask, answer: Ok(lists) });
            }
            Output::AskRoutes { ask, users } => {
                let mut list = RouteList::new();
                for user in users.iter() {
                    match routes.iter().find(|(of, _)| *of == user) {
                        Some((_, gateway)) => list.push(Route::Gateway(gateway)),
                        None => list.push(Route::Offline),
                    }
                }
                push.take(Input::Routes { ask, answer: Ok(list) });
            }
            other => rest.push(other),
        }
    }
    rest
}

/// An event is taken and goes as far as it can before anything else is answered; the rows that are asked for.
fn bundle(push: &mut Push, event: (&str, i64, u64), routes: &[(&str, &str)], millis: u64) -> Vec<AskNo> {
    let (session, msg_id, number) = event;
    take(push, session, msg_id, number);
    let mut rest = Vec::new();
    for _ in 0..3 {
        let out = flush(push, millis);
        rest.extend(answer(push, out, &["ann", "bob"], routes));
    }
    stores(&rest)
}

fn stores(out: &[Output]) -> Vec<AskNo> {
    out.iter().filter_map(|output| if let Output::Store { ask, .. } = output { Some(*ask) } else { None }).collect()
}

/// Routes and rows that a turn asks for have no answer.
fn refuse_all(push: &mut Push, out: &[Output]) {
    refuse_rows(push, &stores(out));
    for output in out {
        if let Output::AskRoutes { ask, .. } = output {
            push.take(Input::Routes { ask: *ask, answer: Err(LookupError::Unavailable("away".to_owned())) });
        }
    }
}

fn refuse_rows(push: &mut Push, asks: &[AskNo]) {
    for ask in asks {
        push.take(Input::Stored { ask: *ask, answer: Err(LookupError::Rejected("read only".to_owned())) });
    }
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
    assert_eq!((push.events_in_flight(), push.counts().events_ended[EventOutcome::GivenBack as usize]), (0, 6));
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

/// Sessions are told apart by their ids, also where the table knows them by a few bits of the hash.
#[test]
fn what_waits_in_one_session_keeps_no_event_of_another_session() {
    let mut push = push();
    bundle(&mut push, ("busy", 1, 1), &[("ann", "gw-1")], 1);
    take(&mut push, "busy", 2, 2);
    push.take(Input::Retreat(true));
    let others = (3..1_003).collect::<Vec<_>>();
    for number in &others {
        take(&mut push, &format!("other-{number}"), 1, *number);
    }
    assert_eq!(given_back(&flush(&mut push, 2)), others);
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

#[test]
fn what_only_owes_rows_is_given_back_when_the_inbox_is_away() {
    let mut push = push_with(InboxStore::Offline);
    let [first, second] = [1, 2].map(|at| bundle(&mut push, ("a", at, at as u64), &[], at as u64));
    assert_eq!((first.len(), second.len(), push.events_in_flight()), (1, 1, 2));
    // A repeat of the first.
    take(&mut push, "a", 1, 3);
    push.take(Input::Retreat(true));
    assert_eq!(given_back(&flush(&mut push, 30)), [0; 0], "the inbox has not failed");
    refuse_rows(&mut push, &first);
    assert_eq!(given_back(&flush(&mut push, 60)), [1, 3], "the rows of the second are at the inbox");
    refuse_rows(&mut push, &second);
    assert_eq!(given_back(&flush(&mut push, 90)), [2]);
    assert_eq!(push.counts().recipients_ended[RecipientOutcome::GivenBack as usize], 4);
    assert!(conserved(&push) && push.events_in_flight() == 0 && push.recipients_in_flight() == 0);
    // Only a probe is asked from now on, and an answer that comes too late is nobody's.
    let probes = stores(&flush(&mut push, 2_000));
    assert!(probes.len() <= 1, "{probes:?}");
    refuse_rows(&mut push, &first);
    push.take(Input::Retreat(false));
    let again = bundle(&mut push, ("a", 1, 4), &[], 2_001);
    assert_eq!((push.events_in_flight(), again.len()), (1, 1), "a new event, not a repeat");
    for ask in again {
        push.take(Input::Stored { ask, answer: Ok(NameList::new()) });
    }
    assert_eq!((push.events_in_flight(), push.counts().recipients_ended[RecipientOutcome::Stored as usize]), (0, 2));
    assert!(conserved(&push));
}

#[test]
fn rows_for_an_inbox_that_works_are_no_reason_to_give_back() {
    let mut push = push_with(InboxStore::Offline);
    let rows = bundle(&mut push, ("a", 1, 1), &[], 1);
    push.take(Input::Retreat(true));
    assert_eq!(given_back(&flush(&mut push, 1_000)), [0; 0]);
    push.take(Input::Stored { ask: rows[0], answer: Ok(NameList::new()) });
    assert_eq!(given_back(&flush(&mut push, 2_000)), [0; 0]);
    assert_eq!(push.counts().events_ended[EventOutcome::Settled as usize], 1);
}

#[test]
fn while_pushes_are_under_way_nothing_of_the_session_is_given_back() {
    let mut push = push_with(InboxStore::Offline);
    let rows = bundle(&mut push, ("x", 1, 0), &[], 1);
    // Ann is at a gateway that nobody knows, so her push ends with the delivery timeout; bob is offline.
    assert_eq!(bundle(&mut push, ("a", 1, 1), &[("ann", "gw")], 2).len(), 0);
    // The next event waits for routes.
    take(&mut push, "a", 2, 2);
    let out = flush(&mut push, 3);
    refuse_all(&mut push, &out);
    refuse_rows(&mut push, &rows);
    push.take(Input::Retreat(true));
    let out = flush(&mut push, 100);
    assert_eq!(given_back(&out), [0], "of another session");
    refuse_all(&mut push, &out);
    // One that comes now stands behind it, one of another session behind nothing.
    take(&mut push, "a", 3, 3);
    take(&mut push, "b", 1, 4);
    let out = flush(&mut push, 9_000);
    assert_eq!(given_back(&out), [4]);
    refuse_all(&mut push, &out);
    let mut all = Vec::new();
    for millis in (10_000..11_000).step_by(50) {
        let out = flush(&mut push, millis);
        all.extend(given_back(&out));
        refuse_all(&mut push, &out);
    }
    assert_eq!(all, [1, 2, 3], "in the order of arrival");
    assert!(conserved(&push) && push.events_in_flight() == 0);
}

#[test]
fn who_is_held_for_a_route_is_given_back_when_the_route_store_is_away() {
    let mut push = push();
    bundle(&mut push, ("a", 1, 1), &[("ann", "gw-1")], 1);
    // She moves, so her second message waits until the first has ended, which it does when her route is unknown again.
    bundle(&mut push, ("a", 2, 2), &[("ann", "gw-2")], 2);
    push.take(Input::RouteChanged("ann".into()));
    push.take(Input::Retreat(true));
    let mut all = Vec::new();
    for millis in (100..14_000).step_by(50) {
        let out = flush(&mut push, millis);
        all.extend(given_back(&out).into_iter().map(|number| (number, millis)));
        refuse_all(&mut push, &out);
    }
    assert_eq!(all.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2], "{all:?}");
    assert!(all[0].1 > 10_000 && all[1].1 - all[0].1 <= 50, "after the push ended, and together: {all:?}");
    assert_eq!(push.counts().recipients_ended[RecipientOutcome::GivenBack as usize], 2, "ann, twice");
    assert!(conserved(&push) && push.events_in_flight() == 0);
    // Nothing is left of it: she is told the next one.
    push.take(Input::Retreat(false));
    bundle(&mut push, ("a", 1, 3), &[], 15_000);
    let mut millis = 15_000;
    while push.events_in_flight() > 0 && millis < 30_000 {
        millis += 100;
        let out = flush(&mut push, millis);
        answer(&mut push, out, &["ann", "bob"], &[]);
    }
    assert_eq!((push.events_in_flight(), push.counts().events_ended[EventOutcome::Settled as usize]), (0, 1));
    assert!(conserved(&push));
}

/// A gateway that another shard than the first of two owns.
fn far_gateway(number: usize) -> String {
    let mut far = (0..).map(|number| format!("gw-{number}")).filter(|id| ShardId::of_gateway(id, 2) == ShardId(1));
    far.nth(number).expect("endless")
}

#[test]
fn who_is_held_is_not_given_back_before_a_younger_event_that_is_kept_for_the_same_user() {
    let mut push = push_of(2, InboxStore::Off);
    let [first, second, third] = [0, 1, 2].map(far_gateway);
    let mut sent = Vec::new();
    let mut bundle = |push: &mut Push, event: (&str, i64, u64), routes: &[(&str, &str)], millis| {
        take(push, event.0, event.1, event.2);
        for _ in 0..3 {
            let out = flush(push, millis);
            let rest = answer(push, out, &["ann", "bob"], routes);
            sent.extend(rest.into_iter().filter_map(|output| match output {
                Output::ToOwner(_, bundle) => Some(bundle),
                _ => None,
            }));
        }
        std::mem::take(&mut sent)
    };
    let of_first = bundle(&mut push, ("a", 1, 1), &[("ann", &first)], 1);
    // Ann has moved, so her second message is held; bob gets his.
    let of_second = bundle(&mut push, ("a", 2, 2), &[("ann", &second), ("bob", &third)], 2);
    assert_eq!((of_first.len(), of_second.len()), (1, 1));
    push.take(Input::RouteChanged("ann".into()));
    for (bundle, refused) in of_second
        .into_iter()
        .map(|bundle| (bundle, vec![]))
        .chain(of_first.into_iter().map(|bundle| (bundle, vec![(0, Refusal::NotConnected)])))
    {
        push.take(Input::Result(BundleResult::unwritten(bundle, BundleEnd::Answered(refused))));
    }
    push.take(Input::Retreat(true));
    for millis in (100..3_000).step_by(50) {
        let out = flush(&mut push, millis);
        assert!(given_back(&out).is_empty(), "the second reached bob and is kept for ann: the first comes before it");
        refuse_all(&mut push, &out);
    }
    assert_eq!(push.events_in_flight(), 2);
}
