//! The threads that write the inbox.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, Writers};
use crate::model::limits::{INBOX_ASKS_QUEUED, INBOX_BATCH_ROWS, INBOX_ROWS_QUEUED};
use crate::model::names::NameList;
use crate::ports::mailbox::FactSender;
use crate::ports::{Health, Inbox, InboxRows, InboxWriter, LookupError};
use crate::push::facts::{AskNo, Input};

#[derive(Default)]
struct Counters {
    rows: AtomicU64,
    conflicts: AtomicU64,
    rejected: AtomicU64,
    batches: AtomicU64,
}

struct InboxKind {
    inbox: Arc<dyn Inbox>,
    counters: Counters,
}

impl Kind for InboxKind {
    type Item = InboxRows;
    type Answer = NameList;
    type Writer = Box<dyn InboxWriter>;
    const NAME: &'static str = "inbox";
    const QUEUED: (usize, usize) = (INBOX_ASKS_QUEUED, INBOX_ROWS_QUEUED);
    const BATCH: (usize, usize) = (INBOX_BATCH_ROWS, INBOX_BATCH_ROWS);

    fn open(&self) -> Box<dyn InboxWriter> {
        self.inbox.open()
    }

    fn weight(rows: &InboxRows) -> usize {
        rows.users.len()
    }

    fn write(writer: &mut Box<dyn InboxWriter>, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>> {
        writer.store(batch)
    }

    fn ping(&self, writer: &mut Box<dyn InboxWriter>) -> Result<(), LookupError> {
        writer.ping()
    }

    fn count(&self, rows: &InboxRows, answer: &Result<NameList, LookupError>) {
        let users = rows.users.len() as u64;
        match answer {
            Ok(conflicts) => {
                let conflicts = conflicts.len() as u64;
                self.counters.rows.fetch_add(users.saturating_sub(conflicts), Ordering::Relaxed);
                self.counters.conflicts.fetch_add(conflicts, Ordering::Relaxed);
            }
            Err(LookupError::Rejected(_)) => {
                self.counters.rejected.fetch_add(users, Ordering::Relaxed);
            }
            Err(LookupError::NotReached(_) | LookupError::Unavailable(_)) => {}
        }
    }

    fn count_batch(&self) {
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn fact(ask: AskNo, answer: Result<NameList, LookupError>) -> Input {
        Input::Stored { ask, answer }
    }
}

/// The shards' way to the inbox; clones share its threads, which end when the last clone is gone and all is answered.
#[derive(Clone)]
pub struct InboxThreads(Writers<InboxKind>);

impl InboxThreads {
    /// Starts `threads` threads (at least one), each with a writer of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(inbox: Arc<dyn Inbox>, threads: usize) -> io::Result<Self> {
        Writers::start(InboxKind { inbox, counters: Counters::default() }, threads).map(Self)
    }

    /// Hands rows to the threads; never blocks. The answer comes to `reply` as [`Input::Stored`].
    ///
    /// # Errors
    /// Gives the ask's number back when the queue is full: nothing will come to `reply`; the caller tells the core
    /// that nobody was asked ([`Input::NotAsked`]).
    pub fn store(&self, ask: AskNo, rows: InboxRows, reply: FactSender) -> Result<(), AskNo> {
        self.0.ask(ask, rows, reply)
    }

    /// What the latest write or ping of any thread said of the store; waiting until the first.
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Rows that are committed, those that were there already included.
    pub fn rows_stored(&self) -> u64 {
        self.0.common.kind.counters.rows.load(Ordering::Relaxed)
    }

    /// Rows not stored because another message, or another user's name as the table compares names, holds their place.
    pub fn conflicts(&self) -> u64 {
        self.0.common.kind.counters.conflicts.load(Ordering::Relaxed)
    }

    /// Rows of asks that the store answered with an error; asked again they count again.
    pub fn rows_rejected(&self) -> u64 {
        self.0.common.kind.counters.rejected.load(Ordering::Relaxed)
    }

    /// Batches written, those that failed included.
    pub fn batches(&self) -> u64 {
        self.0.common.kind.counters.batches.load(Ordering::Relaxed)
    }

    /// Answers given up because a shard took nothing for five seconds. Not zero means a shard stood still.
    pub fn dropped_answers(&self) -> u64 {
        self.0.dropped_answers()
    }

    /// Asks that wait for a free thread now.
    pub fn queued(&self) -> usize {
        self.0.queued()
    }
}
