//! What the core does, move by move: the order of users who move, refusals, deaf and full gateways, repeats, retries,
//! and answers that do not fit. Whatever chance may bring is in `conservation.rs`; here is what each case must give.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::Nanos;
use task_engine::model::limits::{GROUP_USERS_MAX, OUTBOX_MOVING_WITHIN, OUTBOX_RECIPIENTS_SOFT};
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupFailure, PushBatchResponse, PushMessageResponse, PushResponse,
};
use task_engine::ports::{LookupError, Protocol, Protocols};
use task_engine::push::facts::{CallError, StreamEnd, StreamFact};
use testkit::table::{Table, frame, only};

fn ok(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 0, error: String::new() }
}

fn not_connected(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { error: "user not connected".into(), ..ok(msg_id) }
}

fn two_gateways(members: &[&str], routes: &[(&str, &str)]) -> Table {
    let mut table = Table::new(members, routes);
    table.list("A", Protocols::STREAM);
    table.list("B", Protocols::STREAM);
    table
}

#[test]
fn who_moves_gets_the_next_message_when_the_old_gateway_is_done() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.moves("ann", "B");
    table.event(2);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![1], vec![]), "2 waits for 1");
    table.answer("A", &ok(1));
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![], vec![2]));
    table.answer("B", &ok(2));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled), (2, vec![0, 1]));
}

#[test]
fn only_who_moves_waits() {
    let mut table = two_gateways(&["ann", "bob"], &[("ann", "A"), ("bob", "A")]);
    table.event(1);
    table.moves("ann", "B");
    table.event(2);
    let bobs = vec![("ann".into(), 1), ("bob".into(), 1), ("bob".into(), 2)];
    assert_eq!((table.pushed("A"), table.pushed("B")), (bobs, vec![]));
}

#[test]
fn who_moves_twice_is_not_overtaken_by_its_next_message() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.list("C", Protocols::STREAM);
    table.event(1);
    table.moves("ann", "B");
    table.event(2);
    table.answer("A", &ok(1));
    table.moves("ann", "C");
    table.event(3);
    assert_eq!((table.pushed_ids("B"), table.pushed_ids("C")), (vec![2], vec![]), "3 waits for 2");
    table.answer("B", &ok(2));
    assert_eq!(table.pushed_ids("C"), [3]);
}

#[test]
fn who_leaves_and_comes_back_elsewhere_keeps_its_order() {
    let mut table = two_gateways(&["ann", "bob"], &[("ann", "A"), ("bob", "B")]);
    table.event(1);
    table.members = vec!["bob".into()];
    table.pass(200);
    table.event(2);
    table.members = vec!["ann".into(), "bob".into()];
    table.moves("ann", "B");
    table.pass(200);
    table.event(3);
    let bobs = (1..=3).map(|msg_id| ("bob".into(), msg_id)).collect::<Vec<_>>();
    assert_eq!((table.pushed("A"), table.pushed("B")), (vec![("ann".into(), 1)], bobs), "ann's 3 waits for ann's 1");
    table.answer("A", &ok(1));
    assert_eq!(table.pushed("B"), [("ann".into(), 3)]);
}

#[test]
fn who_is_refused_goes_to_the_new_gateway_in_order() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.event(2);
    assert_eq!(table.pushed_ids("A"), [1, 2]);
    table.routes.insert("ann".into(), "B".into());
    table.answer("A", &not_connected(1));
    table.event(3);
    assert!(table.pushed_ids("B").is_empty(), "2 has no answer yet");
    table.answer("A", &not_connected(2));
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![], vec![1, 2, 3]));
    assert_eq!(table.route_asks["ann"], 2, "once for the first event, once for the refusals");
    for msg_id in 1..=3 {
        table.answer("B", &ok(msg_id));
    }
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled), (3, vec![0, 1, 2]));
}

#[test]
fn who_is_refused_and_still_routed_there_is_not_connected_without_a_second_push() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    assert_eq!(table.pushed_ids("A"), [1]);
    table.answer("A", &not_connected(1));
    assert_eq!((table.pushed_ids("A"), table.route_asks["ann"]), (vec![], 2));
    assert_eq!((table.ended(RecipientOutcome::NotConnected), table.settled.clone()), (1, vec![0]));
}

#[test]
fn who_is_refused_by_two_gateways_is_not_connected() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.routes.insert("ann".into(), "B".into());
    table.answer("A", &not_connected(1));
    table.routes.insert("ann".into(), "A".into());
    assert_eq!(table.pushed_ids("B"), [1]);
    table.answer("B", &not_connected(1));
    assert_eq!((table.pushed_ids("A"), table.ended(RecipientOutcome::NotConnected)), (vec![1], 1), "no third push");
    table.event(2);
    assert_eq!(table.pushed_ids("A"), [2], "the route was forgotten and asked again");
}

#[test]
fn another_error_is_final() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.answer("A", &PushMessageResponse { error: "broken pipe".into(), ..ok(1) });
    assert_eq!((table.ended(RecipientOutcome::Refused), table.route_asks["ann"]), (1, 1));
}

#[test]
fn a_deaf_gateway_costs_its_own_users_the_delivery_timeout() {
    let mut table = two_gateways(&["ann", "bob"], &[("ann", "A"), ("bob", "B")]);
    table.event(1);
    table.answer("B", &ok(1));
    table.pass(500);
    table.event(2);
    table.answer("B", &ok(2));
    table.pass(480);
    assert_eq!((table.ended(RecipientOutcome::TimedOut), table.ended(RecipientOutcome::Delivered)), (0, 2));
    table.pass(40);
    assert_eq!((table.ended(RecipientOutcome::TimedOut), table.cut.clone()), (1, vec!["A".to_owned()]), "1 is over");
    table.pass(500);
    assert_eq!((table.ended(RecipientOutcome::TimedOut), table.settled.clone()), (2, vec![0, 1]));
    assert!(table.cut.iter().all(|gateway| gateway == "A"), "B was left alone");
    assert_eq!(table.pushed_ids("B"), [1, 2], "and got each once");
}

#[test]
fn an_unknown_gateway_costs_the_same_and_one_listed_in_time_does_not() {
    let mut table = Table::new(&["ann", "bob"], &[("ann", "A"), ("bob", "nowhere")]);
    table.event(1);
    table.pass(500);
    table.list("A", Protocols::STREAM);
    assert_eq!(table.pushed_ids("A"), [1]);
    table.answer("A", &ok(1));
    table.pass(520);
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.ended(RecipientOutcome::TimedOut)), (1, 1));
}

#[test]
fn an_outbox_is_full_only_when_its_gateway_does_not_move() {
    let members = (0..2_000).map(|number| format!("u{number}")).collect::<Vec<_>>();
    let members = members.iter().map(String::as_str).collect::<Vec<_>>();
    let routes = members.iter().map(|user| (*user, "A")).collect::<Vec<_>>();
    let mut table = Table::with_timeout(&members, &routes, Duration::from_secs(10));
    table.list("A", only(Protocol::Unary));
    (1..=5).for_each(|msg_id| {
        table.event(msg_id);
    });
    table.pass(900);
    (6..=40).for_each(|msg_id| {
        table.event(msg_id);
    });
    let backlog = |table: &Table| table.push.outboxes().map(|outbox| outbox.backlog()).sum::<usize>();
    assert!(backlog(&table) > OUTBOX_RECIPIENTS_SOFT + 10_000, "a queue that is young may be long");
    assert_eq!(table.ended(RecipientOutcome::OutboxFull), 0);
    table.pass(120);
    table.event(41);
    assert_eq!(
        table.ended(RecipientOutcome::OutboxFull),
        2_000,
        "its oldest push is over {OUTBOX_MOVING_WITHIN:?} old"
    );
    let parts = members.len().div_ceil(GROUP_USERS_MAX);
    for msg_id in (1..=5).flat_map(|msg_id| std::iter::repeat_n(msg_id, parts)) {
        table.answer_call("A", Ok(PushResponse { msg_id, ..PushResponse::default() }.encode_to_vec()));
    }
    assert!(backlog(&table) > OUTBOX_RECIPIENTS_SOFT);
    table.event(42);
    assert_eq!(table.ended(RecipientOutcome::OutboxFull), 2_000, "as long as before, but it moves");
}

#[test]
fn a_repeat_ends_with_the_one_in_flight_or_at_once_when_that_is_settled() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.event(1);
    table.event(1);
    assert_eq!((table.events_ended(EventOutcome::Repeat), table.settled.clone()), (0, vec![]));
    table.answer("A", &ok(1));
    assert_eq!((table.events_ended(EventOutcome::Repeat), table.settled.clone()), (1, vec![0, 1]));
    table.event(1);
    assert_eq!((table.events_ended(EventOutcome::Repeat), table.settled.clone()), (2, vec![0, 1, 2]));
    assert_eq!(table.pushed_ids("A"), [1], "pushed once");
}

#[test]
fn a_session_that_fails_alone_is_asked_max_retry_times_again_and_once_before_it_is_blamed() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.member_errors = vec![LookupError::Rejected("no".into()); 4].into();
    table.event(1);
    assert_eq!(table.push.events_in_flight(), 1);
    table.pass(40);
    assert_eq!(table.member_asks.len(), 1);
    table.pass(1_500);
    assert_eq!((table.events_ended(EventOutcome::LookupFailed), table.settled.clone()), (1, vec![0]));
    assert_eq!(table.member_asks.len(), 4, "the first, which blames nobody, the second, and max_retry more");
    table.event(1);
    table.pass(1_000);
    assert_eq!(table.pushed_ids("A"), [1], "it was not pushed, so it may come again");
}

#[test]
fn a_user_whose_route_is_refused_alone_ends_alone() {
    let mut table = two_gateways(&["ann", "bob"], &[("ann", "A"), ("bob", "B")]);
    table.refused_users = vec!["ann".to_owned()];
    table.event(1);
    assert_eq!((table.pushed("B").len(), table.route_asks["bob"]), (0, 2), "the set of both, and bob alone");
    table.pass(2_000);
    assert_eq!((table.pushed("A"), table.pushed("B")), (vec![], vec![("bob".to_owned(), 1)]));
    assert_eq!(table.push.counts().recipients_ended[RecipientOutcome::BadRoute as usize], 1);
    table.refused_users.clear();
    table.pass(5_000);
    table.event(2);
    assert_eq!(table.pushed_ids("A"), [2], "she was asked for again by herself");
}

#[test]
fn what_waited_for_a_refused_lookup_ends_with_it_and_what_comes_later_does_not() {
    let mut table = two_gateways(&["ann"], &[("ann", "A")]);
    table.member_errors = vec![LookupError::Rejected("no".into()); 4].into();
    table.event(1);
    table.event(2);
    table.pass(3_000);
    assert_eq!((table.events_ended(EventOutcome::LookupFailed), table.pushed_ids("A")), (2, vec![]));
    table.event(3);
    assert_eq!((table.events_ended(EventOutcome::LookupFailed), table.pushed_ids("A")), (2, vec![3]));
}

#[test]
fn a_store_that_is_away_costs_time_and_no_tries() {
    for is_members in [true, false] {
        let mut table = two_gateways(&["ann"], &[("ann", "A")]);
        let errors = vec![LookupError::Unavailable("away".into()); 10].into();
        if is_members {
            table.member_errors = errors
        } else {
            table.route_errors = errors
        }
        table.event(1);
        table.event(2);
        table.pass(1_500);
        assert_eq!((table.push.events_in_flight(), table.pushed_ids("A")), (2, vec![]), "{is_members}");
        table.pass(2_000);
        assert_eq!((table.pushed_ids("A"), table.events_ended(EventOutcome::LookupFailed)), (vec![1, 2], 0));
    }
}

/// What a gateway may say that fits nothing it was sent, for msg_id 1 to ann.
fn misfits(protocol: Protocol) -> Vec<StreamFact> {
    let stream = |bytes: Vec<u8>| StreamFact::Answers(Bytes::from(bytes));
    let call =
        |response: &PushResponse| StreamFact::CallAnswered { call: 0, answer: Ok(response.encode_to_vec().into()) };
    let names = |msg_id, user: &str| PushResponse { msg_id, error: String::new(), failed_usernames: vec![user.into()] };
    let batch = |batch_id, failures| stream(frame(&PushBatchResponse { batch_id, failures }));
    match protocol {
        Protocol::Stream => vec![
            stream(frame(&ok(2))),
            stream(vec![1, 0, 0, 0, 0]),
            stream(vec![0, 0xff, 0, 0, 0]),
            stream(vec![0, 0, 0, 0, 1, 0x08]),
        ],
        Protocol::StreamMany => vec![
            stream(frame(&names(2, "ann"))),
            stream(frame(&names(1, "bob"))),
            // As one answers that takes one user a frame.
            stream(frame(&PushMessageResponse { seq_id: 10, ..ok(1) })),
            stream(frame(&PushMessageResponse { error: "user not connected".into(), seq_id: 0, ..ok(1) })),
            stream(vec![0, 0, 0, 0, 1, 0x08]),
        ],
        Protocol::Batch => vec![
            batch(2, vec![]),
            batch(1, vec![names(2, "ann")]),
            batch(1, vec![names(1, "ann"), names(1, "bob")]),
            stream(vec![0, 0, 0, 0, 1, 0x08]),
        ],
        Protocol::Group => {
            let failure = |push, places: &[u32]| GroupFailure { push, places: places.to_vec(), error: "lost".into() };
            let group = |frame_id, failures, unknown: &[u32]| {
                stream(frame(&GroupAnswer { frame_id, failures, unknown_groups: unknown.to_vec() }))
            };
            vec![
                group(2, vec![], &[]),
                group(1, vec![failure(1, &[])], &[]),
                group(1, vec![failure(0, &[0, 1])], &[]),
                group(1, vec![], &[1]),
                stream(vec![0, 0, 0, 0, 1, 0x08]),
            ]
        }
        Protocol::Unary => vec![
            call(&names(2, "ann")),
            call(&names(1, "bob")),
            StreamFact::CallAnswered { call: 0, answer: Ok(Bytes::from_static(b"\x08")) },
        ],
    }
}

#[test]
fn an_answer_that_does_not_fit_cuts_the_stream_and_counts_for_nothing() {
    for protocol in [Protocol::Stream, Protocol::StreamMany, Protocol::Batch, Protocol::Group, Protocol::Unary] {
        for (case, misfit) in misfits(protocol).into_iter().enumerate() {
            let mut table = Table::new(&["ann"], &[("ann", "A")]);
            table.list("A", only(protocol));
            table.event(1);
            assert_eq!(table.pushed_ids("A"), [1], "{protocol:?} {case}");
            table.fact("A", misfit);
            assert_eq!((table.cut.len(), table.push.activity().answer_mismatches), (1, 1), "{protocol:?} {case}");
            assert_eq!(table.push.recipients_in_flight(), 1, "{protocol:?} {case}");
            table.pass(100);
            assert_eq!(table.pushed_ids("A"), [1], "{protocol:?} {case}: sent again");
            match protocol {
                // What does not fit is no answer to several users a frame: it is sent one a frame.
                Protocol::Stream | Protocol::StreamMany => table.answer("A", &ok(1)),
                Protocol::Batch => table.answer("A", &PushBatchResponse { batch_id: 2, failures: vec![] }),
                Protocol::Group => table.answer("A", &GroupAnswer { frame_id: 2, ..Default::default() }),
                Protocol::Unary => {
                    table.answer_call("A", Ok(PushResponse { msg_id: 1, ..Default::default() }.encode_to_vec()))
                }
            }
            assert_eq!(
                table.ended(RecipientOutcome::Delivered),
                1,
                "{protocol:?} {case}: what ann was said before is void"
            );
        }
    }
}

#[test]
fn what_a_gateway_does_not_implement_is_stepped_down_from() {
    let mut table = Table::new(&["ann"], &[("ann", "A")]);
    table.list("A", Protocols { batch: true, unary: true, ..Protocols::STREAM });
    table.event(1);
    for expected in [Protocol::Batch, Protocol::Stream] {
        assert_eq!(table.links["A"].protocol, expected);
        table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
    }
    assert_eq!((table.links["A"].protocol, table.pushed_ids("A")), (Protocol::Unary, vec![1]), "without a pause");
    table.answer_call("A", Err(CallError { code: 12, message: "unknown method".into() }));
    table.pass(100);
    assert_eq!(table.links["A"].protocol, Protocol::Batch, "it implements none: from the start again, after a pause");
}

#[test]
fn what_was_answered_on_one_protocol_is_not_pushed_on_the_next() {
    for next in [Protocol::StreamMany, Protocol::Batch, Protocol::Unary] {
        let mut table = two_gateways(&["ann", "bob", "cat"], &[("ann", "A"), ("bob", "A"), ("cat", "A")]);
        table.event(1);
        assert_eq!(table.pushed("A").len(), 3);
        table.answer("A", &ok(1));
        table.list("A", only(next));
        table.fact("A", StreamFact::Closed(StreamEnd::Finished));
        table.pass(20);
        assert_eq!(table.links["A"].protocol, next);
        assert_eq!(table.pushed("A"), [("bob".into(), 1), ("cat".into(), 1)], "{next:?}: ann has it");
    }
}

#[test]
fn a_broken_stream_is_followed_by_one_that_starts_with_what_was_unanswered() {
    let mut table = two_gateways(&["ann", "bob"], &[("ann", "A"), ("bob", "A")]);
    (1..=3).for_each(|msg_id| {
        table.event(msg_id);
    });
    table.pushed("A");
    table.answer("A", &ok(1));
    table.fact("A", StreamFact::Closed(StreamEnd::Broken("reset".into())));
    table.event(4);
    table.pass(100);
    assert_eq!(table.pushed_ids("A"), [1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(table.now, Nanos(100_000_000));
}

#[test]
fn what_waits_ages_as_an_event_and_as_a_push() {
    let mut table = Table::with_timeout(&["ann"], &[("ann", "A")], Duration::from_secs(10));
    table.list("A", Protocols::STREAM);
    let ages = |table: &Table| {
        let of_gateways = table.push.gateway_rows().map(|row| row.oldest_push_seconds).collect::<Vec<_>>();
        (table.push.oldest_event_age().as_millis(), of_gateways)
    };
    assert_eq!(ages(&table), (0, vec![0]));
    table.event(1);
    table.pass(2_100);
    table.event(2);
    table.pass(1_000);
    assert_eq!(ages(&table), (3_100, vec![3]));
    table.answer("A", &ok(1));
    assert_eq!(ages(&table), (1_000, vec![1]), "the first has its end");
    table.answer("A", &ok(2));
    assert_eq!(ages(&table), (0, vec![0]));
}
