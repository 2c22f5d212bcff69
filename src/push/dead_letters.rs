//! What can never succeed goes to the dead letters, and its event is settled only after they have it.
//!
//! Promises one letter an event, or one a recipient whose place in the inbox is taken; that dead letters that are away
//! cost time and nothing else; and that a letter which they refuse for good is counted, said, and ends its event as
//! `dead_letter_lost`, terminated: it would be refused each time it came again, and nobody would hear of it but by
//! chance. Letters under way are bounded ([`BURY_ASKS_IN_FLIGHT`]); the others are made only when their turn comes, and
//! wait as events in flight do, which are bounded.

use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::ids::{Nanos, UserIx};
use crate::limits::{BURY_ASKS_IN_FLIGHT, STORE_AWAY_PAUSE};
use crate::outcome::{EventEnd, RecipientEnd};
use crate::ports::{DeadLetter, DeliveryTag, LookupError};
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::Refused;

/// What a letter is about.
#[derive(Debug)]
enum Letter {
    /// No event: its place among the refused.
    Refused(usize),
    /// A whole event.
    Event { event: EventIx, end: EventEnd, detail: String, tries: u32 },
    /// One recipient of an event, and why it could not be reached; none for one who was.
    Recipient { event: EventIx, user: UserIx, why: Option<RecipientEnd> },
}

/// The asks to the dead letters.
#[derive(Debug, Default)]
pub struct DeadLetterAsks {
    wanted: VecDeque<Letter>,
    asked: HashMap<AskNo, Letter>,
    store_away_until: Nanos,
    next_no: AskNo,
}

impl Push {
    /// What came is no event that can be pushed.
    pub(super) fn bury_refused(&mut self, payload: Bytes, tag: DeliveryTag, end: EventEnd) {
        self.warn(end.label(), || format!("{} was refused", head_of(&payload)));
        let at = self.ledger.enter_refused(Refused { payload, tag, end });
        self.letters.wanted.push_back(Letter::Refused(at));
    }

    /// An event, not (or no longer) in its session's queue, has failed for good.
    pub(super) fn bury_event(&mut self, event: EventIx, end: EventEnd, detail: String, tries: u32) {
        self.warn(end.label(), || detail.clone());
        self.letters.wanted.push_back(Letter::Event { event, end, detail, tries });
    }

    /// Another message holds a recipient's place in the inbox; the caller has counted the letter.
    pub(super) fn bury_recipient(&mut self, event: EventIx, user: UserIx, why: Option<RecipientEnd>) {
        self.letters.wanted.push_back(Letter::Recipient { event, user, why });
    }

    /// Sends the letters that are due, bounded in number.
    pub(super) fn ask_dead_letters(&mut self) {
        while self.letters.asked.len() < BURY_ASKS_IN_FLIGHT && self.now >= self.letters.store_away_until {
            let Some(letter) = self.letters.wanted.pop_front() else { break };
            let (tag, text) = self.written(&letter);
            let ask = self.letters.next_no;
            self.letters.next_no += 1;
            self.letters.asked.insert(ask, letter);
            self.activity.bury_asks += 1;
            self.out.push(Output::Bury { ask, tag, letter: text });
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
            Letter::Recipient { event, user, why } => {
                let event = &self.ledger[*event];
                let was = why.unwrap_or(RecipientEnd::Delivered).label();
                let detail = format!("{was}; another message has sequence {} in this inbox", event.arrival.seq_id);
                let tries = 1 + event.owed.as_ref().map_or(0, |owed| owed.tries);
                let letter = DeadLetter {
                    reason: RecipientEnd::InboxConflict.label(),
                    detail,
                    payload: event.arrival.payload.clone(),
                    recipient: Some(self.users.text(*user).into()),
                    tries,
                };
                (event.tag, letter)
            }
        }
    }

    /// Takes an answer.
    pub(super) fn bury_answered(&mut self, ask: AskNo, answer: Result<(), LookupError>) {
        let Some(letter) = self.letters.asked.remove(&ask) else { return };
        match answer {
            Ok(()) => self.buried(letter, true),
            Err(LookupError::Unavailable(why)) => {
                self.warn("dead_letters_unavailable", || why);
                self.letters.store_away_until = self.now.after(STORE_AWAY_PAUSE);
                self.letters.wanted.push_front(letter);
            }
            Err(LookupError::Rejected(why)) => {
                self.activity.letters_lost += 1;
                let (_, DeadLetter { reason, detail, .. }) = self.written(&letter);
                self.warn(EventEnd::DeadLetterLost.label(), || format!("{why}; the letter: {reason}: {detail}"));
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
                let unreached = self.ledger[event].owed.take().map(|owed| owed.unreached).unwrap_or_default();
                for (_, why) in &unreached {
                    self.ledger.counts.unreached_by[*why as usize] += 1;
                }
                let of_them = if is_kept { RecipientEnd::InboxRejected } else { RecipientEnd::DeadLetterLost };
                self.end_recipients(event, of_them, unreached.len() as u32);
                self.end_event(event, if is_kept { end } else { EventEnd::DeadLetterLost });
            }
            Letter::Recipient { event, why, .. } => {
                if let Some(why) = why {
                    self.ledger.counts.unreached_by[why as usize] += 1;
                    let end = if is_kept { RecipientEnd::InboxConflict } else { RecipientEnd::DeadLetterLost };
                    self.end_recipients(event, end, 1);
                }
                let owed = self.ledger[event].owed_mut();
                owed.letters -= 1;
                if owed.letters == 0 {
                    self.end_event(event, EventEnd::Settled);
                }
            }
        }
    }
}

/// The size of a payload and its first bytes, for a person.
fn head_of(payload: &Bytes) -> String {
    let head = payload.iter().take(32).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("an event of {} bytes that begins {head}", payload.len())
}
