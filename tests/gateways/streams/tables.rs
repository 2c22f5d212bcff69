//! What the pure core does, move by move, with streams that end unheard and calls that are refused.

use std::time::Duration;

use prost::Message;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::{PushBatchResponse, PushMessageResponse, PushResponse};
use task_engine::ports::Protocol;
use task_engine::push::facts::{CallError, StreamEnd, StreamFact};
use testkit::table::{Table, only};

fn table(protocol: Protocol) -> Table {
    let mut table = Table::with_timeout(&["ann"], &[("ann", "A")], Duration::from_secs(10));
    table.list("A", only(protocol));
    table
}

fn ends(table: &mut Table, end: StreamEnd) {
    table.fact("A", StreamFact::Closed(end));
}

fn unheard() -> StreamEnd {
    StreamEnd::Unheard("INTERNAL".into())
}

fn reply(msg_id: i64) -> Result<Vec<u8>, CallError> {
    Ok(PushResponse { msg_id, ..Default::default() }.encode_to_vec())
}

fn code(code: i32) -> Result<Vec<u8>, CallError> {
    Err(CallError { code, message: "failed".into() })
}

#[test]
fn a_stream_that_says_not_now_is_no_evidence_for_half_of_the_time() {
    // Whether an empty stream is told so too; when it is not, the first push is what is meant.
    for are_all_told in [true, false] {
        let mut table = table(Protocol::Stream);
        (1..=3).for_each(|msg_id| {
            table.event(msg_id);
        });
        let not_now = || StreamEnd::NotOpened("gRPC status 14".into());
        while table.ended(RecipientOutcome::Delivered) < 2 && table.now.0 < 9_800_000_000 {
            let ids = table.pushed_ids("A");
            match ids.first() {
                None if !table.links.contains_key("A") => {}
                None if are_all_told => ends(&mut table, not_now()),
                None => ends(&mut table, StreamEnd::Finished),
                Some(1) => ends(&mut table, not_now()),
                Some(_) => ids.iter().for_each(|id| {
                    table.answer("A", &PushMessageResponse { msg_id: *id, ..Default::default() });
                }),
            }
            if table.now.0 < 5_000_000_000 {
                assert_eq!(table.push.events_in_flight(), 3);
            }
            table.pass(20);
        }
        let ended = [RecipientOutcome::BrokeStream, RecipientOutcome::Delivered].map(|end| table.ended(end));
        assert_eq!(ended, if are_all_told { [0, 0] } else { [1, 2] }, "all told: {are_all_told}, {:?}", table.now);
        table.check();
    }
}

fn answer_one(table: &mut Table, protocol: Protocol, msg_id: i64) {
    match protocol {
        Protocol::Batch => {
            let batch_id = table.take_batches("A")[0];
            table.answer("A", &PushBatchResponse { batch_id, failures: vec![] });
        }
        _ => table.answer("A", &PushMessageResponse { msg_id, ..Default::default() }),
    }
}

#[test]
fn a_connection_that_grows_old_with_nothing_on_it_costs_no_pause() {
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let mut table = table(protocol);
        for msg_id in 1..=5 {
            table.event(msg_id);
            assert_eq!(table.pushed_ids("A"), [msg_id], "{protocol:?}: at once, at {:?}", table.now);
            answer_one(&mut table, protocol, msg_id);
            table.fact("A", StreamFact::GoingAway);
            ends(&mut table, StreamEnd::Finished);
            table.pass(3_000);
        }
        assert_eq!(table.ended(RecipientOutcome::Delivered), 5);
        table.check();
    }
}

#[test]
fn a_goodbye_that_crosses_the_first_request_costs_no_pause() {
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let mut table = table(protocol);
        let not_begun = || StreamEnd::NotOpened("connection was not ready".into());
        // A connection that answered and grew old is not the first of a row.
        table.event(1);
        table.pushed_ids("A");
        answer_one(&mut table, protocol, 1);
        table.fact("A", StreamFact::GoingAway);
        ends(&mut table, StreamEnd::Finished);
        table.pass(3_000);
        table.event(2);
        table.fact("A", StreamFact::GoingAway);
        ends(&mut table, not_begun());
        assert_eq!(table.pushed_ids("A"), [2], "{protocol:?}: at once");
        // A gateway that does this each time is one that cannot be reached.
        table.fact("A", StreamFact::GoingAway);
        ends(&mut table, not_begun());
        assert_eq!(table.pushed_ids("A"), [0_i64; 0], "{protocol:?}: after a pause");
        table.check();
    }
}

#[test]
fn what_a_gateway_once_answered_wrongly_is_forgotten_in_time() {
    let mut table = table(Protocol::Stream);
    table.event(1);
    let wrong = |table: &mut Table| table.answer("A", &PushMessageResponse { msg_id: 77, ..Default::default() });
    while table.ended(RecipientOutcome::BrokeStream) == 0 {
        if table.links.contains_key("A") && !table.pushed_ids("A").is_empty() {
            wrong(&mut table);
        }
        table.pass(20);
    }
    table.pass(60_000);
    table.event(2);
    assert_eq!(table.pushed_ids("A"), [2]);
    table.answer("A", &PushMessageResponse { msg_id: 2, ..Default::default() });
    ends(&mut table, StreamEnd::NotOpened("refused".into()));
    table.event(3);
    table.pass(60);
    assert_eq!(table.pushed_ids("A"), [3], "after the shortest pause");
}

#[test]
fn what_ends_unheard_is_blamed_only_while_empty_streams_end_well() {
    for does_probe_end_well in [false, true] {
        let mut table = table(Protocol::Stream);
        (1..=3).for_each(|msg_id| {
            table.event(msg_id);
        });
        let (mut copies, mut probes) = (0, 0);
        while table.ended(RecipientOutcome::BrokeStream) == 0 && table.now.0 < 5_000_000_000 {
            match table.pushed_ids("A").as_slice() {
                [] if table.links.contains_key("A") => {
                    probes += 1;
                    ends(&mut table, if does_probe_end_well { StreamEnd::Finished } else { unheard() });
                }
                [] => {}
                [first, ..] => {
                    assert_eq!(*first, 1);
                    copies += 1;
                    ends(&mut table, unheard());
                }
            }
            table.pass(20);
        }
        let ended = table.ended(RecipientOutcome::BrokeStream);
        if does_probe_end_well {
            assert_eq!((ended, copies, probes), (1, 4, 3), "with the others, and then alone three times");
            assert!(table.now.0 < 2_000_000_000, "{:?}", table.now);
        } else {
            assert!(ended == 0 && probes > 1 && copies < 10, "{ended} ended, {copies} copies, {probes} empty streams");
        }
        table.check();
    }
}

#[test]
fn an_empty_stream_that_hangs_is_given_up_and_blames_nobody() {
    let mut table = table(Protocol::Batch);
    table.event(1);
    assert_eq!(table.pushed_ids("A"), [1]);
    ends(&mut table, unheard());
    table.pass(100);
    assert!(table.pushed_ids("A").is_empty(), "an empty one");
    table.pass(2_000);
    assert_eq!((table.cut.len(), table.pushed_ids("A")), (1, vec![1]));
    let batch_id = table.take_batches("A")[0];
    table.answer("A", &PushBatchResponse { batch_id, failures: vec![] });
    assert_eq!(table.ended(RecipientOutcome::Delivered), 1);
}

#[test]
fn a_batchs_answer_of_the_last_stream_does_not_fit_and_is_no_life() {
    let mut table = table(Protocol::Batch);
    table.event(1);
    let mut copies = 0;
    while table.push.events_in_flight() > 0 && table.now.0 < 20_000_000_000 {
        if table.links.contains_key("A") && !table.pushed_ids("A").is_empty() {
            copies += 1;
            let batch_id = table.take_batches("A")[0] - 1;
            table.answer("A", &PushBatchResponse { batch_id, failures: vec![] });
        }
        table.pass(20);
    }
    assert_eq!((copies, table.ended(RecipientOutcome::BrokeStream)), (4, 1));
    assert!(table.now.0 < 1_500_000_000, "{:?}", table.now);
    table.check();
}

#[test]
fn right_answers_between_wrong_ones_buy_no_more_copies_and_no_more_time() {
    let mut table = Table::with_timeout(
        &["ann", "bob", "cat"],
        &[("ann", "A"), ("bob", "A"), ("cat", "A")],
        Duration::from_secs(5),
    );
    table.list("A", only(Protocol::Stream));
    (1..=10).for_each(|msg_id| {
        table.event(msg_id);
    });
    let (mut streams, mut copies) = (0, vec![0; 11]);
    while table.push.events_in_flight() > 0 && table.now.0 < 20_000_000_000 {
        let ids = if table.links.contains_key("A") { table.pushed("A") } else { Vec::new() };
        if let Some((_, first)) = ids.first().cloned() {
            streams += 1;
            ids.iter().filter(|(user, _)| user == "cat").for_each(|(_, msg_id)| copies[*msg_id as usize] += 1);
            table.answer("A", &PushMessageResponse { msg_id: first, ..Default::default() });
            if table.links.contains_key("A") {
                table.answer("A", &PushMessageResponse { msg_id: 99, ..Default::default() });
            }
        }
        table.pass(20);
    }
    assert!(table.now.0 <= 5_100_000_000, "{:?}", table.now);
    assert!(streams <= 14, "{streams} streams");
    assert!(copies.iter().all(|copies| *copies <= 4), "{copies:?}");
    table.check();
}

#[test]
fn a_call_that_is_refused_for_now_is_made_again_and_no_other_with_it() {
    let mut table = table(Protocol::Unary);
    table.arrive("s1", 1);
    table.arrive("s2", 2);
    table.run();
    assert_eq!(table.open_calls("A"), [1, 2]);
    table.answer_call("A", code(14));
    assert_eq!(table.open_calls("A"), [2], "a pause");
    table.pass(60);
    assert_eq!(table.open_calls("A"), [2, 1], "on the same connection");
    table.answer_call("A", reply(2));
    for least in [40, 80, 200, 400] {
        table.answer_call("A", code(14));
        table.pass(least / 2);
        assert_eq!(table.open_calls("A"), [] as [i64; 0], "the pauses grow");
        table.pass(1_000);
        assert_eq!(table.open_calls("A"), [1]);
    }
    table.answer_call("A", reply(1));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.cut.len()), (2, 0));
    table.check();
}

#[test]
fn a_call_that_fails_is_blamed_when_others_succeed_and_waits_when_all_fail() {
    for do_others_fail in [false, true] {
        let mut table = table(Protocol::Unary);
        (1..=20).for_each(|msg_id| table.arrive(&format!("s{msg_id}"), msg_id));
        table.run();
        let mut calls = vec![0; 21];
        while table.push.events_in_flight() > 0 && table.now.0 < 9_000_000_000 {
            for msg_id in table.open_calls("A") {
                calls[msg_id as usize] += 1;
                table.answer_call("A", if msg_id == 7 || do_others_fail { code(13) } else { reply(msg_id) });
            }
            // Others come, and tell by their answers.
            let next = 21 + table.now.0 as i64 / 20_000_000;
            if !do_others_fail && next < 60 {
                calls.resize(100, 0);
                table.arrive("more", next);
            }
            table.pass(20);
        }
        if do_others_fail {
            assert_eq!((table.ended(RecipientOutcome::Refused), table.push.events_in_flight()), (0, 20));
            assert!(calls[1..=20].iter().all(|calls| *calls <= 15), "{calls:?}");
        } else {
            assert_eq!((table.ended(RecipientOutcome::Refused), calls[7]), (1, 3));
            assert!((1..60).filter(|id| *id != 7).all(|id| calls[id] <= 1), "{calls:?}");
        }
        table.check();
    }
}

#[test]
fn a_call_that_is_refused_for_ever_ends_after_the_delivery_timeout() {
    for status in [14, 8, 13, 1, 16] {
        let mut table = table(Protocol::Unary);
        table.event(1);
        while table.push.events_in_flight() > 0 && table.now.0 < 20_000_000_000 {
            if !table.open_calls("A").is_empty() {
                table.answer_call("A", code(status));
            }
            table.pass(20);
        }
        assert_eq!(table.ended(RecipientOutcome::TimedOut), 1, "{status}");
        assert!(table.now.0 <= 10_100_000_000, "{status}: {:?}", table.now);
    }
}
