//! What the ledger keeps by class: how many events of each are in flight, and whether an event owes rows at all.

use std::borrow::Cow;

use crate::model::ids::UserIx;
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::{Priority, ShedReason};
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::inbox::InboxStore;
use crate::push::ledger::Ledger;

impl Ledger {
    /// An event, of which no recipients are entered yet, is of this class.
    #[inline]
    pub(in crate::push) fn set_class(&mut self, at: EventIx, class: Priority) {
        debug_assert!(!self[at].progress.is_bundled, "what is counted of its recipients follows from its class");
        let before = std::mem::replace(&mut self[at].class, class);
        self.events_of[before as usize] -= 1;
        self.events_of[class as usize] += 1;
    }

    /// Events in flight that yield to others.
    pub(in crate::push) fn yielding_events(&self) -> usize {
        self.events_of[Priority::Bulk as usize] + self.events_of[Priority::Fleeting as usize]
    }

    /// Recipients in flight of those.
    pub(in crate::push) fn yielding_recipients(&self) -> usize {
        self.recipients_of[Priority::Bulk as usize] + self.recipients_of[Priority::Fleeting as usize]
    }

    /// Whether what is asked for an event goes before what is asked for others.
    pub(super) fn is_urgent(&self, at: EventIx) -> bool {
        self[at].class == Priority::Urgent
    }

    /// Whether recipients of an event that are not reached get rows. What is fleeting is worthless when they read it.
    #[inline]
    pub(in crate::push) fn stores_rows(&self, at: EventIx, cx: &Context) -> bool {
        cx.settings.inbox != InboxStore::Off && self[at].class != Priority::Fleeting
    }

    /// Recipients of a fleeting event that are not pushed to at a gateway are dropped; one at several of them with the last. Gives
    /// those whose end it is.
    pub(in crate::push) fn shed_unreached<'a>(
        &mut self,
        at: EventIx,
        users: &'a [UserIx],
        why: ShedReason,
    ) -> Cow<'a, [UserIx]> {
        let shed = self.ended_by(at, users);
        self.shed_recipients(at, shed.len() as u32, why);
        shed
    }

    /// Recipients of a fleeting event are dropped.
    pub(in crate::push) fn shed_recipients(&mut self, at: EventIx, recipients: u32, why: ShedReason) {
        self.by_class.recipients_shed[why as usize] += u64::from(recipients);
        self.counts.unreached_by[RecipientOutcome::Shed as usize] += u64::from(recipients);
        self.end_recipients(at, RecipientOutcome::Shed, recipients);
    }
}
