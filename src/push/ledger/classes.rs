//! What the ledger keeps by class: how many events of each are in flight, recipients without an end, and bytes; how many events and
//! recipients gateways are to take; and whether an event owes rows at all.

use std::borrow::Cow;

use crate::model::ids::{Nanos, UserIx};
use crate::model::outcome::RecipientOutcome;
use crate::model::priority::{Priority, ShedReason};
use crate::push::admission::Load;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::inbox::InboxStore;
use crate::push::ledger::Ledger;

/// What gateways are to take of the events of a class.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::push) struct AtGateways {
    /// Events that are bundled and whose pushes have not all ended.
    pub(in crate::push) events: usize,
    /// Their recipients without an end.
    pub(in crate::push) recipients: usize,
}

impl Ledger {
    /// An event, of which no recipients are entered yet, is of this class.
    #[inline]
    pub(in crate::push) fn set_class(&mut self, at: EventIx, class: Priority) {
        debug_assert!(!self[at].progress.is_bundled, "what is counted of its recipients follows from its class");
        let before = std::mem::replace(&mut self[at].class, class);
        let load = Load { events: 1, recipients: 0, bytes: self[at].payload_bytes };
        self.load_of[before as usize].remove(load);
        self.load_of[class as usize].add(load);
    }

    /// Enters an event's recipients: all members at the time it is bundled.
    #[inline]
    pub fn enter_recipients(&mut self, event: EventIx, recipients: u32, now: Nanos) {
        self[event].progress.open = recipients;
        (self[event].progress.is_bundled, self[event].bundled_at) = (true, now);
        let class = self[event].class;
        self.load_of[class as usize].recipients += recipients as usize;
        self.at_gateways[class as usize].events += 1;
        self.at_gateways[class as usize].recipients += recipients as usize;
        self.open_recipients += recipients as usize;
        self.counts.recipients_arrived += u64::from(recipients);
    }

    /// Some recipients of an event have their end.
    #[inline]
    pub(in crate::push) fn end_recipients(&mut self, event: EventIx, end: RecipientOutcome, recipients: u32) {
        self[event].progress.open -= recipients;
        self[event].progress.has_reached |= end.is_reached() && recipients > 0;
        let class = self[event].class;
        self.load_of[class as usize].recipients -= recipients as usize;
        if !self[event].progress.is_at_store {
            self.at_gateways[class as usize].recipients -= recipients as usize;
        }
        self.by_class.recipients_ended[class as usize][end as usize] += u64::from(recipients);
        self.open_recipients -= recipients as usize;
        self.counts.recipients_ended[end as usize] += u64::from(recipients);
    }

    /// All pushes of an event have ended: gateways are to take nothing more of it, and what it owes waits for the store.
    pub(super) fn enter_store(&mut self, at: EventIx) {
        let class = self[at].class;
        self.at_gateways[class as usize].recipients -= self[at].progress.open as usize;
        self.at_gateways[class as usize].events -= 1;
        self[at].progress.is_at_store = true;
    }

    /// An event leaves.
    #[inline]
    pub(super) fn leave_gateways(&mut self, at: EventIx) {
        let (progress, class) = (&self[at].progress, self[at].class);
        if progress.is_bundled && !progress.is_at_store {
            self.at_gateways[class as usize].events -= 1;
        }
    }

    /// What is in flight of all that is not urgent: recipients, not pushes, as each event has its class and not each push.
    pub(in crate::push) fn load_of_others(&self) -> Load {
        let urgent = self.load_of[Priority::Urgent as usize];
        let all = Load { events: self.in_flight(), recipients: self.open_recipients, bytes: self.payload_bytes };
        all.without(urgent)
    }

    /// Events in flight that yield to others.
    pub(in crate::push) fn yielding_events(&self) -> usize {
        self.load_of[Priority::Bulk as usize].events + self.load_of[Priority::Fleeting as usize].events
    }

    /// Recipients in flight of those.
    pub(in crate::push) fn yielding_recipients(&self) -> usize {
        self.load_of[Priority::Bulk as usize].recipients + self.load_of[Priority::Fleeting as usize].recipients
    }

    /// What gateways are to take of those.
    pub(in crate::push) fn yielding_at_gateways(&self) -> AtGateways {
        let [bulk, fleeting] = [Priority::Bulk, Priority::Fleeting].map(|class| self.at_gateways[class as usize]);
        AtGateways { events: bulk.events + fleeting.events, recipients: bulk.recipients + fleeting.recipients }
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
