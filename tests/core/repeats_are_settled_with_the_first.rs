//! A repeat of an event in flight is settled together with it, and as it is; of a settled one at once; none is pushed.
//! At a cut-off every event and repeat without an end is given back, so that it comes again.

use bytes::Bytes;
use prost::Message;
use task_engine::model::limits::JOINED_REPEATS_MAX;
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::{Disposition, Protocols};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

fn ok(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 0, error: String::new() }
}

fn table() -> Table {
    let mut table = Table::with_inbox(&["ann", "bob"], &[("ann", "A")], InboxStore::Offline);
    table.list("A", Protocols::STREAM);
    table
}

#[test]
fn a_repeat_joins_wherever_the_first_one_is() {
    let mut table = table();
    table.event(1);
    table.event(1);
    table.answer("A", &ok(1));
    assert_eq!(table.stores.len(), 1);
    table.event(1);
    assert_eq!(
        (table.push.events_in_flight(), table.settled.len()),
        (3, 0),
        "a repeat is in flight until it is settled"
    );
    table.check();
    table.store(Ok(&[]));
    assert_eq!(table.settled_as, [(0, Disposition::Ack), (1, Disposition::Ack), (2, Disposition::Ack)]);
    table.event(1);
    assert_eq!(table.settled_as.last(), Some(&(3, Disposition::Ack)), "of a settled one, at once");
    assert_eq!((table.events_ended(EventOutcome::Repeat), table.events_ended(EventOutcome::Settled)), (3, 1));
    assert_eq!((table.pushed_ids("A"), table.stores.len()), (vec![1], 0));
    table.check();
}

#[test]
fn a_tag_that_is_in_flight_is_settled_once() {
    let mut table = table();
    table.event(1);
    table.event(1);
    let event = PushEvent {
        msg_id: 1,
        seq_id: 10,
        session_id: "s".into(),
        from_username: "system".into(),
        content: "hello".into(),
        ..PushEvent::default()
    };
    let payload = Bytes::from(event.encode_to_vec());
    for number in [0, 1, 0] {
        table.payload_with_tag(payload.clone(), number);
    }
    table.check();
    table.answer("A", &ok(1));
    table.store(Ok(&[]));
    assert_eq!((table.settled.clone(), table.events_ended(EventOutcome::Repeat)), (vec![0, 1], 4));
    assert_eq!(table.push.activity().repeats_that_differ, 0);
    table.payload_with_tag(payload, 0);
    assert_eq!(table.settled, [0, 1, 0], "it came again after that: its settlement was not heard");
    table.check();
}

#[test]
fn one_repeat_too_many_is_given_back_and_none_is_forgotten() {
    let mut table = table();
    for _ in 0..1 + JOINED_REPEATS_MAX + 3 {
        table.event(1);
    }
    assert_eq!(table.push.events_in_flight(), 1 + JOINED_REPEATS_MAX);
    let last = JOINED_REPEATS_MAX as u64 + 1;
    assert_eq!(table.settled_as, [last, last + 1, last + 2].map(|tag| (tag, Disposition::Nak)));
    assert_eq!(table.push.activity().repeats_given_back, 3);
    table.answer("A", &ok(1));
    table.store(Ok(&[]));
    assert_eq!(table.settled.len(), 1 + JOINED_REPEATS_MAX + 3);
    table.check();
}

#[test]
fn whatever_has_no_end_at_the_cut_off_is_given_back() {
    let mut table = table();
    let pushing = table.event(1);
    table.event_from("ann", 2);
    let joined = table.event(2);
    let poison = table.payload(Bytes::from_static(b"\xff\xff"));
    table.member_errors = vec![task_engine::ports::LookupError::Unavailable("away".into())].into();
    table.pass(120);
    let waiting = table.event(3);
    assert_eq!((table.stores.len(), table.letters.len(), table.settled.len()), (1, 1, 0));
    assert_eq!(table.push.events_in_flight(), 5);
    table.cut_off();
    let mut tags = table.settled_as.clone();
    tags.sort_unstable_by_key(|(tag, _)| *tag);
    let storing = pushing + 1;
    assert_eq!(tags, [pushing, storing, joined, poison, waiting].map(|tag| (tag, Disposition::Nak)));
    assert_eq!((table.push.events_in_flight(), table.events_ended(EventOutcome::CutByStop)), (0, 5));
    assert_eq!((table.ended(RecipientOutcome::CutByStop), table.push.recipients_in_flight()), (3, 0));
    table.check();
    table.store(Ok(&[]));
    table.publish_letter(Ok(()));
    table.event(2);
    assert_eq!(table.settled_as.last(), Some(&(5, Disposition::Nak)), "and what comes after it as well");
    assert_eq!(table.settled.len(), 6);
    table.check();
}

#[test]
fn a_stop_waits_for_rows_and_letters() {
    let mut table = table();
    table.event_from("ann", 1);
    table.payload(Bytes::from_static(b"\xff\xff"));
    table.push.take(task_engine::push::facts::Input::Stopping);
    table.pass(2_000);
    assert_eq!((table.push.events_in_flight(), table.settled.len()), (2, 0));
    table.store(Ok(&[]));
    table.publish_letter(Ok(()));
    assert_eq!((table.push.events_in_flight(), table.settled.len()), (0, 2));
}
