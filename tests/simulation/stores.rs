//! The member store and the route store: right, late, away (silent, or in words of their own), refusing or slow because of
//! one session, empty for a moment, or answering with a wrong count; and the users and sessions that they tell of.

mod routes;
mod users;

use std::collections::{BTreeSet, VecDeque};

use task_engine::model::ids::{Nanos, SessionId};
use task_engine::model::names::{NameList, RouteList};
use task_engine::ports::{DeadLetter, LookupError};
use task_engine::push::facts::{AskNo, Input, Queue};

pub use self::users::{Places, Stored};

use super::plan::Fault;
use super::world::{MILLI, Session, World};

/// When the stores answer nobody.
#[derive(Debug, Default)]
pub struct Outages {
    members_until: Nanos,
    routes_until: Nanos,
    /// They answer everybody with an error of their own, rather than not at all.
    in_unknown_words: bool,
    /// How many there were.
    count: u64,
}

/// What a session's lookups of members have met since the engine started.
#[derive(Debug, Default)]
pub struct Met {
    /// Its list is empty until then, whoever is in it.
    pub hidden_until: Nanos,
    /// When the store last read it as empty.
    empty_read: Nanos,
    /// Failures of an ask for it alone.
    alone: u32,
    /// What made its asks fail: outages by their number, and each other failure for itself.
    causes: BTreeSet<u64>,
    /// When the latest of those was asked.
    alone_asked: Nanos,
}

/// A member query on its way.
#[derive(Debug)]
pub struct MemberAsk {
    shard: usize,
    ask: AskNo,
    sessions: Vec<SessionId>,
    asked_at: Nanos,
    read_at: Nanos,
    answer_at: Nanos,
    answer: Option<Result<Vec<NameList>, LookupError>>,
}

/// One shard's connection to the route store: what is asked is read in order, and what the store says (answers and
/// changes) arrives in order.
#[derive(Debug, Default)]
pub struct RouteWire {
    asks: VecDeque<(Nanos, AskNo, Vec<usize>)>,
    said: VecDeque<(Nanos, Said)>,
    is_lost: bool,
    is_tracking: bool,
}

#[derive(Debug)]
enum Said {
    Answer(AskNo, Result<RouteList, LookupError>),
    Changed(usize),
    Tracked(bool),
}

impl World {
    /// Draws the sessions.
    pub fn make_sessions(&mut self) {
        for number in 0..self.plan.sessions {
            let id = if number == 0 { "é".repeat(64) } else { format!("group:{}", 1000 + number) };
            let size = self.rng.pick(&[0, 1, 2, 2, 3, 10, 200]).min(self.plan.users);
            let mut members = Vec::new();
            while members.len() < size {
                let user = self.rng.below(self.plan.users);
                if !members.contains(&user) {
                    members.push(user);
                }
            }
            self.add_session(id, members);
        }
    }

    /// A session more; its number.
    pub fn add_session(&mut self, id: String, members: Vec<usize>) -> usize {
        let number = self.sessions.len();
        self.session_of.insert(id.clone(), number);
        self.sessions.push(Session {
            home: self.home_of(&id),
            id,
            ever: members.iter().copied().collect(),
            changed: BTreeSet::new(),
            next_seq: 0,
            members,
            is_cursed: false,
            met: Met::default(),
            lettered: BTreeSet::new(),
            next_msg: self.rng.pick(&[0, 1, -3, 1 << 40]),
            msg_step: self.rng.pick(&[1, 1, -1, 7]),
            published: Vec::new(),
            ids: BTreeSet::new(),
            last_id: None,
        });
        number
    }

    fn say(&mut self, shard: usize, said: Said) {
        let due = if self.fault(Fault::Lookups, 50) { self.soon(300) } else { self.soon(2) };
        self.route_wires[shard].said.push_back((due, said));
    }

    /// Stores go away, come back, refuse everybody in words of their own, or single sessions; lists are empty for a moment.
    pub fn disturb_stores(&mut self) {
        if self.fault(Fault::Lookups, 8) {
            self.outages.members_until = self.outage_until();
        }
        if self.fault(Fault::Lookups, 5) {
            self.outages.routes_until = self.outage_until();
        }
        if self.fault(Fault::Lookups, 15) {
            let session = self.rng.below(self.sessions.len());
            self.sessions[session].is_cursed ^= true;
        }
        if self.fault(Fault::Lookups, 10) {
            let session = self.rng.below(self.sessions.len());
            self.sessions[session].met.hidden_until = Nanos(self.now.0 + self.rng.within(0, 1_500) * MILLI);
        }
        if self.fault(Fault::Lookups, 2) {
            self.empty_routes();
        }
        let shard = self.rng.below(self.shards.len());
        if self.route_wires[shard].is_lost {
            if self.rng.chance(100) {
                self.connect_routes(shard);
            }
        } else if self.fault(Fault::Lookups, 10) {
            self.lose_routes(shard);
        }
    }

    /// The route store is away until then.
    pub fn take_routes_away(&mut self, until: Nanos) {
        self.outages.count += 1;
        self.outages.routes_until = self.outages.routes_until.max(until);
    }

    fn outage_until(&mut self) -> Nanos {
        self.outages.in_unknown_words = self.rng.chance(500);
        self.outages.count += 1;
        Nanos(self.now.0 + self.rng.within(0, 600) * MILLI)
    }

    fn outage(&self) -> LookupError {
        match self.outages.in_unknown_words {
            true => LookupError::Rejected("9001: no writer in this hostgroup".into()),
            false => LookupError::Unavailable("the store is away".into()),
        }
    }

    /// The engine is gone, and what it asked for.
    pub fn forget_lookups(&mut self) {
        self.member_asks.clear();
        for session in &mut self.sessions {
            session.met = Met { hidden_until: session.met.hidden_until, ..Met::default() };
            session.lettered.clear();
        }
        self.route_wires.iter_mut().for_each(|wire| *wire = RouteWire::default());
    }

    /// The core asks for members.
    pub fn members_asked(&mut self, shard: usize, ask: AskNo, sessions: Vec<SessionId>) {
        self.trace.line(self.now, || format!("< shard {shard}: members {ask} of {sessions:?}"));
        if self.finds_queue_full() {
            return self.not_asked(shard, Queue::Members, ask);
        }
        let late = if self.fault(Fault::Lookups, 80) { 500 } else { 5 };
        let read_at = self.soon(late);
        let answer_at = Nanos(read_at.0 + self.rng.within(0, 3) * MILLI);
        let asked_at = self.now;
        self.member_asks.push(MemberAsk { shard, ask, sessions, asked_at, read_at, answer_at, answer: None });
    }

    /// The stores read what they are asked for.
    pub fn run_stores(&mut self) {
        for at in 0..self.member_asks.len() {
            if self.member_asks[at].answer.is_none() && self.member_asks[at].read_at <= self.now {
                let answer = self.read_members(at);
                self.member_asks[at].answer = Some(answer);
            }
        }
        for shard in 0..self.shards.len() {
            while self.route_wires[shard].asks.front().is_some_and(|(due, ..)| *due <= self.now) {
                let (_, ask, users) = self.route_wires[shard].asks.pop_front().expect("looked at above");
                let answer = self.read_routes(&users);
                self.say(shard, Said::Answer(ask, answer));
            }
        }
    }

    fn read_members(&mut self, at: usize) -> Result<Vec<NameList>, LookupError> {
        let asked = self.member_asks[at].sessions.iter().map(|id| self.session_of[&**id]).collect::<Vec<_>>();
        let answer = self.answer_members(at, &asked);
        let asked_at = self.member_asks[at].asked_at;
        let is_reached = !matches!(answer, Err(LookupError::NotReached(_)));
        if (answer.is_err() && is_reached) || answer.as_ref().is_ok_and(|lists| lists.len() != asked.len()) {
            let cause = match self.now < self.outages.members_until {
                true => self.outages.count,
                // Nobody else's.
                false => u64::MAX - self.rng.within(0, u64::MAX / 2),
            };
            for session in &asked {
                let met = &mut self.sessions[*session].met;
                if asked.len() == 1 {
                    met.alone += 1;
                    met.alone_asked = met.alone_asked.max(asked_at);
                }
                met.causes.insert(cause);
            }
        }
        answer
    }

    fn answer_members(&mut self, at: usize, asked: &[usize]) -> Result<Vec<NameList>, LookupError> {
        if self.now < self.outages.members_until {
            return Err(self.outage());
        }
        if self.fault(Fault::Lookups, 20) {
            let why = "members are away".into();
            return Err(if self.rng.chance(500) {
                LookupError::NotReached(why)
            } else {
                LookupError::Unavailable(why)
            });
        }
        if let Some(cursed) = asked.iter().find(|session| self.sessions[**session].is_cursed) {
            if cursed % 2 == 0 {
                return Err(LookupError::Rejected("bad query".into()));
            }
            self.member_asks[at].answer_at = Nanos(self.now.0 + 300 * MILLI);
            return Err(LookupError::Unavailable("no answer in time".into()));
        }
        if self.fault(Fault::Lookups, 10) {
            return Err(LookupError::Rejected("bad query".into()));
        }
        let mut lists = Vec::new();
        for session in asked.iter().copied() {
            let is_hidden = self.now < self.sessions[session].met.hidden_until;
            let members = self.sessions[session].members.iter().filter(|_| !is_hidden);
            let mut list = members.map(|user| &self.users[*user].name).collect::<NameList>();
            if list.is_empty() {
                self.sessions[session].met.empty_read = self.now;
            } else if self.rng.chance(30) {
                let again = list.get(0).to_owned();
                list.push(&again);
                list.push("");
            }
            lists.push(list);
        }
        if self.fault(Fault::Lookups, 10) {
            lists.pop();
        }
        Ok(lists)
    }

    /// A letter about a lookup has its cause: the session failed alone often enough, in an ask that the event waited for, and
    /// not because of one outage; or it had no members for long enough.
    pub fn check_letter(&mut self, letter: &DeadLetter) {
        if !["lookup_failed", "no_members"].contains(&letter.reason) {
            return;
        }
        let message = super::events::message_of(&letter.payload);
        let session = self.session_of[&message.session_id];
        let event = self.oracle.by_key[&(session, super::events::number_of(&message))];
        if !self.sessions[session].lettered.insert((event, self.oracle.events[event].take)) {
            // It was asked for already.
            return;
        }
        let arrived = self.oracle.events[event].arrived;
        let met = &mut self.sessions[session].met;
        if letter.reason == "lookup_failed" {
            let (alone, causes) = (met.alone, met.causes.len());
            // An outage, however long, blames nobody; what failed before it may be blamed once for it.
            assert!(causes > 1, "event {event} became a letter because of an outage");
            if self.plan.events_window() == usize::MAX {
                // One failure may be the first, which nobody is blamed for; one more ends the events that came later.
                let least = self.plan.max_retry + 1;
                assert!(alone >= least, "event {event} became a letter after {alone} failures of its session");
                assert!(met.alone_asked >= arrived, "event {event} became a letter before it was asked for");
            }
        } else if self.plan.events_window() == usize::MAX {
            let until = arrived.after(self.plan.empty_wait());
            assert!(met.empty_read >= until, "event {event} became a letter before its session was empty for long");
        }
    }

    /// Answers of the member store, in any order.
    pub fn feed_members(&mut self, shard: usize) {
        let mut at = 0;
        while at < self.member_asks.len() {
            let ask = &self.member_asks[at];
            if ask.shard == shard && ask.answer.is_some() && ask.answer_at <= self.now {
                let ask = self.member_asks.swap_remove(at);
                let answer = ask.answer.expect("looked at above");
                self.feed(shard, Input::Members { ask: ask.ask, answer });
            } else {
                at += 1;
            }
        }
    }

    /// The stores work again, and the route store says what is true.
    pub fn calm_stores(&mut self) {
        (self.outages.members_until, self.outages.routes_until) = (self.now, self.now);
        for session in &mut self.sessions {
            session.is_cursed = false;
            session.met.hidden_until = self.now;
        }
        for shard in 0..self.shards.len() {
            if self.route_wires[shard].is_lost {
                self.connect_routes(shard);
            }
        }
        for user in 0..self.users.len() {
            if self.users[user].stored != Stored::of(&self.users[user]) {
                self.write_route(user);
            }
        }
    }
}
