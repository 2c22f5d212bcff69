//! One shard's decisions: a plain state machine, facts in ([`Input`]) and intentions out ([`Output`]).
//!
//! Promises the order, the bounds and the conservation law of the engine. Refuses to know a runtime, a client library,
//! a clock or randomness: time is a fact, so the same facts give the same intentions, in a test as in production.
//!
//! The modules stand in the order of an event's trip: [`ingest`] reads it, `members` and `routes` look up who and
//! where, `dispatch` makes [`bundle`]s by the session's [`layout`] (`reroute` keeps moved users in order), [`outbox`]
//! pushes them to a gateway, [`ledger`] counts the ends, [`inbox`] stores who could not be reached, and `dead_letters`
//! publishes a dead letter of what can never succeed. An event is settled with its source only after all of that.
//!
//! What each event or bundle runs through, and stands in another module than its caller, is `#[inline]`: modules are compiled in
//! several units, and without it where their borders fall decides what a push costs (by a twentieth, seen with callgrind).

mod admission;
pub mod bundle;
pub mod context;
mod dead_letters;
mod delivery;
mod dispatch;
pub mod evidence;
pub mod facts;
#[cfg(test)]
mod failing_tests;
mod gateways;
pub mod inbox;
pub mod ingest;
mod intake;
pub mod lanes;
pub mod layout;
mod leaving;
pub mod ledger;
mod lookups;
mod notices;
mod observed;
pub mod outbox;
pub mod pauses;
mod prefetch;
mod priority;
mod recipients;
pub mod recorder;
mod repeats;
mod reroute;
mod resolve;
mod results;
pub mod retreat;
pub mod sessions;
mod stage_times;
mod tap;
mod telling;
mod traces;
mod tune;
mod turn;
mod urgent_first;
pub mod users;
#[cfg(test)]
mod warm_tests;
mod warnings;

use std::time::Duration;

use bytes::Bytes;

use crate::model::delivery::DeliveryTag;
use crate::model::ids::Nanos;
use crate::model::limits::{
    PAYLOAD_BYTES_IN_FLIGHT_MAX, PREFETCH_EVENTS_MAX, RECIPIENTS_IN_FLIGHT_MAX, TICK, TURN_EVENTS_MAX,
};
use crate::model::outcome::{Counts, EventOutcome};
use crate::model::priority::{ClassCounts, PriorityRules, Said};
use crate::push::context::Context;
pub use crate::push::context::{Settings, TableBounds};
use crate::push::delivery::Delivery;
use crate::push::dispatch::Dispatch;
use crate::push::facts::{AskNo, Input, Output, Queue};
use crate::push::intake::Intake;
use crate::push::leaving::Leaving;
use crate::push::ledger::{ContentFound, Ledger, Source};
pub use crate::push::recipients::RecipientRules;
use crate::push::recorder::Recorder;
use crate::push::repeats::{Key, fingerprint};
use crate::push::resolve::Resolve;
pub use crate::push::telling::TraceRules;
pub use crate::push::tune::Tune;
use crate::telemetry::metrics::{Activity, GatewayRow, StageHistograms};

/// One shard's push path: its stages, in the order of an event's trip, and what they are handed.
#[derive(Debug)]
pub struct Push {
    cx: Context,
    last_tick: Nanos,
    /// At the last tick nothing had come since the one before, and nothing was under way or due soon.
    is_resting: bool,
    /// A fact came since the last tick.
    has_heard: bool,
    intake: Intake,
    resolve: Resolve,
    dispatch: Dispatch,
    delivery: Delivery,
    ledger: Ledger,
    leaving: Leaving,
    /// What it remembers of ends, where that is wanted.
    recorder: Option<Box<Recorder>>,
}

impl Push {
    /// An empty shard.
    pub fn new(settings: Settings) -> Self {
        Self {
            last_tick: Nanos(0),
            is_resting: false,
            has_heard: false,
            intake: Intake::default(),
            resolve: Resolve::default(),
            dispatch: Dispatch::new(&settings),
            delivery: Delivery::new(&settings),
            ledger: Ledger::default(),
            leaving: Leaving::default(),
            recorder: None,
            cx: Context::new(settings),
        }
    }

    /// The same, where a letter that the dead letters refuse is lost at once: what is written to a local file has waited for it
    /// already, and nobody keeps the event meanwhile (core NATS).
    pub fn with_final_letters(mut self, is_final: bool) -> Self {
        self.ledger.letters.set_final(is_final);
        self
    }

    /// The same with these rules; without them nobody is treated specially.
    pub fn with_recipient_rules(mut self, rules: RecipientRules) -> Self {
        self.cx.rules = rules;
        self
    }

    /// The same with classes of events.
    pub fn with_priorities(mut self, rules: PriorityRules) -> Self {
        self.cx.set_priorities(rules);
        if self.cx.has_classes {
            self.dispatch.line.share(self.cx.turn_recipients);
            self.delivery.gateways.heed_classes(&self.cx.priorities);
        }
        self
    }

    /// The same with turns of so many recipients, instead of [`TURN_RECIPIENTS_MAX`](crate::model::limits::TURN_RECIPIENTS_MAX).
    pub fn with_turn_recipients(mut self, recipients: usize) -> Self {
        self.cx.turn_recipients = recipients;
        self
    }

    /// The time, before the facts of a turn.
    pub fn set_now(&mut self, now: Nanos) {
        debug_assert!(now >= self.cx.now, "time goes forward");
        self.cx.now = now;
    }

    /// So long have the events waited for their shard that are taken next: what is fleeting grows old there too.
    pub fn set_waited(&mut self, waited: Duration) {
        self.cx.waited = waited;
    }

    /// How many events this shard takes now; 0 while it is at a bound.
    pub fn room(&self) -> usize {
        let is_full = self.ledger.pushes_in_flight() >= RECIPIENTS_IN_FLIGHT_MAX
            || self.ledger.payload_bytes >= PAYLOAD_BYTES_IN_FLIGHT_MAX;
        let room = if is_full { 0 } else { self.events_max().saturating_sub(self.ledger.in_flight()) };
        room.max(self.room_that_stays()).min(TURN_EVENTS_MAX)
    }

    /// Takes one fact.
    pub fn take(&mut self, input: Input) {
        self.has_heard = true;
        match input {
            // Whoever waited for it has ended.
            Input::Members { .. }
            | Input::Routes { .. }
            | Input::Stored { .. }
            | Input::ContentFound { .. }
            | Input::LetterPublished { .. }
                if self.cx.is_cut_off => {}
            Input::NotAsked { of, ask } => self.not_asked(of, ask),
            Input::Event { tag, .. } if self.cx.is_cut_off => self.not_taken(tag, EventOutcome::CutByStop),
            Input::Event { tag, .. } if self.leaving.has(tag) => self.not_taken(tag, EventOutcome::GivenBack),
            // Whatever the room, and a repeat as well: it must not overtake what was given back before it.
            Input::Event { payload, tag, .. } if self.cx.is_retreating && !self.stands_in_line(&payload) => {
                self.not_taken(tag, EventOutcome::GivenBack)
            }
            Input::Event { payload, tag, said } => self.take_event(payload, tag, said),
            Input::Members { ask, answer } => {
                if self.resolve.members_answered(ask, answer, &mut self.ledger, &mut self.cx) {
                    self.learn_members();
                }
            }
            Input::Routes { ask, answer } => self.routes_answered(ask, answer),
            Input::Stored { ask, answer } => {
                if let Some(event) = self.ledger.store_answered(ask, answer, &self.resolve.users, &mut self.cx) {
                    self.end_event(event, EventOutcome::Settled);
                }
            }
            Input::ContentFound { ask, answer } => match self.ledger.content_answered(ask, answer, &mut self.cx) {
                Some(ContentFound::Ends(event)) => self.end_event(event, EventOutcome::Settled),
                Some(ContentFound::Ahead(event)) => self.go_on_with(event),
                None => {}
            },
            Input::LetterPublished { ask, answer } => self.letter_published(ask, answer),
            Input::RouteChanged(name) => {
                self.cx.activity.route_changes += 1;
                self.resolve.forget_route(&name);
            }
            Input::RoutesUnknown => self.resolve.lose_routes(self.cx.now),
            Input::RoutesTracked(is_tracking) => {
                self.resolve.is_tracking = is_tracking && self.cx.settings.caches_routes;
                self.resolve.lose_routes(self.cx.now);
            }
            Input::GatewayListed(record) => self.gateway_listed(record),
            Input::GatewayGone(id) => {
                self.delivery.gateways.unlist(&id, self.cx.now);
            }
            Input::Stream { gateway, stream, fact } => self.delivery.take(gateway, stream, fact, &mut self.cx),
            Input::Bundle(bundle) => self.delivery.own(bundle, &mut self.cx),
            Input::Result(result) => self.take_result(result),
            Input::Known(payloads) => self.know(payloads),
            Input::Replayed(tag) => self.intake.replayed.push(tag),
            Input::Leave { partition, tags } => self.leave(partition, tags),
            Input::Stay(partition) => self.leaving.forget(partition),
            Input::Retreat(is_retreating) => self.retreat(is_retreating),
            Input::AskEnds { ask, asked } => self.recall(ask, &asked),
            Input::Tune(tune) => self.tune(&tune),
            Input::Tap(rules) => self.set_tap(rules),
            Input::Stopping => self.delivery.gateways.stop(),
            Input::CutOff => self.cut_off(),
        }
        self.take_local_results();
        self.resume_sessions();
    }

    /// Ends the turn: asks and frames go out in batches. Intentions are appended to `out`.
    pub fn flush(&mut self, out: &mut Vec<Output>) {
        if self.cx.now.since(self.last_tick) >= TICK {
            self.last_tick = self.cx.now;
            self.dispatch.admission.tick(self.cx.now);
            self.delivery.tick(&mut self.cx);
            self.forget_gateways();
            self.sweep_gateway_sets();
            self.resolve.end_loss(self.cx.now);
            self.give_back_waiting();
            self.give_back_leaving();
            self.look_at_notices_due();
            let has_heard = std::mem::take(&mut self.has_heard);
            self.is_resting = !has_heard && !self.is_anything_due_soon();
        }
        self.doubt_routes_to_those_that_left();
        self.take_local_results();
        self.learn_members();
        self.resume_sessions();
        self.resume_stalled();
        self.share_the_rest();
        self.resolve.cut_empty_waits(&mut self.ledger, &mut self.cx);
        self.resolve.ask_members(&mut self.cx);
        self.resolve.ask_routes(&mut self.cx);
        self.delivery.flush(&mut self.cx);
        if !self.cx.is_cut_off {
            self.ledger.ask_contents(&mut self.cx);
            self.ledger.ask_inbox(&self.resolve.users, &mut self.cx);
            self.ledger.ask_dead_letters(&self.resolve.users, &mut self.cx);
        }
        (self.cx.activity.copies_sent, self.cx.activity.copies_missed) = self.ledger.copies_told();
        self.end_turn();
        out.append(&mut self.cx.out);
    }

    /// An event is to come again.
    fn not_taken(&mut self, tag: DeliveryTag, end: EventOutcome) {
        self.intake.forget_replay(tag);
        self.ledger.give_back(tag, end, &mut self.cx);
    }

    fn take_event(&mut self, payload: Bytes, tag: DeliveryTag, said: Said) {
        self.ledger.counts.events_arrived += 1;
        let arrival = match ingest::read_for(payload, self.cx.passes_on()) {
            Ok(arrival) => arrival,
            Err((payload, end)) => return self.ledger.publish_letter_of_refused(payload, tag, end, &mut self.cx),
        };
        if arrival.has_device() && !self.cx.rules.echo_sender {
            self.note_ignored_device();
        }
        if arrival.has_bad_headers() {
            self.note_bad_headers();
        }
        let hash = self.resolve.sessions.hash(arrival.session_id_bytes());
        let key = self.intake.key_of(&arrival, hash, tag);
        if self.intake.is_repeat(&arrival, key, tag, &mut self.ledger, &mut self.cx) {
            return;
        }
        let print = if key == Key::NONE { 0 } else { fingerprint(arrival.compared_bytes()) };
        let session = self.resolve.sessions.of(arrival.session_id_bytes(), hash, &mut self.resolve.users);
        let class = self.class_of(&arrival, said, session);
        if self.is_shed_at_once(class) {
            return self.shed_at_once(tag);
        }
        let (source, first_ask) = (Source::new(key, tag), self.resolve.routes.open_no());
        let event = self.ledger.enter(arrival, source, session, self.cx.now, first_ask, class);
        self.ledger[event].published = self.cx.observed.published_of(&self.ledger[event].arrival);
        self.intake.repeats.entered(key, event, print);
        self.resolve.sessions[session].waiting.push_back(event);
        self.inherit(session, event, said);
        if self.resolve.sessions[session].waiting.len() == 1 {
            self.advance(session);
        } else {
            self.resolve.waits_for_members(session, event, &self.ledger);
        }
    }

    /// Whoever names devices expects echoes.
    #[cold]
    fn note_ignored_device(&mut self) {
        self.cx.activity.devices_ignored += 1;
        self.cx.warn("device_ignored", || {
            "events name the device that sent them (from_device), and consumer.echo_sender is off: nobody is told of it".to_owned()
        });
    }

    fn take_local_results(&mut self) {
        while let Some(result) = self.delivery.results.pop_front() {
            if let Some(later) = self.delivery.results.get(PREFETCH_EVENTS_MAX - 1) {
                self.prefetch_result(later);
            }
            if let Some(later) = self.delivery.results.get(PREFETCH_EVENTS_MAX / 2 - 1) {
                self.prefetch_result_lists(later);
            }
            self.take_result(result);
        }
    }

    /// Nobody was asked: that is neither an answer nor a failure, so it touches no evidence, no try and no set.
    fn not_asked(&mut self, of: Queue, ask: AskNo) {
        if self.cx.is_cut_off {
            return;
        }
        self.cx.activity.asks_not_taken += 1;
        match of {
            Queue::Members => self.resolve.members_not_asked(ask, &mut self.cx),
            Queue::Inbox => self.ledger.inbox.not_asked(ask, self.cx.now),
            Queue::Content => self.ledger.content.not_asked(ask, self.cx.now),
            Queue::DeadLetters => self.ledger.letters.not_asked(ask, self.cx.now),
        }
        self.cx.warn("queue_full", || {
            let store = match of {
                Queue::Members => "member store",
                Queue::Inbox | Queue::Content => "inbox",
                Queue::DeadLetters => "dead letters",
            };
            format!(
                "the queue before the threads of the {store} is full, what is asked waits: look at how fast it answers"
            )
        });
    }

    /// Arrivals and ends so far.
    pub fn counts(&self) -> &Counts {
        &self.ledger.counts
    }

    /// What else was done so far.
    pub fn activity(&self) -> &Activity {
        &self.cx.activity
    }

    /// Warnings so far by reason, also those that were not said.
    pub fn warnings(&self) -> &[(&'static str, u64)] {
        self.cx.warnings()
    }

    /// Whether events have classes.
    pub fn has_classes(&self) -> bool {
        self.cx.has_classes
    }

    /// Ends by class, and what was shed.
    pub fn by_class(&self) -> &ClassCounts {
        &self.ledger.by_class
    }

    /// How old the oldest event without an end is; nothing when there is none. Looks at each.
    pub fn oldest_event_age(&self) -> Duration {
        self.ledger.oldest_arrival().map_or(Duration::ZERO, |arrived| self.cx.now.since(arrived))
    }

    /// Events without an end.
    pub fn events_in_flight(&self) -> usize {
        self.ledger.in_flight()
    }

    /// Events that wait because the list of their session was empty.
    pub fn events_without_members(&self) -> usize {
        if self.cx.is_cut_off { 0 } else { self.resolve.members.empty.events() }
    }

    /// Events that wait although the lookups of their session are refused.
    pub fn events_refused_members(&self) -> usize {
        if self.cx.is_cut_off { 0 } else { self.resolve.members.empty.refused_events() }
    }

    /// Recipients of bundled events without an end.
    pub fn recipients_in_flight(&self) -> usize {
        self.ledger.open_recipients
    }

    /// Pushes under way to them, and to others who have their end by another gateway.
    pub fn pushes_in_flight(&self) -> usize {
        self.ledger.pushes_in_flight()
    }

    /// Payload bytes of the events without an end.
    pub fn payload_bytes_in_flight(&self) -> usize {
        self.ledger.payload_bytes
    }

    /// Sessions and users kept.
    pub fn kept(&self) -> (usize, usize) {
        (self.resolve.sessions.kept(), self.resolve.users.known())
    }

    /// The stage times; the meter takes them out.
    pub fn stages_mut(&mut self) -> &mut StageHistograms {
        self.cx.stages.histograms_mut()
    }

    /// What the metric page says of them.
    pub fn gateway_rows(&self) -> impl Iterator<Item = GatewayRow> {
        self.outboxes().map(|outbox| outbox.row(self.cx.now))
    }

    /// The outboxes of the gateways that this shard owns.
    pub fn outboxes(&self) -> impl Iterator<Item = &outbox::Outbox> {
        self.delivery.gateways.owned()
    }

    /// How many gateways are known.
    pub fn gateways_known(&self) -> usize {
        self.delivery.gateways.known()
    }

    /// Whether any stream is open or being opened.
    pub fn has_streams(&self) -> bool {
        self.delivery.gateways.owned().any(outbox::Outbox::has_stream)
    }
}
