//! Promise: who is at several gateways is pushed at each, once and in order; has one end, delivered when one of them took it and not
//! reached when none did; and waits only for a gateway that it has left.

use bytes::Bytes;
use prost::Message as _;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;
use task_engine::push::RecipientRules;
use task_engine::push::facts::{StreamEnd, StreamFact};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

fn listed(mut table: Table) -> Table {
    for gateway in ["A", "B", "C"] {
        table.list(gateway, Protocols::STREAM);
    }
    table
}

fn table(members: &[&str], routes: &[(&str, &str)]) -> Table {
    listed(Table::new(members, routes))
}

fn with_inbox(inbox: InboxStore) -> Table {
    listed(Table::with_inbox(&["ann"], &[("ann", "A+B")], inbox))
}

fn says(table: &mut Table, gateway: &str, msg_id: i64, error: &str) {
    table.answer(gateway, &PushMessageResponse { msg_id, seq_id: 0, error: error.into() });
}

fn takes(table: &mut Table, gateway: &str, msg_id: i64) {
    says(table, gateway, msg_id, "");
}

const GONE: &str = "user not connected";

#[test]
fn each_gateway_gets_the_push_and_the_first_answer_is_the_end() {
    let mut table = table(&["ann", "bob"], &[("ann", "A+B"), ("bob", "B")]);
    table.event(1);
    assert_eq!(table.pushed("A"), [("ann".into(), 1)]);
    assert_eq!(table.pushed("B"), [("ann".into(), 1), ("bob".into(), 1)]);
    assert_eq!((table.push.recipients_in_flight(), table.push.pushes_in_flight()), (2, 3));
    takes(&mut table, "B", 1);
    takes(&mut table, "B", 1);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (2, 0), "A has no answer");
    assert_eq!((table.push.recipients_in_flight(), table.push.pushes_in_flight()), (0, 1));
    takes(&mut table, "A", 1);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (2, 1));
    assert_eq!((table.push.pushes_in_flight(), table.push.activity().copies_sent), (0, 1));
    table.check();
}

#[test]
fn who_is_taken_by_one_gateway_needs_no_row() {
    for (first, second) in [("", "broken pipe"), ("broken pipe", "")] {
        let mut table = with_inbox(InboxStore::Offline);
        table.event(1);
        says(&mut table, "A", 1, first);
        says(&mut table, "B", 1, second);
        assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (1, 1));
        assert!(table.stores.is_empty());
        assert_eq!(table.push.activity().copies_missed, 1);
        table.check();
    }
}

#[test]
fn who_is_taken_by_none_has_a_row() {
    for inbox in [InboxStore::Offline, InboxStore::Off, InboxStore::All] {
        let mut table = with_inbox(inbox);
        table.event(1);
        says(&mut table, "A", 1, "broken pipe");
        assert_eq!(table.stores.len(), 0, "B may still take it");
        says(&mut table, "B", 1, "broken pipe");
        if inbox != InboxStore::Off {
            assert_eq!(table.store(Ok(&[])).users.iter().collect::<Vec<_>>(), ["ann"]);
        }
        let counts = table.push.counts();
        assert_eq!(counts.unreached_by[RecipientOutcome::Refused as usize], 1, "{inbox:?}");
        assert_eq!((table.settled.len(), table.push.activity().copies_missed), (1, 0), "{inbox:?}");
        table.check();
    }
}

#[test]
fn a_gateway_more_holds_nobody_up() {
    let mut table = table(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.moves("ann", "A+B");
    table.event(2);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1, 2], vec![2]));
}

#[test]
fn a_gateway_that_was_left_is_waited_for() {
    let mut table = table(&["ann", "bob"], &[("ann", "A+B"), ("bob", "B")]);
    table.event(1);
    table.moves("ann", "A+C");
    table.event(2);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("C")), (vec![1], vec![]), "2 waits for 1 at B");
    takes(&mut table, "A", 1);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("C")), (vec![], vec![]));
    takes(&mut table, "B", 1);
    takes(&mut table, "B", 1);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("C")), (vec![2], vec![2]));
    assert_eq!(table.pushed("B").last(), Some(&("bob".to_owned(), 2)));
}

#[test]
fn what_one_gateway_of_several_refuses_goes_to_the_one_that_came_for_it() {
    let mut table = table(&["ann"], &[("ann", "A+B")]);
    table.event(1);
    table.event(2);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1, 2], vec![1, 2]));
    table.routes.insert("ann".into(), "B+C".into());
    says(&mut table, "A", 1, GONE);
    takes(&mut table, "B", 1);
    table.event(3);
    assert!(table.pushed_ids("C").is_empty(), "2 has no answer yet");
    says(&mut table, "A", 2, GONE);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B"), table.pushed_ids("C")), (vec![], vec![3], vec![1, 2, 3]));
    takes(&mut table, "B", 2);
    takes(&mut table, "B", 3);
    (1..=3).for_each(|msg_id| takes(&mut table, "C", msg_id));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (3, 3));
    assert_eq!((table.push.pushes_in_flight(), table.push.activity().copies_missed), (0, 0));
    table.check();
}

#[test]
fn what_was_sent_before_a_gateway_came_is_not_offered_to_it_after_something_later() {
    let mut table = table(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.moves("ann", "A+B");
    table.event(2);
    assert_eq!(table.pushed_ids("B"), [2]);
    says(&mut table, "A", 1, GONE);
    assert_eq!((table.pushed_ids("B"), table.ended(RecipientOutcome::NotConnected)), (vec![], 1));
    takes(&mut table, "A", 2);
    takes(&mut table, "B", 2);
    table.event(3);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1, 2, 3], vec![3]));
    table.check();
}

#[test]
fn what_was_sent_before_a_gateway_came_is_offered_to_it_while_nothing_later_was() {
    let mut table = table(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.routes.insert("ann".into(), "A+B".into());
    says(&mut table, "A", 1, GONE);
    assert_eq!(table.pushed_ids("B"), [1]);
    takes(&mut table, "B", 1);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (1, 1));
    table.check();
}

#[test]
fn who_is_refused_by_all_of_them_goes_to_the_new_ones_once() {
    let mut table = table(&["ann"], &[("ann", "A+B")]);
    table.event(1);
    table.routes.insert("ann".into(), "C".into());
    says(&mut table, "A", 1, GONE);
    assert!(table.pushed_ids("C").is_empty(), "B was left, and has no answer");
    says(&mut table, "B", 1, GONE);
    assert_eq!(table.pushed_ids("C"), [1], "once");
    says(&mut table, "C", 1, GONE);
    assert_eq!((table.ended(RecipientOutcome::NotConnected), table.settled.len()), (1, 1));
    assert_eq!(table.push.pushes_in_flight(), 0);
    table.check();
}

#[test]
fn a_silent_gateway_of_several_costs_the_others_nothing() {
    let mut table = table(&["ann"], &[("ann", "A+B")]);
    table.event(1);
    takes(&mut table, "A", 1);
    table.pass(500);
    table.event(2);
    assert_eq!(table.pushed_ids("A"), [1, 2]);
    takes(&mut table, "A", 2);
    assert_eq!(table.ended(RecipientOutcome::Delivered), 2);
    table.pass(2_000);
    assert_eq!((table.settled.len(), table.push.activity().copies_missed), (2, 2));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.push.pushes_in_flight()), (2, 0));
    table.check();
}

#[test]
fn a_stream_that_breaks_repeats_what_it_had_and_no_other() {
    let mut table = table(&["ann"], &[("ann", "A+B")]);
    table.event(1);
    takes(&mut table, "B", 1);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1], vec![1]));
    table.fact("A", StreamFact::Closed(StreamEnd::Broken("reset".into())));
    table.pass(200);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1], vec![]));
    takes(&mut table, "A", 1);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (1, 1));
    table.check();
}

#[test]
fn the_sender_is_left_out_at_each_of_its_gateways_or_pushed_at_each() {
    for (is_echoed, pushed) in [(false, vec![]), (true, vec![1])] {
        let rules = RecipientRules { rows_up_to: 0, notice_above: 0, sender_row: false, echo_sender: is_echoed };
        let routes = [("ann", "A+B"), ("bob", "C")];
        let mut table = listed(Table::with_rules(&["ann", "bob"], &routes, InboxStore::Offline, rules));
        table.event_from("ann", 1);
        assert_eq!(
            (table.pushed_ids("A"), table.pushed_ids("B"), table.pushed_ids("C")),
            (pushed.clone(), pushed.clone(), vec![1])
        );
        if is_echoed {
            says(&mut table, "A", 1, "broken pipe");
            says(&mut table, "B", 1, "broken pipe");
        }
        takes(&mut table, "C", 1);
        assert!(table.stores.is_empty(), "nobody owes an echo");
        let ended = (table.ended(RecipientOutcome::SkippedSender), table.ended(RecipientOutcome::Delivered));
        assert_eq!((ended, table.settled.len(), table.push.pushes_in_flight()), ((1, 1), 1, 0), "{is_echoed}");
        table.check();
    }
}

#[test]
fn what_is_cut_off_leaves_nothing() {
    let mut table = table(&["ann"], &[("ann", "A+B")]);
    table.event(1);
    table.event(2);
    takes(&mut table, "A", 1);
    table.cut_off();
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.ended(RecipientOutcome::CutByStop)), (1, 1));
    assert_eq!((table.push.recipients_in_flight(), table.push.pushes_in_flight()), (0, 0));
    table.check();
}

#[test]
fn an_unknown_gateway_among_several_costs_the_others_nothing() {
    let mut table = table(&["ann"], &[("ann", "A+nobody+B")]);
    table.event(1);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1], vec![1]));
    takes(&mut table, "A", 1);
    takes(&mut table, "B", 1);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (1, 0));
    table.pass(1_200);
    assert_eq!((table.settled.len(), table.push.activity().copies_missed), (1, 1));
    table.check();
}

#[test]
fn a_replay_for_one_user_goes_to_each_gateway_behind_what_was_sent_there() {
    let mut table = table(&["ann", "bob"], &[("ann", "A+B"), ("bob", "A")]);
    table.event(1);
    let event =
        PushEvent { msg_id: 2, session_id: "s".into(), only_usernames: vec!["ann".into()], ..PushEvent::default() };
    table.payload(Bytes::from(event.encode_to_vec()));
    table.event(3);
    takes(&mut table, "A", 1);
    takes(&mut table, "A", 1);
    assert_eq!(table.pushed("A"), [("ann".into(), 1), ("bob".into(), 1), ("bob".into(), 3)], "B has no answer yet");
    takes(&mut table, "B", 1);
    assert_eq!(table.pushed("A"), [("ann".into(), 2), ("ann".into(), 3)]);
    assert_eq!(table.pushed_ids("B"), [1, 2, 3]);
    [("A", 3), ("A", 2), ("A", 3), ("B", 2), ("B", 3)]
        .into_iter()
        .for_each(|(at, msg_id)| takes(&mut table, at, msg_id));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (5, 3));
    assert_eq!(table.push.pushes_in_flight(), 0);
    table.check();
}
