//! The ledger: each event of this (home) shard from its arrival to its end, and the end of each of its recipients.
//!
//! Promises the conservation law at every instant: arrivals = endings + in flight, for events and for recipients. An
//! event's entry leaves the ledger exactly once, when nothing of it is pending.

use std::ops::{Index, IndexMut};

use bytes::Bytes;
use slab::Slab;

use crate::ids::{Nanos, SessionIx, UserIx};
use crate::meter::Stage;
use crate::outcome::{EventEnd, RecipientEnd};
use crate::ports::{DeliveryTag, SettleAs, Settled};
use crate::push::Push;
use crate::push::bundle::{BundleEnd, BundleResult, EventIx, Refusal};
use crate::push::facts::{Counts, Output};
use crate::push::ingest::Arrival;
use crate::push::users::Known;

/// One event in flight.
#[derive(Debug)]
pub struct Event {
    /// Its session.
    pub session: SessionIx,
    /// Its place in the order of this shard's arrivals.
    pub order: u64,
    /// Its id in its session.
    pub msg_id: i64,
    /// The PushMessage's bytes.
    pub message: Bytes,
    /// What was read of it, until it is bundled.
    pub arrival: Option<Arrival>,
    /// How the source knows it.
    pub tag: DeliveryTag,
    /// When it arrived.
    pub arrived: Nanos,
    /// When its members were known.
    pub members_known: Nanos,
    /// The first route ask that was not sent before it arrived.
    pub first_ask: u32,
    /// Bundles and held recipients without an end.
    pub pending: u32,
    /// Recipients without an end.
    pub open: u32,
    payload_bytes: usize,
}

/// All events in flight, and the counts.
#[derive(Debug)]
pub struct Ledger {
    events: Slab<Event>,
    next_order: u64,
    /// The sum over all events in flight.
    pub payload_bytes: usize,
    /// The sum over all events in flight.
    pub open_recipients: usize,
    /// Arrivals and ends.
    pub counts: Counts,
}

impl Default for Ledger {
    fn default() -> Self {
        let counts = Counts {
            events_arrived: 0,
            events_ended: [0; EventEnd::COUNT],
            recipients_arrived: 0,
            recipients_ended: [0; RecipientEnd::COUNT],
        };
        Self { events: Slab::new(), next_order: 0, payload_bytes: 0, open_recipients: 0, counts }
    }
}

impl Index<EventIx> for Ledger {
    type Output = Event;
    fn index(&self, at: EventIx) -> &Event {
        &self.events[at.0 as usize]
    }
}

impl IndexMut<EventIx> for Ledger {
    fn index_mut(&mut self, at: EventIx) -> &mut Event {
        &mut self.events[at.0 as usize]
    }
}

impl Ledger {
    /// Events in flight.
    pub fn in_flight(&self) -> usize {
        self.events.len()
    }

    /// Enters an event.
    pub fn enter(
        &mut self,
        arrival: Arrival,
        session: SessionIx,
        tag: DeliveryTag,
        now: Nanos,
        first_ask: u32,
    ) -> EventIx {
        let payload_bytes = arrival.message.len();
        self.payload_bytes += payload_bytes;
        self.next_order += 1;
        let event = Event {
            session,
            order: self.next_order,
            msg_id: arrival.msg_id,
            message: arrival.message.clone(),
            arrival: Some(arrival),
            tag,
            arrived: now,
            members_known: now,
            first_ask,
            pending: 0,
            open: 0,
            payload_bytes,
        };
        EventIx(self.events.insert(event) as u32)
    }

    /// Enters an event's recipients: all members at the time it is bundled.
    pub fn enter_recipients(&mut self, event: EventIx, recipients: u32) {
        self[event].open = recipients;
        self.open_recipients += recipients as usize;
        self.counts.recipients_arrived += u64::from(recipients);
    }

    fn leave(&mut self, at: EventIx, end: EventEnd) -> Event {
        let event = self.events.remove(at.0 as usize);
        debug_assert!(event.open == 0, "a recipient without an end");
        self.payload_bytes -= event.payload_bytes;
        self.counts.events_ended[end as usize] += 1;
        event
    }

    fn all(&self) -> Vec<EventIx> {
        self.events.iter().map(|(at, _)| EventIx(at as u32)).collect()
    }
}

impl Push {
    /// Some recipients of an event have their end.
    pub(super) fn end_recipients(&mut self, event: EventIx, end: RecipientEnd, recipients: u32) {
        self.ledger[event].open -= recipients;
        self.ledger.open_recipients -= recipients as usize;
        self.ledger.counts.recipients_ended[end as usize] += u64::from(recipients);
    }

    /// An event that is not (or no longer) in its session's queue ends.
    pub(super) fn end_event(&mut self, at: EventIx, end: EventEnd) {
        let event = self.ledger.leave(at, end);
        self.stages.record(Stage::Event, self.now.since(event.arrived));
        if end != EventEnd::Settled {
            self.repeats.forget(&self.sessions[event.session].id, event.msg_id);
        }
        self.out.push(Output::Settle(Settled { tag: event.tag, how: SettleAs::Done }));
    }

    /// A bundle or held recipient of a bundled event has ended; the last one ends the event.
    pub(super) fn bundle_ended(&mut self, at: EventIx) {
        let event = &mut self.ledger[at];
        event.pending -= 1;
        if event.pending == 0 {
            let session = event.session;
            self.end_event(at, EventEnd::Settled);
            self.sessions[session].in_flight -= 1;
            self.sessions.release_retired(session, &mut self.users);
        }
    }

    /// Takes a bundle's end from its owner shard.
    pub(super) fn take_result(&mut self, result: BundleResult) {
        if self.is_cut_off {
            return;
        }
        let BundleResult { bundle, end } = result;
        let gateway = bundle.group.gateway;
        let session = &mut self.sessions[bundle.session];
        let lane = session.lane(gateway);
        session.lanes[lane].done = session.lanes[lane].done.wrapping_add(1);
        let recipients = bundle.recipients() as u32;
        let (refused, from, rest) = match end {
            BundleEnd::Answered(refused) => (refused, bundle.group.users.len() as u32, None),
            BundleEnd::Unanswered { from, refused, end } => (refused, from, Some(end)),
        };
        let unanswered = (from..bundle.group.users.len() as u32).filter(|place| *place != bundle.skip);
        let unanswered = if rest.is_some() { unanswered.collect() } else { Vec::new() };
        let delivered = recipients - refused.len() as u32 - unanswered.len() as u32;
        if delivered > 0 {
            self.end_recipients(bundle.event, RecipientEnd::Delivered, delivered);
        }
        for (place, refusal) in refused {
            let user = bundle.group.users[place as usize];
            match refusal {
                Refusal::Other => self.end_recipients(bundle.event, RecipientEnd::Refused, 1),
                Refusal::NotConnected if bundle.attempt > 0 => {
                    self.forget_route_to(user, gateway);
                    self.end_recipients(bundle.event, RecipientEnd::NotConnected, 1);
                }
                Refusal::NotConnected => {
                    self.forget_route_to(user, gateway);
                    self.hold_refused(bundle.session, user, bundle.event, (gateway, RecipientEnd::NotConnected));
                }
            }
        }
        if let Some(end) = rest {
            self.end_unanswered(&bundle, unanswered, end);
        }
        self.try_release_all(bundle.session);
        self.bundle_ended(bundle.event);
    }

    fn end_unanswered(&mut self, bundle: &crate::push::bundle::Bundle, places: Vec<u32>, end: RecipientEnd) {
        let gateway = bundle.group.gateway;
        let has_moved = |user: UserIx, push: &Self| match push.users.route(user) {
            Known::At(now_at) => now_at != gateway,
            Known::Unknown | Known::Asked => true,
            Known::Offline | Known::Bad => false,
        };
        for place in places {
            let user = bundle.group.users[place as usize];
            let may_be_elsewhere = end == RecipientEnd::TimedOut && bundle.attempt == 0 && has_moved(user, self);
            if may_be_elsewhere {
                self.hold_refused(bundle.session, user, bundle.event, (gateway, end));
            } else {
                self.end_recipients(bundle.event, end, 1);
            }
        }
    }

    /// The stop's deadline passed: every event in flight ends as cut off.
    pub(super) fn cut_off(&mut self) {
        self.is_cut_off = true;
        for at in self.ledger.all() {
            let open = self.ledger[at].open;
            self.end_recipients(at, RecipientEnd::CutByStop, open);
            let event = self.ledger.leave(at, EventEnd::CutByStop);
            self.stages.record(Stage::Event, self.now.since(event.arrived));
        }
    }
}
