//! One shard's decisions: a plain state machine, facts in ([`Input`]) and intentions out ([`Output`]).
//!
//! Promises the order, the bounds and the conservation law of the engine. Refuses to know a runtime, a client library,
//! a clock or randomness: time is a fact, so the same facts give the same intentions, in a test as in production.
//!
//! The modules stand in the order of an event's trip: [`ingest`] reads it, `members` and `routes` look up who and
//! where, `dispatch` makes [`bundle`]s by the session's [`layout`] (`holds` keeps moved users in order), [`outbox`]
//! pushes them to a gateway, [`ledger`] counts the ends, [`inbox`] stores who could not be reached, and `dead_letters`
//! buries what can never succeed. An event is settled with its source only after all of that.

pub mod bundle;
mod dead_letters;
mod dispatch;
mod empty_lists;
pub mod evidence;
pub mod facts;
#[cfg(test)]
mod failing_tests;
mod gateways;
mod holds;
pub mod inbox;
pub mod ingest;
pub mod layout;
pub mod ledger;
mod members;
mod outage;
pub mod outbox;
mod prefetch;
mod repeats;
pub mod retreat;
mod routes;
pub mod sessions;
mod shares;
mod stage_times;
mod turn;
pub mod users;
mod warnings;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::model::delivery::{DeliveryTag, SettleAs, Settled};
use crate::model::ids::{GatewayIx, Nanos, SessionIx, ShardId, UserIx};
use crate::model::limits::{
    EVENTS_IN_FLIGHT_MAX, FORESEEN_MAX, PAYLOAD_BYTES_IN_FLIGHT_MAX, RECIPIENTS_IN_FLIGHT_MAX, TICK, TURN_EVENTS_MAX,
};
use crate::model::outcome::Counts;
use crate::model::outcome::EventEnd;
use crate::push::bundle::{Bundle, BundleResult};
use crate::push::dead_letters::DeadLetterAsks;
use crate::push::facts::{Input, Output};
use crate::push::gateways::Gateways;
pub use crate::push::gateways::TableBounds;
use crate::push::holds::Hold;
use crate::push::inbox::{InboxAsks, InboxStore};
use crate::push::ingest::Arrival;
use crate::push::layout::Grouper;
use crate::push::ledger::Ledger;
use crate::push::members::MemberAsks;
use crate::push::outbox::{Effects, OutboxSettings};
use crate::push::repeats::{Key, Repeats, Seen, fingerprint};
use crate::push::routes::RouteAsks;
use crate::push::sessions::Sessions;
use crate::push::shares::Shares;
use crate::push::stage_times::StageTimes;
use crate::push::turn::Turn;
use crate::push::users::Users;
use crate::push::warnings::Warnings;
use crate::telemetry::metrics::{Activity, StageHistograms};

/// What a shard's decisions depend on besides facts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// How many events its source lets out to it at once; [`EVENTS_IN_FLIGHT_MAX`] when the source has no bound.
    pub events_window: usize,
    /// Users of one group at the most: [`GROUP_USERS_MAX`](crate::model::limits::GROUP_USERS_MAX), but where groups are to be cut that are small.
    pub group_users_max: usize,
    /// `members.cache_ttl`.
    pub members_ttl: Duration,
    /// `members.empty_wait`.
    pub empty_wait: Duration,
    /// `routes.cache` is `tracked`: while the store tells changes, a route holds until it does. Else each event asks.
    pub caches_routes: bool,
    /// `gateway.delivery_timeout`.
    pub delivery_timeout: Duration,
    /// `registry.forget_after`.
    pub registry_forget_after: Duration,
    /// How many gateways are known at once, and for how long.
    pub gateway_table: TableBounds,
    /// `consumer.max_retry`.
    pub max_retry: u32,
    /// `consumer.retry_interval`.
    pub retry_interval: Duration,
    /// `inbox.store`.
    pub inbox: InboxStore,
}

/// One shard's push path.
#[derive(Debug)]
pub struct Push {
    settings: Settings,
    now: Nanos,
    last_tick: Nanos,
    users: Users,
    sessions: Sessions,
    gateways: Gateways,
    shares: Shares,
    /// What an outbox wants done, between two of them; kept for its memory.
    effects: Effects,
    grouper: Grouper,
    members: MemberAsks,
    routes: RouteAsks,
    holds: HashMap<(SessionIx, UserIx), Hold>,
    repeats: Repeats,
    ledger: Ledger,
    inbox: InboxAsks,
    letters: DeadLetterAsks,
    local_results: VecDeque<BundleResult>,
    turn: Turn,
    /// Sessions that wait for room.
    stalled: VecDeque<SessionIx>,
    activity: Activity,
    is_tracking: bool,
    stages: StageTimes,
    warnings: Warnings,
    hasher: FixedState,
    is_cut_off: bool,
    is_retreating: bool,
    out: Vec<Output>,
}

impl Push {
    /// An empty shard.
    pub fn new(settings: Settings) -> Self {
        let outbox = OutboxSettings {
            delivery_timeout: settings.delivery_timeout,
            forget_after: settings.registry_forget_after,
        };
        let table = settings.gateway_table.clone();
        let grouper = Grouper::of(settings.group_users_max);
        let shares = Shares::new(settings.events_window.min(EVENTS_IN_FLIGHT_MAX));
        Self {
            settings,
            now: Nanos(0),
            last_tick: Nanos(0),
            users: Users::default(),
            sessions: Sessions::default(),
            gateways: Gateways::new(outbox, table),
            shares,
            effects: Effects::default(),
            grouper,
            members: MemberAsks::default(),
            routes: RouteAsks::default(),
            holds: HashMap::new(),
            repeats: Repeats::default(),
            ledger: Ledger::default(),
            inbox: InboxAsks::default(),
            letters: DeadLetterAsks::default(),
            local_results: VecDeque::new(),
            turn: Turn::default(),
            stalled: VecDeque::new(),
            activity: Activity::default(),
            is_tracking: false,
            stages: StageTimes::default(),
            warnings: Warnings::default(),
            hasher: FixedState::default(),
            is_cut_off: false,
            is_retreating: false,
            out: Vec::new(),
        }
    }

    /// The time, before the facts of a turn.
    pub fn set_now(&mut self, now: Nanos) {
        debug_assert!(now >= self.now, "time goes forward");
        self.now = now;
    }

    /// How many events this shard takes now; 0 while it is at a bound.
    pub fn room(&self) -> usize {
        let is_full = self.ledger.open_recipients >= RECIPIENTS_IN_FLIGHT_MAX
            || self.ledger.payload_bytes >= PAYLOAD_BYTES_IN_FLIGHT_MAX;
        if is_full {
            0
        } else {
            (EVENTS_IN_FLIGHT_MAX - self.ledger.in_flight().min(EVENTS_IN_FLIGHT_MAX)).min(TURN_EVENTS_MAX)
        }
    }

    /// Takes one fact.
    pub fn take(&mut self, input: Input) {
        match input {
            // Whoever waited for it has ended.
            Input::Members { .. } | Input::Routes { .. } | Input::Stored { .. } | Input::Buried { .. }
                if self.is_cut_off => {}
            Input::NotAsked { of, ask } => self.not_asked(of, ask),
            Input::Event { tag, .. } if self.is_cut_off => self.give_back(tag, EventEnd::CutByStop),
            // Whatever the room, and a repeat as well: it must not overtake what was given back before it.
            Input::Event { payload, tag } if self.is_retreating && !self.stands_in_line(&payload) => {
                self.give_back(tag, EventEnd::GivenBack)
            }
            Input::Event { payload, tag } => self.take_event(payload, tag),
            Input::Members { ask, answer } => self.members_answered(ask, answer),
            Input::Routes { ask, answer } => self.routes_answered(ask, answer),
            Input::Stored { ask, answer } => self.store_answered(ask, answer),
            Input::Buried { ask, answer } => self.bury_answered(ask, answer),
            Input::RouteChanged(name) => {
                self.activity.route_changes += 1;
                if let Some(user) = self.users.find(&*name) {
                    self.users.forget_route(user);
                }
            }
            Input::RoutesUnknown => {
                self.routes.hurry(self.now);
                self.users.forget_all_routes();
            }
            Input::RoutesTracked(is_tracking) => {
                self.routes.hurry(self.now);
                self.is_tracking = is_tracking && self.settings.caches_routes;
                self.users.forget_all_routes();
            }
            Input::GatewayListed(record) => self.gateway_listed(record),
            Input::GatewayGone(id) => {
                self.gateways.unlist(&id, self.now);
            }
            Input::Stream { gateway, stream, fact } => self.take_stream_fact(gateway, stream, fact),
            Input::Bundle(bundle) => self.own(bundle),
            Input::Result(result) => self.take_result(result),
            Input::Retreat(is_retreating) => self.retreat(is_retreating),
            Input::Stopping => self.gateways.stop(),
            Input::CutOff => self.cut_off(),
        }
        self.take_local_results();
        self.resume_sessions();
    }

    /// Ends the turn: asks and frames go out in batches. Intentions are appended to `out`.
    pub fn flush(&mut self, out: &mut Vec<Output>) {
        if self.now.since(self.last_tick) >= TICK {
            self.last_tick = self.now;
            self.shares.tick(self.now);
            self.tick_outboxes();
            self.forget_gateways();
            self.give_back_waiting();
        }
        self.doubt_routes_to_those_that_left();
        self.take_local_results();
        self.learn_members();
        self.resume_sessions();
        self.resume_stalled();
        self.cut_empty_waits();
        self.ask_members();
        self.ask_routes();
        self.flush_outboxes();
        if !self.is_cut_off {
            self.ask_inbox();
            self.ask_dead_letters();
        }
        self.end_turn();
        out.append(&mut self.out);
    }

    fn take_event(&mut self, payload: Bytes, tag: DeliveryTag) {
        self.ledger.counts.events_arrived += 1;
        let arrival = match ingest::read(payload) {
            Ok(arrival) => arrival,
            Err((payload, end)) => return self.bury_refused(payload, tag, end),
        };
        let hash = self.sessions.hash(arrival.session_id_bytes());
        let key = match arrival.has_only() {
            true => Key::NONE,
            false => Key::of(hash, arrival.msg_id, arrival.seq_id, arrival.kind_bytes()),
        };
        match self.repeats.look(key, self.now, |event| self.ledger.has(event, key)) {
            Seen::First => {}
            Seen::InFlight(event) => {
                self.compare_repeat(&arrival, self.ledger[event].arrival.message_bytes() == arrival.message_bytes());
                return self.join(event, tag);
            }
            Seen::Settled(first) => {
                self.compare_repeat(&arrival, first == fingerprint(arrival.message_bytes()));
                self.ledger.counts.events_ended[EventEnd::Repeat as usize] += 1;
                return self.out.push(Output::Settle(Settled { tag, how: SettleAs::Done }));
            }
        }
        let print = if key == Key::NONE { 0 } else { fingerprint(arrival.message_bytes()) };
        let session = self.sessions.of(arrival.session_id_bytes(), hash, &mut self.users);
        let event = self.ledger.enter(arrival, key, session, tag, self.now, self.routes.open_no());
        self.repeats.entered(key, event, print);
        self.sessions[session].waiting.push_back(event);
        if self.sessions[session].waiting.len() == 1 {
            self.advance(session);
        } else {
            self.waits_for_members(session, event);
        }
    }

    /// A repeat is not pushed, whatever it says; when it says something else, its publisher uses an id twice.
    fn compare_repeat(&mut self, repeat: &Arrival, is_same: bool) {
        if is_same {
            return;
        }
        self.activity.repeats_that_differ += 1;
        self.warn("repeat_differs", || {
            format!(
                "session {:?}: an event with msg_id {}, seq_id {} and type {:?} came again with another content, and was \
                 not pushed: check that its publisher gives each event an id of its own",
                repeat.session_id(),
                repeat.msg_id,
                repeat.seq_id,
                String::from_utf8_lossy(repeat.kind_bytes())
            )
        });
    }

    /// What is not taken is to come again.
    fn give_back(&mut self, tag: DeliveryTag, end: EventEnd) {
        self.ledger.counts.events_arrived += 1;
        self.ledger.counts.events_ended[end as usize] += 1;
        self.out.push(Output::Settle(Settled { tag, how: SettleAs::GivenBack }));
    }

    fn send_to_owner(&mut self, bundle: Bundle) {
        let owner = self.gateways.owner(bundle.group.gateway, self.settings.shards);
        if owner == self.settings.shard { self.own(bundle) } else { self.out.push(Output::ToOwner(owner, bundle)) }
    }

    fn send_home(&mut self, result: BundleResult) {
        let home = result.bundle.home;
        if home == self.settings.shard {
            self.local_results.push_back(result)
        } else {
            self.out.push(Output::ToHome(home, result))
        }
    }

    fn take_local_results(&mut self) {
        while let Some(result) = self.local_results.pop_front() {
            if let Some(later) = self.local_results.get(FORESEEN_MAX - 1) {
                self.foresee_result(later);
            }
            if let Some(later) = self.local_results.get(FORESEEN_MAX / 2 - 1) {
                self.foresee_lists(later);
            }
            self.take_result(result);
        }
    }

    /// Says something to the operator, unless the same was said lately; the text is made only when said.
    fn warn(&mut self, reason: &'static str, detail: impl FnOnce() -> String) {
        self.warn_of(reason, None, |_| detail());
    }

    /// The same, about a gateway.
    fn warn_of(&mut self, reason: &'static str, about: Option<GatewayIx>, detail: impl FnOnce(&Self) -> String) {
        let Some(left_out) = self.warnings.may_say(reason, about, self.now) else { return };
        let mut detail = detail(self);
        if let Some(gateway) = about {
            detail = format!("gateway {}: {detail}", self.gateways.id(gateway));
        }
        if left_out > 0 {
            detail = format!("{detail} ({left_out} more like this since it was last said)");
        }
        self.out.push(Output::Warn { reason, detail });
    }

    /// Arrivals and ends so far.
    pub fn counts(&self) -> &Counts {
        &self.ledger.counts
    }

    /// What else was done so far.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Warnings so far by reason, also those that were not said.
    pub fn warnings(&self) -> &[(&'static str, u64)] {
        self.warnings.totals()
    }

    /// Events without an end.
    pub fn events_in_flight(&self) -> usize {
        self.ledger.in_flight()
    }

    /// Events that wait because the list of their session was empty.
    pub fn events_without_members(&self) -> usize {
        if self.is_cut_off { 0 } else { self.members.empty.events() }
    }

    /// Events that wait although the lookups of their session are refused.
    pub fn events_refused_members(&self) -> usize {
        if self.is_cut_off { 0 } else { self.members.empty.refused_events() }
    }

    /// Recipients of bundled events without an end.
    pub fn recipients_in_flight(&self) -> usize {
        self.ledger.open_recipients
    }

    /// Payload bytes of the events without an end.
    pub fn payload_bytes_in_flight(&self) -> usize {
        self.ledger.payload_bytes
    }

    /// Sessions and users kept.
    pub fn kept(&self) -> (usize, usize) {
        (self.sessions.kept(), self.users.known())
    }

    /// The stage times; the meter takes them out.
    pub fn stages_mut(&mut self) -> &mut StageHistograms {
        self.stages.histograms_mut()
    }

    /// The outboxes of the gateways that this shard owns.
    pub fn outboxes(&self) -> impl Iterator<Item = &outbox::Outbox> {
        self.gateways.owned()
    }

    /// How many gateways are known.
    pub fn gateways_known(&self) -> usize {
        self.gateways.known()
    }

    /// Whether any stream is open or being opened.
    pub fn has_streams(&self) -> bool {
        self.gateways.owned().any(outbox::Outbox::has_stream)
    }
}

impl Activity {
    fn add(&mut self, other: &Self) {
        self.stream_opens += other.stream_opens;
        self.stream_breaks += other.stream_breaks;
        self.answer_mismatches += other.answer_mismatches;
        self.resent_recipients += other.resent_recipients;
        self.frame_bytes += other.frame_bytes;
    }
}
