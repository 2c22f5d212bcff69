//! A bundle's result comes home, and events end: the one place where an end is told to all stages.
//!
//! Promises that an event ends exactly once, when nothing of it is pending. Branches only; what each stage does with an end
//! stands in the stage.

use crate::model::delivery::LookupError;
use crate::model::ids::UserIx;
use crate::model::outcome::{EventOutcome, RecipientOutcome};
use crate::model::priority::ShedReason;
use crate::push::Push;
use crate::push::bundle::{Bundle, BundleEnd, BundleResult, EventIx, Refusal};
use crate::push::facts::AskNo;
use crate::push::telling::Seen;
use crate::push::users::RouteState;

impl Push {
    /// An event ends that is not (or no longer) in its session's queue, and its source is told, of its repeats as well.
    pub(super) fn end_event(&mut self, at: EventIx, end: EventOutcome) {
        if self.ledger.ends_later(at, end) {
            return;
        }
        self.record_event(at, end);
        if self.cx.observed.tap.is_some() {
            self.tap_end(at, end);
        }
        let left = self.ledger.end(at, end, &mut self.cx);
        if matches!(end, EventOutcome::Settled | EventOutcome::Shed) {
            self.intake.repeats.settled(left.key, self.cx.now);
        } else {
            self.intake.repeats.forget(left.key);
        }
        if let Some(session) = left.bundled_of
            && self.resolve.event_ended(session)
            && !self.cx.is_cut_off
        {
            self.dispatch.line.resume(session, &mut self.resolve.sessions[session].pauses);
        }
    }

    /// The dead letters answered about a letter.
    pub(super) fn letter_published(&mut self, ask: AskNo, answer: Result<(), LookupError>) {
        let ended = self.ledger.letter_answered(ask, answer, &self.resolve.users, &mut self.cx);
        self.record_late_ends();
        if let Some((event, end)) = ended {
            self.end_event(event, end);
        }
    }

    /// A bundle or held recipient of a bundled event has ended; after the last one the event ends, unless it owes the
    /// inbox something.
    #[inline]
    pub(super) fn bundle_ended(&mut self, at: EventIx) {
        if self.ledger.bundle_ended(at) {
            self.end_event(at, EventOutcome::Settled);
        }
    }

    /// Takes a bundle's end from its owner shard.
    pub(super) fn take_result(&mut self, result: BundleResult) {
        if self.cx.is_cut_off {
            return;
        }
        let (bundle, times) = (&result.bundle, result.times);
        let (refused, from, rest) = match result.end {
            BundleEnd::Answered(refused) => (refused, bundle.group.users.len() as u32, None),
            BundleEnd::Unanswered { from, refused, end, is_on_stream } => {
                self.ledger[bundle.event].progress.on_streams += u32::from(is_on_stream);
                (refused, from, Some(end))
            }
            BundleEnd::OffStream => return self.off_stream(bundle.event),
        };
        let (gateway, is_answered) = (bundle.group.gateway, rest.is_none());
        self.dispatch.admission.ended(gateway, bundle.load(), bundle.made_at, is_answered, self.cx.now);
        if bundle.is_reserved {
            self.dispatch.admission.give_reserve_back(bundle.load());
        }
        self.delivery.gateways.note_lists(&bundle.group);
        if rest.is_some_and(ends_out_of_turn) {
            self.wait_for_one_more(bundle.session, gateway);
        }
        let session = &mut self.resolve.sessions[bundle.session];
        let lane = session.lane(gateway, bundle.group.lane);
        session.lanes[lane].done = session.lanes[lane].done.wrapping_add(1);
        let recipients = bundle.recipients() as u32;
        let unanswered = (from..bundle.group.users.len() as u32).filter(|place| *place != bundle.skip);
        let unanswered = if rest.is_some() { unanswered.collect() } else { Vec::new() };
        let missed = refused.len() as u32 + unanswered.len() as u32;
        let delivered = recipients - missed;
        let sent = (bundle.event, &*bundle.group, bundle.skip);
        let delivered = self.ledger.newly_delivered(sent, &refused, from, delivered);
        if delivered > 0 {
            self.ledger.end_recipients(bundle.event, bundle.end_of_answered(), delivered);
            self.record_reached(sent, &refused, delivered, bundle.end_of_answered());
            self.note_answered(bundle, times, delivered);
        }
        for (place, refusal) in refused {
            let user = bundle.group.users[place as usize];
            match refusal {
                Refusal::Other => self.end_unreached(bundle.event, &[user], RecipientOutcome::Refused, Some(gateway)),
                Refusal::NotConnected if bundle.attempt > 0 => {
                    self.resolve.forget_route_to(user, gateway);
                    self.end_unreached(bundle.event, &[user], RecipientOutcome::NotConnected, Some(gateway));
                }
                Refusal::NotConnected => {
                    self.resolve.forget_route_to(user, gateway);
                    self.hold_refused(bundle.session, user, bundle.event, (gateway, RecipientOutcome::NotConnected));
                }
            }
        }
        if let Some(end) = rest {
            self.end_unanswered(bundle, unanswered, end);
        }
        self.trace_push(bundle, Seen { times, delivered, missed, unanswered: rest });
        if self.resolve.sessions[bundle.session].notices.is_some() {
            self.end_round(bundle, is_answered);
        }
        self.try_release_all(bundle.session);
        self.bundle_ended(bundle.event);
    }

    /// A push that had ended is read by nobody any more: an event that waited for that ends.
    fn off_stream(&mut self, event: EventIx) {
        if let Some(end) = self.ledger.off_stream(event) {
            self.end_event(event, end);
        }
    }

    fn end_unanswered(&mut self, bundle: &Bundle, places: Vec<u32>, end: RecipientOutcome) {
        let gateway = bundle.group.gateway;
        let has_moved = |user: UserIx, push: &Self| match push.resolve.users.route(user) {
            RouteState::At(_) | RouteState::AtEach(_) => !push.resolve.users.is_at(user, gateway),
            RouteState::Unknown | RouteState::Asked => true,
            RouteState::Offline | RouteState::Bad | RouteState::NoPlace => false,
        };
        for place in places {
            let user = bundle.group.users[place as usize];
            let may_be_elsewhere = end == RecipientOutcome::TimedOut && bundle.attempt == 0 && has_moved(user, self);
            if end == RecipientOutcome::OutboxFull {
                self.end_turned_away(bundle.event, &[user], ShedReason::Outbox);
            } else if end == RecipientOutcome::Shed {
                self.end_turned_away(bundle.event, &[user], ShedReason::Late);
            } else if may_be_elsewhere {
                self.hold_refused(bundle.session, user, bundle.event, (gateway, end));
            } else {
                self.end_unreached(bundle.event, &[user], end, Some(gateway));
            }
            // A route that expires is told only when the store comes upon it, which may be never: the next event of this
            // user asks. What overflows says nothing of the user, and at its rate to ask each time would be a storm.
            if end == RecipientOutcome::TimedOut {
                self.resolve.users.mark_stale(user, gateway);
            }
        }
    }

    /// The stop's deadline passed: every event in flight ends as cut off, and comes again.
    pub(super) fn cut_off(&mut self) {
        self.cx.is_cut_off = true;
        let (events, refused) = self.ledger.all_in_flight();
        for at in events {
            let open = self.ledger[at].progress.open;
            self.ledger.end_recipients(at, RecipientOutcome::CutByStop, open);
            self.ledger[at].progress.on_streams = 0;
            // Nobody waits for what had its end but the streams, which are cut.
            let end = self.ledger[at].progress.ends.take().unwrap_or(EventOutcome::CutByStop);
            self.end_event(at, end);
        }
        for at in refused {
            self.ledger.end_refused(at, EventOutcome::CutByStop, &mut self.cx);
        }
        self.intake.repeats.forget_all();
        self.dispatch.stalled.clear();
    }
}

/// Whether a bundle with this end may have it before older ones of its lane: it was turned away, or dropped where it waited.
fn ends_out_of_turn(end: RecipientOutcome) -> bool {
    matches!(end, RecipientOutcome::OutboxFull | RecipientOutcome::GatewayTableFull | RecipientOutcome::Shed)
}
