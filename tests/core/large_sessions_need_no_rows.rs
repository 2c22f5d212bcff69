//! Promise: in a session of more than `inbox.rows_up_to` members nobody gets a row of a message whose content is kept, its event
//! is settled only after that was seen, and where it was not, there are rows as ever.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::ports::{Disposition, LookupError, MessageKey};
use task_engine::push::RecipientRules;
use task_engine::push::facts::{Input, Queue};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

fn away() -> LookupError {
    LookupError::Unavailable("no answer in time".into())
}

fn refused() -> LookupError {
    LookupError::Rejected("1146: no such table".into())
}

/// Three members, nobody is connected.
fn table(rows_up_to: usize, inbox: InboxStore) -> Table {
    Table::with_rules(&["ann", "bob", "cleo"], &[], inbox, RecipientRules { rows_up_to, ..RecipientRules::default() })
}

fn readable(table: &Table) -> (u64, u64) {
    (table.ended(RecipientOutcome::Readable), table.push.counts().unreached_by[RecipientOutcome::Offline as usize])
}

#[test]
fn a_message_whose_content_is_kept_costs_no_row() {
    let mut table = table(2, InboxStore::Offline);
    table.event_from("ann", 7);
    assert_eq!((table.stores.len(), table.settled.len(), table.push.recipients_in_flight()), (0, 0, 2), "not before");
    assert_eq!(table.find(Ok(true)), MessageKey { session: "s".into(), msg_id: 7, seq_id: 70 });
    assert_eq!((readable(&table), table.settled_as.clone()), ((2, 2), vec![(0, Disposition::Ack)]));
    assert!(table.stores.is_empty() && table.contents.is_empty());
    table.check();
}

#[test]
fn rows_stand_in_for_a_content_that_is_not_there() {
    let mut table = table(2, InboxStore::Offline);
    table.event(7);
    table.find(Ok(false));
    assert_eq!((table.stores.len(), table.settled.len()), (1, 0));
    assert_eq!(table.store(Ok(&[])).users.iter().collect::<Vec<_>>(), ["ann", "bob", "cleo"]);
    assert_eq!((table.ended(RecipientOutcome::Stored), table.settled.len()), (3, 1));
    table.check();
}

#[test]
fn small_sessions_get_rows_and_so_do_messages_without_an_id() {
    for (rows_up_to, msg_id) in [(3, 7), (0, 7), (2, 0)] {
        let mut table = table(rows_up_to, InboxStore::Offline);
        table.event(msg_id);
        assert_eq!((table.contents.len(), table.stores.len()), (0, 1), "up to {rows_up_to}, message {msg_id}");
    }
}

#[test]
fn with_store_all_nobody_gets_a_row_either() {
    let mut table = table(2, InboxStore::All);
    table.event(7);
    table.find(Ok(true));
    assert_eq!((readable(&table), table.stores.len(), table.settled.len()), ((3, 3), 0, 1));
    table.event(8);
    table.find(Ok(false));
    assert_eq!(table.store(Ok(&[])).users.len(), 3);
    table.check();
}

#[test]
fn nothing_is_looked_for_when_all_were_reached() {
    let mut table = table(2, InboxStore::Offline);
    table.members = vec!["ann".into()];
    table.event_from("ann", 7);
    assert_eq!((table.contents.len(), table.settled.len()), (0, 1));
}

#[test]
fn a_store_that_is_away_costs_time_and_no_rows() {
    let mut table = table(2, InboxStore::Offline);
    table.event(1);
    table.event(2);
    for _ in 0..10 {
        for _ in 0..table.contents.len() {
            table.find(Err(away()));
        }
        assert!(table.contents.is_empty() && table.stores.is_empty(), "not at once, and no rows");
        table.pass(1_020);
        assert_eq!((table.contents.len(), table.settled.len()), (1, 0), "one at a time");
    }
    table.find(Ok(true));
    table.find(Ok(true));
    assert_eq!((readable(&table), table.settled.len()), ((6, 6), 2));
    table.check();
}

#[test]
fn one_that_fails_while_others_are_answered_gets_rows() {
    let mut table = table(2, InboxStore::Offline);
    table.event(1);
    table.find(Err(refused()));
    let mut rest = 40;
    while table.stores.is_empty() && rest > 0 {
        table.event(100 + rest);
        table.pass(220);
        while let Some((_, message)) = table.contents.front() {
            table.find(if message.msg_id == 1 { Err(refused()) } else { Ok(true) });
        }
        rest -= 1;
    }
    assert_eq!(table.store(Ok(&[])).msg_id, 1);
    assert!(table.push.activity().content_given_up == 1 && table.push.events_in_flight() == 0);
    table.check();
}

#[test]
fn a_full_queue_and_a_lost_connection_say_nothing_of_a_content() {
    let mut table = table(2, InboxStore::Offline);
    table.event(1);
    let (ask, _) = table.contents.pop_front().expect("asked");
    table.push.take(Input::NotAsked { of: Queue::Content, ask });
    table.pass(60);
    table.find(Err(LookupError::NotReached("refused".into())));
    table.pass(220);
    table.find(Ok(true));
    assert_eq!((readable(&table), table.settled.len()), ((3, 3), 1));
}

#[test]
fn what_waits_for_a_content_is_given_back_in_a_retreat_and_ends_with_a_stop() {
    let mut table = table(2, InboxStore::Offline);
    table.event(1);
    table.find(Err(away()));
    table.push.take(Input::Retreat(true));
    table.run();
    assert_eq!(table.settled_as, [(0, Disposition::Nak)]);
    table.push.take(Input::Retreat(false));
    table.event(1);
    table.pass(220);
    table.cut_off();
    assert_eq!((table.settled_as.len(), table.push.events_in_flight()), (2, 0));
    table.find(Ok(true));
    table.check();
}
