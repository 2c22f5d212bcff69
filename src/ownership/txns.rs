//! Transactions under way: several partitions in one, asked again until what became of each is known.
//!
//! A transaction without an answer may take effect at any later time. So it is sent again as it was, with the same nonce, until etcd
//! says what became of it; and who finds its own nonce in the record knows that it took effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::view::View;
use crate::model::backoff::Backoff;
use crate::model::ids::Partition;
use crate::model::ownership::Boottime;
use crate::ownership::facts::{AskNo, Commit, Compare, Rejection, Txn, Write};
use crate::ownership::keys::{Key, KeyState, Revision};
use crate::ownership::records::Nonce;

/// Partitions in one transaction: etcd takes 128 compares and 128 writes.
const PARTS_MAX: usize = 32;
/// The edge's own time limit is shorter; this is for one that forgets.
const ANSWER_TIME: Duration = Duration::from_secs(6);
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// What a part of a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Make `layout`.
    Layout,
    /// T0: become a member.
    Join,
    /// Change what the member says of itself.
    Member,
    /// Write the plan.
    Plan,
    /// T1: take a free partition.
    Claim(Partition),
    /// T3: the next generation.
    Fence(Partition),
    /// After the older generations are deleted.
    Tidy(Partition),
    /// T4: take back what our lost lease held.
    TakeBack(Partition),
    /// T2: hand over.
    Transfer(Partition),
    /// T2': give back.
    Release(Partition),
}

impl Purpose {
    /// The partition that it is about.
    pub fn partition(self) -> Option<Partition> {
        match self {
            Self::Layout | Self::Join | Self::Member | Self::Plan => None,
            Self::Claim(partition)
            | Self::Fence(partition)
            | Self::Tidy(partition)
            | Self::TakeBack(partition)
            | Self::Transfer(partition)
            | Self::Release(partition) => Some(partition),
        }
    }

    /// Parts of one kind go into one transaction.
    fn kind(self) -> u8 {
        match self {
            Self::Layout => 0,
            Self::Join => 1,
            Self::Member => 2,
            Self::Plan => 3,
            Self::Claim(_) => 4,
            Self::Fence(_) => 5,
            Self::Tidy(_) => 6,
            Self::TakeBack(_) => 7,
            Self::Transfer(_) => 8,
            Self::Release(_) => 9,
        }
    }
}

/// What is written together and for one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What for.
    pub purpose: Purpose,
    /// Unique; also in the nonce.
    pub number: u64,
    /// In each value that is written.
    pub by: Nonce,
    /// The written key whose nonce tells that it took effect.
    pub mark: Key,
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is written.
    pub writes: Vec<Write>,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It took effect.
    Applied,
    /// It did not and will not; the view has what was found instead.
    Refused,
    /// etcd did not do it and says why.
    Rejected(Rejection),
}

struct Batch {
    parts: Vec<Part>,
    sent: Boottime,
    /// The highest revision that was heard of then.
    known: Revision,
    failures: u32,
}

/// See the module.
#[derive(Default)]
pub struct Txns {
    queue: Vec<Part>,
    later: Vec<(Boottime, Batch)>,
    flying: BTreeMap<AskNo, Batch>,
    /// The numbers of the parts whose end is not known.
    open: BTreeSet<u64>,
    /// Answers by kind: applied, refused, rejected, unknown.
    pub results: [u64; 4],
}

impl Txns {
    /// Asks for a part; sent by the next [`Self::flush`].
    pub fn push(&mut self, part: Part) {
        self.open.insert(part.number);
        self.queue.push(part);
    }

    /// Whether anything is to be sent or waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The part was found done in the record before its answer came.
    pub fn is_done(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Sends what is queued and what is to be sent again.
    pub fn flush(&mut self, now: Boottime, known: Revision, mut number: impl FnMut() -> AskNo) -> Vec<(AskNo, Txn)> {
        let late: Vec<AskNo> =
            self.flying.iter().filter(|(_, batch)| now.since(batch.sent) > ANSWER_TIME).map(|(ask, _)| *ask).collect();
        for ask in late {
            self.answered(now, ask, Commit::Unknown, &mut View::default());
        }
        let mut sent = Vec::new();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let again: Vec<(Boottime, Batch)> = due;
        let mut batches: Vec<Batch> = again.into_iter().map(|(_, batch)| batch).collect();
        let mut queue = std::mem::take(&mut self.queue);
        queue.sort_by_key(|part| part.purpose.kind());
        for group in queue.chunk_by(|one, other| one.purpose.kind() == other.purpose.kind()) {
            batches.extend(group.chunks(PARTS_MAX).map(|parts| Batch {
                parts: parts.to_vec(),
                sent: now,
                known: 0,
                failures: 0,
            }));
        }
        for mut batch in batches {
            batch.parts.retain(|part| self.open.contains(&part.number));
            if !batch.parts.is_empty() {
                let ask = number();
                (batch.sent, batch.known) = (now, known);
                sent.push((ask, txn_of(&batch.parts)));
                self.flying.insert(ask, batch);
            }
        }
        sent
    }

    /// When [`Self::flush`] has something to do.
    pub fn wake_at(&self) -> Option<Boottime> {
        let late = self.flying.values().map(|batch| batch.sent.after(ANSWER_TIME));
        let queued = (!self.queue.is_empty()).then_some(Boottime::NEVER);
        self.later.iter().map(|(at, _)| *at).chain(late).chain(queued).min()
    }

    /// Whether an answer has a lower revision than was heard of when it was asked for.
    pub fn is_of_another_etcd(&self, ask: AskNo, answer: &Commit) -> bool {
        let (Commit::Applied { revision } | Commit::Refused { revision, .. }) = answer else { return false };
        self.flying.get(&ask).is_some_and(|batch| *revision < batch.known)
    }

    /// Takes in an answer; what became of each part, as far as it is known, and the keys that are news.
    pub fn answered(
        &mut self,
        now: Boottime,
        ask: AskNo,
        answer: Commit,
        view: &mut View,
    ) -> (Vec<(Part, End)>, Vec<Key>) {
        let Some(mut batch) = self.flying.remove(&ask) else { return Default::default() };
        self.results[match answer {
            Commit::Applied { .. } => 0,
            Commit::Refused { .. } => 1,
            Commit::Rejected(_) => 2,
            Commit::Unknown => 3,
        }] += 1;
        let (mut ends, mut news) = (Vec::new(), Vec::new());
        match answer {
            Commit::Applied { revision } => {
                news = view.wrote(revision, &txn_of(&batch.parts));
                let parts = batch.parts.into_iter().filter(|part| self.open.remove(&part.number));
                ends.extend(parts.map(|part| (part, End::Applied)));
            }
            Commit::Refused { revision, found } => {
                news.extend(found.iter().filter(|state| view.learn(revision, state)).map(|state| state.key.clone()));
                let mut again = Vec::new();
                for part in batch.parts {
                    match judge(&part, &found) {
                        None => again.push(part),
                        Some(end) if self.open.remove(&part.number) => ends.push((part, end)),
                        Some(_) => {}
                    }
                }
                // Others were in the way: the rest goes on without them.
                let wait = if ends.is_empty() { RETRY.after(batch.failures + 1) } else { Duration::ZERO };
                let failures = if ends.is_empty() { batch.failures + 1 } else { 0 };
                self.later.push((now.after(wait), Batch { parts: again, sent: now, known: 0, failures }));
            }
            Commit::Rejected(_) if batch.parts.len() > 1 => {
                let rest = batch.parts.split_off(batch.parts.len() / 2);
                let failures = batch.failures;
                self.later.push((now, Batch { parts: rest, sent: now, known: 0, failures }));
                self.later.push((now, batch));
            }
            Commit::Rejected(why) => {
                let parts = batch.parts.into_iter().filter(|part| self.open.remove(&part.number));
                ends.extend(parts.map(|part| (part, End::Rejected(why.clone()))));
            }
            Commit::Unknown => {
                batch.failures += 1;
                self.later.push((now.after(RETRY.after(batch.failures)), batch));
            }
        }
        (ends, news)
    }
}

/// What became of one part of a transaction that was refused; `None`: its own compares hold, another part's did not.
fn judge(part: &Part, found: &[KeyState]) -> Option<End> {
    let state = |key: &Key| found.iter().find(|state| state.key == *key);
    #[derive(serde::Deserialize)]
    struct By {
        by: Nonce,
    }
    let mark = state(&part.mark).filter(|state| {
        let by = state.value.as_deref().and_then(|value| serde_json::from_slice::<By>(value).ok());
        by.is_some_and(|found| found.by == part.by)
    });
    if mark.is_some() {
        return Some(End::Applied);
    }
    let holds = |compare: &Compare| state(&compare.key).is_none_or(|state| compare.is.holds(state));
    (!part.compares.iter().all(holds)).then_some(End::Refused)
}

fn txn_of(parts: &[Part]) -> Txn {
    let mut txn = Txn::default();
    for part in parts {
        for compare in &part.compares {
            if !txn.compares.contains(compare) {
                txn.compares.push(compare.clone());
            }
        }
        txn.writes.extend(part.writes.iter().cloned());
    }
    txn
}

#[cfg(test)]
#[path = "txns_tests.rs"]
mod tests;
