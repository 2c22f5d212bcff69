//! An event without an id is no repeat; else session, msg_id, seq_id and type tell events apart, and a repeat with another
//! content is counted by itself.

use bytes::Bytes;
use prost::Message;
use task_engine::model::outcome::EventOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;

use testkit::table::Table;

fn table() -> Table {
    let mut table = Table::new(&["ann"], &[("ann", "A")]);
    table.list("A", Protocols::STREAM);
    table
}

fn event(msg_id: i64, seq_id: i64, kind: &str) -> PushEvent {
    PushEvent {
        msg_id,
        seq_id,
        session_id: "s".into(),
        from_username: "system".into(),
        content: "hello".into(),
        r#type: kind.into(),
        ..PushEvent::default()
    }
}

fn put(table: &mut Table, event: &PushEvent) {
    table.payload(Bytes::from(event.encode_to_vec()));
}

fn answer(table: &mut Table, msg_id: i64, seq_id: i64) {
    table.answer("A", &PushMessageResponse { msg_id, seq_id, error: String::new() });
}

#[test]
fn five_typing_events_are_five_pushes_in_flight_and_settled() {
    let mut table = table();
    for _ in 0..3 {
        put(&mut table, &event(0, 0, "typing"));
    }
    assert_eq!(table.pushed_ids("A"), [0, 0, 0]);
    (0..3).for_each(|_| answer(&mut table, 0, 0));
    for _ in 0..2 {
        put(&mut table, &event(0, 0, "typing"));
        answer(&mut table, 0, 0);
    }
    assert_eq!(table.pushed_ids("A"), [0, 0]);
    assert_eq!((table.events_ended(EventOutcome::Settled), table.events_ended(EventOutcome::Repeat)), (5, 0));
    table.check();
}

#[test]
fn a_recall_or_an_edit_under_the_id_of_its_message_is_pushed_after_it() {
    let others = [
        event(7, 1, "recall"),
        event(7, 1, "edit"),
        event(7, 1, "Text"),
        event(7, 1, ""),
        event(7, 2, "text"),
        event(-7, 1, "text"),
    ];
    for is_settled in [false, true] {
        let mut table = table();
        put(&mut table, &event(7, 1, "text"));
        if is_settled {
            answer(&mut table, 7, 1);
        }
        others.iter().for_each(|other| put(&mut table, other));
        others.iter().for_each(|other| put(&mut table, other));
        assert_eq!(table.pushed_ids("A"), [7, 7, 7, 7, 7, 7, -7], "in order, once each");
        if !is_settled {
            answer(&mut table, 7, 1);
        }
        others.iter().for_each(|other| answer(&mut table, other.msg_id, other.seq_id));
        let ended = (table.events_ended(EventOutcome::Settled), table.events_ended(EventOutcome::Repeat));
        assert_eq!((ended, table.push.activity().repeats_that_differ), ((7, 6), 0));
        table.check();
    }
}

#[test]
fn a_repeat_with_another_content_is_not_pushed_and_counted_by_itself() {
    let mut table = table();
    let first = event(7, 1, "text");
    let mut changes: Vec<PushEvent> = vec![first.clone(); 6];
    changes[0].content = "hallo".into();
    changes[1].from_username = "ann".into();
    changes[2].timestamp = 5;
    changes[3].session_name = "Team".into();
    changes[4].session_type = 2;
    changes[5].to_username = "ann".into();
    put(&mut table, &first);
    changes.iter().for_each(|change| put(&mut table, change));
    assert_eq!(table.push.activity().repeats_that_differ, 6, "in flight");
    answer(&mut table, 7, 1);
    changes.iter().for_each(|change| put(&mut table, change));
    assert_eq!(table.push.activity().repeats_that_differ, 12, "settled");
    let mut traced = first.clone();
    traced.trace_headers.insert("traceparent".into(), "00-2".into());
    put(&mut table, &traced);
    put(&mut table, &first);
    assert_eq!(table.push.activity().repeats_that_differ, 12, "headers of the trace are no content");
    assert_eq!((table.pushed_ids("A"), table.events_ended(EventOutcome::Repeat)), (vec![7], 14));
    table.check();
}
