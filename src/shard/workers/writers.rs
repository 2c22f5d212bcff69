//! The threads that write: rows into the inbox, letters into the dead letters. They take asks from the shards, write
//! what waits together, and put one answer an ask into the shards' mailboxes.
//!
//! Promises that asking never blocks, that the queue is bounded in asks and in what they weigh, that each ask taken
//! gets one answer (or is counted as dropped), that an answer `Ok` means durable, and that an outage of the store and
//! its end are noticed without traffic. Refuses to retry: when to ask again is the core's decision. A panic in a
//! writer ends the process (panic = abort) with the thread's name in the message.

mod content;
mod dead_letters;
mod inbox;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ports::mailbox::FactSender;
use crate::ports::{Health, LookupError};
use crate::push::facts::{AskNo, Input};
use crate::shard::workers::store_state::{ANSWER_DEADLINE, PING_AWAY, PING_IDLE, Reach, StoreState};
pub use content::ContentThread;
pub use dead_letters::{DeadLetterThread, LETTER_REASONS};
pub use inbox::InboxThreads;

/// What one kind of writer thread writes, how much at once, and what it tells.
trait Kind: Send + Sync + 'static {
    /// What an ask carries.
    type Item: Send + 'static;
    /// What its answer says.
    type Answer;
    /// One thread's way to the store.
    type Writer;
    /// In names of threads and log lines.
    const NAME: &'static str;
    /// Asks that may wait, and what they may weigh together.
    const QUEUED: (usize, usize);
    /// Asks written at once, and what they weigh together; one ask alone may weigh more.
    const BATCH: (usize, usize);

    fn open(&self) -> Self::Writer;
    /// Rows, or bytes.
    fn weight(item: &Self::Item) -> usize;
    fn write(writer: &mut Self::Writer, items: &[Self::Item]) -> Vec<Result<Self::Answer, LookupError>>;
    fn ping(&self, writer: &mut Self::Writer) -> Result<(), LookupError>;
    /// Counts an ask's end.
    fn count(&self, item: &Self::Item, answer: &Result<Self::Answer, LookupError>);
    fn count_batch(&self) {}
    fn fact(ask: AskNo, answer: Result<Self::Answer, LookupError>) -> Input;
}

struct Ask<I> {
    ask: AskNo,
    item: I,
    reply: FactSender,
}

struct Common<K> {
    kind: K,
    state: StoreState,
    /// What the asks in the queue weigh.
    waiting: AtomicUsize,
}

/// The asking side; its clones share the threads, which end when the last clone is gone and all asks are answered.
struct Writers<K: Kind> {
    asks: Sender<Ask<K::Item>>,
    common: Arc<Common<K>>,
}

impl<K: Kind> Clone for Writers<K> {
    fn clone(&self) -> Self {
        Self { asks: self.asks.clone(), common: self.common.clone() }
    }
}

impl<K: Kind> Writers<K> {
    fn start(kind: K, threads: usize) -> io::Result<Self> {
        let (asks, queue) = bounded(K::QUEUED.0);
        let common = Arc::new(Common { kind, state: StoreState::new(K::NAME), waiting: AtomicUsize::new(0) });
        for number in 0..threads.max(1) {
            let (queue, common) = (queue.clone(), common.clone());
            thread::Builder::new()
                .name(format!("{}-{number}", K::NAME))
                .spawn(move || serve(&mut common.kind.open(), &queue, &common))?;
        }
        Ok(Self { asks, common })
    }

    fn ask(&self, ask: AskNo, item: K::Item, reply: FactSender) -> Result<(), AskNo> {
        let weight = K::weight(&item);
        let waiting = &self.common.waiting;
        let before = waiting.fetch_add(weight, Ordering::AcqRel);
        // An ask that is too heavy for the bound by itself goes when nothing else waits.
        if before > 0 && before + weight > K::QUEUED.1 {
            waiting.fetch_sub(weight, Ordering::AcqRel);
            return Err(ask);
        }
        self.asks.try_send(Ask { ask, item, reply }).map_err(|refused| {
            waiting.fetch_sub(weight, Ordering::AcqRel);
            refused.into_inner().ask
        })
    }

    fn health(&self) -> Health {
        self.common.state.health()
    }

    fn dropped_answers(&self) -> u64 {
        self.common.state.dropped()
    }

    fn queued(&self) -> usize {
        self.asks.len()
    }
}

fn serve<K: Kind>(writer: &mut K::Writer, queue: &Receiver<Ask<K::Item>>, common: &Common<K>) {
    let mut reach = Reach::new(&common.state);
    let ping = |writer: &mut K::Writer, reach: &mut Reach<'_>| {
        let error = common.kind.ping(writer).err();
        reach.note([error.as_ref()]);
        common.state.note(error.as_ref())
    };
    let mut away = ping(writer, &mut reach);
    let (mut items, mut askers) = (Vec::new(), Vec::new());
    loop {
        reach.before_next(|| common.kind.ping(writer));
        match queue.recv_timeout(if away { PING_AWAY } else { PING_IDLE }) {
            Ok(first) => {
                take_batch(first, queue, common, &mut items, &mut askers);
                away = write_batch(writer, common, &mut reach, &mut items, &mut askers);
            }
            Err(RecvTimeoutError::Timeout) => away = ping(writer, &mut reach),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What waits besides the first, up to the bounds of a batch.
fn take_batch<K: Kind>(
    first: Ask<K::Item>,
    queue: &Receiver<Ask<K::Item>>,
    common: &Common<K>,
    items: &mut Vec<K::Item>,
    askers: &mut Vec<(AskNo, FactSender)>,
) {
    let mut weight = 0;
    let mut next = Some(first);
    while let Some(Ask { ask, item, reply }) = next {
        weight += K::weight(&item);
        items.push(item);
        askers.push((ask, reply));
        let has_room = items.len() < K::BATCH.0 && weight < K::BATCH.1;
        next = if has_room { queue.try_recv().ok() } else { None };
    }
    common.waiting.fetch_sub(weight, Ordering::AcqRel);
}

/// Writes and answers; true when the store is away.
fn write_batch<K: Kind>(
    writer: &mut K::Writer,
    common: &Common<K>,
    reach: &mut Reach<'_>,
    items: &mut Vec<K::Item>,
    askers: &mut Vec<(AskNo, FactSender)>,
) -> bool {
    let answers = checked::<K>(K::write(writer, items), items.len());
    common.kind.count_batch();
    reach.note(answers.iter().map(|answer| answer.as_ref().err()));
    // Before the answers: who has one must not read an older state.
    let is_away = common.state.note(said(&answers));
    for ((item, answer), (ask, reply)) in items.drain(..).zip(answers).zip(askers.drain(..)) {
        common.kind.count(&item, &answer);
        common.state.answer(&reply, K::fact(ask, answer), ANSWER_DEADLINE);
    }
    is_away
}

/// What a batch says of the store: it is there when any ask was done, unless the last one found it away.
fn said<A>(answers: &[Result<A, LookupError>]) -> Option<&LookupError> {
    let is_away = |error: &&LookupError| matches!(error, LookupError::NotReached(_) | LookupError::Unavailable(_));
    if answers.iter().any(Result::is_ok) {
        return answers.last().and_then(|answer| answer.as_ref().err()).filter(is_away);
    }
    let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
    errors().find(is_away).or_else(|| errors().next())
}

/// A custom writer that answers for another number of asks must not shift answers from one ask to the next.
fn checked<K: Kind>(answers: Vec<Result<K::Answer, LookupError>>, asked: usize) -> Vec<Result<K::Answer, LookupError>> {
    if answers.len() == asked {
        return answers;
    }
    let why = format!("{}: the store answered for {} elements and {asked} were asked", K::NAME, answers.len());
    (0..asked).map(|_| Err(LookupError::Unavailable(why.clone()))).collect()
}

#[cfg(test)]
mod tests;
