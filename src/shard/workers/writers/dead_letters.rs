//! The thread that writes dead letters: one, as letters are rare and their order is then the order they came in.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Kind, Writers};
use crate::model::limits::{LETTER_BYTES_A_BATCH, LETTER_BYTES_QUEUED, LETTERS_A_BATCH, LETTERS_QUEUED};
use crate::model::outcome::{EventOutcome, NotMoved};
use crate::ports::mailbox::FactSender;
use crate::ports::{DeadLetter, DeadLetterWriter, DeadLetters, Health, LookupError, Origin};
use crate::push::facts::{AskNo, Input};

/// What a letter weighs besides its payload.
const LETTER_HEAD_BYTES: usize = 512;

/// The reasons that have a counter of their own; letters of any other are counted under the last.
pub const LETTER_REASONS: &[&str] = &[
    EventOutcome::Undecodable.label(),
    EventOutcome::NoSessionId.label(),
    EventOutcome::LongSessionId.label(),
    EventOutcome::TooLarge.label(),
    EventOutcome::LookupFailed.label(),
    EventOutcome::NoMembers.label(),
    NotMoved::Unpartitionable.label(),
    NotMoved::NotTaken.label(),
    "inbox_conflict",
    "inbox_rejected",
    "other",
];

#[derive(Default)]
struct Counters {
    published: [AtomicU64; LETTER_REASONS.len()],
    rejected: AtomicU64,
}

struct DeadLetterKind {
    store: Arc<dyn DeadLetters>,
    /// Why the store would refuse each letter, by its last sign of life.
    refuses: Mutex<Option<String>>,
    counters: Counters,
}

impl Kind for DeadLetterKind {
    type Item = (DeadLetter, Origin);
    type Answer = ();
    type Writer = Box<dyn DeadLetterWriter>;
    const NAME: &'static str = "dead-letters";
    const QUEUED: (usize, usize) = (LETTERS_QUEUED, LETTER_BYTES_QUEUED);
    const BATCH: (usize, usize) = (LETTERS_A_BATCH, LETTER_BYTES_A_BATCH);

    fn open(&self) -> Box<dyn DeadLetterWriter> {
        self.store.open()
    }

    fn weight((letter, _): &Self::Item) -> usize {
        letter.payload.len() + letter.detail.len() + LETTER_HEAD_BYTES
    }

    fn write(writer: &mut Box<dyn DeadLetterWriter>, letters: &[Self::Item]) -> Vec<Result<(), LookupError>> {
        writer.write(letters)
    }

    fn ping(&self, writer: &mut Box<dyn DeadLetterWriter>) -> Result<(), LookupError> {
        let (answer, refuses) = match writer.ping() {
            Err(LookupError::Rejected(why)) => (Err(LookupError::Unavailable(why.clone())), Some(why)),
            answer => (answer, None),
        };
        *self.refuses.lock().unwrap_or_else(PoisonError::into_inner) = refuses;
        answer
    }

    fn count(&self, (letter, origin): &Self::Item, answer: &Result<(), LookupError>) {
        match answer {
            Ok(()) => {
                let known = LETTER_REASONS.iter().position(|reason| *reason == letter.reason);
                let at = known.unwrap_or(LETTER_REASONS.len() - 1);
                self.counters.published[at].fetch_add(1, Ordering::Relaxed);
            }
            Err(LookupError::Rejected(why)) => {
                self.counters.rejected.fetch_add(1, Ordering::Relaxed);
                let sequence = origin.stream_sequence;
                tracing::error!(letter.reason, sequence, "a dead letter was not taken: {why}");
            }
            Err(LookupError::NotReached(_) | LookupError::Unavailable(_)) => {}
        }
    }

    fn fact(ask: AskNo, answer: Result<(), LookupError>) -> Input {
        Input::LetterPublished { ask, answer }
    }
}

/// The shards' way to the dead letters; clones share its thread, which ends when the last clone is gone and all is
/// answered.
#[derive(Clone)]
pub struct DeadLetterThread(Writers<DeadLetterKind>);

impl DeadLetterThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(store: Arc<dyn DeadLetters>) -> io::Result<Self> {
        Writers::start(DeadLetterKind { store, refuses: Mutex::default(), counters: Counters::default() }, 1).map(Self)
    }

    /// Hands a letter to the thread; never blocks. The answer comes to `reply` as [`Input::LetterPublished`].
    ///
    /// # Errors
    /// Gives the ask's number back when the queue is full: nothing will come to `reply`; the caller tells the core
    /// that nobody was asked ([`Input::NotAsked`]).
    pub fn publish(&self, ask: AskNo, letter: DeadLetter, origin: Origin, reply: FactSender) -> Result<(), AskNo> {
        self.0.ask(ask, (letter, origin), reply)
    }

    /// How the store is. One that is away is [`Health::Degraded`]: events are taken without it, as it only matters to
    /// those few that cannot be pushed, and these wait for it. One that says it would refuse every letter is
    /// [`Health::Waiting`]: the first event that cannot be pushed would be lost.
    pub fn health(&self) -> Health {
        let refuses = self.0.common.kind.refuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(why) = refuses {
            return Health::Waiting(why);
        }
        match self.0.health() {
            Health::Waiting(why) => Health::Degraded(why),
            other => other,
        }
    }

    /// Letters that are kept, by a reason of [`LETTER_REASONS`].
    pub fn published(&self, reason: &str) -> u64 {
        let at = LETTER_REASONS.iter().position(|known| *known == reason);
        at.map_or(0, |at| self.0.common.kind.counters.published[at].load(Ordering::Relaxed))
    }

    /// Letters that the store refused for good: they are in the log only.
    pub fn rejected(&self) -> u64 {
        self.0.common.kind.counters.rejected.load(Ordering::Relaxed)
    }

    /// Answers given up because a shard took nothing for five seconds. Not zero means a shard stood still.
    pub fn dropped_answers(&self) -> u64 {
        self.0.dropped_answers()
    }

    /// Letters that wait for the thread now.
    pub fn queued(&self) -> usize {
        self.0.queued()
    }
}
