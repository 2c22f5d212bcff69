//! Questions and requests to NATS about consumers: many under way at once, each asked again until it is answered or nobody wants it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::slot::{Phase, Slot};
use crate::model::backoff::Backoff;
use crate::model::ids::Partition;
use crate::model::ownership::Boottime;
use crate::ownership::facts::{Ask, AskNo};

/// Under way at once: 64 of one kind took 1.1 s pipelined on three servers, and 27 s one by one.
const FLYING_MAX: usize = 128;
/// The edge's own time limit is shorter; this is for one that forgets.
const ANSWER_TIME: Duration = Duration::from_secs(8);
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// See the module.
#[derive(Default)]
pub struct Asks {
    /// All that are wanted, with the failures so far.
    wanted: BTreeMap<Ask, u32>,
    ready: VecDeque<Ask>,
    later: BTreeSet<(Boottime, Ask)>,
    flying: BTreeMap<AskNo, (Ask, Boottime)>,
}

impl Asks {
    /// Asks, unless it is asked already.
    pub fn want(&mut self, ask: Ask) {
        if self.wanted.insert(ask, 0).is_none() {
            self.ready.push_back(ask);
        }
    }

    /// What is sent now. What nobody wants any more is forgotten: above all, a generation that was given up is never made.
    pub fn flush(
        &mut self,
        now: Boottime,
        is_wanted: impl Fn(Ask) -> bool,
        mut number: impl FnMut() -> AskNo,
    ) -> Vec<(AskNo, Ask)> {
        let late: Vec<AskNo> =
            self.flying.iter().filter(|(_, (_, sent))| now.since(*sent) > ANSWER_TIME).map(|(no, _)| *no).collect();
        for ask in late {
            self.failed(now, ask);
        }
        while let Some((at, ask)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, ask));
            self.ready.push_back(ask);
        }
        let mut sent = Vec::new();
        while self.flying.len() < FLYING_MAX
            && let Some(ask) = self.ready.pop_front()
        {
            if !is_wanted(ask) {
                self.wanted.remove(&ask);
                continue;
            }
            let no = number();
            self.flying.insert(no, (ask, now));
            sent.push((no, ask));
        }
        sent
    }

    /// When [`Self::flush`] has something to do.
    pub fn wake_at(&self) -> Option<Boottime> {
        let late = self.flying.values().map(|(_, sent)| sent.after(ANSWER_TIME)).min();
        let ready = (!self.ready.is_empty() && self.flying.len() < FLYING_MAX).then_some(Boottime::NEVER);
        late.into_iter().chain(self.later.first().map(|(at, _)| *at)).chain(ready).min()
    }

    /// An answer came; to what, unless it comes too late.
    pub fn answered(&mut self, ask: AskNo) -> Option<Ask> {
        let (what, _) = self.flying.remove(&ask)?;
        self.wanted.remove(&what);
        Some(what)
    }

    /// What was asked, of an ask that is under way.
    pub fn what(&self, ask: AskNo) -> Option<Ask> {
        self.flying.get(&ask).map(|(what, _)| *what)
    }

    /// It was not answered, or refused: asked again later. Gives how often it failed.
    pub fn failed(&mut self, now: Boottime, ask: AskNo) -> u32 {
        let Some((what, _)) = self.flying.remove(&ask) else { return 0 };
        let failures = self.wanted.entry(what).or_default();
        *failures += 1;
        self.later.insert((now.after(RETRY.after(*failures)), what));
        *failures
    }

    /// Nobody wants it any more.
    pub fn forget(&mut self, ask: AskNo) {
        if let Some((what, _)) = self.flying.remove(&ask) {
            self.wanted.remove(&what);
        }
    }
}

/// Whether an answer would still be of use.
pub(super) fn wants(mine: &BTreeSet<Partition>, slots: &[Slot], what: Ask) -> bool {
    let phase = |partition: Partition| slots.get(partition.0 as usize).map(|slot| &slot.phase);
    match what {
        Ask::Names => {
            let is_asking = |at: &Partition| {
                let slot = &slots[at.0 as usize];
                matches!(slot.phase, Phase::Looking(..)) || slot.recheck.is_some()
            };
            mine.iter().any(is_asking)
        }
        Ask::Info(partition, _) => phase(partition).is_some_and(|phase| *phase != Phase::Absent),
        Ask::ReadSettled(partition, _) => matches!(phase(partition), Some(Phase::Fencing(_))),
        Ask::Create(partition, generation, _) => {
            let slot = slots.get(partition.0 as usize);
            slot.is_some_and(|slot| matches!(slot.phase, Phase::Making(_)) && slot.epoch.generation() == generation)
        }
        Ask::Delete(partition, generation) => match phase(partition) {
            Some(Phase::Making(making)) => making.deletes.contains(&generation),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Partition;
    use crate::model::ownership::Generation;

    #[test]
    fn one_that_fails_is_asked_again_later_and_once_at_a_time() {
        let (mut asks, mut next) = (Asks::default(), 0);
        let mut number = || {
            next += 1;
            AskNo(next)
        };
        let ask = Ask::Info(Partition(3), Generation(1));
        let now = Boottime(5);
        asks.want(ask);
        asks.want(ask);
        assert_eq!(asks.flush(now, |_| true, &mut number), [(AskNo(1), ask)]);
        asks.failed(now, AskNo(1));
        assert!(asks.flush(now, |_| true, &mut number).is_empty());
        let then = asks.wake_at().unwrap();
        assert_eq!(then.since(now), RETRY.first);
        assert_eq!(asks.flush(then, |_| true, &mut number), [(AskNo(2), ask)]);
        assert_eq!(asks.answered(AskNo(1)), None, "too late");
        assert_eq!(asks.answered(AskNo(2)), Some(ask));
        assert_eq!(asks.wake_at(), None);
    }

    #[test]
    fn only_so_many_are_under_way() {
        let (mut asks, mut next) = (Asks::default(), 0);
        (0..1_000).for_each(|at| asks.want(Ask::Delete(Partition(at), Generation(0))));
        let sent = asks.flush(
            Boottime(1),
            |_| true,
            || {
                next += 1;
                AskNo(next)
            },
        );
        assert_eq!(sent.len(), FLYING_MAX);
        assert_eq!(asks.wake_at(), Some(Boottime(1).after(ANSWER_TIME)));
    }
}
