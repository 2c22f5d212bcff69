//! Whatever a gateway answers: each recipient ends once, or waits.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::model::gateway::{Endpoint, Protocols};
use crate::model::ids::{SessionIx, ShardId, UserIx};
use crate::model::protobuf::put_varint;
use crate::push::bundle::{EventIx, Group, SKIP_NONE};
use crate::push::facts::{StreamEnd, StreamFact};

const AT: GatewayIx = GatewayIx(0);
/// Bundles that wait for answers, and the recipients of each.
const BUNDLES: i64 = 2;
const RECIPIENTS: usize = 3;
const FIRST_MSG_ID: i64 = 7_500_000_000_000_000_002;

pub(super) fn record(protocol: Protocol) -> GatewayRecord {
    let protocols = Protocols {
        group: (protocol == Protocol::Group).then_some(std::num::NonZeroU32::MAX),
        batch: protocol == Protocol::Batch,
        stream_many: protocol == Protocol::StreamMany,
        stream: protocol == Protocol::Stream,
        unary: protocol == Protocol::Unary,
        notice: false,
    };
    let endpoints = vec![Endpoint { host: "192.0.2.1".to_owned(), port: 9000, secure: false }];
    GatewayRecord { gateway_id: "gateway".into(), endpoints, protocols, others: Vec::new() }
}

pub(super) fn bundle(msg_id: i64) -> Bundle {
    let mut wire = Vec::new();
    for user in 0..RECIPIENTS {
        let name = format!("user-{user:08}");
        wire.extend([1 << 3 | 2, name.len() as u8]);
        wire.extend_from_slice(name.as_bytes());
    }
    let users = (0..RECIPIENTS as u32).map(UserIx).collect();
    let group = Arc::new(Group::new("gateway".into(), AT, 0, users, wire.into()));
    let message = Bytes::from_static(b"\x08\x01");
    Bundle {
        home: ShardId(0),
        event: EventIx(0),
        session: SessionIx(0),
        msg_id,
        message,
        group,
        skip: SKIP_NONE,
        attempt: 0,
        fences_before: 0,
        class: crate::model::priority::Priority::Normal,
        age_millis: 0,
        is_reserved: false,
        notice: 0,
        made_at: Nanos(1),
    }
}

/// One whose stream is open and has everything; `skip` is left out of each bundle.
fn written(protocol: Protocol, skip: u32) -> (Outbox, StreamNo) {
    let mut outbox = Outbox::new("gateway".into(), OutboxSettings::patient());
    let now = Nanos(1);
    outbox.list(record(protocol), now);
    for number in 0..BUNDLES {
        assert!(outbox.put(Bundle { skip, ..bundle(FIRST_MSG_ID + number) }, now).is_ok());
    }
    let mut effects = Effects::default();
    outbox.flush(AT, now, &mut effects);
    let [Output::Open { stream, .. }] = effects.outputs[..] else { panic!("{:?}", effects.outputs) };
    outbox.take(stream, StreamFact::Opened, now, &mut Effects::default());
    loop {
        let mut effects = Effects::default();
        outbox.flush(AT, now, &mut effects);
        if effects.outputs.is_empty() {
            return (outbox, stream);
        }
        for output in effects.outputs {
            let Output::Send { chunk, .. } = output else { panic!("only frames: {output:?}") };
            outbox.take(stream, StreamFact::Taken(chunk.len()), now, &mut Effects::default());
        }
    }
}

/// The ends as text and how many recipients wait, the answers coming in pieces.
fn ends(bytes: &[u8], protocol: Protocol, piece: usize) -> (Vec<String>, usize) {
    ends_of(written(protocol, SKIP_NONE), bytes, piece)
}

fn ends_of((mut outbox, stream): (Outbox, StreamNo), bytes: &[u8], piece: usize) -> (Vec<String>, usize) {
    let mut ends = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        let mut effects = Effects::default();
        outbox.take(stream, StreamFact::Answers(Bytes::copy_from_slice(piece)), Nanos(2), &mut effects);
        for result in effects.results {
            if let BundleEnd::Answered(refused) = &result.end {
                assert!(refused.iter().all(|(place, _)| (*place as usize) < RECIPIENTS), "{refused:?}");
                assert!(refused.windows(2).all(|two| two[0].0 < two[1].0), "each place once: {refused:?}");
            }
            ends.push(format!("{} {:?}", result.bundle.msg_id, result.end));
        }
    }
    (ends, outbox.backlog())
}

#[test]
fn fuzzed_answers() {
    crate::fuzz::run("answers", 5_000, |bytes| {
        for protocol in [Protocol::Stream, Protocol::StreamMany, Protocol::Batch] {
            let (whole, waiting) = ends(bytes, protocol, bytes.len());
            let mut ids: Vec<_> = whole.iter().filter_map(|end| end.split(' ').next()).collect();
            ids.dedup();
            assert_eq!(ids.len(), whole.len(), "a bundle ends once: {whole:?}");
            assert!(waiting <= (BUNDLES as usize - whole.len()) * RECIPIENTS, "{waiting} wait, ended: {whole:?}");
            let (cut, waiting_cut) = ends(bytes, protocol, 3);
            assert_eq!((cut, waiting_cut), (whole, waiting), "however the answers are cut");
        }
    });
}

#[test]
fn answers_that_are_alike_count_as_many_as_there_are_whoever_is_left_out() {
    for skip in [SKIP_NONE, 0, 1, 2] {
        let pushes = RECIPIENTS - usize::from(skip != SKIP_NONE);
        for answered in 0..=pushes + 1 {
            let mut answers = Vec::new();
            for msg_id in std::iter::repeat_n(FIRST_MSG_ID, answered) {
                let mut answer = vec![1 << 3];
                put_varint(&mut answer, msg_id as u64);
                answers.extend([0, 0, 0, 0, answer.len() as u8]);
                answers.extend(answer);
            }
            let (whole, waiting) = ends_of(written(Protocol::Stream, skip), &answers, answers.len());
            let of_first = whole.iter().filter(|end| **end == format!("{FIRST_MSG_ID} Answered([])")).count();
            assert_eq!(of_first, usize::from(answered >= pushes), "{skip} {answered}: {whole:?}");
            if answered <= pushes {
                assert_eq!(whole.len(), of_first, "{skip} {answered}: nothing else ends");
                let backlog = if answered == pushes { pushes } else { 2 * pushes };
                assert_eq!(waiting, backlog, "{skip} {answered}");
            }
            let cut = ends_of(written(Protocol::Stream, skip), &answers, 7);
            assert_eq!(cut, (whole, waiting), "{skip} {answered}: however the answers are cut");
        }
    }
}

#[test]
fn what_a_gateway_says_against_a_push_is_told() {
    // `msg_id`, and the text in the field that the protocol has for it; of a batch the failure is the second field.
    let answer = |protocol, text: &[u8]| {
        let field = if protocol == Protocol::Stream { 3 } else { 2 };
        let mut failure = vec![1 << 3];
        put_varint(&mut failure, FIRST_MSG_ID as u64);
        failure.extend([field << 3 | 2, text.len() as u8]);
        failure.extend(text);
        if protocol == Protocol::Batch {
            failure.splice(..0, [1 << 3, 1, 2 << 3 | 2, failure.len() as u8]);
        }
        [&[0, 0, 0, 0, failure.len() as u8], &failure[..]].concat()
    };
    for protocol in [Protocol::Stream, Protocol::StreamMany, Protocol::Batch] {
        for (text, told) in [("disk full", Some("it refused a push: disk full")), ("user not connected", None)] {
            let ((mut outbox, stream), mut effects) = (written(protocol, SKIP_NONE), Effects::default());
            let bytes = answer(protocol, text.as_bytes());
            outbox.take(stream, StreamFact::Answers(bytes.into()), Nanos(2), &mut effects);
            let warning = effects.warning.as_ref().map(|(reason, what)| (*reason, what.as_str()));
            assert_eq!(warning, told.map(|told| ("gateway_refused", told)), "{protocol:?}");
        }
    }
    let ((mut outbox, stream), mut effects) = (written(Protocol::Batch, SKIP_NONE), Effects::default());
    outbox.take(stream, StreamFact::Closed(StreamEnd::Unimplemented), Nanos(2), &mut effects);
    let (reason, what) = effects.warning.expect("a warning");
    assert!(reason == "gateway_stepped_down" && what.contains("protocol batch: it gets stream until"), "{what}");
}

/// The numbers of the calls that go out for bundles of one event before any is answered.
fn calls(bundles: [Bundle; 2]) -> usize {
    let mut outbox = Outbox::new("gateway".into(), OutboxSettings::patient());
    let (now, mut effects) = (Nanos(9), Effects::default());
    outbox.list(record(Protocol::Unary), now);
    for bundle in bundles {
        assert!(outbox.put(bundle, now).is_ok());
    }
    outbox.flush(AT, now, &mut effects);
    let [Output::Open { stream, .. }] = effects.outputs[..] else { panic!("{:?}", effects.outputs) };
    outbox.take(stream, StreamFact::Opened, now, &mut effects);
    effects.outputs.clear();
    outbox.flush(AT, now, &mut effects);
    effects.outputs.iter().filter(|output| matches!(output, Output::Call { .. })).count()
}

/// What waits behind a fence counts the bundles that have ended: one that was made after the fence must not end before them.
#[test]
fn calls_of_one_event_go_together_unless_a_fence_was_raised_between_them() {
    let first = bundle(FIRST_MSG_ID);
    assert_eq!(calls([first.clone(), first.clone()]), 2);
    assert_eq!(calls([first.clone(), Bundle { fences_before: 1, ..first.clone() }]), 1);
    assert_eq!(calls([first.clone(), Bundle { made_at: Nanos(2), ..first.clone() }]), 1);
    assert_eq!(calls([first.clone(), Bundle { event: EventIx(1), ..first }]), 1);
}
