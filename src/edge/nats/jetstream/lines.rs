//! Publishes, and beginnings and ends of subscriptions, that leave in one write.

use crate::edge::nats::protocol::{publish, publish_with_block, subscribe, unsubscribe};

/// What is to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Adds one. A subject that no server takes is left out: it can only be one that somebody else made up.
    pub(super) fn put(&mut self, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
        let before = self.0.len();
        if publish(&mut self.0, subject, reply, payload).is_err() {
            self.0.truncate(before);
        }
    }

    /// Begins a subscription.
    pub(super) fn subscribe(&mut self, subject: &str, sid: u64) {
        let before = self.0.len();
        if subscribe(&mut self.0, subject.as_bytes(), None, sid).is_err() {
            self.0.truncate(before);
        }
    }

    /// Adds one with a whole block of headers. As [`put`](Self::put).
    pub(super) fn put_with_block(&mut self, subject: &[u8], reply: &[u8], block: &[u8], payload: &[u8]) {
        let before = self.0.len();
        if publish_with_block(&mut self.0, subject, Some(reply), block, payload).is_err() {
            self.0.truncate(before);
        }
    }

    /// Ends one.
    pub(super) fn unsubscribe(&mut self, sid: u64) {
        unsubscribe(&mut self.0, sid, None);
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Moves all of it behind what is to be written already.
    pub(super) fn append_to(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn take_text(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.0)).expect("text")
    }
}
