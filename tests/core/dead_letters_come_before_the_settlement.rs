//! What can never succeed is in the dead letters before its event is terminated; until then it is in flight.

use bytes::Bytes;
use prost::Message;
use task_engine::model::limits::{EVENT_BYTES_MAX, LETTER_ASKS_IN_FLIGHT};
use task_engine::model::outcome::EventOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::{Disposition, LookupError, Protocols};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

fn event(session_id: &str, content: usize) -> Bytes {
    let (session_id, content) = (session_id.to_owned(), "x".repeat(content));
    Bytes::from(PushEvent { msg_id: 1, session_id, content, ..PushEvent::default() }.encode_to_vec())
}

fn poison() -> [(EventOutcome, Bytes); 4] {
    [
        (EventOutcome::Undecodable, Bytes::from_static(b"\xff\xff")),
        (EventOutcome::NoSessionId, event("", 1)),
        (EventOutcome::LongSessionId, event(&"s".repeat(65), 1)),
        (EventOutcome::TooLarge, event("s", EVENT_BYTES_MAX)),
    ]
}

fn table() -> Table {
    let mut table = Table::with_inbox(&["ann"], &[("ann", "A")], InboxStore::Offline);
    table.list("A", Protocols::STREAM);
    table
}

#[test]
fn poison_is_terminated_once_it_is_kept() {
    for (end, payload) in poison() {
        let mut table = table();
        table.payload(payload.clone());
        assert_eq!((table.push.events_in_flight(), table.settled.len()), (1, 0), "{end:?}");
        assert_eq!(table.push.payload_bytes_in_flight(), payload.len(), "{end:?}");
        table.check();
        for _ in 0..5 {
            table.publish_letter(Err(LookupError::Unavailable("away".into())));
            assert!(table.letters.is_empty(), "{end:?}: not at once");
            table.pass(220);
        }
        let letter = table.publish_letter(Ok(()));
        assert_eq!((letter.reason, letter.payload, letter.recipient, letter.tries), (end.label(), payload, None, 1));
        assert_eq!((table.settled_as.clone(), table.events_ended(end)), (vec![(0, Disposition::Term)], 1));
        assert_eq!((table.push.events_in_flight(), table.push.payload_bytes_in_flight()), (0, 0), "{end:?}");
        table.check();
    }
}

#[test]
fn a_letter_that_is_refused_where_nobody_keeps_its_event_is_lost_and_counted() {
    for (end, payload) in poison() {
        let mut table = table();
        table.push = table.push.with_final_letters(true);
        table.payload(payload);
        table.publish_letter(Err(LookupError::Rejected("the file is full".into())));
        assert_eq!((table.events_ended(end), table.events_ended(EventOutcome::DeadLetterLost)), (0, 1), "{end:?}");
        assert_eq!(table.settled_as, [(0, Disposition::Term)], "{end:?}");
        assert_eq!(table.push.activity().letters_lost, 1, "{end:?}");
        table.check();
    }
}

#[test]
fn dead_letters_that_refuse_everything_are_away_and_nothing_is_lost() {
    let mut table = table();
    for (_, payload) in poison() {
        table.payload(payload);
    }
    for _ in 0..500 {
        while !table.letters.is_empty() {
            table.publish_letter(Err(LookupError::Rejected("words that nobody knows".into())));
        }
        table.pass(20);
    }
    assert_eq!((table.settled.len(), table.push.activity().letters_lost, table.push.events_in_flight()), (0, 0, 4));
    table.pass(220);
    while !table.letters.is_empty() {
        table.publish_letter(Ok(()));
    }
    assert_eq!((table.settled.len(), table.push.events_in_flight()), (4, 0));
    table.check();
}

#[test]
fn a_letter_that_is_refused_while_others_are_taken_is_tried_max_retry_times_again_and_then_lost() {
    let mut table = table();
    table.payload(event("", 1));
    let (mut refusals, mut taken) = (0, 0);
    while table.push.activity().letters_lost == 0 {
        table.pass(20);
        assert!(table.now.0 < 60_000_000_000, "{refusals} refusals, {taken} taken");
        if table.letters.is_empty() {
            table.payload(Bytes::from_static(b"\xff\xff"));
        }
        let Some((_, _, letter)) = table.letters.front() else { continue };
        let is_the_one = letter.reason == "no_session_id";
        table.publish_letter(if is_the_one { Err(LookupError::Rejected("no".into())) } else { Ok(()) });
        if is_the_one { refusals += 1 } else { taken += 1 }
    }
    // The first blames nobody, nor does one after which nothing else was taken yet; then max_retry and one.
    assert!((4..=6).contains(&refusals), "{refusals}");
    assert!(taken > 0);
    assert_eq!(
        (table.events_ended(EventOutcome::DeadLetterLost), table.events_ended(EventOutcome::NoSessionId)),
        (1, 0)
    );
    table.check();
}

#[test]
fn a_failed_lookup_is_a_dead_letter_and_its_session_goes_on() {
    let mut table = table();
    table.member_errors = vec![LookupError::Rejected("no".into()); 4].into();
    table.event(1);
    table.event(2);
    table.event(1);
    table.pass(3_000);
    assert_eq!((table.pushed_ids("A"), table.settled.len()), (vec![], 0), "both waited for what was refused");
    for _ in 0..2 {
        let letter = table.publish_letter(Ok(()));
        assert_eq!((letter.reason, letter.tries, letter.detail), ("lookup_failed", 3, "session s: no".to_owned()));
    }
    let expected = [(0, Disposition::Term), (2, Disposition::Term), (1, Disposition::Term)];
    assert_eq!(table.settled_as, expected, "a repeat of it is settled as it is");
    table.event(3);
    assert_eq!(table.pushed_ids("A"), [3], "what came later is none of it");
    table.event(1);
    assert_eq!(table.pushed_ids("A"), [1], "a replay of the letter is a new event");
    table.check();
}

#[test]
fn letters_under_way_are_bounded() {
    let mut table = table();
    for _ in 0..LETTER_ASKS_IN_FLIGHT + 10 {
        table.payload(Bytes::from_static(b"\xff\xff"));
    }
    assert_eq!(
        (table.letters.len(), table.push.events_in_flight()),
        (LETTER_ASKS_IN_FLIGHT, LETTER_ASKS_IN_FLIGHT + 10)
    );
    while !table.letters.is_empty() {
        table.publish_letter(Ok(()));
    }
    assert_eq!(table.settled.len(), LETTER_ASKS_IN_FLIGHT + 10);
}
