//! What is asked about contents: in a large session a message whose content is kept costs no rows.
//!
//! Promises that an event waits for its rows, and for nothing else, once its content is known to be missing, or once the
//! look-up of it failed and those of others, or rows, succeeded meanwhile: then it gets rows as in a small session. Promises that
//! look-ups which all fail cost time and nothing else, whatever the store says, and that one at a time is tried then.
//! Refuses to let a look-up that succeeded count for the inbox: a store that can only be read takes no row.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::ids::Nanos;
use crate::model::limits::{CONTENT_ASKS_IN_FLIGHT, QUEUE_FULL_PAUSE, STORE_AWAY_PAUSE};
use crate::push::bundle::EventIx;
use crate::push::evidence::{Blame, Evidence, Known};
use crate::push::facts::AskNo;
use crate::push::urgent_first::UrgentFirst;

/// An event whose content is looked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::push) struct Sought {
    /// The event, and its place in the order of arrivals: it may end before the answer.
    pub(in crate::push) event: (EventIx, u64),
    /// When the look-up failed last.
    failed: Option<Nanos>,
}

/// A look-up at the store.
#[derive(Debug)]
struct Asked {
    sought: Sought,
    sent_at: Nanos,
    /// What was known against it then.
    known: Known,
}

/// The look-ups of contents.
#[derive(Debug, Default)]
pub struct ContentAsks {
    wanted: UrgentFirst<Sought>,
    /// They wait for a sign of life of the store.
    failed: VecDeque<Sought>,
    asked: HashMap<AskNo, Asked>,
    evidence: Evidence,
    /// The one that is asked while the store is away, and whether it was one that had failed.
    trial: Option<AskNo>,
    was_failed: bool,
    away_until: Nanos,
    pause: Duration,
    /// Nothing is asked until then: the queue before the store's threads was full.
    full_until: Nanos,
    next_no: AskNo,
}

impl ContentAsks {
    /// The content of an event is to be looked for.
    pub(in crate::push) fn want(&mut self, event: (EventIx, u64), is_urgent: bool) {
        self.wanted.push_back(Sought { event, failed: None }, is_urgent);
    }

    /// Whether all that was asked since a look-up failed has failed, as far as it is known.
    pub(in crate::push) fn is_away(&self) -> bool {
        self.evidence.is_away()
    }

    /// Whether nothing failed that is asked again.
    pub(in crate::push) fn is_at_rest(&self) -> bool {
        self.wanted.is_empty() && self.failed.is_empty()
    }

    /// The events that are asked about now.
    pub(in crate::push) fn at_store(&self) -> impl Iterator<Item = EventIx> {
        self.asked.values().map(|asked| asked.sought.event.0)
    }

    /// Nothing is asked any more about these events.
    pub(in crate::push) fn forget(&mut self, events: &HashSet<EventIx>) {
        self.wanted.retain(|sought| !events.contains(&sought.event.0));
        self.failed.retain(|sought| !events.contains(&sought.event.0));
    }

    /// The event that is to be asked about now.
    pub(in crate::push) fn next(&mut self, now: Nanos) -> Option<Sought> {
        if self.asked.len() >= CONTENT_ASKS_IN_FLIGHT || now < self.full_until {
            return None;
        }
        if !self.is_away() {
            return self.failed.pop_front().or_else(|| self.wanted.pop_front());
        }
        if self.trial.is_some() || now < self.away_until {
            return None;
        }
        // In turn: what can never succeed must not keep the others from showing that the store is there.
        self.was_failed = !self.was_failed;
        match self.was_failed {
            true => self.failed.pop_front().or_else(|| self.wanted.pop_front()),
            false => self.wanted.pop_front().or_else(|| self.failed.pop_front()),
        }
    }

    /// A look-up goes to the store; its number.
    pub(in crate::push) fn sent(&mut self, sought: Sought, now: Nanos) -> AskNo {
        let ask = self.next_no;
        self.next_no += 1;
        if self.is_away() {
            self.trial = Some(ask);
        }
        let known = self.evidence.known(sought.failed);
        self.asked.insert(ask, Asked { sought, sent_at: now, known });
        ask
    }

    /// An answer came; what it is about.
    fn take(&mut self, ask: AskNo) -> Option<Asked> {
        if self.trial == Some(ask) {
            self.trial = None;
        }
        self.asked.remove(&ask)
    }

    /// The store has answered; the event it is about.
    pub(in crate::push) fn answered(&mut self, ask: AskNo) -> Option<(EventIx, u64)> {
        let Asked { sought, sent_at, .. } = self.take(ask)?;
        self.evidence.answered(sent_at);
        Some(sought.event)
    }

    /// Rows that were sent at this time are stored: the server is there.
    pub(in crate::push) fn rows_stored(&mut self, sent_at: Nanos) {
        self.evidence.answered(sent_at);
    }

    /// An ask found the queue full: it is the next one, after a pause.
    pub(in crate::push) fn not_asked(&mut self, ask: AskNo, now: Nanos) {
        let Some(Asked { sought, .. }) = self.take(ask) else { return };
        self.put_back(sought);
        self.full_until = now.after(QUEUE_FULL_PAUSE);
    }

    /// An ask never left, for want of a connection: that says nothing of it.
    pub(in crate::push) fn not_reached(&mut self, ask: AskNo, now: Nanos) {
        let Some(Asked { sought, .. }) = self.take(ask) else { return };
        self.put_back(sought);
        self.wait(now);
    }

    /// A look-up failed. The event, when it was blamed: then it gets rows.
    pub(in crate::push) fn failed(&mut self, ask: AskNo, now: Nanos) -> Option<(EventIx, u64)> {
        let Asked { sought, known, .. } = self.take(ask)?;
        if known.blame(1) == Blame::Ask {
            return Some(sought.event);
        }
        self.failed.push_back(Sought { failed: Some(now), ..sought });
        self.wait(now);
        None
    }

    fn put_back(&mut self, sought: Sought) {
        match sought.failed {
            Some(_) => self.failed.push_front(sought),
            None => self.wanted.push_front(sought),
        }
    }

    /// The store is away, as far as it is known: each trial is later than the one before.
    fn wait(&mut self, now: Nanos) {
        self.pause = if self.is_away() { STORE_AWAY_PAUSE.following(self.pause) } else { STORE_AWAY_PAUSE.first };
        self.away_until = now.after(self.pause);
        self.evidence.failed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(events: u32) -> ContentAsks {
        let mut asks = ContentAsks::default();
        (0..events).for_each(|event| asks.want((EventIx(event), 0), false));
        asks
    }

    fn send(asks: &mut ContentAsks, now: Nanos) -> Option<(u32, AskNo)> {
        asks.next(now).map(|sought| (sought.event.0.0, asks.sent(sought, now)))
    }

    #[test]
    fn while_all_fail_one_at_a_time_is_tried_and_nobody_is_blamed() {
        let mut asks = asks(3);
        let sent: Vec<_> = std::iter::from_fn(|| send(&mut asks, Nanos(1))).collect();
        assert_eq!(sent.len(), 3);
        for (_, ask) in sent {
            assert_eq!(asks.failed(ask, Nanos(2)), None);
        }
        let mut now = Nanos(2);
        for _ in 0..20 {
            assert!(asks.is_away() && asks.next(now).is_none(), "not at once");
            now = now.after(STORE_AWAY_PAUSE.longest);
            let (_, ask) = send(&mut asks, now).expect("a trial");
            assert!(asks.next(now).is_none(), "one at a time");
            assert_eq!(asks.failed(ask, now), None, "nobody is blamed");
        }
    }

    #[test]
    fn one_that_fails_before_and_after_another_succeeded_gets_rows() {
        let mut asks = asks(2);
        let (bad, first) = send(&mut asks, Nanos(1)).expect("one");
        assert_eq!(asks.failed(first, Nanos(2)), None);
        let now = Nanos(2).after(STORE_AWAY_PAUSE.longest);
        let mut blamed = None;
        for _ in 0..4 {
            let Some((event, ask)) = send(&mut asks, now) else { break };
            match event == bad {
                true => blamed = blamed.or(asks.failed(ask, now)),
                false => assert_eq!(asks.answered(ask), Some((EventIx(event), 0))),
            }
            asks.away_until = now;
        }
        assert_eq!(blamed, Some((EventIx(bad), 0)));
        assert!(!asks.is_away() && asks.is_at_rest());
    }

    #[test]
    fn rows_that_are_stored_show_that_the_server_is_there() {
        let mut asks = asks(1);
        let (_, ask) = send(&mut asks, Nanos(1)).expect("one");
        assert_eq!(asks.failed(ask, Nanos(2)), None);
        asks.rows_stored(Nanos(3));
        let (_, ask) = send(&mut asks, Nanos(4)).expect("again");
        assert_eq!(asks.failed(ask, Nanos(5)), Some((EventIx(0), 0)));
    }
}
