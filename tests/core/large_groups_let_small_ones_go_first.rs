//! A session of thousands on a gateway does not make the small ones there wait until all of it is written: it goes in parts of
//! [`GROUP_USERS_MAX`] users ([`LISTED_USERS_MAX`] where lists of users are kept), small groups go before the parts of other sessions that are not on their way yet, and while small
//! ones come [`PARTS_UNANSWERED_MAX`] parts are on their way. A part is let wait for [`PARTS_GIVE_WAY`] at the most.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use task_engine::model::limits::{
    GROUP_USERS_MAX, LISTED_USERS_MAX, PARTS_GIVE_WAY, PARTS_UNANSWERED_MAX, SMALL_GROUPS_WITHIN,
    STREAM_UNSENT_BYTES_MAX, UNARY_CALLS_MAX,
};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::{GroupAnswer, PushBatchResponse, PushMessageResponse, PushResponse};
use task_engine::ports::{Disposition, Protocol};
use task_engine::push::facts::{StreamEnd, StreamFact};
use testkit::table::{Table, frame, only};

const PARTS: usize = 5;
/// The last part is not full. A gateway of protocol `group` has larger ones.
const fn big(protocol: Protocol) -> usize {
    // No more than the names that are learned in one turn.
    let parts = if matches!(protocol, Protocol::Group) { 3 } else { PARTS };
    parts * part(protocol) - 100
}

/// Users of one.
const fn part(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Group => LISTED_USERS_MAX,
        _ => GROUP_USERS_MAX,
    }
}

const fn on_their_way(protocol: Protocol) -> usize {
    PARTS_UNANSWERED_MAX * part(protocol)
}

/// The sessions `big` and `small` (two users) on the gateway A, which speaks just this; the delivery timeout is 10 s.
fn world(protocol: Protocol) -> Table {
    let big = (0..big(protocol)).map(|number| format!("big-{number}")).collect::<Vec<_>>();
    let small = vec!["ann".to_owned(), "bob".to_owned()];
    let mut table = Table::with_timeout(&[], &[], Duration::from_secs(10));
    table.routes = big.iter().chain(&small).map(|user| (user.clone(), "A".to_owned())).collect();
    table.members_of = [("big".to_owned(), big), ("small".to_owned(), small)].into();
    table.list("A", only(protocol));
    table
}

fn come(table: &mut Table, session: &str, msg_id: i64) {
    table.arrive(session, msg_id);
    table.run();
}

/// The msg_ids that were pushed, in order, each with how many recipients in a row.
fn runs(pushed: &[(String, i64)]) -> Vec<(i64, usize)> {
    pushed.chunk_by(|one, next| one.1 == next.1).map(|run| (run[0].1, run.len())).collect()
}

/// What was pushed since the last look, as [`runs`]; the gateway answers all of it.
fn answered(table: &mut Table) -> Vec<(i64, usize)> {
    let pushed = table.pushed("A");
    answer(table, &pushed);
    runs(&pushed)
}

fn answer(table: &mut Table, pushed: &[(String, i64)]) {
    match table.links["A"].protocol {
        Protocol::Stream => {
            for (_, msg_id) in pushed {
                table.answer("A", &PushMessageResponse { msg_id: *msg_id, ..PushMessageResponse::default() });
            }
        }
        Protocol::StreamMany => {
            for msg_id in table.take_batches("A") {
                table.answer("A", &PushResponse { msg_id: msg_id as i64, ..PushResponse::default() });
            }
        }
        Protocol::Batch => {
            for batch_id in table.take_batches("A") {
                table.answer("A", &PushBatchResponse { batch_id, failures: Vec::new() });
            }
        }
        Protocol::Group => {
            for frame_id in table.take_batches("A") {
                table.answer("A", &GroupAnswer { frame_id, ..GroupAnswer::default() });
            }
        }
        Protocol::Unary => {
            // A part is of one message, and each of its users is named once.
            for msg_id in table.open_calls("A") {
                table.answer_call("A", Ok(PushResponse { msg_id, ..PushResponse::default() }.encode_to_vec()));
            }
        }
    }
}

/// Answers until nothing more comes, and looks whether each recipient of each event was delivered to once.
fn ends_delivered(table: &mut Table, recipients: usize, events: usize) {
    while !answered(table).is_empty() {}
    table.check();
    assert_eq!(table.ended(RecipientOutcome::Delivered), recipients as u64);
    assert_eq!(table.settled_as.len(), events, "each event is settled once");
    assert!(table.settled_as.iter().all(|(_, how)| *how == Disposition::Ack));
    assert_eq!(table.push.events_in_flight(), 0);
}

/// Small groups have come lately, and then a large one: two parts are on their way.
fn shared(protocol: Protocol) -> Table {
    let mut table = world(protocol);
    come(&mut table, "small", 1);
    assert_eq!(answered(&mut table), [(1, 2)]);
    come(&mut table, "big", 2);
    assert_eq!(table.push.outboxes().map(|outbox| outbox.backlog()).sum::<usize>(), big(protocol));
    table
}

fn a_small_group_goes_before_the_parts_that_are_left(protocol: Protocol) {
    let mut table = shared(protocol);
    let first = table.pushed("A");
    assert_eq!(runs(&first), [(2, on_their_way(protocol))], "{protocol:?}: as few parts as may be on their way");
    come(&mut table, "small", 3);
    let small = table.pushed("A");
    assert_eq!(runs(&small), [(3, 2)], "{protocol:?}: it came later, and is written at once");
    answer(&mut table, &first);
    if protocol == Protocol::Stream {
        answer(&mut table, &small);
    }
    ends_delivered(&mut table, 2 + big(protocol) + 2, 3);
}

#[test]
fn on_a_stream_a_small_group_goes_before_the_parts_that_are_left() {
    a_small_group_goes_before_the_parts_that_are_left(Protocol::Stream);
}

#[test]
fn on_a_stream_of_many_a_small_group_goes_before_the_parts_that_are_left() {
    a_small_group_goes_before_the_parts_that_are_left(Protocol::StreamMany);
}

#[test]
fn on_batch_a_small_group_goes_before_the_parts_that_are_left() {
    a_small_group_goes_before_the_parts_that_are_left(Protocol::Batch);
}

#[test]
fn a_small_group_never_goes_before_its_own_sessions_parts() {
    for protocol in [Protocol::Stream, Protocol::Batch, Protocol::Group] {
        let mut table = shared(protocol);
        let first = table.pushed("A");
        // All but one of the large session leave: its next push is small, and comes while parts of the last are left.
        table.members_of.insert("big".into(), vec!["big-0".into(), "big-7".into()]);
        table.pass(120);
        come(&mut table, "big", 3);
        come(&mut table, "small", 4);
        let small = table.pushed("A");
        assert_eq!(runs(&small), [(4, 2)], "{protocol:?}: 3 waits for the parts of 2, and nobody else does for 3");
        answer(&mut table, &first);
        if protocol == Protocol::Stream {
            answer(&mut table, &small);
        }
        let mut rest = Vec::new();
        loop {
            let more = answered(&mut table);
            if more.is_empty() {
                break;
            }
            rest.extend(more);
        }
        let parts = rest.iter().take_while(|(msg_id, _)| *msg_id == 2).map(|(_, users)| users).sum::<usize>();
        assert_eq!(parts, big(protocol) - on_their_way(protocol), "{protocol:?}: {rest:?}");
        assert!(rest.ends_with(&[(3, 2)]), "{protocol:?}: {rest:?}");
        ends_delivered(&mut table, 2 + big(protocol) + 2 + 2, 4);
    }
}

#[test]
fn few_parts_are_on_their_way_while_small_groups_come_and_all_when_none_does() {
    for protocol in [Protocol::Stream, Protocol::StreamMany, Protocol::Batch, Protocol::Group] {
        let mut table = shared(protocol);
        let mut left = big(protocol);
        while left > 0 {
            let next = left.min(on_their_way(protocol));
            assert_eq!(answered(&mut table), [(2, next)], "{protocol:?}: as the ones before are answered");
            left -= next;
        }
        table.pass(SMALL_GROUPS_WITHIN.as_millis() as u64);
        come(&mut table, "big", 3);
        assert_eq!(runs(&table.pushed("A")), [(3, big(protocol))], "{protocol:?}: nobody else is there");
        come(&mut table, "big", 4);
        assert_eq!(runs(&table.pushed("A")), [(4, big(protocol))], "{protocol:?}: a large one holds back no large one");
    }
}

#[test]
fn a_part_is_held_back_no_longer_than_it_gives_way() {
    for protocol in [Protocol::Stream, Protocol::Batch, Protocol::Group] {
        let mut table = shared(protocol);
        assert_eq!(runs(&table.pushed("A")), [(2, on_their_way(protocol))]);
        let give_way = PARTS_GIVE_WAY.as_millis() as u64;
        table.pass(give_way - 20);
        come(&mut table, "small", 3);
        assert_eq!(runs(&table.pushed("A")), [(3, 2)], "{protocol:?}: the parts still give way");
        table.pass(40);
        assert_eq!(
            runs(&table.pushed("A")),
            [(2, big(protocol) - on_their_way(protocol))],
            "{protocol:?}: without any answer"
        );
    }
}

#[test]
fn a_part_that_waited_long_is_overtaken_no_more() {
    for protocol in [Protocol::Stream, Protocol::Batch, Protocol::Group] {
        let mut table = world(protocol);
        table.unlist("A");
        come(&mut table, "big", 1);
        table.pass(PARTS_GIVE_WAY.as_millis() as u64);
        come(&mut table, "small", 2);
        come(&mut table, "big", 3);
        come(&mut table, "small", 4);
        table.list("A", only(protocol));
        table.pass(20);
        let mut came = Vec::new();
        loop {
            let more = answered(&mut table);
            if more.is_empty() {
                break;
            }
            came.extend(more);
        }
        let order = came.chunk_by(|one, next| one.0 == next.0).map(|run| run[0].0).collect::<Vec<_>>();
        assert_eq!(order, [1, 2, 4, 3], "{protocol:?}: 4 goes before the parts of 3, which are young");
        ends_delivered(&mut table, 2 * (big(protocol) + 2), 4);
    }
}

#[test]
fn what_a_broken_stream_leaves_is_sent_again_in_order_and_delivered_once() {
    for protocol in [Protocol::Stream, Protocol::Batch] {
        let mut table = shared(protocol);
        let first = table.pushed("A");
        come(&mut table, "small", 3);
        come(&mut table, "big", 4);
        assert_eq!(runs(&table.pushed("A")), [(3, 2)], "{protocol:?}");
        // One part is answered, the stream breaks in the middle of the next.
        let mut answers = 1;
        match protocol {
            Protocol::Stream => {
                answer(&mut table, &first[..GROUP_USERS_MAX + 10]);
                answers = GROUP_USERS_MAX + 10;
            }
            _ => {
                let batch_id = table.take_batches("A")[0];
                table.answer("A", &PushBatchResponse { batch_id, failures: Vec::new() });
                answers *= GROUP_USERS_MAX;
            }
        }
        table.fact("A", StreamFact::Closed(StreamEnd::Broken("reset".into())));
        table.pass(200);
        let mut again = Vec::new();
        loop {
            let pushed = table.pushed("A");
            if pushed.is_empty() {
                break;
            }
            answer(&mut table, &pushed);
            again.extend(pushed);
        }
        let of = |msg_id| again.iter().filter(move |(_, of)| *of == msg_id).map(|(user, _)| user.clone());
        let expected = first[answers..].iter().map(|(user, _)| user.clone()).collect::<Vec<_>>();
        let left = of(2).collect::<Vec<_>>();
        assert!(left.starts_with(&expected), "{protocol:?}: what was not answered goes first");
        assert_eq!(left.len(), big(protocol) - answers, "{protocol:?}: and each once");
        assert_eq!((of(3).count(), of(4).count()), (2, big(protocol)), "{protocol:?}");
        let last_of_2 = again.iter().rposition(|(_, msg_id)| *msg_id == 2);
        let first_of_4 = again.iter().position(|(_, msg_id)| *msg_id == 4);
        assert!(last_of_2 < first_of_4, "{protocol:?}: a session's own order");
        ends_delivered(&mut table, 2 + big(protocol) + 2 + big(protocol), 4);
    }
}

#[test]
fn nothing_goes_between_what_is_written_of_a_part_and_the_rest_of_it() {
    let protocol = Protocol::Stream;
    let mut table = world(protocol);
    table.takes_nothing = true;
    let event = PushEvent { msg_id: 1, session_id: "big".into(), content: "x".repeat(8 << 10), ..PushEvent::default() };
    table.payload(Bytes::from(event.encode_to_vec()));
    let begun = table.pushed("A");
    assert!(begun.len() < GROUP_USERS_MAX, "the stream has no room for a whole part");
    answer(&mut table, &begun);
    come(&mut table, "small", 2);
    table.fact("A", StreamFact::Taken(STREAM_UNSENT_BYTES_MAX));
    table.fact("A", StreamFact::Taken(STREAM_UNSENT_BYTES_MAX));
    assert_eq!(table.pushed_ids("A")[0], 1, "the part is begun");
    let twice = [2, 2].map(|msg_id| frame(&PushMessageResponse { msg_id, ..PushMessageResponse::default() })).concat();
    table.fact("A", StreamFact::Answers(Bytes::from(twice)));
    assert_eq!(table.cut, ["A"], "an answer for what was not written yet fits nothing");
}

#[test]
fn on_unary_the_parts_of_one_event_are_called_together_and_those_of_the_next_wait() {
    let mut table = world(Protocol::Unary);
    come(&mut table, "big", 1);
    come(&mut table, "big", 2);
    assert_eq!(table.open_calls("A"), [1; PARTS], "no user is in two of them");
    for _ in 1..PARTS {
        table.answer_call("A", Ok(PushResponse { msg_id: 1, ..PushResponse::default() }.encode_to_vec()));
    }
    assert_eq!(table.open_calls("A"), [1], "2 waits for all of 1");
    answer(&mut table, &[]);
    assert_eq!(table.open_calls("A"), [2; PARTS]);
    ends_delivered(&mut table, 2 * big(Protocol::Unary), 2);
}

#[test]
fn on_unary_few_parts_are_called_while_small_groups_come() {
    let mut table = shared(Protocol::Unary);
    assert_eq!(table.open_calls("A"), [2; PARTS_UNANSWERED_MAX]);
    come(&mut table, "small", 3);
    assert_eq!(table.open_calls("A"), [2, 2, 3], "at once");
    table.pass(PARTS_GIVE_WAY.as_millis() as u64);
    assert_eq!(table.open_calls("A"), [2, 2, 3, 2, 2, 2], "without any answer");
    ends_delivered(&mut table, 2 + big(Protocol::Unary) + 2, 3);
}

#[test]
fn on_unary_a_small_group_finds_few_parts_before_it_however_many_wait() {
    let mut table = world(Protocol::Unary);
    let events = (UNARY_CALLS_MAX * 4 / PARTS + 1) as i64;
    (1..=events).for_each(|msg_id| come(&mut table, "big", msg_id));
    table.pass(PARTS_GIVE_WAY.as_millis() as u64 + 20);
    come(&mut table, "small", 100);
    assert_eq!(table.open_calls("A"), [&[1; PARTS][..], &[100]].concat(), "at once");
    answer(&mut table, &[]);
    ends_delivered(&mut table, events as usize * big(Protocol::Unary) + 2, events as usize + 1);
}
