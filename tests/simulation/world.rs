//! The world around N shards: virtual time, users that move, events, mesh lanes, and the carrying out of intentions.
//!
//! A step moves the clock, lets the world change, and gives every shard one turn, as the pump would: facts, then flush.

mod arrivals;
mod checks;

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::model::limits::SLOW_GATEWAY_TIMEOUTS;
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::priority::Said;
use task_engine::ports::DeliveryTag;
use task_engine::push::Push;
use task_engine::push::facts::{AskNo, Input, Output, Queue};

use super::Tally;
use super::broker::Broker;
use super::contents::Contents;
use super::gateways::{Conn, Gateway};
use super::keeping::Keeping;
use super::oracle::Oracle;
use super::plan::{Fault, Mutant, Plan, Reduction};
use super::rng::Rng;
use super::stores::{MemberAsk, Met, Outages, Places, RouteWire, Stored};
use super::trace::Trace;

pub const MILLI: u64 = 1_000_000;

/// A user as the world knows it.
#[derive(Debug)]
pub struct User {
    pub name: String,
    /// The gateway that each device is connected to.
    pub devices: Vec<Option<usize>>,
    /// What the route store says.
    pub stored: Stored,
    /// The gateways that it ever said.
    pub was_at: BTreeSet<usize>,
    /// It moves.
    pub roams: bool,
    /// It moved, joined or left a session, had a broken route or was refused: see the oracle.
    pub is_disturbed: bool,
}

impl User {
    /// The gateways that it is connected to.
    pub fn at(&self) -> Places {
        self.devices.iter().copied().flatten().collect()
    }
}

/// A session as the member store knows it.
#[derive(Debug)]
pub struct Session {
    pub id: String,
    pub home: usize,
    pub members: Vec<usize>,
    pub ever: BTreeSet<usize>,
    /// Who joined or left.
    pub changed: BTreeSet<usize>,
    pub next_seq: i64,
    /// The store refuses it, or is slow with it.
    pub is_cursed: bool,
    pub met: Met,
    /// Events, and which time they were taken, with a letter because of a lookup.
    pub lettered: BTreeSet<(usize, u32)>,
    pub next_msg: i64,
    pub msg_step: i64,
    /// Events that were published, by their number.
    pub published: Vec<Bytes>,
    /// Their msg_id, seq_id and type.
    pub ids: BTreeSet<(i64, i64, &'static str)>,
    /// The last message's.
    pub last_id: Option<(i64, i64)>,
}

/// What waits to be taken by a shard.
#[derive(Debug)]
pub struct Arrival {
    pub payload: Bytes,
    pub tag: DeliveryTag,
    /// The session and the event's number in it, unless the payload can never be pushed.
    pub key: Option<(usize, i64)>,
    /// What its publisher said of its class.
    pub said: Said,
}

/// Messages on their way from one shard to another, in order.
pub type Lane = VecDeque<(Nanos, Input)>;

/// Everything.
pub struct World {
    pub rng: Rng,
    pub now: Nanos,
    pub plan: Plan,
    pub trace: Trace,
    pub shards: Vec<Push>,
    pub users: Vec<User>,
    pub user_of: HashMap<String, usize>,
    pub sessions: Vec<Session>,
    pub session_of: HashMap<String, usize>,
    pub gateways: Vec<Gateway>,
    pub conns: Vec<Conn>,
    /// Facts about streams that are over, and registry facts, on their way to a shard.
    pub late_facts: Vec<(Nanos, usize, Input)>,
    pub member_asks: Vec<MemberAsk>,
    pub outages: Outages,
    pub route_wires: Vec<RouteWire>,
    pub late_routes: Vec<(Nanos, usize)>,
    /// Gateways that are none, and were named by a route once.
    pub strangers: usize,
    pub intake: Vec<VecDeque<Arrival>>,
    pub oracle: Oracle,
    pub broker: Broker,
    pub keeping: Keeping,
    pub contents: Contents,
    /// What engines did that are gone.
    pub tally: Tally,
    /// Payloads that can never be pushed, as taken by this engine.
    pub bad_taken: u64,
    pub is_calm: bool,
    /// Events are handed in as the pump does, many at once.
    pub is_crowded: bool,
    /// What the publishers of a crowd say.
    pub said_in_crowd: Said,
    pub is_cut_off: bool,
    /// What waits for lookups is given back, until then.
    pub retreat_until: Option<Nanos>,
    pub is_accepting: bool,
    next_order: u64,
    /// By from, to, and whether it carries results.
    lanes: Vec<[Lane; 2]>,
    outputs: Vec<Output>,
}

impl World {
    /// The world of a plan; the stores and gateways are filled in by their own modules.
    pub fn new(mut rng: Rng, reduction: &Reduction, trace: Trace) -> Self {
        let plan = Plan::draw(&mut rng, reduction);
        let shards = usize::from(plan.shards);
        let mut world = Self {
            now: Nanos(0),
            shards: (0..plan.shards).map(|shard| plan.push(shard)).collect(),
            users: Vec::new(),
            user_of: HashMap::new(),
            sessions: Vec::new(),
            session_of: HashMap::new(),
            gateways: Vec::new(),
            conns: Vec::new(),
            late_facts: Vec::new(),
            member_asks: Vec::new(),
            outages: Outages::default(),
            route_wires: (0..shards).map(|_| RouteWire::default()).collect(),
            late_routes: Vec::new(),
            strangers: 0,
            intake: (0..shards).map(|_| VecDeque::new()).collect(),
            oracle: Oracle::new(plan.sessions, plan.delivery_timeout, plan.echoes()),
            broker: Broker::default(),
            keeping: Keeping::default(),
            contents: Contents::default(),
            tally: Tally::default(),
            bad_taken: 0,
            is_calm: false,
            is_crowded: false,
            said_in_crowd: Said::Nothing,
            is_cut_off: false,
            retreat_until: None,
            is_accepting: true,
            next_order: 0,
            lanes: (0..shards * shards).map(|_| Default::default()).collect(),
            outputs: Vec::new(),
            rng,
            plan,
            trace,
        };
        let plan = world.plan.clone();
        world.trace.line(Nanos(0), || format!("{plan:?}"));
        world.forget_keepers_asks();
        world.make_gateways();
        world.make_users();
        world.oracle.has_several = world.users.iter().map(|user| user.devices.len() > 1).collect();
        world.make_sessions();
        for shard in 0..world.shards.len() {
            world.connect_routes(shard);
        }
        world
    }

    /// Whether something goes wrong that does so `thousandths` times in a thousand at roughness 1.
    pub fn fault(&mut self, kind: Fault, thousandths: u64) -> bool {
        !self.is_calm && self.rng.chance((thousandths * self.plan.roughness).min(700)) && !self.plan.off.contains(&kind)
    }

    /// A moment from now until `millis` later.
    pub fn soon(&mut self, millis: u64) -> Nanos {
        let most = if self.is_calm { millis.min(3) } else { millis };
        Nanos(self.now.0 + self.rng.within(0, most * MILLI))
    }

    /// One step of the whole world.
    pub fn step(&mut self, dt: u64) {
        self.now.0 += dt;
        if !self.is_calm {
            self.disturb_gateways();
            self.disturb_users();
            self.disturb_stores();
            self.disturb_keepers();
            self.redeliver_some();
            self.kill_some();
            self.retreat_some();
            self.tell_known_some();
        }
        self.end_retreat();
        self.write_late_routes();
        self.run_stores();
        self.run_broker();
        self.run_gateways();
        let first = self.rng.below(self.shards.len());
        for shard in 0..self.shards.len() {
            self.turn((first + shard) % self.shards.len());
        }
        self.conns.retain(|conn| !conn.is_over);
        self.check_backlog();
    }

    /// One turn of one shard's pump.
    fn turn(&mut self, shard: usize) {
        self.shards[shard].set_now(self.now);
        let first = self.rng.below(6);
        for kind in 0..6 {
            match (first + kind) % 6 {
                0 => self.feed_events(shard),
                1 => self.feed_members(shard),
                2 => self.feed_routes(shard),
                3 => self.feed_mesh(shard),
                4 => {
                    self.feed_contents(shard);
                    self.feed_keepers(shard);
                }
                _ => self.feed_streams(shard),
            }
        }
        self.feed_late_facts(shard);
        self.flush(shard);
        self.check_conns(shard);
        self.check_counts(shard);
    }

    pub fn flush(&mut self, shard: usize) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let is_at_rest = self.shards[shard].is_at_rest();
        self.shards[shard].flush(&mut outputs);
        // A shard at rest looks at its clock seldom: only what is due in minutes may be late by that.
        let may_wait = |output: &Output| matches!(output, Output::Finish { .. });
        assert!(!is_at_rest || outputs.iter().all(may_wait), "shard {shard} rested with work to do: {outputs:?}");
        for output in outputs.drain(..) {
            self.carry_out(shard, output);
        }
        self.outputs = outputs;
    }

    /// Hands a fact to a shard.
    pub fn feed(&mut self, shard: usize, input: Input) {
        self.trace.line(self.now, || format!("  > shard {shard}: {}", brief(&input)));
        self.shards[shard].set_now(self.now);
        self.shards[shard].take(input);
    }

    /// Nothing is on its way between shards, or to them.
    pub fn clear_lanes(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::clear);
        self.late_facts.clear();
        self.bad_taken = 0;
    }

    /// Adds up what the shards did.
    pub fn tally_shards(&mut self) {
        for push in &self.shards {
            self.tally.add_shard(push);
        }
        self.tally.restarts = u64::from(self.broker.restarts);
        self.tally.events = self.oracle.events.len() as u64;
    }

    fn feed_mesh(&mut self, to: usize) {
        for from in 0..self.shards.len() {
            for results in 0..2 {
                let most = if self.is_calm { 1_000 } else { self.rng.below(12) };
                for _ in 0..most {
                    let lane = &mut self.lanes[from * self.shards.len() + to][results];
                    if lane.front().is_none_or(|(due, _)| *due > self.now) {
                        break;
                    }
                    let (_, input) = lane.pop_front().expect("looked at above");
                    self.feed(to, input);
                }
            }
        }
    }

    fn put_on_lane(&mut self, from: usize, to: ShardId, input: Input) {
        assert_ne!(from, usize::from(to.0), "a shard sends to others only");
        let due = if self.fault(Fault::Mesh, 100) { self.soon(300) } else { self.soon(2) };
        let results = usize::from(matches!(input, Input::Result(_)));
        self.lanes[from * self.shards.len() + usize::from(to.0)][results].push_back((due, input));
    }

    /// Whether an ask to a store's threads finds their queue full: other shards, and other events, may have filled it.
    pub fn finds_queue_full(&mut self) -> bool {
        self.fault(Fault::Queues, 60)
    }

    /// Nobody was asked.
    pub fn not_asked(&mut self, shard: usize, of: Queue, ask: AskNo) {
        let due = self.soon(2);
        self.late_facts.push((due, shard, Input::NotAsked { of, ask }));
    }

    fn feed_late_facts(&mut self, shard: usize) {
        let mut at = 0;
        while at < self.late_facts.len() {
            if self.late_facts[at].1 == shard && self.late_facts[at].0 <= self.now {
                let (_, _, input) = self.late_facts.remove(at);
                self.feed(shard, input);
            } else {
                at += 1;
            }
        }
    }

    fn carry_out(&mut self, shard: usize, output: Output) {
        match output {
            Output::AskMembers { ask, sessions, .. } => self.members_asked(shard, ask, sessions),
            Output::AskRoutes { ask, users } => self.routes_asked(shard, ask, &users),
            Output::Open { gateway, stream, gateway_id, endpoints, protocol } => {
                self.open(shard, gateway, stream, &gateway_id, &endpoints, protocol);
            }
            Output::Send { gateway, stream, chunk } => self.send(shard, gateway, stream, &chunk),
            Output::Call { gateway, stream, call, request } => self.call(shard, gateway, stream, call, &request),
            Output::Finish { gateway, stream } => self.finish(shard, gateway, stream),
            Output::Cut { gateway, stream } => self.cut(shard, gateway, stream),
            Output::ToOwner(to, bundle) => self.put_on_lane(shard, to, Input::Bundle(bundle)),
            Output::ToHome(to, result) => self.put_on_lane(shard, to, Input::Result(result)),
            Output::Store { ask, rows } => self.store_asked(shard, ask, rows),
            Output::FindContent { ask, message } => self.content_asked(shard, ask, message),
            Output::PublishLetter { ask, letter, .. } => self.letter_asked(shard, ask, letter),
            Output::Settle(settled) => {
                self.trace.line(self.now, || format!("< shard {shard}: {settled:?}"));
                self.settle(settled);
            }
            Output::Ends { .. } | Output::Tapped(_) => {}
            Output::Tell(told) => self.check_told(&told),
            Output::Warn { reason, detail } => {
                self.trace.line(self.now, || format!("< shard {shard}: warn {reason}: {detail}"));
            }
        }
    }

    /// How many recipients ended so, on all shards.
    pub fn recipients_ended(&self, end: RecipientOutcome) -> u64 {
        let is_twice = self.plan.mutant == Some(Mutant::ConflatedTwice) && end == RecipientOutcome::Conflated;
        let ended: u64 = self.shards.iter().map(|push| push.counts().recipients_ended[end as usize]).sum();
        ended * if is_twice { 2 } else { 1 }
    }

    /// How many events ended so, on all shards.
    pub fn events_ended(&self, end: EventOutcome) -> u64 {
        self.shards.iter().map(|push| push.counts().events_ended[end as usize]).sum()
    }

    /// Whether nothing is on its way anywhere.
    pub fn is_quiet(&self) -> bool {
        self.shards.iter().all(|push| push.events_in_flight() == 0)
            && self.intake.iter().all(VecDeque::is_empty)
            && self.lanes.iter().flatten().all(VecDeque::is_empty)
            && self.is_stream_settled()
    }

    /// How long everything in flight may take to end once nothing fails: the slowest gateway's deadline twice (a
    /// recipient may be moved once), a backoff before each, a switch of addresses, lookups.
    pub fn settle_bound(&self) -> u64 {
        let timeout = self.plan.delivery_timeout.as_nanos() as u64;
        let empty_wait = self.plan.empty_wait().as_nanos() as u64;
        // Rows that are refused are asked for few at a time, and each event may have one.
        let of_each = self.broker.entries.len() as u64 * 400 * MILLI;
        let of_bad = if self.plan.is_bad_owner(0) { 60_000 * MILLI + of_each } else { 0 };
        // One row, or letter, that was refused alone waits four times as long each time.
        let retries = (1..=self.plan.max_retry.max(1) + 1).map(|tries| 4_u64.pow(tries)).sum::<u64>();
        let retry = self.plan.retry_interval.as_nanos() as u64 * retries;
        2 * (timeout * u64::from(SLOW_GATEWAY_TIMEOUTS) + 5_000 * MILLI) + 14_000 * MILLI + retry + of_bad + empty_wait
    }

    /// Steps without faults until `is_done` or `bound` of virtual time is over.
    pub fn run_until(&mut self, bound: u64, what: &str, is_done: impl Fn(&Self) -> bool) {
        let end = self.now.0 + bound;
        while !is_done(self) {
            assert!(self.now.0 < end, "{what}: not within {} ms of virtual time", bound / MILLI);
            let dt = self.rng.within(1, 40) * MILLI;
            self.step(dt);
        }
    }
}

fn brief(input: &Input) -> String {
    match input {
        Input::Event { payload, tag, .. } => format!("event of {} bytes, tag {}", payload.len(), tag.number),
        Input::Bundle(bundle) => format!(
            "bundle of {:?} msg {} attempt {} for {} at {}",
            bundle.home,
            bundle.msg_id,
            bundle.attempt,
            bundle.recipients(),
            bundle.group.gateway_id
        ),
        Input::Result(result) => {
            format!("result of msg {} from {}: {:?}", result.bundle.msg_id, result.bundle.group.gateway_id, result.end)
        }
        other => format!("{other:?}"),
    }
}
