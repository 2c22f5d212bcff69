//! Protocol `group`: lists are said once, and again when they are not known; whatever a gateway answers, each recipient ends once.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::answers_tests::record;
use super::*;
use crate::model::ids::{SessionIx, ShardId, UserIx};
use crate::model::limits::UNKNOWN_LISTS_MAX;
use crate::model::proto::gateway::{GroupAnswer, GroupFailure, GroupFrame};
use crate::model::protobuf::{GRPC_HEAD_BYTES, grpc_frame, put_grpc_head};
use crate::push::bundle::{EventIx, Group, SKIP_NONE};
use crate::push::facts::StreamFact;

const AT: GatewayIx = GatewayIx(0);
const NOW: Nanos = Nanos(1);

fn group(users: impl Iterator<Item = u32>) -> Arc<Group> {
    let (mut wire, mut places) = (Vec::new(), Vec::new());
    for user in users {
        let name = format!("user-{user:04}");
        wire.extend([1 << 3 | 2, name.len() as u8]);
        wire.extend_from_slice(name.as_bytes());
        places.push(UserIx(user));
    }
    Arc::new(Group::new("gateway".into(), AT, 0, places.into(), wire.into()))
}

fn bundle(msg_id: i64, group: &Arc<Group>) -> Bundle {
    Bundle {
        home: ShardId(0),
        event: EventIx(msg_id as u32),
        session: SessionIx(0),
        msg_id,
        message: Bytes::from_static(b"\x08\x01"),
        group: group.clone(),
        skip: SKIP_NONE,
        attempt: 0,
        fences_before: 0,
        notice: 0,
        made_at: NOW,
        class: crate::model::priority::Priority::Normal,
        age_millis: 0,
        is_reserved: false,
    }
}

/// An outbox whose stream is open.
struct Open {
    outbox: Outbox,
    stream: StreamNo,
    results: Vec<BundleResult>,
    counted: Counted,
    /// How many streams it wanted.
    opens: usize,
}

impl Open {
    fn new() -> Self {
        let mut outbox = Outbox::new("gateway".into(), OutboxSettings::patient());
        outbox.list(record(Protocol::Group), NOW);
        assert!(outbox.put(bundle(0, &group(0..1)), NOW).is_ok());
        let stream = StreamNo(1);
        let mut open = Self { outbox, stream, results: Vec::new(), counted: Counted::default(), opens: 0 };
        open.flush();
        open.outbox.take(stream, StreamFact::Opened, NOW, &mut Effects::default());
        let frames = open.flush();
        assert_eq!((frames[0].pushes.len(), frames[0].singles.len()), (0, 1), "few users are named");
        open.answer(&GroupAnswer { frame_id: frames[0].frame_id, ..Default::default() });
        open.results.clear();
        open
    }

    fn put(&mut self, bundle: Bundle) {
        assert!(self.outbox.put(bundle, NOW).is_ok());
    }

    fn flush(&mut self) -> Vec<GroupFrame> {
        let (mut effects, mut frames) = (Effects::default(), Vec::new());
        self.outbox.flush(AT, NOW, &mut effects);
        for output in std::mem::take(&mut effects.outputs) {
            match output {
                Output::Send { chunk, .. } => {
                    let frame = grpc_frame(&chunk, usize::MAX).ok().flatten().expect("a frame");
                    assert_eq!(frame.len() + GRPC_HEAD_BYTES, chunk.len(), "one frame");
                    frames.push(GroupFrame::decode(frame).expect("a GroupFrame"));
                    self.outbox.take(self.stream, StreamFact::Taken(chunk.len()), NOW, &mut Effects::default());
                }
                Output::Open { .. } => self.opens += 1,
                _ => {}
            }
        }
        self.note(effects);
        frames
    }

    fn answer(&mut self, answer: &GroupAnswer) {
        let answer = answer.encode_to_vec();
        let mut bytes = Vec::new();
        put_grpc_head(&mut bytes, answer.len());
        bytes.extend(answer);
        self.take(StreamFact::Answers(bytes.into()));
    }

    fn take(&mut self, fact: StreamFact) {
        let mut effects = Effects::default();
        self.outbox.take(self.stream, fact, NOW, &mut effects);
        self.note(effects);
    }

    fn note(&mut self, effects: Effects) {
        self.results.extend(effects.results);
        self.counted.groups_said += effects.counted.groups_said;
        self.counted.group_changes += effects.counted.group_changes;
        self.counted.groups_unknown += effects.counted.groups_unknown;
        self.counted.answer_mismatches += effects.counted.answer_mismatches;
    }
}

fn answer(frame_id: u64, unknown_groups: &[u32]) -> GroupAnswer {
    GroupAnswer { frame_id, unknown_groups: unknown_groups.to_vec(), ..Default::default() }
}

#[test]
fn a_list_is_said_once_and_then_referred_to() {
    let (mut open, all) = (Open::new(), group(0..200));
    open.put(Bundle { skip: 3, ..bundle(1, &all) });
    let said = open.flush();
    assert_eq!((said[0].changes[0].add.len(), said[0].pushes[0].except.clone()), (200, vec![3]));
    open.put(bundle(2, &all));
    let known = open.flush();
    assert!(known[0].changes.is_empty() && known[0].encoded_len() < 20, "{known:?}");
    let failure = |push, places: &[u32]| GroupFailure { push, places: places.to_vec(), error: "lost".into() };
    open.answer(&answer(said[0].frame_id, &[]));
    open.answer(&GroupAnswer { failures: vec![failure(0, &[7, 5])], ..answer(known[0].frame_id, &[]) });
    let ends: Vec<_> = open.results.iter().map(|result| &result.end).collect();
    let refused = BundleEnd::Answered(vec![(5, Refusal::Other), (7, Refusal::Other)]);
    assert_eq!(ends, [&BundleEnd::Answered(Vec::new()), &refused]);
    assert_eq!((open.counted.groups_said, open.outbox.backlog()), (1, 0));
}

#[test]
fn what_an_answer_says_twice_counts_once_as_it_was_said_first() {
    let mut open = Open::new();
    let three = [group(0..20), group(20..40), group(40..60)];
    for (group, number) in three.iter().zip(1..) {
        open.put(Bundle { session: SessionIx(number), ..bundle(number.into(), group) });
    }
    let frame_id = open.flush()[0].frame_id;
    let failure =
        |push, places: &[u32], error: &str| GroupFailure { push, places: places.to_vec(), error: error.into() };
    let failures = vec![
        failure(0, &[7, 7], "user not connected"),
        failure(0, &[7], ""),
        failure(1, &[3], "user not connected"),
        failure(1, &[], "lost"),
    ];
    open.answer(&GroupAnswer { failures, ..answer(frame_id, &[3, 3]) });
    let ends: Vec<_> = open.results.iter().map(|result| &result.end).collect();
    let of_second = |place| if place == 3 { Refusal::NotConnected } else { Refusal::Other };
    let second = (0..20).map(|place| (place, of_second(place))).collect();
    assert_eq!(ends, [&BundleEnd::Answered(vec![(7, Refusal::NotConnected)]), &BundleEnd::Answered(second)]);
    assert_eq!((open.counted.groups_unknown, open.counted.answer_mismatches, open.outbox.backlog()), (1, 0, 20));
}

/// Who joins comes at the end of the list, and what is answered of it means the right user.
#[test]
fn a_list_is_changed_and_its_places_are_those_of_the_list() {
    let mut open = Open::new();
    open.put(bundle(1, &group((0..40).filter(|user| *user != 5))));
    open.flush();
    let changed = group((0..40).filter(|user| *user != 9));
    open.put(Bundle { skip: 5, ..bundle(2, &changed) });
    let frame = open.flush().remove(0);
    let change = &frame.changes[0];
    assert_eq!((change.version, change.remove.clone(), change.add.clone()), (2, vec![8], vec!["user-0005".to_owned()]));
    assert_eq!(frame.pushes[0].except, [38], "user 5 stands last");
    open.answer(&answer(2, &[]));
    let failures = vec![GroupFailure { push: 0, places: vec![8], error: "user not connected".into() }];
    open.answer(&GroupAnswer { failures, ..answer(3, &[]) });
    let tenth = changed.users.iter().position(|user| *user == UserIx(10)).expect("a member") as u32;
    assert_eq!(open.results[1].end, BundleEnd::Answered(vec![(tenth, Refusal::NotConnected)]));
}

#[test]
fn what_a_forgotten_list_was_not_delivered_of_comes_again_in_order() {
    let (mut open, all) = (Open::new(), group(0..50));
    open.put(bundle(1, &all));
    open.flush();
    open.answer(&answer(2, &[]));
    for msg_id in [2, 3] {
        open.put(bundle(msg_id, &all));
        open.flush();
    }
    open.answer(&answer(3, &[1]));
    open.put(bundle(4, &all));
    assert!(open.flush().is_empty(), "3 is on the stream, and its answer decides what comes first");
    open.answer(&answer(4, &[1]));
    let again = open.flush();
    let frame = &again[0];
    assert_eq!((again.len(), frame.changes.len(), frame.pushes.len()), (1, 1, 3), "the list, and 2, 3 and 4");
    assert!(frame.changes[0].replace && frame.changes[0].version == 2);
    open.answer(&answer(frame.frame_id, &[]));
    let ids: Vec<_> = open.results.iter().map(|result| result.bundle.msg_id).collect();
    assert_eq!((ids, open.outbox.backlog(), open.counted.groups_unknown), (vec![1, 2, 3, 4], 0, 2));
}

#[test]
fn a_gateway_that_knows_no_list_however_often_it_is_said_is_served_by_names() {
    let mut open = Open::new();
    open.put(bundle(1, &group(0..50)));
    for _ in 0..UNKNOWN_LISTS_MAX {
        let frame = open.flush().remove(0);
        assert!(frame.changes[0].replace);
        open.answer(&answer(frame.frame_id, &[1]));
    }
    let frame = open.flush().remove(0);
    assert_eq!((frame.changes.len(), frame.pushes.len(), frame.singles[0].to_usernames.len()), (0, 0, 50));
    open.answer(&answer(frame.frame_id, &[]));
    assert_eq!((open.results.len(), open.outbox.backlog(), open.opens), (1, 0, 1));
}

#[test]
fn fuzzed_group_answers() {
    crate::fuzz::run("group_answers", 5_000, |bytes| {
        let mut open = Open::new();
        for msg_id in [1, 2] {
            open.put(bundle(msg_id, &group(0..20)));
            open.flush();
        }
        open.take(StreamFact::Answers(Bytes::copy_from_slice(bytes)));
        for result in &open.results {
            let BundleEnd::Answered(refused) = &result.end else { continue };
            assert!(refused.windows(2).all(|two| two[0].0 < two[1].0), "each place once: {refused:?}");
            assert!(refused.last().is_none_or(|(place, _)| *place < 20), "{refused:?}");
        }
        assert_eq!(open.outbox.backlog(), (2 - open.results.len()) * 20, "a bundle ends once or waits");
    });
}
