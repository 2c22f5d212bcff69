//! Promise: an event is told of as a trace once it has ended, when its publisher records it, or it was slow, or somebody who was
//! connected could not be reached; what is told nests in time; the headers of a trace that is recorded are passed on; and none of it
//! changes what becomes of an event.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use task_engine::model::ids::Nanos;
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::{PushMessageRequest, PushMessageResponse};
use task_engine::model::trace::TRACED_PUSHES_MAX;
use task_engine::ports::Protocols;
use task_engine::push::TraceRules;
use testkit::table::Table;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const RULES: TraceRules = TraceRules { slow_after: Duration::from_millis(200), spans_per_second: 1_000 };

fn table(rules: TraceRules) -> Table {
    let mut table = Table::with_traces(&["ann", "bob", "off"], &[("ann", "A"), ("bob", "B")], rules);
    table.list("A", Protocols::STREAM);
    table.list("B", Protocols::STREAM);
    table
}

fn event(msg_id: i64, traceparent: &str) -> Bytes {
    let mut event = PushEvent { msg_id, seq_id: 5, session_id: "s".into(), ..PushEvent::default() };
    if !traceparent.is_empty() {
        event.trace_headers.insert("traceparent".into(), traceparent.into());
    }
    Bytes::from(event.encode_to_vec())
}

fn answer(table: &mut Table, gateway: &str, msg_id: i64, error: &str) {
    table.answer(gateway, &PushMessageResponse { msg_id, seq_id: 5, error: error.into() });
}

#[test]
fn an_event_that_its_publisher_records_is_told_with_its_pushes_and_passed_on_with_its_headers() {
    let mut table = table(RULES);
    table.payload(event(1, SAMPLED));
    for gateway in ["A", "B"] {
        let [request] = &table.take_frames::<PushMessageRequest>(gateway)[..] else { panic!("one push") };
        let headers = &request.message.as_ref().expect("a message").trace_headers;
        assert_eq!(headers.get("traceparent").map(String::as_str), Some(SAMPLED), "{gateway}");
    }
    table.pass(20);
    answer(&mut table, "A", 1, "");
    table.pass(20);
    answer(&mut table, "B", 1, "");
    let [told] = &table.told[..] else { panic!("{:?}", table.told) };
    assert_eq!((told.msg_id, told.seq_id, &*told.session, told.end), (1, 5, "s", EventOutcome::Settled));
    assert_eq!(told.parent.map(|parent| (parent.trace_id[0], parent.is_sampled)), Some((0x4b, true)));
    assert!(!told.has_missed, "one who is offline is no failure");
    let (members_known, routes_known) = told.resolved.expect("it was bundled");
    assert!(told.arrived <= members_known && members_known <= routes_known && routes_known <= told.ended_at);
    let pushes: Vec<_> = told.pushes.iter().map(|push| (&*push.gateway, push.recipients, push.ended_at)).collect();
    assert_eq!(pushes, [("A", 1, Nanos(20_000_000)), ("B", 1, Nanos(40_000_000))]);
    for push in &told.pushes {
        let written_at = push.written_at.expect("it was written");
        assert!(routes_known <= push.made_at && push.made_at <= written_at && written_at <= push.ended_at);
        assert!((push.missed, push.unanswered) == (0, None) && push.ended_at <= told.ended_at);
    }
    table.check();
}

#[test]
fn what_nobody_records_is_told_when_it_was_slow_or_missed_somebody() {
    for (traceparent, millis, error, told) in [
        ("", 20, "", false),
        (UNSAMPLED, 20, "", false),
        ("", 240, "", true),
        (UNSAMPLED, 240, "", true),
        ("", 20, "broken pipe", true),
        ("00-1", 20, "", false),
    ] {
        let mut table = table(RULES);
        table.payload(event(1, traceparent));
        let [request] = &table.take_frames::<PushMessageRequest>("A")[..] else { panic!("one push") };
        assert!(request.message.as_ref().is_some_and(|message| message.trace_headers.is_empty()), "{traceparent}");
        answer(&mut table, "B", 1, "");
        table.pass(millis);
        answer(&mut table, "A", 1, error);
        assert_eq!(table.told.len(), usize::from(told), "{traceparent} {millis} {error:?}");
        for told in &table.told {
            let gateways: Vec<_> = told.pushes.iter().map(|push| &*push.gateway).collect();
            assert_eq!(gateways, ["A"], "what had ended before it was known to be wanted is not told");
            assert_eq!(told.parent.is_some(), traceparent == UNSAMPLED);
            assert_eq!(told.has_missed, !error.is_empty());
        }
        assert_eq!(table.push.activity().trace_headers_refused, u64::from(traceparent == "00-1"));
        table.check();
    }
}

#[test]
fn an_event_without_an_answer_is_told_with_its_end() {
    let mut table = table(RULES);
    table.payload(event(1, SAMPLED));
    answer(&mut table, "B", 1, "");
    table.pass(3_000);
    let [told] = &table.told[..] else { panic!("{:?}", table.told) };
    assert!(told.has_missed);
    let of_a = told.pushes.iter().find(|push| &*push.gateway == "A").expect("the push to A");
    assert_eq!((of_a.unanswered, of_a.missed), (Some(RecipientOutcome::TimedOut), 1));
    assert!(of_a.written_at.is_some_and(|written_at| written_at < of_a.ended_at));
    table.check();
}

#[test]
fn a_repeat_with_other_headers_is_the_same_event() {
    let mut table = table(RULES);
    table.payload(event(1, SAMPLED));
    table.payload(event(1, &SAMPLED.replace("00f067aa", "11f067aa")));
    answer(&mut table, "A", 1, "");
    answer(&mut table, "B", 1, "");
    table.payload(event(1, ""));
    assert_eq!((table.push.activity().repeats_that_differ, table.settled.len(), table.told.len()), (0, 3, 1));
    table.check();
}

#[test]
fn what_is_told_is_bounded_by_event_and_by_second() {
    let users: Vec<_> = (0..TRACED_PUSHES_MAX + 6).map(|number| format!("user-{number}")).collect();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let gateways: Vec<_> = (0..names.len()).map(|number| format!("G{number}")).collect();
    let routes: Vec<_> = names.iter().copied().zip(gateways.iter().map(String::as_str)).collect();
    let rules = TraceRules { slow_after: Duration::ZERO, spans_per_second: 1 };
    let mut table = Table::with_traces(&names, &routes, rules);
    for gateway in &gateways {
        table.list(gateway, Protocols::STREAM);
    }
    for msg_id in [1, 2] {
        table.payload(event(msg_id, SAMPLED));
        gateways.iter().for_each(|gateway| answer(&mut table, gateway, msg_id, ""));
    }
    let [told] = &table.told[..] else { panic!("the second one is over the limit") };
    let spans = 3 + 2 * TRACED_PUSHES_MAX as u64;
    assert_eq!((told.pushes.len(), told.pushes_left_out), (TRACED_PUSHES_MAX, 6));
    assert_eq!((u64::from(told.spans()), table.push.activity().spans_over_limit), (spans, spans));
    table.check();
}
