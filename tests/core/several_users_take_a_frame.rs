//! Promise: a gateway that takes several users in a frame of `PushMessage` gets a frame a message, and its one answer ends them all; one
//! that was taken for such a gateway, and takes one user a frame, is found out before anybody counts as delivered.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::{PushMessageResponse, PushRequest, PushResponse};
use task_engine::ports::{Protocol, Protocols};
use task_engine::push::facts::{StreamEnd, StreamFact};
use testkit::table::{Table, only};

const MEMBERS: [&str; 3] = ["ann", "bob", "cat"];

/// The session `s` on the gateway A.
fn table(protocols: Protocols) -> Table {
    let mut table = Table::new(&MEMBERS, &MEMBERS.map(|user| (user, "A")));
    table.list("A", protocols);
    table
}

/// What such a gateway answers: whom it could not reach, and nothing else.
fn unreached(msg_id: i64, users: &[&str]) -> PushResponse {
    PushResponse { msg_id, error: String::new(), failed_usernames: users.iter().map(ToString::to_string).collect() }
}

/// What a gateway of one user a frame answers: the sequence, which no error has the place of.
fn of_one(msg_id: i64, error: &str) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 10 * msg_id, error: error.into() }
}

#[test]
fn a_message_is_one_frame_and_its_answer_ends_all() {
    let mut table = table(only(Protocol::StreamMany));
    table.event_from("bob", 1);
    table.event(2);
    let frames: Vec<PushRequest> = table.take_frames("A");
    let names: Vec<_> = frames.iter().map(|frame| frame.to_usernames.join(",")).collect();
    assert_eq!(names, ["ann,cat", "ann,bob,cat"], "all but who wrote it");
    assert!(frames.iter().all(|frame| frame.message.as_ref().is_some_and(|message| message.session_id == "s")));
    table.answer("A", &unreached(1, &[]));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (2, 1));
    table.answer("A", &unreached(2, &[]));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (5, 2));
    table.check();
}

#[test]
fn who_is_named_was_not_reached_and_is_looked_for() {
    let mut table = table(only(Protocol::StreamMany));
    table.list("B", Protocols::STREAM);
    table.event(1);
    assert_eq!(table.pushed("A").len(), 3);
    table.moves("cat", "B");
    table.answer("A", &unreached(1, &["cat"]));
    assert_eq!(table.ended(RecipientOutcome::Delivered), 2, "the others have it");
    assert_eq!(table.pushed("B"), [("cat".into(), 1)]);
    table.answer("B", &of_one(1, ""));
    assert_eq!((table.ended(RecipientOutcome::Delivered), table.settled.len()), (3, 1));
    table.check();
}

#[test]
fn an_error_that_names_nobody_is_against_all() {
    let mut table = table(only(Protocol::StreamMany));
    table.event(1);
    table.answer("A", &PushResponse { error: "overloaded".into(), ..unreached(1, &[]) });
    assert_eq!((table.ended(RecipientOutcome::Refused), table.ended(RecipientOutcome::Delivered)), (3, 0));
    table.check();
}

#[test]
fn one_that_takes_one_user_a_frame_is_found_out_before_anybody_counts_as_delivered() {
    // It has read the last of the names, told that user or not, and answers as it always does.
    for answer in [of_one(1, ""), of_one(1, "user not connected")] {
        let mut table = table(only(Protocol::StreamMany));
        table.event(1);
        table.event(2);
        assert_eq!(table.take_frames::<PushRequest>("A").len(), 2);
        table.answer("A", &answer);
        assert_eq!((table.ended(RecipientOutcome::Delivered), table.push.recipients_in_flight()), (0, 6));
        assert_eq!((table.cut.len(), table.push.activity().answer_mismatches), (1, 1));
        table.pass(100);
        assert_eq!(table.links["A"].protocol, Protocol::Stream, "the stream after it has one user a frame");
        let mut answered = 0;
        loop {
            let pushed = table.pushed_ids("A");
            if pushed.is_empty() {
                break;
            }
            answered += pushed.len();
            pushed.iter().for_each(|msg_id| table.answer("A", &of_one(*msg_id, "")));
        }
        assert_eq!((answered, table.ended(RecipientOutcome::Delivered), table.settled.len()), (6, 6, 2));
        table.event(3);
        assert_eq!((table.links["A"].protocol, table.pushed("A").len()), (Protocol::Stream, 3), "and it stays so");
        table.check();
    }
}

#[test]
fn another_record_is_another_try() {
    let mut table = table(only(Protocol::StreamMany));
    table.event(1);
    table.answer("A", &of_one(1, ""));
    table.pass(100);
    assert_eq!(table.links["A"].protocol, Protocol::Stream);
    table.list("A", Protocols { unary: true, ..only(Protocol::StreamMany) });
    table.fact("A", StreamFact::Closed(StreamEnd::Finished));
    table.pass(100);
    assert_eq!((table.links["A"].protocol, table.pushed("A").len()), (Protocol::StreamMany, 3));
}

#[test]
fn no_gateway_is_stepped_down_to_it_that_did_not_announce_it() {
    for (announced, steps) in [
        (Protocols { batch: true, ..Protocols::STREAM }, [Protocol::Batch, Protocol::Stream, Protocol::Unary]),
        (Protocols::STREAM_MANY, [Protocol::StreamMany, Protocol::Stream, Protocol::Unary]),
        (
            Protocols { batch: true, ..Protocols::STREAM_MANY },
            [Protocol::Batch, Protocol::StreamMany, Protocol::Stream],
        ),
    ] {
        let mut table = table(announced);
        table.event(1);
        for step in steps {
            assert_eq!(table.links["A"].protocol, step, "{announced:?}");
            table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
        }
    }
}
