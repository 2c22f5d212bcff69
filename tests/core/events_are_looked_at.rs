//! Promise: somebody who looks on at a session, or at a user, is told of each of its events once it has ended, with its pushes, whoever
//! could not be reached, and why; of no other event; of what a message says only when that is asked for; for no longer than it was said;
//! and none of it changes what becomes of an event.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::model::tap::{TAPPED_CONTENT_BYTES, TapRules};
use task_engine::ports::Protocol;
use task_engine::push::facts::Input;
use testkit::table::{Table, only};

fn table() -> Table {
    let mut table = Table::new(&["ann", "bob", "off"], &[("ann", "A"), ("bob", "B")]);
    ["A", "B"].into_iter().for_each(|gateway| table.list(gateway, only(Protocol::Stream)));
    table
}

fn look(table: &mut Table, session: Option<&str>, user: Option<&str>, wants_content: bool) {
    let lasts = Duration::from_secs(5);
    let rules =
        TapRules { number: 7, session: session.map(Into::into), user: user.map(Into::into), lasts, wants_content };
    table.push.take(Input::Tap(Some(Box::new(rules))));
}

fn event(table: &mut Table, msg_id: i64, content: &str) {
    let event = PushEvent {
        msg_id,
        session_id: "s".into(),
        from_username: "carl".into(),
        content: content.into(),
        ..PushEvent::default()
    };
    table.payload(Bytes::from(event.encode_to_vec()));
    for (gateway, error) in [("A", ""), ("B", "quota")] {
        table.pushed(gateway);
        table.pass(10);
        table.answer(gateway, &PushMessageResponse { msg_id, error: error.into(), ..Default::default() });
    }
    table.pass(10);
}

#[test]
fn a_sessions_events_are_told_with_their_pushes_and_who_was_missed() {
    let mut table = table();
    look(&mut table, Some("s"), None, false);
    event(&mut table, 1, "private");
    let [told] = &table.tapped[..] else { panic!("{:?}", table.tapped) };
    assert_eq!((told.tap, &*told.session, told.msg_id, &*told.from), (7, "s", 1, "carl"));
    assert_eq!((told.end, told.content.as_ref(), told.left_out), (EventOutcome::Settled, None, 0));
    assert!(told.took >= Duration::from_millis(20));
    let pushes: Vec<_> = told.pushes.iter().map(|push| (&*push.gateway, push.recipients, push.missed)).collect();
    assert_eq!(pushes, [("A", 1, 0), ("B", 1, 1)]);
    assert!(
        told.pushes.iter().all(|push| push.written_after <= Some(push.ended_after) && push.ended_after <= told.took)
    );
    let mut misses: Vec<_> =
        told.misses.iter().map(|miss| (miss.why, miss.gateway.as_deref(), miss.recipients)).collect();
    misses.sort();
    assert_eq!(misses, [(RecipientOutcome::Offline, None, 1), (RecipientOutcome::Refused, Some("B"), 1)]);
    table.check();
}

#[test]
fn a_user_is_looked_at_alone() {
    for (user, pushes, misses) in [("ann", 1, 0), ("bob", 1, 1), ("off", 0, 1)] {
        let mut table = table();
        look(&mut table, None, Some(user), false);
        event(&mut table, 1, "");
        let [told] = &table.tapped[..] else { panic!("{user}: {:?}", table.tapped) };
        assert_eq!((told.pushes.len(), told.misses.len()), (pushes, misses), "{user}: {told:?}");
        table.check();
    }
    let mut table = table();
    look(&mut table, None, Some("nobody"), false);
    event(&mut table, 1, "");
    look(&mut table, Some("t"), None, false);
    event(&mut table, 2, "");
    look(&mut table, Some("t"), Some("ann"), false);
    event(&mut table, 3, "");
    assert!(table.tapped.is_empty(), "{:?}", table.tapped);
}

#[test]
fn contents_are_told_where_they_are_asked_for_and_cut() {
    let mut table = table();
    look(&mut table, Some("s"), Some("ann"), true);
    event(&mut table, 1, "private");
    event(&mut table, 2, &"é".repeat(TAPPED_CONTENT_BYTES));
    let told: Vec<_> = table.tapped.iter().map(|told| told.content.clone().expect("asked for")).collect();
    assert_eq!((&told[0][..], told[1].len()), (&b"private"[..], TAPPED_CONTENT_BYTES));
    assert!(std::str::from_utf8(&told[1]).is_ok());
}

#[test]
fn it_ends_by_itself_or_at_a_word_and_may_be_said_again() {
    let mut table = table();
    look(&mut table, Some("s"), None, false);
    table.pass(4_000);
    look(&mut table, Some("s"), None, false);
    table.pass(4_000);
    event(&mut table, 1, "");
    assert_eq!(table.tapped.len(), 1, "it was said again");
    table.pass(5_000);
    event(&mut table, 2, "");
    assert_eq!(table.tapped.len(), 1, "its time was over");
    look(&mut table, Some("s"), None, false);
    table.push.take(Input::Tap(None));
    event(&mut table, 3, "");
    assert_eq!(table.tapped.len(), 1, "it was ended");
    table.check();
}

#[test]
fn at_most_a_hundred_are_told_per_second_and_the_others_are_counted() {
    let nobody = |msg_id| {
        let event = PushEvent { msg_id, session_id: "s".into(), from_username: "ann".into(), ..PushEvent::default() };
        Bytes::from(event.encode_to_vec())
    };
    // Of these the sender alone is connected.
    let mut table = Table::new(&["ann", "off"], &[("ann", "A")]);
    look(&mut table, Some("s"), None, false);
    (1..=250).for_each(|msg_id| _ = table.payload(nobody(msg_id)));
    table.pass(1_500);
    table.payload(nobody(251));
    assert_eq!((table.tapped.len(), table.tapped.last().map(|told| told.left_out)), (101, Some(150)));
    table.check();
}
