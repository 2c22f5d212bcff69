//! Protocol `group`, move by move: a list of users is said once a stream and then referred to; whatever a gateway forgets, mistakes
//! or answers, each recipient gets each message once and in order. What chance may bring is in `conservation.rs`.

mod gateway;

use std::num::NonZeroU32;

use task_engine::model::limits::{GROUP_USERS_MAX, LISTED_USERS_MAX, UNKNOWN_LISTS_MAX};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{GroupAnswer, GroupFrame, PushBatchRequest, PushBatchResponse};
use task_engine::ports::{Protocol, Protocols};
use task_engine::push::facts::{StreamEnd, StreamFact};
use testkit::table::{Table, frame, only};

use gateway::{Lists, World, name, not_connected};

/// Members of a session whose users on a gateway are one list.
const FEW: usize = 40;
/// Members of one whose users are three.
const MANY: usize = 2 * LISTED_USERS_MAX + 100;

#[test]
fn a_push_to_a_known_list_names_nobody() {
    for (members, lists) in [(FEW, 1), (MANY, 3)] {
        let mut world = World::new(members);
        for msg_id in 1..=5 {
            world.event("s", msg_id);
            world.serve();
        }
        world.expect(members, &[1, 2, 3, 4, 5]);
        assert_eq!(world.counts(), [lists, 0, 0, 0]);
        let last = world.frames.last().expect("a frame");
        assert!(last.changes.is_empty() && last.singles.is_empty() && last.pushes.len() == lists as usize, "{last:?}");
    }
}

/// Of a session of a few users nothing is said: they are named, in the same frames.
#[test]
fn a_few_users_are_named() {
    let mut world = World::new(3);
    world.event("s", 1);
    world.event("s", 2);
    world.serve();
    world.expect(3, &[1, 2]);
    assert_eq!(world.counts(), [0; 4]);
}

/// The sender's place is left out of a list in which it stands.
#[test]
fn the_sender_is_excepted_by_its_place() {
    let mut world = World::new(FEW);
    world.table.event_from(&name(7), 1);
    world.serve();
    assert_eq!(world.frames[0].pushes[0].except, [7]);
    assert_eq!((world.told.len(), world.table.ended(RecipientOutcome::SkippedSender)), (FEW - 1, 1));
    assert!(!world.told.contains(&(name(7), 1)));
}

/// What may happen to a list at its gateway while pushes to it are on their way.
type Loss = (&'static str, fn(&mut Lists));

const LOSSES: [Loss; 5] = [
    ("all are forgotten", |lists| lists.lists.clear()),
    ("the first is forgotten", |lists| lists.lists.retain(|id, _| *id != 1)),
    ("the last is forgotten", |lists| drop(lists.lists.pop_last())),
    ("versions go backwards", |lists| lists.lists.values_mut().for_each(|(version, _)| *version -= 1)),
    ("versions are ahead", |lists| lists.lists.values_mut().for_each(|(version, _)| *version += 1)),
];

#[test]
fn what_a_lost_list_did_not_deliver_comes_again_with_it_in_order() {
    for members in [FEW, MANY] {
        for (what, lose) in LOSSES {
            let mut world = World::new(members);
            world.event("s", 1);
            world.serve();
            (2..=4).for_each(|msg_id| world.event("s", msg_id));
            lose(&mut world.lists);
            // The answers to the first frames are there, and more comes before those to the last.
            world.serve_once(|_, _| {});
            world.event("s", 5);
            world.serve();
            world.expect(members, &[1, 2, 3, 4, 5]);
            let [said, changes, forgotten, unknown] = world.counts();
            assert!(said > 1 && unknown >= 3, "{what}: {said} said, {unknown} not known");
            assert_eq!((changes, forgotten), (0, 0), "{what}");
        }
    }
}

/// A push to a list that was forgotten may stand behind pushes of other sessions, which do not wait for it.
#[test]
fn other_sessions_get_theirs_while_a_list_is_said_again() {
    let mut world = World::new(FEW);
    for session in ["a", "b"] {
        world.event(session, 1);
        world.serve();
    }
    world.told.clear();
    world.event("a", 2);
    world.event("b", 2);
    world.serve_once(|lists, _| drop(lists.lists.remove(&1)));
    assert_eq!(world.told.len(), FEW, "those of b");
    world.serve();
    assert_eq!((world.told.len(), world.counts()), (2 * FEW, [3, 0, 0, 1]));
}

/// A list that must not be changed yet holds up its own session only.
#[test]
fn other_sessions_go_on_while_one_waits_for_its_answers() {
    let mut world = World::new(MANY);
    for session in ["a", "b"] {
        world.event(session, 1);
        world.serve();
    }
    world.event("a", 2);
    world.table.members.retain(|user| *user != name(0));
    world.table.pass(200);
    world.event("a", 3);
    world.event("b", 2);
    let frames: Vec<GroupFrame> = world.table.take_frames("A");
    let pushes = frames.iter().flat_map(|frame| &frame.pushes).filter_map(|push| match &push.what {
        Some(What::Message(message)) => Some((message.session_id.as_str(), message.msg_id)),
        _ => None,
    });
    assert_eq!(pushes.collect::<Vec<_>>(), [("a", 2), ("a", 2), ("a", 2), ("b", 2), ("b", 2), ("b", 2)]);
    for frame in &frames {
        frame.changes.iter().for_each(|change| world.lists.change(change));
        let answer = world.answer_to(frame);
        world.table.answer("A", &answer);
    }
    world.serve();
    for user in (1..MANY).map(name) {
        let got: Vec<_> = world.told.iter().filter(|(told, _)| *told == user).map(|(_, msg_id)| *msg_id).collect();
        assert_eq!(got, [1, 1, 2, 2, 3], "{user}");
    }
    world.table.check();
}

#[test]
fn who_joins_and_who_leaves_is_a_change_of_the_list() {
    for (members, lists) in [(FEW, 1), (MANY, 3)] {
        let mut world = World::new(members);
        world.event("s", 1);
        world.serve();
        world.table.members.retain(|user| *user != name(3));
        world.table.pass(200);
        world.event("s", 2);
        world.serve();
        world.table.members.push(name(3));
        world.table.pass(200);
        world.gone = vec![name(3), name(8)];
        world.event("s", 3);
        world.serve();
        let got = |user: usize| world.told.iter().filter(|(told, _)| *told == name(user)).count();
        assert_eq!((got(3), got(4), got(8), got(members - 1)), (1, 3, 2, 3));
        assert_eq!(world.table.ended(RecipientOutcome::NotConnected), 2, "who is not there is told by place");
        let [said, changes, ..] = world.counts();
        assert_eq!((said, changes >= 2), (lists, true), "{changes} changes");
        world.table.check();
    }
}

/// Who comes to another list of the session gets nothing by that one before what the first may not have got.
#[test]
fn who_passes_from_one_list_to_another_keeps_the_order() {
    let mut world = World::new(MANY);
    world.event("s", 1);
    world.serve();
    let all = std::mem::take(&mut world.table.members);
    world.table.members = all[1..].to_vec();
    world.table.pass(200);
    world.event("s", 2);
    world.serve();
    world.event("s", 3);
    world.table.members = all;
    world.table.pass(200);
    world.event("s", 4);
    world.lists.lists.remove(&1);
    world.serve();
    let has_passed = |list: u32| world.lists.lists[&list].1.contains(&name(LISTED_USERS_MAX));
    assert!(!has_passed(1) && has_passed(2), "the first of the second list was the last of the first one");
    let got = |user: usize| -> Vec<i64> {
        world.told.iter().filter(|(told, _)| *told == name(user)).map(|(_, msg_id)| *msg_id).collect()
    };
    assert_eq!(got(0), [1, 4]);
    (1..MANY).for_each(|user| assert_eq!(got(user), [1, 2, 3, 4], "{user}"));
    world.table.check();
}

/// Of a list that shrinks below what a list is worth the rest is named: not before what the list may not have got.
#[test]
fn who_is_left_of_a_list_is_named_behind_it() {
    let mut world = World::new(10);
    world.event("s", 1);
    world.serve();
    world.event("s", 2);
    world.table.members.truncate(3);
    world.table.pass(200);
    world.event("s", 3);
    world.lists.lists.clear();
    world.serve();
    assert_eq!((world.frames.last().expect("a frame").singles.len(), world.counts()), (1, [2, 0, 0, 1]));
    world.expect(3, &[1, 2, 3]);
}

/// The list of A is forgotten while a user of it moves to B: the user's messages go where the user is, in order, and all others
/// get theirs at A.
#[test]
fn who_moves_while_the_list_is_said_again_gets_each_message_once_and_in_order() {
    let mut world = World::new(FEW);
    world.table.list("B", only(Protocol::Batch));
    world.event("s", 1);
    world.serve();
    world.event("s", 2);
    let mover = name(5);
    world.table.moves(&mover, "B");
    world.gone = vec![mover.clone()];
    world.event("s", 3);
    world.serve_once(|lists, _| lists.lists.clear());
    world.serve();
    let mut at_b = Vec::new();
    loop {
        let batches: Vec<PushBatchRequest> = world.table.take_frames("B");
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            let messages = batch.pushes.iter().flat_map(|push| push.to_usernames.iter().zip(push.message.iter()));
            at_b.extend(messages.map(|(user, message)| (user.clone(), message.msg_id)));
            world.table.answer("B", &PushBatchResponse { batch_id: batch.batch_id, failures: Vec::new() });
        }
        world.serve();
    }
    assert_eq!(at_b, [(mover.clone(), 2), (mover, 3)]);
    world.gone.clear();
    world.told.retain(|(user, _)| *user != name(5));
    world.told.extend([(name(5), 1), (name(5), 2), (name(5), 3)]);
    world.expect(FEW, &[1, 2, 3]);
}

/// Answers that cannot be are not guessed at: the stream is cut, the lists are said anew on the next one, and what the answer said
/// is void.
#[test]
fn an_answer_that_does_not_fit_its_frame_cuts_the_stream() {
    let failure = |push, place| GroupAnswer { failures: vec![not_connected(push, vec![place])], ..Default::default() };
    let cases = [
        ("a place behind the list", failure(0, FEW as u32)),
        ("a place that is no index", failure(0, u32::MAX)),
        ("the sender's place", failure(0, 7)),
        ("a push that was not in it", failure(1, 0)),
        ("a group that was never said", GroupAnswer { unknown_groups: vec![2], ..Default::default() }),
        ("group 0", GroupAnswer { unknown_groups: vec![0], ..Default::default() }),
        ("another frame", GroupAnswer { frame_id: 1, ..Default::default() }),
    ];
    for (what, mut answer) in cases {
        let mut world = World::new(FEW);
        world.table.event_from(&name(7), 1);
        let frames: Vec<GroupFrame> = world.table.take_frames("A");
        answer.frame_id += frames[0].frame_id;
        world.table.answer("A", &answer);
        let mismatches = world.table.push.activity().answer_mismatches;
        assert_eq!((world.table.cut.len(), mismatches, world.told.len()), (1, 1, 0), "{what}");
        world.table.pass(100);
        world.lists = Lists::default();
        world.serve();
        assert_eq!(
            (world.told.len(), world.table.ended(RecipientOutcome::Delivered)),
            (FEW - 1, FEW as u64 - 1),
            "{what}"
        );
        assert_eq!(world.frames[0].changes.len(), 1, "{what}: the next stream knows nothing");
        world.table.check();
    }
}

/// A gateway that knows no list, however often it is said, is told names on that stream, and tried with lists again on the next.
#[test]
fn a_gateway_that_knows_no_list_for_ever_is_told_names() {
    let mut world = World::new(MANY);
    (1..=3).for_each(|msg_id| world.event("s", msg_id));
    while world.serve_once(|lists, _| lists.lists.clear()) > 0 {}
    world.expect(MANY, &[1, 2, 3]);
    let [said, _, _, unknown] = world.counts();
    assert!(said <= 3 * u64::from(UNKNOWN_LISTS_MAX) && unknown <= 3 * said, "{said} said, {unknown} not known");
    let warned = |table: &Table| table.push.warnings().iter().any(|(why, _)| *why == "gateway_groups_unknown");
    assert!(warned(&world.table));
    world.event("s", 4);
    world.serve();
    let last = world.frames.last().expect("a frame");
    // Parts are as small as elsewhere again.
    let parts = MANY.div_ceil(GROUP_USERS_MAX);
    assert_eq!((last.changes.len(), last.pushes.len(), last.singles.len()), (0, 0, parts));
    world.table.fact("A", StreamFact::Closed(StreamEnd::Finished));
    world.table.pass(200);
    world.lists = Lists::default();
    world.event("s", 5);
    world.serve();
    world.expect(MANY, &[1, 2, 3, 4, 5]);
    assert_eq!(world.frames.last().expect("a frame").changes.len(), parts);
}

/// A session that was cut before its gateway was known to keep lists is cut anew, and the lists that are too many are forgotten.
#[test]
fn parts_become_larger_when_the_gateway_is_known_to_keep_lists() {
    let members = 5 * GROUP_USERS_MAX - 10;
    let mut world = World::of(members, only(Protocol::Group));
    (1..=2).for_each(|msg_id| world.event("s", msg_id));
    world.serve();
    assert_eq!(world.lists.lists.len(), 5);
    (3..=4).for_each(|msg_id| world.event("s", msg_id));
    world.serve();
    world.expect(members, &[1, 2, 3, 4]);
    assert_eq!((world.lists.lists.len(), world.counts()), (2, [7, 0, 3, 0]));
}

/// What was not answered when a stream broke is said again on the next one, also what waited for its list.
#[test]
fn a_stream_that_breaks_while_lists_are_said_again_loses_nothing() {
    for members in [FEW, MANY] {
        let mut world = World::new(members);
        world.event("s", 1);
        world.serve();
        world.told.clear();
        (2..=3).for_each(|msg_id| world.event("s", msg_id));
        // Of the first frame the answer came; what it did not deliver waits for that of the second.
        let frames: Vec<GroupFrame> = world.table.take_frames("A");
        world.lists.lists.clear();
        let answer = world.answer_to(&frames[0]);
        world.table.answer("A", &answer);
        world.table.fact("A", StreamFact::Closed(StreamEnd::Broken("reset".into())));
        world.table.pass(100);
        world.lists = Lists::default();
        world.serve();
        world.expect(members, &[2, 3]);
    }
}

/// A gateway that does not implement what it announces is served by the next protocol, gateway by gateway, until its record changes.
#[test]
fn a_gateway_without_the_rpc_is_served_by_batch() {
    let announced = Protocols { group: Some(NonZeroU32::MAX), batch: true, stream: false, ..Protocols::STREAM };
    for protocols in [announced, only(Protocol::Group)] {
        let mut world = World::of(FEW, protocols);
        world.event("s", 1);
        world.table.fact("A", StreamFact::Closed(StreamEnd::Unimplemented));
        assert_eq!(world.table.links["A"].protocol, Protocol::Batch, "without a pause");
        assert_eq!(world.table.pushed("A").len(), FEW);
        world.table.answer("A", &PushBatchResponse { batch_id: 2, failures: Vec::new() });
        assert_eq!((world.table.ended(RecipientOutcome::Delivered), world.counts()), (FEW as u64, [1, 0, 0, 0]));
        world.table.list("A", Protocols { stream: true, ..protocols });
        world.table.fact("A", StreamFact::Closed(StreamEnd::Finished));
        world.event("s", 2);
        assert_eq!(world.table.links["A"].protocol, Protocol::Group, "another record, another try");
    }
}

/// A gateway is told no more members than it keeps: the lists that were not used go first, and where all are in use users are named.
#[test]
fn a_gateway_is_told_no_more_than_it_keeps() {
    let keeps = |most: usize| only(Protocol::Group).with_group_members_max(most as u32);
    let mut world = World::of(FEW, keeps(FEW + 5));
    for (session, msg_id) in [("a", 1), ("b", 2), ("a", 3)] {
        world.event(session, msg_id);
        world.serve();
        assert!(world.lists.lists.values().map(|(_, users)| users.len()).sum::<usize>() <= FEW + 5);
    }
    world.expect(FEW, &[1, 2, 3]);
    assert_eq!(world.counts(), [3, 0, 2, 0]);
    // Both at once: one of them is named.
    world.event("a", 4);
    world.event("b", 5);
    world.serve();
    assert_eq!(
        (world.counts(), world.frames.iter().filter(|frame| !frame.singles.is_empty()).count()),
        ([3, 0, 2, 0], 1)
    );
    let mut world = World::of(FEW, keeps(FEW - 1));
    world.event("s", 1);
    world.serve();
    world.expect(FEW, &[1]);
    assert_eq!(world.counts(), [0; 4]);
}

/// Gateways that announce no groups get the frames that they got before there were any.
#[test]
fn a_gateway_that_announces_no_groups_sees_none() {
    for protocol in [Protocol::Stream, Protocol::Batch, Protocol::Unary] {
        let mut world = World::of(FEW, only(protocol));
        world.event("s", 1);
        assert_eq!(world.table.links["A"].protocol, protocol);
        assert_eq!((world.table.pushed("A").len(), world.counts()), (FEW, [0; 4]));
    }
}

/// Bytes that are no GroupAnswer.
#[test]
fn an_answer_that_cannot_be_read_cuts_the_stream() {
    let mut packed = frame(&GroupAnswer { frame_id: 1, unknown_groups: vec![1], ..Default::default() });
    *packed.last_mut().expect("bytes") = 0x80;
    for bytes in [vec![0, 0, 0, 0, 1, 0x08], vec![1, 0, 0, 0, 0], packed] {
        let mut world = World::new(FEW);
        world.event("s", 1);
        world.table.fact("A", StreamFact::Answers(bytes.into()));
        assert_eq!((world.table.cut.len(), world.table.push.activity().answer_mismatches), (1, 1));
    }
}
