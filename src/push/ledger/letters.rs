//! What can never succeed goes to the dead letters, and its event is settled only after they have it.
//!
//! Promises one letter an event, or one a recipient who has no row because his place in the inbox is taken or his row is
//! refused; that dead letters that are away, or that refuse every letter whatever they say, cost time and nothing else; and
//! that a letter which is refused more than `max_retry` times while others are taken is counted, said, and ends its event as
//! `dead_letter_lost`, terminated: it would be refused each time it came again, and nobody would hear of it but by
//! chance. Where no source keeps the event meanwhile ([`Push::with_final_letters`](crate::push::Push::with_final_letters)) the first refusal is that. Letters under
//! way are bounded ([`LETTER_ASKS_IN_FLIGHT`](crate::model::limits::LETTER_ASKS_IN_FLIGHT)); the others are made only when their turn comes, and wait as events in flight
//! do, which are bounded.

use bytes::Bytes;

use crate::model::delivery::{DeadLetter, DeliveryTag, LookupError};
use crate::model::ids::UserIx;
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::words::counted;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::dead_letters::{Failed, Letter, Missing};
use crate::push::evidence::Blame;
use crate::push::facts::{AskNo, Output};
use crate::push::ledger::{Ledger, Refused};
use crate::push::users::Users;

impl Ledger {
    /// What came is no event that can be pushed.
    pub(in crate::push) fn publish_letter_of_refused(
        &mut self,
        payload: Bytes,
        tag: DeliveryTag,
        end: EventOutcome,
        cx: &mut Context,
    ) {
        cx.warn(end.label(), || format!("{} was refused", head_of(&payload)));
        let at = self.enter_refused(Refused { payload, tag, end, arrived: cx.now });
        self.letters.want(Letter::Refused(at));
    }

    /// An event, not (or no longer) in its session's queue, has failed for good.
    pub(in crate::push) fn publish_letter_of_event(
        &mut self,
        event: EventIx,
        end: EventOutcome,
        detail: String,
        tries: u32,
        cx: &mut Context,
    ) {
        cx.warn(end.label(), || detail.clone());
        self.letters.want(Letter::Event { event, end, detail, tries });
    }

    /// One recipient has no row; the caller has counted the letter.
    pub(in crate::push) fn publish_letter_of_recipient(&mut self, event: EventIx, user: UserIx, missing: Missing) {
        self.letters.want(Letter::Recipient { event, user, missing });
    }

    /// Sends the letters that are due, bounded in number.
    pub(in crate::push) fn ask_dead_letters(&mut self, users: &Users, cx: &mut Context) {
        while let Some(pending) = self.letters.next(cx.now) {
            let (tag, letter) = self.written(&pending.letter, users);
            let ask = self.letters.sent(pending, cx.now);
            cx.activity.letter_asks += 1;
            cx.out.push(Output::PublishLetter { ask, tag, letter });
        }
    }

    fn written(&self, letter: &Letter, users: &Users) -> (DeliveryTag, DeadLetter) {
        match letter {
            Letter::Refused(at) => {
                let Refused { payload, tag, end, .. } = self.refused(*at);
                let (payload, detail) = (payload.clone(), head_of(payload));
                (*tag, DeadLetter { reason: end.label(), detail, payload, recipient: None, tries: 1 })
            }
            Letter::Event { event, end, detail, tries } => {
                let event = &self[*event];
                let (payload, detail) = (event.arrival.payload.clone(), detail.clone());
                (event.source.tag, DeadLetter { reason: end.label(), detail, payload, recipient: None, tries: *tries })
            }
            Letter::Recipient { event, user, missing: Missing { why, end, detail, tries } } => {
                let event = &self[*event];
                let was = why.unwrap_or(RecipientOutcome::Delivered).label();
                let letter = DeadLetter {
                    reason: end.label(),
                    detail: format!("{was}; {detail}"),
                    payload: event.arrival.payload.clone(),
                    recipient: Some(users.text(*user).into()),
                    tries: *tries,
                };
                (event.source.tag, letter)
            }
        }
    }

    /// Takes an answer. The event that is to end for it, if one is, and how.
    pub(in crate::push) fn letter_answered(
        &mut self,
        ask: AskNo,
        answer: Result<(), LookupError>,
        users: &Users,
        cx: &mut Context,
    ) -> Option<(EventIx, EventOutcome)> {
        let (pending, sent_at) = self.letters.take(ask)?;
        let error = match answer {
            Ok(()) => {
                self.letters.kept(&pending, sent_at);
                return self.letter_ended(pending.letter, true, cx);
            }
            Err(error) => error,
        };
        if matches!(error, LookupError::NotReached(_)) {
            self.letters.not_reached(pending, cx.now);
            cx.warn("dead_letters_unavailable", || error.to_string());
            return None;
        }
        let is_refused = matches!(error, LookupError::Rejected(_));
        let retries = (cx.settings.max_retry, cx.settings.retry_interval);
        match self.letters.failed(pending, is_refused, retries, cx.now) {
            Failed::Waits(Blame::Store) => cx.warn("dead_letters_unavailable", || error.to_string()),
            Failed::Waits(Blame::Ask) => cx.warn("dead_letter_refused", || format!("one of them: {error}")),
            Failed::Lost(letter) => {
                cx.activity.letters_lost += 1;
                let (_, DeadLetter { reason, detail, .. }) = self.written(&letter, users);
                cx.warn(EventOutcome::DeadLetterLost.label(), || format!("{error}; the letter: {reason}: {detail}"));
                return self.letter_ended(letter, false, cx);
            }
        }
        None
    }

    fn letter_ended(&mut self, letter: Letter, is_kept: bool, cx: &mut Context) -> Option<(EventIx, EventOutcome)> {
        match letter {
            Letter::Refused(at) => {
                let end = self.refused(at).end;
                self.end_refused(at, if is_kept { end } else { EventOutcome::DeadLetterLost }, cx);
                None
            }
            Letter::Event { event, end, .. } => Some((event, if is_kept { end } else { EventOutcome::DeadLetterLost })),
            Letter::Recipient { event, user, missing: Missing { why, end, .. }, .. } => {
                let end = if is_kept { end } else { RecipientOutcome::DeadLetterLost };
                if let Some(why) = why {
                    if let Some(late_ends) = &mut self.late_ends {
                        late_ends.push((event, user, end));
                    }
                    self.counts.unreached_by[why as usize] += 1;
                    self.end_recipients(event, end, 1);
                }
                self[event].owed_mut().letters -= 1;
                self.owes_nothing(event).then_some((event, EventOutcome::Settled))
            }
        }
    }
}

/// The size of a payload and its first bytes, for a person.
fn head_of(payload: &Bytes) -> String {
    if payload.is_empty() {
        return "an event without a byte".to_owned();
    }
    let head = payload.iter().take(32).map(|byte| format!("{byte:02x}")).collect::<String>();
    let size = counted(payload.len() as u64, "byte");
    match payload.len() {
        0..=32 => format!("an event of {size}: 0x{head}"),
        _ => format!("an event of {size} that starts with 0x{head}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_described_by_its_size_and_its_first_bytes() {
        let said = |bytes: &[u8]| head_of(&Bytes::copy_from_slice(bytes));
        assert_eq!(said(b""), "an event without a byte");
        assert_eq!(said(b"\xff"), "an event of 1 byte: 0xff");
        assert_eq!(said(&[8; 33]), format!("an event of 33 bytes that starts with 0x{}", "08".repeat(32)));
    }
}
