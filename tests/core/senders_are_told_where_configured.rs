//! Promise: with `consumer.echo_sender` the sender's gateway is pushed the message as well, and nothing is owed to a sender who
//! cannot be reached; with `inbox.sender` the sender has a row where all have.

use bytes::Bytes;
use prost::Message as _;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;
use task_engine::push::RecipientRules;
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

const ECHO: RecipientRules = RecipientRules { rows_up_to: 0, notice_above: 0, sender_row: false, echo_sender: true };
const ROW: RecipientRules = RecipientRules { rows_up_to: 0, notice_above: 0, sender_row: true, echo_sender: false };

fn table(routes: &[(&str, &str)], inbox: InboxStore, rules: RecipientRules) -> Table {
    let mut table = Table::with_rules(&["ann", "bob"], routes, inbox, rules);
    table.list("A", Protocols::STREAM);
    table
}

fn answer(table: &mut Table, msg_id: i64, error: &str) {
    table.answer("A", &PushMessageResponse { msg_id, seq_id: msg_id * 10, error: error.into() });
}

#[test]
fn the_senders_gateway_gets_the_push_as_well() {
    let mut table = table(&[("ann", "A"), ("bob", "A")], InboxStore::Offline, ECHO);
    table.event_from("ann", 1);
    assert_eq!(table.pushed("A"), [("ann".to_owned(), 1), ("bob".to_owned(), 1)]);
    answer(&mut table, 1, "");
    answer(&mut table, 1, "");
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (2, 1));
    table.check();
}

#[test]
fn a_sender_who_cannot_be_reached_is_owed_nothing() {
    for inbox in [InboxStore::Offline, InboxStore::Off, InboxStore::All] {
        for routes in [&[("bob", "A")][..], &[("ann", "A"), ("bob", "A")], &[("ann", "unknown"), ("bob", "A")]] {
            let mut table = table(routes, inbox, ECHO);
            table.event_from("ann", 1);
            let pushed = table.pushed("A");
            for (user, _) in &pushed {
                answer(&mut table, 1, if user == "ann" { "broken pipe" } else { "" });
            }
            table.pass(1_100);
            while let Some((_, rows)) = table.stores.front() {
                assert_eq!(rows.users.iter().collect::<Vec<_>>(), ["bob"], "{inbox:?} {routes:?}");
                table.store(Ok(&[]));
            }
            let ended = (table.ended(RecipientOutcome::SkippedSender), table.ended(RecipientOutcome::Delivered));
            assert_eq!((ended, table.settled.len()), ((1, 1), 1), "{inbox:?} {routes:?}");
            table.check();
        }
    }
}

#[test]
fn the_sender_has_a_row_where_all_have() {
    for (inbox, expected) in [(InboxStore::All, &["ann", "bob"][..]), (InboxStore::Offline, &["bob"])] {
        let mut table = table(&[], inbox, ROW);
        table.event_from("ann", 1);
        assert_eq!(table.store(Ok(&[])).users.iter().collect::<Vec<_>>(), expected, "{inbox:?}");
        assert_eq!((table.ended(RecipientOutcome::SkippedSender), table.settled.len()), (1, 1), "{inbox:?}");
        table.check();
    }
}

#[test]
fn a_replay_of_the_senders_row_writes_it() {
    let event = |only: &str| PushEvent {
        msg_id: 1,
        seq_id: 10,
        session_id: "s".into(),
        from_username: "ann".into(),
        only_usernames: vec![only.into()],
        ..PushEvent::default()
    };
    let mut table = table(&[], InboxStore::All, ROW);
    table.payload(Bytes::from(event("ann").encode_to_vec()));
    assert_eq!(table.store(Ok(&[])).users.iter().collect::<Vec<_>>(), ["ann"]);
    assert_eq!((table.settled.len(), table.push.recipients_in_flight()), (1, 0));
    table.check();
}

#[test]
fn devices_are_counted_and_not_told_where_nobody_is_echoed() {
    for (rules, ignored) in [(ECHO, 0), (RecipientRules::default(), 1)] {
        let mut table = table(&[("bob", "A")], InboxStore::Off, rules);
        let event =
            PushEvent { msg_id: 1, session_id: "s".into(), from_device: "phone".into(), ..PushEvent::default() };
        table.payload(Bytes::from(event.encode_to_vec()));
        assert_eq!(table.push.activity().devices_ignored, ignored);
    }
}
