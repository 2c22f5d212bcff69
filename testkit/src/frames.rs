//! gRPC frames as a gateway reads and writes them, by prost: nothing of the engine's own reader is used here.

use prost::Message;

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
