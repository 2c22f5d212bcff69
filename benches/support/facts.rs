//! Facts to feed the stages with: events, names, groups, bundles, and a gateway's answers, all made outside the time.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::{GatewayIx, Nanos, SessionIx, ShardId, UserIx};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::protobuf::{Fields, GRPC_HEAD_BYTES, Value, grpc_frame, put_grpc_head, put_varint, varint_len};
use task_engine::ports::{Endpoint, GatewayRecord, Protocol, Protocols};
use task_engine::push::bundle::{Bundle, EventIx, Group, SKIP_NONE};

/// Bytes of an event's content.
pub const CONTENT_BYTES: usize = 128;

/// Where msg_ids begin: as long on the wire as a snowflake id.
pub const FIRST_MSG_ID: i64 = 7_500_000_000_000_000_000;

/// A session's id.
pub fn session_name(session: usize) -> String {
    format!("group:{session:06}")
}

/// A user's name: as long as the harness's and most real ones.
pub fn user_name(user: usize) -> String {
    format!("user-{user:08}")
}

/// A gateway's id.
pub fn gateway_name(gateway: usize) -> String {
    format!("gateway-service-{gateway:03}")
}

/// An event as publishers write it.
pub fn event(session: usize, from: &str, msg_id: i64) -> Bytes {
    let event = PushEvent {
        msg_id,
        seq_id: msg_id,
        session_id: session_name(session),
        from_username: from.to_owned(),
        to_username: session_name(session),
        content: "x".repeat(CONTENT_BYTES),
        r#type: "text".to_owned(),
        timestamp: 1_700_000_000,
        ..PushEvent::default()
    };
    event.encode_to_vec().into()
}

/// A gateway of the registry that speaks just this.
pub fn record(gateway: usize, protocol: Protocol) -> GatewayRecord {
    GatewayRecord {
        gateway_id: gateway_name(gateway).into(),
        endpoints: vec![Endpoint { host: "192.0.2.1".to_owned(), port: 9000, secure: false }],
        protocols: Protocols {
            group: (protocol == Protocol::Group).then_some(std::num::NonZeroU32::MAX),
            batch: protocol == Protocol::Batch,
            stream_many: protocol == Protocol::StreamMany,
            stream: protocol == Protocol::Stream,
            unary: protocol == Protocol::Unary,
            notice: false,
        },
        others: Vec::new(),
    }
}

/// A group of so many users on one gateway.
pub fn group(users: usize) -> Arc<Group> {
    let mut wire = Vec::new();
    for user in 0..users {
        let name = user_name(user);
        wire.extend([1 << 3 | 2, name.len() as u8]);
        wire.extend_from_slice(name.as_bytes());
    }
    let places = (0..users as u32).map(UserIx).collect();
    Arc::new(Group::new(gateway_name(0).into(), GatewayIx(0), 0, places, wire.into()))
}

/// A bundle of shard 0 for a group.
pub fn bundle(group: &Arc<Group>, msg_id: i64, message: &Bytes, made_at: Nanos) -> Bundle {
    Bundle {
        home: ShardId(0),
        event: EventIx(0),
        session: SessionIx(0),
        msg_id,
        message: message.clone(),
        group: group.clone(),
        skip: SKIP_NONE,
        attempt: 0,
        fences_before: 0,
        class: task_engine::model::priority::Priority::Normal,
        age_millis: 0,
        is_reserved: false,
        notice: 0,
        made_at,
    }
}

/// What a gateway that delivers everything answers to a chunk of frames, and to how many recipients they were; a group has so many users.
///
/// # Panics
/// When the chunk is not whole frames of the protocol: the engine wrote it wrong.
pub fn answers_to(chunk: &Bytes, protocol: Protocol, users: usize) -> (Bytes, u64) {
    let (mut answers, mut recipients) = (Vec::new(), 0);
    let mut rest = &chunk[..];
    while let Some(frame) = grpc_frame(rest, usize::MAX).expect("a frame of the engine") {
        recipients += match protocol {
            Protocol::Stream => answer_stream(frame, &mut answers),
            Protocol::Batch => answer_batch(frame, &mut answers),
            Protocol::Group => answer_group(frame, &mut answers, users),
            Protocol::Unary | Protocol::StreamMany => unreachable!("no bench speaks {protocol:?}"),
        };
        rest = &rest[GRPC_HEAD_BYTES + frame.len()..];
    }
    assert!(rest.is_empty(), "a chunk is whole frames");
    (answers.into(), recipients)
}

/// PushMessageResponse { msg_id } to PushMessageRequest { to_username, message }.
fn answer_stream(request: &[u8], answers: &mut Vec<u8>) -> u64 {
    let message = bytes_of(request, 2).next().expect("a request has a message");
    let msg_id = varint_of(message, 1);
    put_id_frame(answers, msg_id);
    bytes_of(request, 1).count() as u64
}

/// PushBatchResponse { batch_id } to PushBatchRequest { batch_id, pushes }.
fn answer_batch(request: &[u8], answers: &mut Vec<u8>) -> u64 {
    put_id_frame(answers, varint_of(request, 1));
    bytes_of(request, 2).map(|push| bytes_of(push, 1).count() as u64).sum()
}

/// GroupAnswer { frame_id } to GroupFrame { frame_id, changes, pushes, singles }; each push goes to the bench's one group.
fn answer_group(request: &[u8], answers: &mut Vec<u8>, users: usize) -> u64 {
    put_id_frame(answers, varint_of(request, 1));
    let singles: u64 = bytes_of(request, 4).map(|push| bytes_of(push, 1).count() as u64).sum();
    singles + (bytes_of(request, 3).count() * users) as u64
}

fn put_id_frame(answers: &mut Vec<u8>, id: u64) {
    put_grpc_head(answers, 1 + varint_len(id));
    answers.push(1 << 3);
    put_varint(answers, id);
}

fn bytes_of(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    let mut fields = Fields::new(message);
    std::iter::from_fn(move || fields.next_field().expect("valid protobuf")).filter_map(move |field| {
        match field.value {
            Value::Bytes(bytes) if field.number == number => Some(bytes),
            _ => None,
        }
    })
}

fn varint_of(message: &[u8], number: u32) -> u64 {
    let mut fields = Fields::new(message);
    std::iter::from_fn(move || fields.next_field().expect("valid protobuf"))
        .find_map(|field| match field.value {
            Value::Varint(value) if field.number == number => Some(value),
            _ => None,
        })
        .expect("a field that every message has")
}
