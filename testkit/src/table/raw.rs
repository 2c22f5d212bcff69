//! What the core wrote, byte for byte and frame by frame.

use prost::Message;

use super::Table;
use crate::frames;

impl Table {
    /// The bytes on a gateway's stream, or of its calls, since they were last taken; each frame with its head.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn take_bytes(&mut self, gateway: &str) -> Vec<u8> {
        let link = self.links.get_mut(gateway).expect("a stream");
        let calls = link.calls.iter().flat_map(|(_, request)| request.to_vec());
        std::mem::take(&mut link.requests).into_iter().chain(calls).collect()
    }

    /// The frames on a gateway's stream, as they are.
    pub fn take_frames<M: Message + Default>(&mut self, gateway: &str) -> Vec<M> {
        let Some(link) = self.links.get_mut(gateway) else { return Vec::new() };
        std::iter::from_fn(|| frames::next_frame(&mut link.requests)).collect()
    }
}
