//! One shard of the pure core and a scripted world around it: stores that answer at once, streams that open at once,
//! gateways that read the real frames and deliver everything.
//!
//! Promises that all the engine does happens inside [`task_engine_turn`], and nothing of the world's: that one function
//! is what is timed, and what callgrind counts. [`World::push_events`] panics unless every recipient was pushed once
//! and every event settled.

use bytes::Bytes;
use task_engine::model::ids::{GatewayIx, Nanos, ShardId, StreamNo};
use task_engine::model::limits::PREFETCH_EVENTS_MAX;
use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::model::priority::Said;
use task_engine::model::publication::Published;
use task_engine::ports::{DeliveryTag, Protocol};
use task_engine::push::bundle::{BundleEnd, BundleResult};
use task_engine::push::facts::{Input, Output, StreamFact};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, Settings, TraceRules};

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::Clock;
use super::facts::{FIRST_MSG_ID, answers_to, event, gateway_name, record, user_name};

/// Recipients pushed in one turn of events, about: what a busy shard finds in its lane.
const TURN_RECIPIENTS: usize = 4096;
/// Events in one turn at the most.
const TURN_EVENTS_MAX: usize = 64;
/// Users of all sessions together, about.
const USERS: usize = 40_000;
/// Sessions at the most.
const SESSIONS_MAX: usize = 4096;
/// How far one member of a session is from the next where users are shared: a prime, so that none comes twice.
const STRIDE: usize = 10_007;
/// How far the scripted clock goes a turn.
const TURN: Duration = Duration::from_micros(100);
/// What the wall clock shows when the world begins, in nanoseconds of Unix time.
const UNIX_ZERO: u64 = 1_700_000_000_000_000_000;

/// The shape of a world.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Recipients of an event; a session has one member more, who sends.
    pub fan_out: usize,
    /// Gateways that users are spread over.
    pub gateways: usize,
    /// What the gateways speak.
    pub protocol: Protocol,
    /// Of how many shards this is one; what is for another one is answered by the world, undelivered.
    pub shards: u16,
}

impl Shape {
    /// One shard that is home to all sessions and owns all gateways.
    pub fn alone(fan_out: usize, gateways: usize, protocol: Protocol) -> Self {
        Self { fan_out, gateways, protocol, shards: 1 }
    }

    /// A shard that is home to all sessions and owns none of the gateways: so many shards that no gateway falls to it.
    pub fn home_only(fan_out: usize, gateways: usize) -> Self {
        Self { fan_out, gateways, protocol: Protocol::Batch, shards: 65_521 }
    }

    /// The case's name.
    pub fn name(&self) -> String {
        format!("{}/fan-out-{}/gateways-{}", self.protocol.label(), self.fan_out, self.gateways)
    }
}

/// What watches the core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watched {
    /// Ends of events are remembered.
    pub recorder: bool,
    /// How long pushes take from their publication.
    pub latency: bool,
    /// Traces are told of slow events, of which there are none here.
    pub traces: bool,
}

/// By what the core is watched in a bench, as it is called in tables; the first one is nothing.
pub const WATCHED: [(&str, Watched); 5] = [
    ("nothing", Watched { recorder: false, latency: false, traces: false }),
    ("recorder", Watched { recorder: true, latency: false, traces: false }),
    ("latency", Watched { recorder: false, latency: true, traces: false }),
    ("traces", Watched { recorder: false, latency: false, traces: true }),
    ("all", Watched { recorder: true, latency: true, traces: true }),
];

/// The world.
pub struct World {
    shape: Shape,
    push: Push,
    now: Nanos,
    sessions: usize,
    /// Sessions that get events, from the first one.
    active_sessions: usize,
    users: usize,
    /// Whoever is connected to the next gateway than at first.
    moved: HashSet<usize>,
    /// Nobody is connected.
    is_offline: bool,
    next_msg_id: i64,
    facts: Vec<Input>,
    outputs: Vec<Output>,
    /// Chunks that are not answered yet, by the turn that sent them; how many turns an answer takes.
    sent: VecDeque<Vec<(GatewayIx, StreamNo, Bytes)>>,
    answers_after: usize,
    pushed: u64,
    settled: u64,
}

/// A turn of the pump as far as it is the core's: looks ahead at events, takes the facts, ends the turn. It has a name of its own in the
/// binary so that callgrind counts it and what it calls, and nothing else.
#[allow(unsafe_code, reason = "callgrind is told this function by its name")]
#[unsafe(no_mangle)]
#[inline(never)]
pub fn task_engine_turn(push: &mut Push, facts: &mut Vec<Input>, outputs: &mut Vec<Output>) {
    let (mut facts, mut ahead) = (facts.drain(..), 0);
    while let Some(fact) = facts.next() {
        let is_event = matches!(fact, Input::Event { .. });
        if is_event && ahead == 0 {
            let payloads = std::iter::once(&fact).chain(facts.as_slice()).map_while(|fact| match fact {
                Input::Event { payload, .. } => Some(payload),
                _ => None,
            });
            push.prefetch_events(payloads.take(PREFETCH_EVENTS_MAX));
            ahead = PREFETCH_EVENTS_MAX;
        }
        ahead -= usize::from(is_event);
        push.take(fact);
    }
    push.flush(outputs);
}

impl World {
    /// A world whose lookups are all cached and whose streams are all open.
    pub fn new(shape: Shape) -> Self {
        let sessions = (USERS / (shape.fan_out + 1)).clamp(1, SESSIONS_MAX);
        Self::warm(shape, sessions)
    }

    /// The same with so many sessions, and one more that no event comes for once it is known.
    pub fn warm(shape: Shape, sessions: usize) -> Self {
        let mut world = Self::cold(shape, sessions + 1, (sessions + 1) * (shape.fan_out + 1));
        // Each session learns its members and routes, then each gateway and group is warm.
        world.push_events(2 * (sessions + 1) as u64, &mut Clock::default());
        world.active_sessions = sessions;
        world
    }

    /// The same, watched from now on; each event was published when this time began.
    pub fn watched(mut self, by: Watched) -> Self {
        let slow_only = TraceRules { slow_after: Duration::from_secs(3600), spans_per_second: 100 };
        let push = self.push.with_recorder(by.recorder).with_push_latency(by.latency);
        self.push = push.with_traces(by.traces.then_some(slow_only));
        self.push.set_unix_zero(UNIX_ZERO);
        self.push.set_published(Published::at_nanos(UNIX_ZERO));
        self
    }

    /// A user connects to another gateway, and the store says so: one of a session that gets events, or of the one that
    /// gets none.
    pub fn move_user(&mut self, is_elsewhere: bool) {
        let session = if is_elsewhere { self.active_sessions } else { self.next_session() };
        let user = self.member(session, self.moved.len() % (self.shape.fan_out + 1));
        if !self.moved.insert(user) {
            self.moved.remove(&user);
        }
        self.facts.push(Input::RouteChanged(user_name(user).into()));
    }

    /// Everyone of the first session is gone from their gateways, and the store has told so.
    pub fn go_offline(&mut self) {
        self.is_offline = true;
        for place in 0..=self.shape.fan_out {
            self.facts.push(Input::RouteChanged(user_name(self.member(0, place)).into()));
        }
        self.turn(&mut Clock::default());
        self.answer();
    }

    fn next_session(&self) -> usize {
        (self.next_msg_id - FIRST_MSG_ID) as usize % self.active_sessions
    }

    /// A world that knows nothing yet, with so many sessions, each of some of so many users.
    pub fn cold(shape: Shape, sessions: usize, users: usize) -> Self {
        let hour = Duration::from_secs(3600);
        let push = Push::new(Settings {
            shard: ShardId(0),
            shards: shape.shards,
            events_window: usize::MAX,
            group_users_max: task_engine::model::limits::GROUP_USERS_MAX,
            members_ttl: 24 * hour,
            empty_wait: Duration::from_secs(5),
            caches_routes: true,
            delivery_timeout: hour,
            registry_forget_after: hour,
            gateway_table: task_engine::push::TableBounds::default(),
            max_retry: 3,
            retry_interval: Duration::from_secs(1),
            inbox: InboxStore::Offline,
        });
        let mut world = Self {
            shape,
            push,
            now: Nanos(1),
            sessions,
            active_sessions: sessions,
            users,
            moved: HashSet::new(),
            is_offline: false,
            next_msg_id: FIRST_MSG_ID,
            facts: vec![Input::RoutesTracked(true)],
            outputs: Vec::new(),
            sent: VecDeque::new(),
            answers_after: 0,
            pushed: 0,
            settled: 0,
        };
        world.facts.extend((0..shape.gateways).map(|gateway| Input::GatewayListed(record(gateway, shape.protocol))));
        world
    }

    /// The core, to ask what it counted.
    pub fn push(&self) -> &Push {
        &self.push
    }

    /// Events in one turn.
    pub fn turn_events(&self) -> u64 {
        (TURN_RECIPIENTS / self.shape.fan_out).clamp(1, TURN_EVENTS_MAX) as u64
    }

    /// The next events, one a session in turn.
    fn next_events(&mut self, events: u64) -> impl Iterator<Item = Input> {
        let first = self.next_msg_id;
        self.next_msg_id += events as i64;
        (first..first + events as i64).map(move |msg_id| {
            let session = (msg_id - FIRST_MSG_ID) as usize % self.active_sessions;
            let payload = event(session, &user_name(self.member(session, 0)), msg_id);
            Input::Event { payload, tag: DeliveryTag { reader: 0, number: msg_id as u64 }, said: Said::Nothing }
        })
    }

    /// Events from their arrival to their end, a turn's worth at a time. Times the core only.
    ///
    /// # Panics
    /// When a recipient was not pushed once, or an event does not settle.
    pub fn push_events(&mut self, events: u64, clock: &mut Clock) {
        let (pushed, settled) = (self.pushed, self.settled);
        let mut left = events;
        while left > 0 {
            let now = left.min(self.turn_events());
            left -= now;
            let facts: Vec<_> = self.next_events(now).collect();
            self.facts.extend(facts);
            while !self.facts.is_empty() || self.push.has_more() {
                self.turn(clock);
                self.answer();
            }
        }
        assert_eq!(self.settled - settled, events, "every event settles");
        assert_eq!(self.pushed - pushed, events * self.shape.fan_out as u64, "every recipient is pushed once");
    }

    /// The same in whole turns, while answers take so many of them, so that what a turn meets has left the nearest caches since it was sent.
    pub fn push_events_in_flight(&mut self, events: u64, answers_after: usize, clock: &mut Clock) {
        let settled = self.settled;
        self.answers_after = answers_after;
        for _ in 0..events.div_ceil(self.turn_events()) {
            self.feed_events();
            self.turn(clock);
            self.answer();
        }
        self.answers_after = 0;
        self.answer();
        while !self.is_quiet() {
            self.turn(clock);
            self.answer();
        }
        assert!(self.settled - settled >= events, "every event settles");
    }

    /// One turn; what it wants done waits for [`answer`](Self::answer).
    pub fn turn(&mut self, clock: &mut Clock) {
        self.now = self.now.after(TURN);
        self.push.set_now(self.now);
        let (push, facts, outputs) = (&mut self.push, &mut self.facts, &mut self.outputs);
        clock.time(|| task_engine_turn(push, facts, outputs));
    }

    /// A turn's worth of events for the next turn; gives how many recipients they have.
    pub fn feed_events(&mut self) -> u64 {
        let events: Vec<_> = self.next_events(self.turn_events()).collect();
        self.facts.extend(events);
        self.turn_events() * self.shape.fan_out as u64
    }

    /// The world does what the last turn wants and has the answers at once, those of gateways when they are due.
    pub fn answer(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut sent = Vec::new();
        for output in outputs.drain(..) {
            match output {
                Output::AskMembers { ask, sessions, .. } => {
                    let answer = Ok(sessions.iter().map(|session| self.members_of(session)).collect());
                    self.facts.push(Input::Members { ask, answer });
                }
                Output::AskRoutes { ask, users } => {
                    let answer = Ok(self.routes_of(&users));
                    self.facts.push(Input::Routes { ask, answer });
                }
                Output::Open { gateway, stream, .. } => self.tell(gateway, stream, StreamFact::Opened),
                Output::Send { gateway, stream, chunk } => sent.push((gateway, stream, chunk)),
                Output::Settle(_) => self.settled += 1,
                Output::Store { ask, .. } => self.facts.push(Input::Stored { ask, answer: Ok(NameList::new()) }),
                Output::ToOwner(_, bundle) => {
                    self.pushed += bundle.recipients() as u64;
                    self.facts.push(Input::Result(BundleResult::unwritten(bundle, BundleEnd::Answered(Vec::new()))));
                }
                other => panic!("nothing goes wrong in this world: {other:?}"),
            }
        }
        self.outputs = outputs;
        self.sent.push_back(sent);
        while self.sent.len() > self.answers_after {
            for (gateway, stream, chunk) in self.sent.pop_front().into_iter().flatten() {
                self.deliver(gateway, stream, &chunk);
            }
        }
    }

    /// Nothing is in flight, and nothing waits for a turn.
    pub fn is_quiet(&self) -> bool {
        self.facts.is_empty() && self.push.events_in_flight() == 0 && self.push.recipients_in_flight() == 0
    }

    fn deliver(&mut self, gateway: GatewayIx, stream: StreamNo, chunk: &Bytes) {
        let (answers, recipients) = answers_to(chunk, self.shape.protocol, self.shape.fan_out);
        self.pushed += recipients;
        self.tell(gateway, stream, StreamFact::Taken(chunk.len()));
        self.tell(gateway, stream, StreamFact::Answers(answers));
    }

    fn tell(&mut self, gateway: GatewayIx, stream: StreamNo, fact: StreamFact) {
        self.facts.push(Input::Stream { gateway, stream, fact });
    }

    fn members_of(&self, session: &str) -> NameList {
        let number = number_in(session);
        (0..=self.shape.fan_out).map(|place| user_name(self.member(number, place))).collect()
    }

    /// Sessions share no member where users are enough; else their members lie far from each other, as real ones do.
    fn member(&self, session: usize, place: usize) -> usize {
        let first = session * (self.shape.fan_out + 1);
        if self.sessions * (self.shape.fan_out + 1) <= self.users {
            first + place
        } else {
            (first + place * STRIDE) % self.users
        }
    }

    fn routes_of(&self, users: &NameList) -> RouteList {
        let mut routes = RouteList::new();
        for user in users.iter() {
            if self.is_offline {
                routes.push(Route::Offline);
                continue;
            }
            let number = number_in(user);
            let gateway = (number + usize::from(self.moved.contains(&number))) % self.shape.gateways;
            routes.push(Route::Gateway(&gateway_name(gateway)));
        }
        routes
    }
}

/// The number that a name of ours ends in.
fn number_in(name: &str) -> usize {
    name.rsplit([':', '-']).next().and_then(|digits| digits.parse().ok()).expect("a name of ours")
}
