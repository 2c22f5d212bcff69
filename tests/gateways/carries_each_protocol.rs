//! Each protocol works end to end against a real gRPC server: what is sent arrives whole and in order, and all answers
//! come back before the stream is finished.

use std::sync::atomic::Ordering;

use crate::gateway_support::pb::group_push::What;
use crate::gateway_support::pb::{
    GroupAnswer, GroupChange, GroupFrame, GroupPush, PushBatchRequest, PushBatchResponse, PushRequest, PushResponse,
};
use crate::gateway_support::*;
use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::StreamNo;
use task_engine::ports::Protocol;
use task_engine::push::facts::{StreamEnd, StreamFact};

#[test]
fn push_message_answers_come_in_request_order_and_finish_drains_them() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.five_thousand_pushes(gateway.endpoint()).await;
        assert_eq!(shard.gateways.open_count(), 0);
    });
    assert_eq!(gateway.seen.recipients.load(Ordering::SeqCst), 5000);
    assert_eq!(gateway.seen.half_closes.load(Ordering::SeqCst), 1);
}

#[test]
fn push_message_is_answered_while_the_stream_stays_open() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(3, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(3).await;
        for msg_id in 1..=20 {
            let chunk = single(msg_id, 10);
            let len = chunk.len();
            shard.gateways.send(G, StreamNo(3), chunk);
            let got = shard.answers(3, 1).await;
            assert_eq!((got.taken, msg_ids(&got.answers)), (len, vec![msg_id]));
        }
        assert_eq!(shard.gateways.open_count(), 1);
        shard.gateways.cut(G, StreamNo(3));
        assert_eq!(shard.gateways.open_count(), 0);
    });
}

#[test]
fn push_batch_carries_frames_larger_than_http2s() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Batch);
        shard.opened(1).await;
        for batch_id in 1..=3 {
            let push = PushRequest {
                to_usernames: (0..1000).map(|i| format!("user-{i}")).collect(),
                message: Some(message(batch_id, 1 << 20)),
            };
            let batch = PushBatchRequest { batch_id: batch_id as u64, pushes: vec![push] };
            shard.gateways.send(G, StreamNo(1), frame(&batch));
        }
        let got = shard.answers(1, 3).await;
        let ids = frames(&got.answers).into_iter().map(|frame| PushBatchResponse::decode(frame).unwrap().batch_id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
        shard.gateways.finish(G, StreamNo(1));
        assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Finished));
    });
    assert_eq!(gateway.seen.recipients.load(Ordering::SeqCst), 3000);
    assert_eq!(gateway.seen.content_bytes.load(Ordering::SeqCst), 3 << 20);
}

#[test]
fn push_groups_refers_to_lists_that_were_said_before() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Group);
        shard.opened(1).await;
        for frame_id in 1..=3 {
            let add = (0..1000).map(|i| format!("user-{i}")).collect();
            let said = GroupChange { group_id: 7, version: 1, replace: true, add, ..Default::default() };
            let changes = if frame_id == 1 { vec![said] } else { Vec::new() };
            let what = Some(What::Message(message(frame_id, 1 << 20)));
            let push = GroupPush { group_id: 7, version: 1, except: vec![0, 999], what };
            let groups = GroupFrame { frame_id: frame_id as u64, changes, pushes: vec![push], singles: Vec::new() };
            shard.gateways.send(G, StreamNo(1), frame(&groups));
        }
        let got = shard.answers(1, 3).await;
        let ids = frames(&got.answers).into_iter().map(|frame| GroupAnswer::decode(frame).unwrap().frame_id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
        shard.gateways.finish(G, StreamNo(1));
        assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Finished));
    });
    assert_eq!(gateway.seen.recipients.load(Ordering::SeqCst), 3 * 998);
    assert_eq!(gateway.seen.content_bytes.load(Ordering::SeqCst), 3 << 20);
}

#[test]
fn push_calls_run_side_by_side_and_each_gets_its_own_answer() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Unary);
        shard.opened(1).await;
        for call in 0..64_u32 {
            let request =
                PushRequest { to_usernames: vec![format!("u{call}")], message: Some(message(i64::from(call), 20_000)) };
            shard.gateways.call(G, StreamNo(1), call, frame(&request));
        }
        shard.gateways.finish(G, StreamNo(1));
        let mut rest = shard.rest(1).await;
        assert_eq!(rest.end, Some(StreamEnd::Finished));
        rest.calls.sort_by_key(|(call, _)| *call);
        assert_eq!(rest.calls.len(), 64);
        for (place, (call, answer)) in rest.calls.into_iter().enumerate() {
            let answer = PushResponse::decode(answer.unwrap()).unwrap();
            assert_eq!((place as u32, answer.msg_id), (call, i64::from(call)));
            assert_eq!(answer.failed_usernames, [format!("u{call}")]);
        }
    });
}

#[test]
fn a_new_stream_opens_while_the_older_one_drains() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        shard.open(2, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(2).await;
        assert_eq!(shard.gateways.open_count(), 2);
        shard.gateways.send(G, StreamNo(1), single(1, 1));
        assert_eq!(msg_ids(&shard.answers(1, 1).await.answers), [1]);
        shard.gateways.finish(G, StreamNo(1));
        assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Finished));
        shard.gateways.send(G, StreamNo(2), single(2, 1));
        assert_eq!(msg_ids(&shard.answers(2, 1).await.answers), [2]);
    });
}

#[test]
fn a_stream_finished_before_it_was_used_ends_clean() {
    let gateway = Gateway::start(Manner::Answers);
    for protocol in [Protocol::Group, Protocol::Stream, Protocol::Batch, Protocol::Unary] {
        on_a_shard(async |mut shard| {
            shard.open(1, vec![gateway.endpoint()], protocol);
            shard.gateways.finish(G, StreamNo(1));
            shard.opened(1).await;
            assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Finished), "{protocol:?}");
            shard.gateways.send(G, StreamNo(1), Bytes::from_static(b"late"));
            let late = shard.next_within(std::time::Duration::from_millis(50)).await;
            assert!(!matches!(late, Some((_, StreamFact::Taken(_) | StreamFact::Closed(_)))), "{late:?}");
        });
    }
}
