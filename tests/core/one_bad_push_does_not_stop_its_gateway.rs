//! A push that breaks its gateway's handler each time it comes ends alone, as not reached, within a second or two; what
//! waits behind it is pushed, and a gateway that is only down loses nothing.

use std::time::Duration;

use prost::Message;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::{PushMessageResponse, PushResponse};
use task_engine::ports::{Protocol, Protocols};
use task_engine::push::facts::{CallError, StreamEnd, StreamFact};
use testkit::table::{Table, only};

const EVENTS: i64 = 50;
const BAD: i64 = 7;

fn table(protocol: Protocol) -> Table {
    let routes = [("ann", "A"), ("bob", "A")];
    let mut table = Table::with_timeout(&["ann", "bob"], &routes, Duration::from_secs(10));
    table.list("A", only(protocol));
    table
}

/// The gateway answers all that it was sent, up to a bad push, at which its handler ends.
fn serve_stream(table: &mut Table) {
    for msg_id in table.pushed_ids("A") {
        if msg_id == BAD {
            table.fact("A", StreamFact::Closed(StreamEnd::Broken("INTERNAL".into())));
            return;
        }
        table.answer("A", &PushMessageResponse { msg_id, ..Default::default() });
    }
}

/// The same, call by call.
fn serve_calls(table: &mut Table) {
    while let Some(msg_id) = table.pushed_ids("A").first().copied() {
        let answer = match msg_id {
            BAD => Err(CallError { code: 13, message: "panic".into() }),
            msg_id => Ok(PushResponse { msg_id, ..Default::default() }.encode_to_vec()),
        };
        table.answer_call("A", answer);
    }
}

#[test]
fn what_breaks_the_stream_each_time_ends_and_the_rest_goes_on() {
    for (protocol, end) in
        [(Protocol::Stream, RecipientOutcome::BrokeStream), (Protocol::Unary, RecipientOutcome::Refused)]
    {
        let mut table = table(protocol);
        (1..=EVENTS).for_each(|msg_id| {
            table.event(msg_id);
        });
        while table.push.events_in_flight() > 0 && table.now.0 < 2_000_000_000 {
            match protocol {
                Protocol::Unary => serve_calls(&mut table),
                _ => serve_stream(&mut table),
            }
            table.pass(20);
        }
        assert_eq!(table.ended(end), 2, "{protocol:?}: the bad one to ann and bob");
        assert_eq!(table.ended(RecipientOutcome::Delivered), 2 * (EVENTS as u64 - 1), "{protocol:?}: all others");
        assert_eq!(table.push.events_in_flight(), 0, "{protocol:?}: in {:?}", table.now);
        table.check();
    }
}

#[test]
fn while_a_push_is_suspect_it_goes_alone() {
    let mut table = table(Protocol::Stream);
    (1..=3).for_each(|msg_id| {
        table.event(msg_id);
    });
    assert_eq!(table.pushed_ids("A"), [1, 1, 2, 2, 3, 3]);
    table.fact("A", StreamFact::Closed(StreamEnd::Broken("INTERNAL".into())));
    table.pass(100);
    assert_eq!(table.pushed_ids("A"), [1, 1]);
    table.answer("A", &PushMessageResponse { msg_id: 1, ..Default::default() });
    table.answer("A", &PushMessageResponse { msg_id: 1, ..Default::default() });
    assert_eq!(table.pushed_ids("A"), [2, 2, 3, 3], "it was not the bad one");
}

#[test]
fn a_gateway_that_is_down_loses_nothing() {
    let mut table = table(Protocol::Stream);
    table.event(1);
    table.fact("A", StreamFact::Closed(StreamEnd::Broken("reset".into())));
    for _ in 0..5 {
        table.pass(1_000);
        table.fact("A", StreamFact::Closed(StreamEnd::NotOpened("refused".into())));
    }
    table.pass(1_000);
    assert_eq!(table.pushed_ids("A"), [1, 1]);
    for _ in 0..2 {
        table.answer("A", &PushMessageResponse { msg_id: 1, ..Default::default() });
    }
    assert_eq!(table.ended(RecipientOutcome::Delivered), 2);
}

const NOT_IMPLEMENTED: i32 = 12;

fn speaks(table: &Table) -> Option<Protocol> {
    table.links.get("A").map(|link| link.protocol)
}

/// What a gateway of unary calls only does with each stream and call it has by now: it ends the streams, and answers the calls
/// but for the bad one. Passes 20 ms.
fn serve_unary_only(table: &mut Table) {
    while speaks(table) != Some(Protocol::Unary) {
        if speaks(table).is_some() {
            table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
        }
        table.pass(20);
    }
    let calls = table.pushed_ids("A");
    for msg_id in calls {
        let answer = match msg_id {
            BAD => Err(CallError { code: NOT_IMPLEMENTED, message: "not for this type".into() }),
            msg_id => Ok(PushResponse { msg_id, ..Default::default() }.encode_to_vec()),
        };
        table.answer_call("A", answer);
    }
    table.pass(20);
}

fn table_of_all_protocols() -> Table {
    let mut table = Table::with_timeout(&["ann"], &[("ann", "A")], Duration::from_secs(10));
    table.list("A", Protocols { batch: true, unary: true, ..Protocols::STREAM });
    table
}

/// A hop before the gateway keeps the connection, and sends the calls to another version of it.
#[test]
fn calls_that_are_implemented_no_longer_are_followed_by_what_is() {
    let mut table = table_of_all_protocols();
    table.event(1);
    serve_unary_only(&mut table);
    assert_eq!(table.ended(RecipientOutcome::Delivered), 1);
    table.event(2);
    while speaks(&table) != Some(Protocol::Batch) && table.now.0 < 5_000_000_000 {
        for _ in table.pushed_ids("A") {
            table.answer_call("A", Err(CallError { code: NOT_IMPLEMENTED, message: "unknown method".into() }));
        }
        table.pass(20);
    }
    assert_eq!(speaks(&table), Some(Protocol::Batch), "within half of the delivery timeout");
    assert_eq!(table.pushed_ids("A"), [2]);
}

#[test]
fn one_call_that_is_answered_as_not_implemented_ends_alone() {
    let mut table = table_of_all_protocols();
    table.event(1);
    serve_unary_only(&mut table);
    for msg_id in [BAD, BAD + 1, BAD + 2] {
        table.event(msg_id);
    }
    while table.push.events_in_flight() > 0 && table.now.0 < 9_000_000_000 {
        serve_unary_only(&mut table);
    }
    assert_eq!((table.ended(RecipientOutcome::Refused), table.ended(RecipientOutcome::Delivered)), (1, 3));
}

#[test]
fn one_call_that_is_answered_as_not_implemented_ends_when_there_is_no_other() {
    let mut table = table_of_all_protocols();
    table.event(1);
    serve_unary_only(&mut table);
    table.event(BAD);
    while table.push.events_in_flight() > 0 && table.now.0 < 9_000_000_000 {
        serve_unary_only(&mut table);
    }
    assert_eq!((table.ended(RecipientOutcome::Refused), table.ended(RecipientOutcome::Delivered)), (1, 1));
    table.event(2);
    serve_unary_only(&mut table);
    assert_eq!(table.ended(RecipientOutcome::Delivered), 2, "the gateway is as it was");
}
