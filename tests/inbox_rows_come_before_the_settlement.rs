//! Whoever could not be reached has a committed row in the inbox, or a dead letter, before the event is settled; and the
//! session's later events do not wait for that.

mod order_support;

use order_support::Table;
use task_engine::limits::{RETIRED_LISTS_MAX, STORE_ASKS_IN_FLIGHT};
use task_engine::outcome::{EventEnd, RecipientEnd};
use task_engine::ports::{LookupError, Protocols, SettleAs};
use task_engine::proto::gateway::PushMessageResponse;
use task_engine::push::inbox::InboxStore;

fn ok(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 0, error: String::new() }
}

fn away() -> LookupError {
    LookupError::Unavailable("away".into())
}

fn no() -> LookupError {
    LookupError::Rejected("no".into())
}

/// ann is at A, bob is offline.
fn table(inbox: InboxStore) -> Table {
    let mut table = Table::with_inbox(&["ann", "bob"], &[("ann", "A")], inbox);
    table.list("A", Protocols::STREAM);
    table
}

fn users(rows: &task_engine::ports::InboxRows) -> Vec<String> {
    let mut users = rows.users.iter().map(str::to_owned).collect::<Vec<_>>();
    users.sort_unstable();
    users
}

#[test]
fn who_gets_a_row_is_as_configured() {
    for (inbox, sender, expected) in [
        (InboxStore::Off, "system", vec![]),
        (InboxStore::Offline, "system", vec!["bob"]),
        (InboxStore::Offline, "bob", vec![]),
        (InboxStore::All, "system", vec!["ann", "bob"]),
        (InboxStore::All, "ann", vec!["bob"]),
        (InboxStore::All, "bob", vec!["ann"]),
    ] {
        let mut table = table(inbox);
        table.event_from(sender, 7);
        if sender != "ann" {
            assert!(table.stores.is_empty(), "{inbox:?} {sender}: ann has no answer yet");
            table.answer("A", &ok(7));
        }
        table.check();
        if expected.is_empty() {
            assert!(table.stores.is_empty(), "{inbox:?} {sender}");
        } else {
            assert_eq!((table.stores.len(), table.settled.len()), (1, 0), "{inbox:?} {sender}");
            let rows = table.store(Ok(&[]));
            assert_eq!(
                (users(&rows), &*rows.session, rows.msg_id, rows.seq_id),
                (expected.iter().map(|name| (*name).to_owned()).collect(), "s", 7, 70)
            );
        }
        table.check();
        assert_eq!(table.settled_as, [(0, SettleAs::Done)], "{inbox:?} {sender}");
        let stored = u64::from(expected.contains(&"bob"));
        assert_eq!(table.ended(RecipientEnd::Stored), stored, "{inbox:?} {sender}: delivered ones end as delivered");
        let offline = u64::from(sender != "bob");
        assert_eq!(table.push.counts().unreached_by[RecipientEnd::Offline as usize], offline, "{inbox:?} {sender}");
    }
}

#[test]
fn every_way_of_not_being_reached_is_stored_and_counted() {
    let refused = |error: &str| PushMessageResponse { error: error.into(), ..ok(1) };
    for (why, routes, answer) in [
        (RecipientEnd::Offline, vec![], None),
        (RecipientEnd::NotConnected, vec![("ann", "A")], Some(refused("user not connected"))),
        (RecipientEnd::Refused, vec![("ann", "A")], Some(refused("broken pipe"))),
        (RecipientEnd::TimedOut, vec![("ann", "A")], None),
        (RecipientEnd::TimedOut, vec![("ann", "unknown")], None),
    ] {
        let mut table = Table::with_inbox(&["ann"], &routes, InboxStore::Offline);
        table.list("A", Protocols::STREAM);
        table.event(1);
        answer.iter().for_each(|answer| table.answer("A", answer));
        table.pass(1_040);
        assert_eq!((table.stores.len(), table.settled.len(), table.push.recipients_in_flight()), (1, 0, 1), "{why:?}");
        table.store(Ok(&[]));
        table.check();
        assert_eq!((table.ended(RecipientEnd::Stored), table.ended(why), table.settled.len()), (1, 0, 1), "{why:?}");
        assert_eq!(table.push.counts().unreached_by[why as usize], 1, "{why:?}");
    }
}

#[test]
fn later_events_of_the_session_do_not_wait_for_a_store() {
    let mut table = table(InboxStore::Offline);
    for msg_id in 1..=3 {
        table.event(msg_id);
        table.answer("A", &ok(msg_id));
    }
    assert_eq!((table.pushed_ids("A"), table.stores.len(), table.settled.len()), (vec![1, 2, 3], 3, 0));
    let last = table.stores.pop_back().expect("three");
    table.stores.push_front(last);
    assert_eq!(table.store(Ok(&[])).msg_id, 3);
    assert_eq!(table.settled, [2], "each for itself");
}

#[test]
fn an_inbox_that_is_away_costs_time_and_no_tries() {
    let mut table = table(InboxStore::Offline);
    table.event_from("ann", 1);
    for _ in 0..10 {
        table.store(Err(away()));
        assert!(table.stores.is_empty(), "not at once");
        table.pass(220);
        assert_eq!((table.stores.len(), table.settled.len()), (1, 0));
    }
    table.store(Ok(&[]));
    assert_eq!((table.settled_as.clone(), table.ended(RecipientEnd::Stored)), (vec![(0, SettleAs::Done)], 1));
    table.check();
}

#[test]
fn an_inbox_that_refuses_is_asked_max_retry_times_again_then_the_event_is_buried() {
    for (inbox, is_kept) in [(InboxStore::Offline, true), (InboxStore::Offline, false), (InboxStore::All, true)] {
        let mut table = table(inbox);
        table.event(1);
        table.answer("A", &ok(1));
        for _ in 0..3 {
            table.pass(60);
            table.store(Err(no()));
        }
        table.pass(500);
        assert!(table.stores.is_empty(), "the first and max_retry more");
        assert_eq!((table.letters.len(), table.settled.len(), table.push.events_in_flight()), (1, 0, 1));
        let letter = table.bury(if is_kept { Ok(()) } else { Err(no()) });
        assert_eq!((letter.reason, letter.recipient, letter.tries), ("inbox_rejected", None, 3));
        let (end, of_event) = match is_kept {
            true => (RecipientEnd::InboxRejected, EventEnd::InboxRejected),
            false => (RecipientEnd::DeadLetterLost, EventEnd::DeadLetterLost),
        };
        assert_eq!((table.ended(end), table.events_ended(of_event)), (1, 1));
        assert_eq!(
            (table.settled_as.clone(), table.ended(RecipientEnd::Delivered)),
            (vec![(0, SettleAs::Terminated)], 1)
        );
        assert_eq!(table.push.activity().letters_lost, u64::from(!is_kept));
        table.check();
    }
}

#[test]
fn who_has_another_message_in_its_place_becomes_a_dead_letter() {
    for (inbox, conflicts) in
        [(InboxStore::Offline, vec!["bob"]), (InboxStore::All, vec!["ann"]), (InboxStore::All, vec!["bob", "ann"])]
    {
        let mut table = table(inbox);
        table.event(1);
        table.answer("A", &ok(1));
        table.store(Ok(&conflicts));
        let mut named = Vec::new();
        for left in (0..conflicts.len()).rev() {
            assert!(table.settled.is_empty(), "{conflicts:?}: settled only after all letters are kept");
            table.bury(Err(away()));
            table.pass(220);
            let letter = table.bury(Ok(()));
            assert_eq!((letter.reason, letter.tries), ("inbox_conflict", 1));
            named.push(letter.recipient.expect("it is about someone"));
            assert_eq!(table.settled.len(), usize::from(left == 0));
        }
        named.sort_unstable();
        let mut expected = conflicts.clone();
        expected.sort_unstable();
        assert_eq!(named.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        let of_bob = u64::from(conflicts.contains(&"bob"));
        assert_eq!((table.ended(RecipientEnd::InboxConflict), table.ended(RecipientEnd::Delivered)), (of_bob, 1));
        assert_eq!(table.ended(RecipientEnd::Stored), 1 - of_bob);
        assert_eq!(table.settled_as, [(0, SettleAs::Done)]);
        table.check();
    }
}

#[test]
fn an_answer_about_someone_who_was_not_asked_for_is_a_refusal() {
    for stranger in ["zoe", "ann"] {
        let mut table = table(InboxStore::Offline);
        table.event_from("ann", 1);
        table.store(Ok(&[stranger]));
        assert_eq!((table.settled.len(), table.letters.len()), (0, 0), "{stranger}");
        table.pass(60);
        table.store(Ok(&[]));
        assert_eq!(table.settled, [0], "{stranger}");
    }
}

#[test]
fn asks_under_way_are_bounded_and_all_come_to_their_turn() {
    let mut table = Table::with_inbox(&["bob"], &[], InboxStore::Offline);
    let events = STORE_ASKS_IN_FLIGHT as i64 + 100;
    (0..events).for_each(|msg_id| {
        table.event(msg_id);
    });
    assert_eq!((table.stores.len(), table.push.events_in_flight() as i64), (STORE_ASKS_IN_FLIGHT, events));
    while !table.stores.is_empty() {
        table.store(Ok(&[]));
        assert!(table.stores.len() <= STORE_ASKS_IN_FLIGHT);
    }
    assert_eq!((table.settled.len() as i64, table.push.events_in_flight()), (events, 0));
    table.check();
}

#[test]
fn who_left_the_session_meanwhile_is_still_named_rightly() {
    let mut table = Table::with_inbox(&["bob", "cat"], &[], InboxStore::Offline);
    table.event(1);
    table.store(Err(away()));
    table.members = vec!["dan".into()];
    table.pass(120);
    table.event(2);
    table.pass(120);
    let rows = [table.store(Ok(&[])), table.store(Ok(&[]))];
    let by_event = |msg_id| users(rows.iter().find(|rows| rows.msg_id == msg_id).expect("a row"));
    assert_eq!((by_event(1), by_event(2)), (vec!["bob".to_owned(), "cat".to_owned()], vec!["dan".to_owned()]));
    assert_eq!(table.push.kept().1, 1, "and forgotten after that");
}

#[test]
fn a_session_whose_list_changes_all_the_time_keeps_few_old_lists() {
    let mut table = Table::with_inbox(&["u0"], &[], InboxStore::Offline);
    let events = RETIRED_LISTS_MAX as i64 + 20;
    for msg_id in 0..events {
        table.members = vec![format!("u{msg_id}")];
        table.event(msg_id);
        table.pass(120);
    }
    assert_eq!(table.stores.len(), RETIRED_LISTS_MAX, "the rest waits until none is in flight");
    assert_eq!((table.push.kept().1, table.push.events_in_flight() as i64), (RETIRED_LISTS_MAX + 1, events));
    let mut stored = Vec::new();
    while !table.stores.is_empty() {
        stored.push(table.store(Ok(&[])).msg_id);
    }
    assert_eq!((stored, table.push.events_in_flight()), ((0..events).collect(), 0));
    assert_eq!(table.push.kept().1, 1);
    table.check();
}
