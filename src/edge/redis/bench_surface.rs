//! The reply parser without its connection, for `benches/routes.rs` only: no promise to anyone else.

use std::time::{Duration, Instant};

use super::Config;
use super::replies::{Expected, Replies};
use super::resp::Reader;
use crate::ports::RouteQueue;
use crate::push::facts::AskNo;

/// Reads replies to MGETs as a connection does.
pub struct ReplyParser {
    reader: Reader,
    replies: Replies,
    config: Config,
    port: RouteQueue,
}

impl ReplyParser {
    /// A parser that answers to this port.
    pub fn new(port: RouteQueue) -> Self {
        Self { reader: Reader::new(), replies: Replies::new(), config: Config::default(), port }
    }

    /// An MGET of so many users was sent.
    pub fn expect(&mut self, ask: AskNo, users: u64) {
        self.replies.expect(Instant::now() + Duration::from_secs(3600), Expected::Routes { ask, users, first: None });
    }

    /// These bytes came; they are copied as the kernel would, into the connection's buffer. False when they are no
    /// reply to what was sent.
    #[must_use]
    pub fn read(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let room = self.reader.room();
            let part = room.len().min(bytes.len());
            room[..part].copy_from_slice(&bytes[..part]);
            self.reader.filled(part);
            bytes = &bytes[part..];
            if self.replies.drain(&mut self.reader, &self.config, &self.port).is_err() {
                return false;
            }
        }
        true
    }
}
