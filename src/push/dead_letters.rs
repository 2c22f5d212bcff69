//! The asks to the dead letters: what a letter is about, which are under way, and which were refused.
//!
//! Refuses to know events: [`ledger`](super::ledger) has them, and writes the letters.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;

use crate::model::ids::{Nanos, UserIx};
use crate::model::limits::{LETTER_ASKS_IN_FLIGHT, QUEUE_FULL_PAUSE, STORE_AWAY_PAUSE};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::push::bundle::EventIx;
use crate::push::evidence::{Blame, Evidence, Known};
use crate::push::facts::AskNo;
use crate::push::inbox::retry_pause;

/// What a letter is about.
#[derive(Debug)]
pub(super) enum Letter {
    /// No event: its place among the refused.
    Refused(u32),
    /// A whole event.
    Event { event: EventIx, end: EventOutcome, detail: String, tries: u32 },
    /// One recipient of an event.
    Recipient { event: EventIx, user: UserIx, missing: Missing },
}

/// Why one recipient has no row.
#[derive(Debug)]
pub(super) struct Missing {
    /// Why he could not be reached; none for one who was.
    pub(super) why: Option<RecipientOutcome>,
    /// How he ends when the letter is kept.
    pub(super) end: RecipientOutcome,
    /// More, for a person.
    pub(super) detail: String,
    /// How often his row was asked for.
    pub(super) tries: u32,
}

/// A letter that is not kept yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) letter: Letter,
    failed: Option<Nanos>,
    /// What was known against it when it was sent.
    known: Known,
    /// How often it was refused while others were taken.
    tries: u32,
}

/// The asks to the dead letters.
#[derive(Debug, Default)]
pub struct DeadLetterAsks {
    wanted: VecDeque<Pending>,
    /// Letters that were refused while others were taken.
    later: BTreeMap<(Nanos, AskNo), Pending>,
    /// The letter, and when it was sent.
    asked: HashMap<AskNo, (Pending, Nanos)>,
    /// Letters that failed and are not kept yet.
    failing: usize,
    evidence: Evidence,
    /// A refusal is final.
    is_final: bool,
    store_away_until: Nanos,
    next_no: AskNo,
}

impl DeadLetterAsks {
    /// A refusal is final.
    pub(super) fn set_final(&mut self, is_final: bool) {
        self.is_final = is_final;
    }

    /// A letter is to be kept.
    pub(super) fn want(&mut self, letter: Letter) {
        self.wanted.push_back(Pending { letter, failed: None, known: Known::default(), tries: 0 });
    }

    /// The letter to be sent now.
    pub(super) fn next(&mut self, now: Nanos) -> Option<Pending> {
        while self.later.first_key_value().is_some_and(|((due, _), _)| *due <= now) {
            let due = self.later.pop_first();
            self.wanted.extend(due.map(|(_, pending)| pending));
        }
        if self.asked.len() >= LETTER_ASKS_IN_FLIGHT || now < self.store_away_until {
            return None;
        }
        self.wanted.pop_front()
    }

    /// A letter goes to the dead letters; its number.
    pub(super) fn sent(&mut self, mut pending: Pending, now: Nanos) -> AskNo {
        let ask = self.take_number();
        pending.known = self.evidence.known(pending.failed);
        self.asked.insert(ask, (pending, now));
        ask
    }

    /// An answer came; the letter that it is about, and when that was sent.
    pub(super) fn take(&mut self, ask: AskNo) -> Option<(Pending, Nanos)> {
        self.asked.remove(&ask)
    }

    /// A letter that was sent at this time is kept.
    pub(super) fn kept(&mut self, pending: &Pending, sent_at: Nanos) {
        self.evidence.answered(sent_at);
        self.failing -= usize::from(pending.failed.is_some());
    }

    fn take_number(&mut self) -> AskNo {
        self.next_no += 1;
        self.next_no - 1
    }

    /// A letter found the queue full: it is the next one, after a pause.
    pub fn not_asked(&mut self, ask: AskNo, now: Nanos) {
        let Some((pending, _)) = self.asked.remove(&ask) else { return };
        self.wanted.push_front(pending);
        self.store_away_until = self.store_away_until.max(now.after(QUEUE_FULL_PAUSE));
    }

    /// A letter never left, for want of a connection: that says nothing of it.
    pub(super) fn not_reached(&mut self, pending: Pending, now: Nanos) {
        self.store_away_until = now.after(STORE_AWAY_PAUSE.first);
        self.wanted.push_front(pending);
    }

    /// A letter was not taken. `retries` is how often one letter is asked for again and the first pause.
    pub(super) fn failed(
        &mut self,
        mut pending: Pending,
        is_refused: bool,
        retries: (u32, Duration),
        now: Nanos,
    ) -> Failed {
        let before = pending.failed.replace(now);
        self.failing += usize::from(before.is_none());
        self.evidence.failed(now);
        let blame = pending.known.blame(self.failing);
        let (max_retry, interval) = retries;
        if blame == Blame::Ask {
            pending.tries = pending.tries.saturating_add(1);
        }
        if is_refused && (self.is_final || pending.tries > max_retry) {
            self.failing -= 1;
            return Failed::Lost(pending.letter);
        }
        match blame {
            Blame::Store => {
                self.store_away_until = now.after(STORE_AWAY_PAUSE.first);
                self.wanted.push_back(pending);
            }
            Blame::Ask => {
                let key = (now.after(retry_pause(interval, pending.tries)), self.take_number());
                self.later.insert(key, pending);
            }
        }
        Failed::Waits(blame)
    }
}

/// What follows from a letter that is not kept.
pub(super) enum Failed {
    Waits(Blame),
    Lost(Letter),
}
