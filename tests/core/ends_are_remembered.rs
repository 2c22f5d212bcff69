//! A shard that remembers ends tells why each recipient was not reached, and at which gateway, and one of many that were; without a
//! recorder it tells nothing.

use task_engine::model::ends::{End, EndsAsked, RememberedEnd};
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::{LookupError, Protocol};
use task_engine::push::facts::Input;
use task_engine::push::inbox::InboxStore;
use task_engine::push::recorder::SAMPLE;
use testkit::table::{Table, only};

fn ask(table: &mut Table, user: &str, msg_id: Option<i64>) -> Vec<RememberedEnd> {
    table.ends.clear();
    let asked = Box::new(EndsAsked { session: "s".into(), user: user.into(), msg_id });
    table.push.take(Input::AskEnds { ask: 1, asked });
    table.run();
    std::mem::take(&mut table.ends)
}

/// The one end that is remembered of message 1.
fn end_of(table: &mut Table, user: &str) -> (End, Option<String>) {
    let ends = ask(table, user, Some(1));
    let [end] = &ends[..] else { panic!("{user}: {ends:?}") };
    assert!(end.ended >= end.arrived && end.msg_id == 1);
    (end.end, end.gateway.as_deref().map(str::to_owned))
}

const fn recipient(end: RecipientOutcome) -> End {
    End::Recipient(end)
}

#[test]
fn who_was_not_reached_is_remembered_with_why_and_where() {
    let users = ["bad", "gone", "late", "off", "wrong", "yes"];
    let routes = [("gone", "A"), ("wrong", "A"), ("yes", "A"), ("late", "B"), ("bad", "?")];
    let mut table = Table::new(&users, &routes).remembering();
    table.list("A", only(Protocol::Stream));
    table.list("B", only(Protocol::Stream));
    table.event(1);
    for _ in 0..2 {
        for (user, msg_id) in table.pushed("A") {
            let error = match user.as_str() {
                "gone" => "user not connected",
                "wrong" => "something else",
                _ => "",
            };
            table.answer("A", &PushMessageResponse { msg_id, error: error.to_owned(), ..Default::default() });
        }
        table.pass(40);
    }
    table.pass(3_000);
    table.check();
    let a = Some("A".to_owned());
    for (user, end, gateway) in [
        ("off", RecipientOutcome::Offline, None),
        ("gone", RecipientOutcome::NotConnected, a.clone()),
        ("wrong", RecipientOutcome::Refused, a),
        ("late", RecipientOutcome::TimedOut, Some("B".to_owned())),
    ] {
        assert_eq!(end_of(&mut table, user), (recipient(end), gateway), "{user}");
    }
    assert_eq!(ask(&mut table, "yes", None), [], "one of {SAMPLE} that are delivered is remembered");
    assert_eq!((ask(&mut table, "off", Some(2)), ask(&mut table, "nobody", None)), (Vec::new(), Vec::new()));
}

#[test]
fn one_of_many_that_are_delivered_is_remembered_with_its_gateway() {
    let mut table = Table::new(&["ann"], &[("ann", "A")]).remembering();
    table.list("A", only(Protocol::Stream));
    for msg_id in 1..=i64::from(SAMPLE) {
        table.event(msg_id);
        for (_, msg_id) in table.pushed("A") {
            table.answer("A", &PushMessageResponse { msg_id, ..Default::default() });
        }
    }
    let ends = ask(&mut table, "ann", None);
    let [end] = &ends[..] else { panic!("{ends:?}") };
    let sampled = (end.msg_id, end.end, end.gateway.as_deref());
    assert_eq!(sampled, (i64::from(SAMPLE), recipient(RecipientOutcome::Delivered), Some("A")));
}

#[test]
fn events_without_recipients_and_what_the_stores_refuse_are_remembered() {
    let mut table = Table::with_inbox(&[], &[], InboxStore::Offline).remembering();
    table.event(1);
    table.pass(10_000);
    while let Some((ask, ..)) = table.letters.pop_front() {
        table.push.take(Input::LetterPublished { ask, answer: Ok(()) });
        table.run();
    }
    assert_eq!(end_of(&mut table, "anybody"), (End::Event(EventOutcome::NoMembers), None));

    let mut table = Table::with_inbox(&["ann"], &[], InboxStore::Offline).remembering();
    table.event(1);
    let (ask_no, rows) = table.stores.pop_front().expect("rows are asked for");
    table.push.take(Input::Stored { ask: ask_no, answer: Ok(rows.users) });
    table.run();
    let (letter, ..) = table.letters.pop_front().expect("a letter about ann");
    table.push.take(Input::LetterPublished { ask: letter, answer: Ok(()) });
    table.run();
    let ends: Vec<_> = ask(&mut table, "ann", Some(1)).iter().map(|end| end.end).collect();
    assert_eq!(ends, [recipient(RecipientOutcome::InboxConflict), recipient(RecipientOutcome::Offline)]);

    let mut table = Table::with_inbox(&["ann"], &[], InboxStore::Offline).remembering();
    table.event(1);
    table.cut_off();
    let ends: Vec<_> = ask(&mut table, "ann", Some(1)).iter().map(|end| end.end).collect();
    assert_eq!(ends, [End::Event(EventOutcome::CutByStop), recipient(RecipientOutcome::Offline)]);
}

#[test]
fn nothing_is_remembered_where_it_is_off() {
    let mut table = Table::new(&["ann"], &[]);
    table.event(1);
    assert_eq!((ask(&mut table, "ann", None), table.push.recorded(RecipientOutcome::Offline)), (Vec::new(), None));
    table.member_errors.push_back(LookupError::Rejected("no".to_owned()));
    table.check();
}
