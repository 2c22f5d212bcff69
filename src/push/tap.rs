//! Tells of the events of one session, or to one user, while somebody looks on (`task-engine tap`).
//!
//! Promises that it ends by itself when its time is over; at most [`TAPPED_A_SECOND`] events per second, the others counted; and that
//! while nobody looks on, an event, a push and an end cost a test each. Refuses contents that nobody asked for.

use bytes::Bytes;

use crate::model::ids::{GatewayIx, Nanos, UserIx};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::protobuf::{Fields, Value};
use crate::model::tap::{TAPPED_A_SECOND, TAPPED_CONTENT_BYTES, TapRules, TappedEvent, TappedMiss, TappedPush};
use crate::model::trace::TRACED_PUSHES_MAX;
use crate::push::Push;
use crate::push::bundle::EventIx;
use crate::push::facts::Output;
use crate::push::ingest::Arrival;
use crate::push::layout::KnownGateways;

/// PushEvent.content.
const CONTENT: u32 = 6;

/// See the module.
#[derive(Debug)]
pub(super) struct Tap {
    rules: TapRules,
    until: Nanos,
    second: u64,
    told: u32,
    left_out: u64,
}

impl Tap {
    fn is_of_session(&self, arrival: &Arrival) -> bool {
        self.rules.session.as_ref().is_none_or(|session| session.as_bytes() == arrival.session_id_bytes())
    }

    /// Whether one more may be told now.
    fn may_tell(&mut self, now: Nanos) -> bool {
        let second = now.0 / 1_000_000_000;
        if std::mem::replace(&mut self.second, second) != second {
            self.told = 0;
        }
        let may = self.told < TAPPED_A_SECOND;
        self.told += u32::from(may);
        self.left_out += u64::from(!may);
        may
    }
}

impl Push {
    /// Somebody looks on from now on, or nobody does any more. The same one that says it again goes on.
    pub(super) fn set_tap(&mut self, rules: Option<Box<TapRules>>) {
        let tap = &mut self.cx.observed.tap;
        let Some(rules) = rules else { return *tap = None };
        let until = self.cx.now.after(rules.lasts);
        match tap {
            Some(tap) if tap.rules.number == rules.number => tap.until = until,
            _ => *tap = Some(Box::new(Tap { rules: *rules, until, second: 0, told: 0, left_out: 0 })),
        }
    }

    /// Whether somebody looks on at this event, or rather at these of its recipients.
    #[inline]
    pub(super) fn is_tapped(&mut self, event: EventIx, users: &[UserIx]) -> bool {
        self.cx.observed.tap.is_some() && self.is_of_tap(event, users)
    }

    #[inline(never)]
    fn is_of_tap(&mut self, event: EventIx, users: &[UserIx]) -> bool {
        let Some(tap) = &self.cx.observed.tap else { return false };
        if self.cx.now >= tap.until {
            self.cx.observed.tap = None;
            return false;
        }
        if !tap.is_of_session(&self.ledger[event].arrival) {
            return false;
        }
        let Some(name) = &tap.rules.user else { return true };
        self.resolve.users.find(&**name).is_some_and(|user| users.contains(&user))
    }

    /// Some recipients could not be reached.
    pub(super) fn tap_missed(
        &mut self,
        event: EventIx,
        users: &[UserIx],
        why: RecipientOutcome,
        gateway: Option<GatewayIx>,
    ) {
        if users.is_empty() || !self.is_tapped(event, users) {
            return;
        }
        let is_of_one = self.cx.observed.tap.as_ref().is_some_and(|tap| tap.rules.user.is_some());
        let recipients = if is_of_one { 1 } else { users.len() as u32 };
        let gateway = gateway.map(|gateway| self.delivery.gateways.id(gateway));
        let pushes = self.ledger[event].pushes.get_or_insert_default();
        let is_alike = |miss: &TappedMiss| miss.why == why && miss.gateway == gateway;
        match pushes.misses.iter().position(is_alike) {
            Some(at) => pushes.misses[at].recipients += recipients,
            None if pushes.misses.len() < TRACED_PUSHES_MAX => {
                pushes.misses.push(TappedMiss { why, gateway, recipients });
            }
            None => {}
        }
    }

    /// An event ends.
    pub(super) fn tap_end(&mut self, at: EventIx, end: EventOutcome) {
        if !self.is_tapped_at_its_end(at) {
            return;
        }
        let Some(tap) = &mut self.cx.observed.tap else { return };
        if !tap.may_tell(self.cx.now) {
            return;
        }
        let (now, event) = (self.cx.now, &self.ledger[at]);
        let since = |then: Nanos| then.since(event.arrived);
        let (mut pushes, mut misses) = (Vec::new(), Vec::new());
        if let Some(seen) = &event.pushes {
            pushes.extend(seen.told.iter().map(|push| TappedPush {
                gateway: push.gateway.clone(),
                recipients: push.recipients,
                missed: push.missed,
                written_after: push.written_at.map(since),
                ended_after: since(push.ended_at),
            }));
            misses.clone_from(&seen.misses);
        }
        let told = TappedEvent {
            tap: tap.rules.number,
            session: event.arrival.session_id().into(),
            msg_id: event.arrival.msg_id,
            from: event.arrival.from_username().into(),
            class: event.class,
            end,
            arrived_unix_nanos: self.cx.observed.unix_zero.saturating_add(event.arrived.0),
            ended: now,
            took: since(now),
            pushes,
            misses,
            content: tap.rules.wants_content.then(|| content_of(&event.arrival)).flatten(),
            left_out: std::mem::take(&mut tap.left_out),
        };
        self.cx.out.push(Output::Tapped(Box::new(told)));
    }

    /// Of a session all events; to a user those of which a push or a miss was noted.
    fn is_tapped_at_its_end(&mut self, at: EventIx) -> bool {
        let has_notes =
            self.ledger[at].pushes.as_ref().is_some_and(|seen| !seen.told.is_empty() || !seen.misses.is_empty());
        let Some(tap) = &self.cx.observed.tap else { return false };
        if tap.rules.user.is_some() && !has_notes {
            return false;
        }
        self.cx.now < tap.until && tap.is_of_session(&self.ledger[at].arrival)
    }
}

/// The beginning of what a message says, cut between characters.
fn content_of(arrival: &Arrival) -> Option<Bytes> {
    let mut fields = Fields::new(&arrival.payload);
    while let Ok(Some(field)) = fields.next_field() {
        if let (CONTENT, Value::Bytes(bytes)) = (field.number, field.value) {
            let text = std::str::from_utf8(bytes).ok()?;
            let mut fits = (0..=TAPPED_CONTENT_BYTES.min(text.len())).rev();
            let end = fits.find(|end| text.is_char_boundary(*end))?;
            // A copy: the payload's memory is not to wait for whoever looks on.
            return Some(Bytes::copy_from_slice(&bytes[..end]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_are_told_per_second_and_the_others_are_counted() {
        let rules =
            TapRules { number: 1, session: None, user: None, lasts: Duration::from_secs(9), wants_content: false };
        let mut tap = Tap { rules, until: Nanos(u64::MAX), second: 0, told: 0, left_out: 0 };
        let told = |tap: &mut Tap, at: u64| (0..250).filter(|_| tap.may_tell(Nanos(at))).count();
        assert_eq!((told(&mut tap, 5), told(&mut tap, 999_999_999), tap.left_out), (100, 0, 400));
        assert_eq!((told(&mut tap, 1_000_000_000), tap.left_out), (100, 550));
    }
}
