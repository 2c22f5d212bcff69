//! The thread that looks for contents: beside those that write rows, so that a look-up does not wait for a commit.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Kind, Writers};
use crate::model::limits::{CONTENT_ASKS_IN_FLIGHT, CONTENT_QUERY_MESSAGES};
use crate::ports::mailbox::FactSender;
use crate::ports::{ContentReader, Health, Inbox, LookupError, MessageKey};
use crate::push::facts::{AskNo, Input};

/// Shards whose asks fit the queue at once; one more finds it full and asks again.
const SHARDS_QUEUED: usize = 16;

struct ContentKind {
    /// Taken by the thread.
    reader: Mutex<Option<Box<dyn ContentReader>>>,
}

impl Kind for ContentKind {
    type Item = MessageKey;
    type Answer = bool;
    type Writer = Option<Box<dyn ContentReader>>;
    const NAME: &'static str = "content";
    const QUEUED: (usize, usize) = (CONTENT_ASKS_IN_FLIGHT * SHARDS_QUEUED, CONTENT_ASKS_IN_FLIGHT * SHARDS_QUEUED);
    const BATCH: (usize, usize) = (CONTENT_QUERY_MESSAGES, CONTENT_QUERY_MESSAGES);

    fn open(&self) -> Self::Writer {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn weight(_: &MessageKey) -> usize {
        1
    }

    fn write(reader: &mut Self::Writer, messages: &[MessageKey]) -> Vec<Result<bool, LookupError>> {
        reader.as_mut().map_or_else(|| messages.iter().map(|_| Ok(false)).collect(), |reader| reader.are_kept(messages))
    }

    fn ping(&self, reader: &mut Self::Writer) -> Result<(), LookupError> {
        reader.as_mut().map_or(Ok(()), |reader| reader.ping())
    }

    fn count(&self, _: &MessageKey, _: &Result<bool, LookupError>) {}

    fn fact(ask: AskNo, answer: Result<bool, LookupError>) -> Input {
        Input::ContentFound { ask, answer }
    }
}

/// The shards' way to the contents; clones share its thread, which ends when the last clone is gone and all is answered.
#[derive(Clone)]
pub struct ContentThread(Writers<ContentKind>);

impl ContentThread {
    /// Starts it; none for an inbox that reads no contents.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(inbox: &Arc<dyn Inbox>) -> io::Result<Option<Self>> {
        let Some(reader) = inbox.open_contents() else { return Ok(None) };
        Writers::start(ContentKind { reader: Mutex::new(Some(reader)) }, 1).map(|writers| Some(Self(writers)))
    }

    /// Hands a message to the thread; never blocks. The answer comes to `reply` as [`Input::ContentFound`].
    ///
    /// # Errors
    /// Gives the ask's number back when the queue is full: nothing will come to `reply`; the caller tells the core
    /// that nobody was asked ([`Input::NotAsked`]).
    pub fn find(&self, ask: AskNo, message: MessageKey, reply: FactSender) -> Result<(), AskNo> {
        self.0.ask(ask, message, reply)
    }

    /// What the latest look-up or ping said of the store; waiting until the first.
    pub fn health(&self) -> Health {
        self.0.health()
    }
}
