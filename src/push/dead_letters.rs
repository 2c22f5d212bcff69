//! What can never succeed goes to the dead letters, and its event is settled only after they have it.
//!
//! Promises one letter an event, or one a recipient who has no row because his place in the inbox is taken or his row is
//! refused; that dead letters that are away, or that refuse every letter whatever they say, cost time and nothing else; and
//! that a letter which is refused more than `max_retry` times while others are taken is counted, said, and ends its event as
//! `dead_letter_lost`, terminated: it would be refused each time it came again, and nobody would hear of it but by
//! chance. Where no source keeps the event meanwhile ([`Push::with_final_letters`]) the first refusal is that. Letters under
//! way are bounded ([`BURY_ASKS_IN_FLIGHT`]); the others are made only when their turn comes, and wait as events in flight
//! do, which are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::model::delivery::{DeadLetter, DeliveryTag, LookupError};
use crate::model::ids::{Nanos, UserIx};
use crate::model::limits::{BURY_ASKS_IN_FLIGHT, QUEUE_FULL_PAUSE, STORE_AWAY_PAUSE};
use crate::model::outcome::{EventEnd, RecipientEnd};
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::evidence::{Blame, Evidence};
use crate::push::facts::{AskNo, Output};
use crate::push::inbox::retry_pause;
use crate::push::ledger::Refused;

/// What a letter is about.
#[derive(Debug)]
enum Letter {
    /// No event: its place among the refused.
    Refused(usize),
    /// A whole event.
    Event { event: EventIx, end: EventEnd, detail: String, tries: u32 },
    /// One recipient of an event.
    Recipient { event: EventIx, user: UserIx, missing: Missing },
}

/// Why one recipient has no row.
#[derive(Debug)]
pub(super) struct Missing {
    /// Why he could not be reached; none for one who was.
    pub(super) why: Option<RecipientEnd>,
    /// How he ends when the letter is kept.
    pub(super) end: RecipientEnd,
    /// More, for a person.
    pub(super) detail: String,
    /// How often his row was asked for.
    pub(super) tries: u32,
}

/// A letter that is not kept yet.
#[derive(Debug)]
struct Pending {
    letter: Letter,
    failed: Option<Nanos>,
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
    fn want(&mut self, letter: Letter) {
        self.wanted.push_back(Pending { letter, failed: None, tries: 0 });
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

    /// A letter was not taken. `retries` is how often one letter is asked for again and the first pause.
    fn failed(&mut self, mut pending: Pending, is_refused: bool, retries: (u32, Duration), now: Nanos) -> Failed {
        let before = pending.failed.replace(now);
        self.failing += usize::from(before.is_none());
        self.evidence.failed(now);
        let blame = self.evidence.blame(before, self.failing);
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
                self.store_away_until = now.after(STORE_AWAY_PAUSE);
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
enum Failed {
    Waits(Blame),
    Lost(Letter),
}

impl Push {
    /// The same, where a letter that the dead letters refuse is lost at once: what is written to a local file has waited for it
    /// already, and nobody keeps the event meanwhile (core NATS).
    pub fn with_final_letters(mut self, is_final: bool) -> Self {
        self.ledger.letters.is_final = is_final;
        self
    }

    /// What came is no event that can be pushed.
    pub(super) fn bury_refused(&mut self, payload: Bytes, tag: DeliveryTag, end: EventEnd) {
        self.cx.warn(end.label(), || format!("{} was refused", head_of(&payload)));
        let at = self.ledger.enter_refused(Refused { payload, tag, end });
        self.ledger.letters.want(Letter::Refused(at));
    }

    /// An event, not (or no longer) in its session's queue, has failed for good.
    pub(super) fn bury_event(&mut self, event: EventIx, end: EventEnd, detail: String, tries: u32) {
        self.cx.warn(end.label(), || detail.clone());
        self.ledger.letters.want(Letter::Event { event, end, detail, tries });
    }

    /// One recipient has no row; the caller has counted the letter.
    pub(super) fn bury_recipient(&mut self, event: EventIx, user: UserIx, missing: Missing) {
        self.ledger.letters.want(Letter::Recipient { event, user, missing });
    }

    /// Sends the letters that are due, bounded in number.
    pub(super) fn ask_dead_letters(&mut self) {
        while self.ledger.letters.later.first_key_value().is_some_and(|((due, _), _)| *due <= self.cx.now) {
            let due = self.ledger.letters.later.pop_first();
            self.ledger.letters.wanted.extend(due.map(|(_, pending)| pending));
        }
        while self.ledger.letters.asked.len() < BURY_ASKS_IN_FLIGHT
            && self.cx.now >= self.ledger.letters.store_away_until
        {
            let Some(pending) = self.ledger.letters.wanted.pop_front() else { break };
            let (tag, text) = self.written(&pending.letter);
            let ask = self.ledger.letters.take_number();
            self.ledger.letters.asked.insert(ask, (pending, self.cx.now));
            self.cx.activity.bury_asks += 1;
            self.cx.out.push(Output::Bury { ask, tag, letter: text });
        }
    }

    fn written(&self, letter: &Letter) -> (DeliveryTag, DeadLetter) {
        match letter {
            Letter::Refused(at) => {
                let Refused { payload, tag, end } = self.ledger.refused(*at);
                let (payload, detail) = (payload.clone(), head_of(payload));
                (*tag, DeadLetter { reason: end.label(), detail, payload, recipient: None, tries: 1 })
            }
            Letter::Event { event, end, detail, tries } => {
                let event = &self.ledger[*event];
                let (payload, detail) = (event.arrival.payload.clone(), detail.clone());
                (event.tag, DeadLetter { reason: end.label(), detail, payload, recipient: None, tries: *tries })
            }
            Letter::Recipient { event, user, missing: Missing { why, end, detail, tries } } => {
                let event = &self.ledger[*event];
                let was = why.unwrap_or(RecipientEnd::Delivered).label();
                let letter = DeadLetter {
                    reason: end.label(),
                    detail: format!("{was}; {detail}"),
                    payload: event.arrival.payload.clone(),
                    recipient: Some(self.resolve.users.text(*user).into()),
                    tries: *tries,
                };
                (event.tag, letter)
            }
        }
    }

    /// Takes an answer.
    pub(super) fn bury_answered(&mut self, ask: AskNo, answer: Result<(), LookupError>) {
        let Some((pending, sent_at)) = self.ledger.letters.asked.remove(&ask) else { return };
        let error = match answer {
            Ok(()) => {
                self.ledger.letters.evidence.answered(sent_at);
                self.ledger.letters.failing -= usize::from(pending.failed.is_some());
                return self.buried(pending.letter, true);
            }
            Err(error) => error,
        };
        let is_refused = matches!(error, LookupError::Rejected(_));
        let retries = (self.cx.settings.max_retry, self.cx.settings.retry_interval);
        match self.ledger.letters.failed(pending, is_refused, retries, self.cx.now) {
            Failed::Waits(Blame::Store) => self.cx.warn("dead_letters_unavailable", || error.to_string()),
            Failed::Waits(Blame::Ask) => self.cx.warn("dead_letter_refused", || format!("one of them: {error}")),
            Failed::Lost(letter) => {
                self.cx.activity.letters_lost += 1;
                let (_, DeadLetter { reason, detail, .. }) = self.written(&letter);
                self.cx.warn(EventEnd::DeadLetterLost.label(), || format!("{error}; the letter: {reason}: {detail}"));
                self.buried(letter, false);
            }
        }
    }

    fn buried(&mut self, letter: Letter, is_kept: bool) {
        match letter {
            Letter::Refused(at) => {
                let end = self.ledger.refused(at).end;
                self.end_refused(at, if is_kept { end } else { EventEnd::DeadLetterLost });
            }
            Letter::Event { event, end, .. } => {
                self.end_event(event, if is_kept { end } else { EventEnd::DeadLetterLost });
            }
            Letter::Recipient { event, missing: Missing { why, end, .. }, .. } => {
                if let Some(why) = why {
                    self.ledger.counts.unreached_by[why as usize] += 1;
                    self.end_recipients(event, if is_kept { end } else { RecipientEnd::DeadLetterLost }, 1);
                }
                self.ledger[event].owed_mut().letters -= 1;
                self.try_end_owing(event);
            }
        }
    }
}

/// The size of a payload and its first bytes, for a person.
fn head_of(payload: &Bytes) -> String {
    let head = payload.iter().take(32).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("an event of {} bytes that begins {head}", payload.len())
}
