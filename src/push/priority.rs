//! Classes of events: which class an event has, whom it passes, and what it yields.
//!
//! Promises that without rules nothing here does anything; that the order inside a session holds whatever the classes, as a session goes
//! with the class of the best event that waits in it; that urgent events find a part of what the shard may hold free of
//! others, and others one that is free of them; and that bulk and fleeting events together take half of that at the most. Refuses to pass events by in a session.

use std::time::Duration;

use crate::model::delivery::{DeliveryTag, Disposition, Settled};
use crate::model::ids::{GatewayIx, SessionIx, UserIx};
use crate::model::limits::{
    BULK_YIELDS_PART, EVENTS_IN_FLIGHT_MAX, PAYLOAD_BYTES_IN_FLIGHT_MAX, RECIPIENTS_IN_FLIGHT_MAX, TURN_EVENTS_MAX,
    URGENT_RESERVE_PART,
};
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::{Priority, Said, ShedReason};
use crate::push::Push;
use crate::push::admission::Load;
use crate::push::bundle::EventIx;
use crate::push::facts::Output;
use crate::push::ingest::Arrival;
use crate::push::ledger::AtGateways;
use crate::push::pauses::LineOf;

/// Recipients of bulk and fleeting events that gateways are to take, at the most.
const YIELDING_RECIPIENTS_MAX: usize = RECIPIENTS_IN_FLIGHT_MAX / BULK_YIELDS_PART;
/// Recipients of bulk events that wait for rows, beyond which no more yield: with those that gateways are to take, they leave a quarter to
/// others.
const YIELDED_RECIPIENTS_MAX: usize = YIELDING_RECIPIENTS_MAX / 2;

impl Push {
    /// The class of an event that comes, as far as it is known.
    #[inline]
    pub(super) fn class_of(&mut self, arrival: &Arrival, said: Said, session: SessionIx) -> Priority {
        if !self.cx.has_classes {
            return Priority::Normal;
        }
        if said == Said::Unknown {
            self.ledger.by_class.unknown_said += 1;
            let header = self.cx.priorities.header.clone();
            self.cx.warn("unknown_priority", || {
                let id = arrival.session_id();
                format!("session {id}: the value of {header} names no class (urgent, normal, bulk or fleeting); the next rule decides")
            });
        }
        let rules = &self.cx.priorities;
        rules.of_event(said, arrival.kind_bytes()).unwrap_or_else(|| match &self.resolve.sessions[session].members {
            Some(list) => rules.of_members(list.users.len()),
            None => rules.default,
        })
    }

    /// An event waits in its session, and the session goes with the best class of what waits. An event of a session whose members are
    /// not known has its class from their number later, if no earlier rule fits.
    #[inline]
    pub(super) fn inherit(&mut self, at: SessionIx, event: EventIx, said: Said) {
        if !self.cx.has_classes {
            return;
        }
        let (known, rules) = (&mut self.ledger[event], &self.cx.priorities);
        known.waited_millis = self.cx.waited.as_millis().try_into().unwrap_or(u32::MAX);
        let session = &mut self.resolve.sessions[at];
        known.is_class_open = !rules.members_above.is_empty()
            && session.members.is_none()
            && rules.of_event(said, known.arrival.kind_bytes()).is_none();
        if session.waiting.len() == 1 {
            session.pauses.line = LineOf::class(known.class);
        }
        if !known.is_class_open {
            self.raise(at, event);
        }
    }

    /// What waits in the session up to this event goes with its class.
    fn raise(&mut self, at: SessionIx, event: EventIx) {
        let (order, line) = (self.ledger[event].order, LineOf::class(self.ledger[event].class));
        if line == LineOf::LAST {
            return;
        }
        let pauses = &mut self.resolve.sessions[at].pauses;
        pauses.best_until[line.index()] = pauses.best_until[line.index()].max(order);
        let is_better = line < pauses.line;
        if is_better {
            pauses.line = line;
            if pauses.waits_in | pauses.stalled_in != 0 {
                self.dispatch.line.raise(at, pauses);
            }
        }
        if line == LineOf::FIRST {
            if is_better || self.resolve.sessions[at].waiting.len() == 1 {
                self.resolve.hurry_members(at);
                self.resolve.hurry_routes(at);
                self.hurry_contents(at);
            }
            self.resolve.keep_renewed(at, &mut self.cx);
        }
    }

    /// The event at the front of its session, of so many members, is about to be bundled: its class is known now, and so is the
    /// line of the session.
    #[inline]
    pub(super) fn line_of(&mut self, at: SessionIx, event: EventIx, members: usize) -> LineOf {
        if !self.cx.has_classes {
            return LineOf::NORMAL;
        }
        if std::mem::take(&mut self.ledger[event].is_class_open) {
            self.ledger.set_class(event, self.cx.priorities.of_members(members));
            self.raise(at, event);
        }
        let (order, own) = (self.ledger[event].order, LineOf::class(self.ledger[event].class));
        let pauses = &mut self.resolve.sessions[at].pauses;
        let inherited = pauses.best_until.iter().position(|until| order <= *until);
        pauses.line = inherited.map_or(own, |line| own.min(LineOf::of_index(line)));
        pauses.line
    }

    /// Events in flight beyond which no event that is not urgent is taken.
    pub(super) fn events_max(&self) -> usize {
        match self.cx.has_classes {
            true => EVENTS_IN_FLIGHT_MAX - EVENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART,
            false => EVENTS_IN_FLIGHT_MAX,
        }
    }

    /// How many events that are not urgent the shard takes although urgent ones fill it: they have a part that stays theirs.
    pub(super) fn room_that_stays(&self) -> usize {
        let (others, part) = (self.ledger.load_of_others(), Load::OF_SHARD.part(URGENT_RESERVE_PART));
        if self.cx.has_classes && others.is_below(part) { part.events - others.events } else { 0 }
    }

    /// How many urgent events this shard takes now: they may have the reserve as well.
    pub fn room_for_urgent(&self) -> usize {
        if !self.cx.has_classes {
            return self.room();
        }
        let bytes_max = PAYLOAD_BYTES_IN_FLIGHT_MAX + PAYLOAD_BYTES_IN_FLIGHT_MAX / URGENT_RESERVE_PART;
        let is_full = self.ledger.payload_bytes >= bytes_max;
        let room = EVENTS_IN_FLIGHT_MAX.saturating_sub(self.ledger.in_flight());
        if is_full { 0 } else { room.min(TURN_EVENTS_MAX) }
    }

    /// Whether there is room for the recipients of one more event of a line.
    #[inline]
    pub(super) fn has_recipient_room(&self, line: LineOf) -> bool {
        let open = self.ledger.pushes_in_flight();
        if !self.cx.has_classes {
            return open < RECIPIENTS_IN_FLIGHT_MAX;
        }
        let part = RECIPIENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART;
        match line {
            LineOf::FIRST => open < RECIPIENTS_IN_FLIGHT_MAX,
            // So much stays for others, however many urgent ones there are.
            _ if self.ledger.load_of_others().recipients < part => true,
            LineOf::LAST if !self.has_yielding_room() => false,
            _ => open < RECIPIENTS_IN_FLIGHT_MAX - part,
        }
    }

    /// Whether one more bulk or fleeting event may be bundled: gateways take it, or the store does in their place.
    fn has_yielding_room(&self) -> bool {
        let (all, at_gateways) = (self.ledger.yielding_recipients(), self.ledger.yielding_at_gateways());
        let with_one_more = AtGateways { events: at_gateways.events + 1, ..at_gateways };
        match self.do_gateways_lag(with_one_more) {
            false => all < YIELDING_RECIPIENTS_MAX + YIELDED_RECIPIENTS_MAX,
            true => self.are_too_many_yielding() && all - at_gateways.recipients < YIELDED_RECIPIENTS_MAX,
        }
    }

    /// Whether bulk and fleeting events, those that are bundled now among them, have more than they may of the shard's events because
    /// gateways do not take them. What waits for its turn or for the store is no reason: one row more would make that wait longer.
    #[inline]
    pub(super) fn yields_to_others(&self) -> bool {
        self.are_too_many_yielding() && self.do_gateways_lag(self.ledger.yielding_at_gateways())
    }

    fn do_gateways_lag(&self, held: AtGateways) -> bool {
        held.events > self.yielding_max() || held.recipients >= YIELDING_RECIPIENTS_MAX
    }

    fn are_too_many_yielding(&self) -> bool {
        self.ledger.yielding_events() > self.yielding_max()
    }

    fn yielding_max(&self) -> usize {
        self.cx.settings.events_window.min(EVENTS_IN_FLIGHT_MAX) / BULK_YIELDS_PART
    }

    /// Whether an event is dropped as it comes.
    #[inline]
    pub(super) fn is_shed_at_once(&self, class: Priority) -> bool {
        class == Priority::Fleeting && self.ledger.yielding_events() >= self.yielding_max()
    }

    /// A fleeting event finds no room: nothing of it is kept.
    pub(super) fn shed_at_once(&mut self, tag: DeliveryTag) {
        self.ledger.counts.events_ended[EventOutcome::Shed as usize] += 1;
        let by_class = &mut self.ledger.by_class;
        by_class.events_ended[Priority::Fleeting as usize][EventOutcome::Shed as usize] += 1;
        by_class.events_shed[ShedReason::Shard as usize] += 1;
        self.cx.out.push(Output::Settle(Settled { tag, how: Disposition::Ack }));
    }

    /// Whether a fleeting event has waited for too long.
    pub(super) fn is_too_late(&self, event: EventIx) -> bool {
        let ttl = self.cx.priorities.fleeting_ttl;
        self.ledger[event].class == Priority::Fleeting && !ttl.is_zero() && self.age(event) > ttl
    }

    /// How long ago an event came, its wait for this shard included.
    fn age(&self, event: EventIx) -> Duration {
        let known = &self.ledger[event];
        self.cx.now.since(known.arrived) + Duration::from_millis(u64::from(known.waited_millis))
    }

    /// The same for its bundles.
    pub(super) fn age_millis(&self, event: EventIx) -> u16 {
        u16::try_from(self.age(event).as_millis()).unwrap_or(u16::MAX)
    }

    /// The event at the front of its session, of so many members, is dropped.
    pub(super) fn shed_late(&mut self, at: SessionIx, event: EventIx, members: u32) {
        self.resolve.sessions[at].waiting.pop_front();
        self.ledger.enter_recipients(event, members, self.cx.now);
        self.resolve.sessions[at].in_flight += 1;
        self.ledger.by_class.events_shed[ShedReason::Late as usize] += 1;
        let sender = self.resolve.sender(at, self.ledger[event].arrival.from_username_bytes());
        let skipped = u32::from(sender.is_some() && !self.cx.rules.echo_sender);
        if skipped > 0 {
            self.ledger.end_recipients(event, RecipientOutcome::SkippedSender, skipped);
        }
        self.ledger.shed_recipients(event, members - skipped, ShedReason::Late);
        self.end_event(event, EventOutcome::Shed);
    }

    /// Whether a gateway may be sent one more bundle of a class.
    #[inline]
    pub(super) fn is_admitted(&self, gateway: GatewayIx, class: Priority) -> bool {
        let (admission, in_flight, now) = (&self.dispatch.admission, self.ledger.load(), self.cx.now);
        admission.admit(gateway, class.yields(), in_flight, now)
    }

    /// Whether a bundle of a class may be sent nevertheless.
    #[inline]
    pub(super) fn has_reserve(&self, class: Priority) -> bool {
        class == Priority::Urgent && self.dispatch.admission.has_reserve()
    }

    /// How recipients end who are not pushed to, by the class of their event: those of a fleeting one are dropped.
    pub(super) fn end_turned_away(&mut self, event: EventIx, users: &[UserIx], why: ShedReason) {
        match self.ledger[event].class {
            Priority::Fleeting => self.shed_unreached(event, users, why),
            Priority::Bulk if why != ShedReason::Outbox => {
                self.end_unreached(event, users, RecipientOutcome::Yielded, None)
            }
            _ => self.end_unreached(event, users, RecipientOutcome::OutboxFull, None),
        }
    }
}
