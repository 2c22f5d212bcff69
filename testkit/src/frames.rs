//! gRPC frames as a gateway reads and writes them, by prost: nothing of the engine's own reader is used here.

use std::num::NonZeroU32;

use harness::gateways::KeptGroups;
use prost::Message;
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{GroupFrame, GroupPush, PushRequest};
use task_engine::ports::{Protocol, Protocols};

/// One message as a gRPC frame.
pub fn frame(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Takes the first whole frame out of `bytes`.
///
/// # Panics
/// When it is not an uncompressed frame with a message of this type: the engine wrote it wrong.
pub fn next_frame<M: Message + Default>(bytes: &mut Vec<u8>) -> Option<M> {
    let (head, rest) = bytes.split_at_checked(5)?;
    assert_eq!(head[0], 0, "a frame of the engine is not marked as compressed");
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    assert!(length <= 4 << 20, "a frame of the engine is within the gateway's message limit");
    let message = M::decode(rest.get(..length)?).expect("the engine writes valid protobuf");
    bytes.drain(..5 + length);
    Some(message)
}

/// The pushes of a frame of protocol `group`, by names, to a gateway that forgets no list.
pub fn pushes_of(frame: GroupFrame, groups: &mut KeptGroups) -> Vec<PushRequest> {
    let are_right = frame.changes.into_iter().all(|change| groups.change(change));
    assert!(are_right, "changes of lists are as the protocol has them");
    let by_names = |push: GroupPush| {
        let users = groups.users(push.group_id, push.version).expect("a list that was said");
        let told = (0..).zip(users).filter(|(place, _)| !push.except.contains(place));
        let to_usernames = told.map(|(_, user)| user.clone()).collect();
        let Some(What::Message(message)) = push.what else { panic!("a push has a message") };
        PushRequest { to_usernames, message: Some(message) }
    };
    frame.pushes.into_iter().map(by_names).chain(frame.singles).collect()
}

/// A gateway speaks just this.
pub fn only(protocol: Protocol) -> Protocols {
    Protocols {
        group: (protocol == Protocol::Group).then_some(NonZeroU32::MAX),
        batch: protocol == Protocol::Batch,
        stream_many: protocol == Protocol::StreamMany,
        stream: matches!(protocol, Protocol::Stream | Protocol::StreamMany),
        unary: protocol == Protocol::Unary,
        notice: false,
    }
}
