//! One shard's loop: facts from everywhere into the push path, intentions out to the edge, in batches.
//!
//! Promises that a turn never waits, that the pump sleeps only when nothing is there to do, and that its numbers are
//! published once per turn, as one instant. Refuses to decide anything: that is [`Push`]'s.

mod ending;
mod report;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::Held;
use crate::edge::alarm::Alarm;
use crate::edge::gateway::Gateways;
use crate::edge::pace;
use crate::model::ids::{Nanos, ShardId};
use crate::model::limits::{INBOX_FACTS_A_TURN, PREFETCH_EVENTS_MAX, REST_TICK, TICK, TURN_EVENTS_MAX};
use crate::model::publication::Published;
use crate::ports::ends::EndsDesk;
use crate::ports::intake::{Handed, IntakeLane};
use crate::ports::mailbox::{FactSender, LocalFacts, Mailbox, Wake};
use crate::ports::permit::Permit;
use crate::ports::route_queue::{RouteAsk, RouteQueue};
use crate::ports::tap::TapDesk;
use crate::ports::traces::TraceSender;
use crate::ports::{DeadLetter, DeliveryTag, Health, InboxRows, LookupError, MessageKey, RunningSource, Settled};
use crate::push::facts::{AskNo, Input, Output, Queue};
use crate::push::{Push, Tune};
use crate::shard::mesh::{MeshEnd, MeshMessage};
use crate::shard::stop::{LEAVING, StopState};
use crate::shard::workers::members::MemberThreads;
use crate::shard::workers::writers::{ContentThread, DeadLetterThread, InboxThreads};
use crate::telemetry::metrics::{ShardPublisher, ShardSnapshot, Stage};
use crate::telemetry::watchdog::Heartbeats;

/// To look ahead costs something itself: with fewer events than this it would save less.
const PREFETCH_EVENTS_MIN: usize = 4;

/// The ends that all shards of an engine share.
pub struct Shared {
    /// Of the stop.
    pub stop: StopState,
    /// Of /livez.
    pub heartbeats: Arc<Heartbeats>,
    /// Until when events may be taken and pushed.
    pub permit: Arc<Permit>,
    /// Whoever asks what shards remember of ends.
    pub ends: EndsDesk,
    /// Whoever looks on at events.
    pub tap: TapDesk,
    /// Time zero.
    pub epoch: Instant,
    /// Who is told of settled events, once it runs.
    pub source: std::sync::OnceLock<Box<dyn RunningSource>>,
    /// How each shard's way to the route store is.
    pub routes_health: Vec<std::sync::Mutex<Health>>,
    /// When each of them was last seen ready, in milliseconds since the epoch.
    pub routes_ready_at: Vec<AtomicU64>,
}

impl Shared {
    /// How a shard's way to the route store is; one that was ready a moment ago is.
    pub fn routes_health_of(&self, shard: usize, moment: Duration) -> Health {
        let health = self.routes_health[shard].lock().unwrap_or_else(|e| e.into_inner()).clone();
        let ready_at = self.routes_ready_at[shard].load(Ordering::Acquire);
        let was_ready = ready_at > 0 && self.millis().saturating_sub(ready_at) < moment.as_millis() as u64;
        if was_ready { Health::Ready } else { health }
    }

    fn now(&self) -> Nanos {
        Nanos(self.epoch.elapsed().as_nanos() as u64)
    }

    /// What the wall clock showed at time zero, in nanoseconds since 1970, as it is set now.
    pub fn unix_zero_nanos(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.epoch.elapsed()).as_nanos() as u64
    }

    fn millis(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64 + 1
    }
}

/// What the pump of one shard holds.
pub struct Pump {
    /// Which.
    pub shard: ShardId,
    /// The decisions.
    pub push: Push,
    /// Facts from other threads.
    pub mailbox: Mailbox,
    /// Where other threads put them.
    pub sender: FactSender,
    /// Facts from tasks of this shard.
    pub local: LocalFacts,
    /// What the decisions go by that may change.
    pub tune: Held<Tune>,
    /// Events.
    pub lane: IntakeLane,
    /// Other shards.
    pub mesh: MeshEnd,
    /// Wakes this pump.
    pub wake: Arc<Wake>,
    /// Gateway streams.
    pub gateways: Gateways,
    /// Route lookups.
    pub routes: RouteQueue,
    /// Member lookups.
    pub members: MemberThreads,
    /// Inbox rows; none with `inbox.store: off`.
    pub inbox: Option<InboxThreads>,
    /// Contents of messages; none where they are not looked for.
    pub contents: Option<ContentThread>,
    /// Dead letters.
    pub letters: DeadLetterThread,
    /// Where traces of events go; nowhere where none are made.
    pub traces: Option<TraceSender>,
    /// Where its numbers go.
    pub publisher: ShardPublisher,
    /// What is shared.
    pub shared: Arc<Shared>,
    /// The next tick.
    pub alarm: Alarm,
    /// What this turn does; kept for its memory.
    pub work: Work,
}

/// Memory kept between turns.
#[derive(Default)]
pub struct Work {
    facts: Vec<Input>,
    events: Vec<Handed>,
    outputs: Vec<Output>,
    settled: Vec<Settled>,
    snapshot: ShardSnapshot,
    reported_at: Nanos,
    is_quiet: bool,
    is_stopping: bool,
    is_stuck: bool,
    is_blocked: bool,
    is_idle: bool,
    has_given_up: bool,
    is_cut_off: bool,
}

impl Pump {
    /// Runs until the stop is done.
    pub async fn run(mut self) {
        self.push.set_unix_zero(self.shared.unix_zero_nanos());
        loop {
            let has_worked = self.turn();
            if self.is_over() {
                break;
            }
            if has_worked {
                pace::yield_now().await;
            } else {
                self.sleep().await;
            }
        }
        self.shared.heartbeats.ended(self.shard);
    }

    /// One turn; false when there was nothing to do.
    fn turn(&mut self) -> bool {
        let began = Instant::now();
        let now = Nanos(began.saturating_duration_since(self.shared.epoch).as_nanos() as u64);
        self.push.set_now(now);
        self.work.snapshot.turns += 1;
        if self.tune.renew() {
            self.push.take(Input::Tune(Box::new(Tune::clone(&self.tune))));
        }
        let mut taken = self.take_facts();
        taken += self.take_events(began);
        self.look_at_stop();
        self.push.flush(&mut self.work.outputs);
        taken += self.work.outputs.len();
        self.carry_out();
        self.publish(now);
        self.shared.heartbeats.beat(self.shard);
        taken > 0 || self.push.has_more()
    }

    fn take_facts(&mut self) -> usize {
        let mut taken = 0;
        while taken < INBOX_FACTS_A_TURN
            && let Some(fact) = self.mailbox.try_next()
        {
            taken += 1;
            // What is in the lane came before what is given back comes again.
            if matches!(fact, Input::Retreat(false)) && self.push.is_retreating() {
                self.give_back_lane();
            }
            self.push.take(fact);
        }
        self.local.take_all(&mut self.work.facts);
        taken += self.work.facts.len();
        for fact in self.work.facts.drain(..) {
            self.push.take(fact);
        }
        taken += self.take_lane_facts();
        let push = &mut self.push;
        taken + self.mesh.receive(INBOX_FACTS_A_TURN, |fact| push.take(fact))
    }

    fn take_lane_facts(&mut self) -> usize {
        let mut taken = 0;
        while let Some(fact) = self.lane.try_fact() {
            taken += 1;
            self.push.take(fact);
        }
        taken
    }

    /// How many events this turn takes. In a retreat they are given back, whatever the room; without a permit they stay.
    fn events_wanted(&self) -> usize {
        wanted(self.shared.permit.holds(), self.push.is_retreating(), self.push.room())
    }

    /// The same of urgent ones, which come on a way of their own.
    fn urgent_wanted(&self) -> usize {
        wanted(self.shared.permit.holds(), self.push.is_retreating(), self.push.room_for_urgent())
    }

    fn take_events(&mut self, now: Instant) -> usize {
        let urgent = self.take_events_of(self.urgent_wanted(), now, IntakeLane::try_urgent);
        urgent + self.take_events_of(self.events_wanted(), now, IntakeLane::try_plain)
    }

    /// An event was handled at the time of its turn: the clock is looked at once, and neighbours that their reader had
    /// at the same instant are recorded as one.
    fn take_events_of(&mut self, room: usize, now: Instant, next: impl Fn(&IntakeLane) -> Option<Handed>) -> usize {
        let mut events = std::mem::take(&mut self.work.events);
        let mut taken = 0;
        let mut alike = (now, 0);
        while taken < room {
            let most = PREFETCH_EVENTS_MAX.min(room - taken);
            events.extend(std::iter::from_fn(|| next(&self.lane)).take(most));
            if events.is_empty() {
                break;
            }
            taken += events.len();
            // What was told before any of them was handed in.
            self.take_lane_facts();
            if events.len() >= PREFETCH_EVENTS_MIN {
                self.push.prefetch_events(events.iter().map(|event| &event.payload));
            }
            for Handed { payload, tag, passage, received } in events.drain(..) {
                if alike.0 != received {
                    self.record_intake(alike, now);
                    alike = (received, 0);
                    self.push.set_waited(now.saturating_duration_since(received));
                }
                alike.1 += 1;
                self.push.set_published(passage.published);
                self.push.take(Input::Event { payload, tag, said: passage.said });
                self.lane.arrived(passage);
            }
        }
        self.record_intake(alike, now);
        self.push.set_waited(Duration::ZERO);
        self.push.set_published(Published::UNKNOWN);
        self.work.events = events;
        taken
    }

    fn record_intake(&mut self, (received, events): (Instant, u64), now: Instant) {
        if events > 0 {
            self.push.stages_mut().record_n(Stage::Intake, now.saturating_duration_since(received), events);
        }
    }

    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.work.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::AskMembers { ask, sessions, is_suspect } => {
                    if let Err(ask) = self.members.ask(ask, sessions, is_suspect, self.sender.clone()) {
                        self.local.push(Input::NotAsked { of: Queue::Members, ask });
                    }
                }
                Output::AskRoutes { ask, users } => self.routes.put(RouteAsk { ask, users }),
                Output::Open { gateway, stream, endpoints, protocol, .. } => {
                    self.gateways.open(gateway, stream, endpoints, protocol);
                }
                Output::Send { gateway, stream, chunk } => self.gateways.send(gateway, stream, chunk),
                Output::Call { gateway, stream, call, request } => self.gateways.call(gateway, stream, call, request),
                Output::Finish { gateway, stream } => self.gateways.finish(gateway, stream),
                Output::Cut { gateway, stream } => self.gateways.cut(gateway, stream),
                Output::ToOwner(owner, bundle) => self.mesh.send(owner, MeshMessage::Bundle(bundle)),
                Output::ToHome(home, result) => self.mesh.send(home, MeshMessage::Result(result)),
                Output::Store { ask, rows } => self.store(ask, rows),
                Output::FindContent { ask, message } => self.find_content(ask, message),
                Output::PublishLetter { ask, tag, letter } => self.publish_letter(ask, tag, letter),
                Output::Ends { ask, ends } => self.shared.ends.answered(ask, ends, self.shared.now()),
                Output::Settle(tag) => self.work.settled.push(tag),
                Output::Tell(trace) => self.tell(trace),
                Output::Tapped(event) => self.shared.tap.tell(event),
                Output::Warn { reason, detail } => tracing::warn!(shard = self.shard.0, reason, "{detail}"),
            }
        }
        self.work.outputs = outputs;
        self.mesh.flush();
        // A source hands events in before its start has returned: until it has, they wait here, no more than are in
        // flight.
        if !self.work.settled.is_empty()
            && let Some(source) = self.shared.source.get()
        {
            source.settle(&self.work.settled);
            self.work.settled.clear();
        }
    }

    fn store(&self, ask: AskNo, rows: InboxRows) {
        match &self.inbox {
            Some(inbox) => {
                if let Err(ask) = inbox.store(ask, rows, self.sender.clone()) {
                    self.local.push(Input::NotAsked { of: Queue::Inbox, ask });
                }
            }
            None => {
                let answer = Err(LookupError::Rejected("inbox.store is off".to_owned()));
                self.local.push(Input::Stored { ask, answer });
            }
        }
    }

    fn find_content(&self, ask: AskNo, message: MessageKey) {
        match &self.contents {
            Some(contents) => {
                if let Err(ask) = contents.find(ask, message, self.sender.clone()) {
                    self.local.push(Input::NotAsked { of: Queue::Content, ask });
                }
            }
            None => self.local.push(Input::ContentFound { ask, answer: Ok(false) }),
        }
    }

    fn publish_letter(&self, ask: AskNo, tag: DeliveryTag, letter: DeadLetter) {
        let Some(source) = self.shared.source.get() else {
            // It is still starting.
            return self.local.push(Input::NotAsked { of: Queue::DeadLetters, ask });
        };
        let (letters, sender) = (self.letters.clone(), self.sender.clone());
        source.with_origin(
            tag,
            Box::new(move |origin| {
                if let Err(ask) = letters.publish(ask, letter, origin, sender.clone()) {
                    // There is room for the answer of each ask.
                    let _ = sender.try_send(Input::NotAsked { of: Queue::DeadLetters, ask });
                }
            }),
        );
    }

    /// Sleeps until something is there to do, or the tick.
    async fn sleep(&mut self) {
        let mut has_slept = false;
        let due = Instant::now() + self.tick();
        let mut alarm = std::mem::take(&mut self.alarm);
        let pump = &*self;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_slept, true) || alarm.poll(cx, due).is_ready() {
                return Poll::Ready(());
            }
            pump.wake.falling_asleep(cx.waker());
            let is_idle = pump.local.falling_asleep(cx.waker())
                && pump.mailbox.is_empty()
                && pump.mesh.is_quiet()
                && !pump.lane.has_facts()
                && pump.lane.is_held_up(pump.events_wanted(), pump.urgent_wanted());
            if is_idle { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        self.alarm = alarm;
        self.wake.awake();
    }

    /// How long it may sleep when nothing comes. In a stop it looks at what the other shards say without being woken.
    fn tick(&self) -> Duration {
        let is_stopping = self.shared.stop.phase.load(Ordering::Acquire) >= LEAVING;
        let waits = is_stopping || !self.work.settled.is_empty();
        if waits || !self.push.is_at_rest() { TICK } else { REST_TICK }
    }

    fn publish(&mut self, now: Nanos) {
        // By name, so that a number of the table that is not filled here does not compile.
        let ShardSnapshot {
            counts,
            lane_full,
            activity,
            events_in_flight,
            recipients_in_flight,
            payload_in_flight_bytes,
            events_without_members,
            events_refused_members,
            sessions_cached,
            users_known,
            gateways_known,
            // Once a second.
            oldest_event_seconds: _,
            gateway_streams_open: _,
            outbox_recipients: _,
            // When the turn began.
            turns: _,
        } = &mut self.work.snapshot;
        counts.clone_from(self.push.counts());
        *lane_full = self.mesh.full;
        *activity = *self.push.activity();
        *events_in_flight = self.push.events_in_flight() as u64;
        *recipients_in_flight = self.push.recipients_in_flight() as u64;
        *payload_in_flight_bytes = self.push.payload_bytes_in_flight() as u64;
        *events_without_members = self.push.events_without_members() as u64;
        *events_refused_members = self.push.events_refused_members() as u64;
        let (sessions, users) = self.push.kept();
        (*sessions_cached, *users_known) = (sessions as u64, users as u64);
        *gateways_known = self.push.gateways_known() as u64;
        if now.since(self.work.reported_at) >= Duration::from_secs(1) {
            self.work.reported_at = now;
            self.report();
        }
        if self.routes.take_news() {
            self.report_health();
        }
        self.publisher.publish(&self.work.snapshot);
    }
}

fn wanted(may: bool, is_retreating: bool, room: usize) -> usize {
    match (may, is_retreating) {
        (false, _) => 0,
        (true, true) => TURN_EVENTS_MAX,
        (true, false) => room,
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
