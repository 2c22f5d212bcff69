//! Bounded waits: while one class comes without end, faster than it can be served, an event of another class waits for so many turns at
//! the most as its line's share of a turn asks for.
//!
//! Played at the end of calm worlds with classes whose turns are small, so that nothing else is waited for. New sessions of a
//! shard are the crowd; one event at a time comes for one of the others, of another class. Events are handed in as the pump does, urgent
//! ones first, and nothing waits for the turns of those before it.

use std::collections::VecDeque;

use task_engine::model::limits::TURN_PARTS;
use task_engine::model::priority::{Priority, Said};
use task_engine::ports::Protocol;
use task_engine::push::facts::Input;

use super::world::{Arrival, MILLI, World};

/// Who comes, and who comes without end meanwhile.
const PAIRS: [(Priority, Priority); 3] =
    [(Priority::Urgent, Priority::Bulk), (Priority::Normal, Priority::Urgent), (Priority::Bulk, Priority::Urgent)];
/// Steps of each: a crowd that grows by a turn each step is served long after.
const STEPS: u64 = 50;
const STEP: u64 = 10 * MILLI;
/// What an event takes beside its wait for a turn: lookups, the way to its gateway and back, its rows.
const OTHER_STEPS: u64 = 12;
/// Sessions of a crowd: without classes each has its turn before one that comes.
const CROWD: usize = 40;
/// Of larger turns a crowd takes too long to make.
const TURN_MAX: usize = 26;

/// One event at a time.
struct Probe {
    session: usize,
    class: Priority,
    /// Its number, and when it came, while it is under way.
    waits: Option<(i64, u64)>,
    bound: u64,
}

impl World {
    /// See the module.
    pub fn play_crowds(&mut self) {
        let turn = self.plan.turn_recipients();
        // Parts of large groups wait at their gateway, two of them unanswered, and what is old there is passed by nobody.
        let is_cut = self.plan.group_users_max() < self.plan.users;
        if !self.plan.has_classes() || turn > TURN_MAX || is_cut || self.plan.events_window() != usize::MAX {
            return;
        }
        for shard in 0..self.shards.len() {
            let mut all = 0..self.sessions.len();
            let Some(probed) = all.find(|at| self.sessions[*at].home == shard && self.is_sound(*at)) else { continue };
            let crowd = self.make_crowd(shard, probed);
            self.tally.crowds += 1;
            for (class, of_crowd) in PAIRS {
                self.play_crowd(probed, class, &crowd, of_crowd);
            }
        }
    }

    /// Sessions of a shard that have the members of another one.
    fn make_crowd(&mut self, shard: usize, like: usize) -> Vec<usize> {
        let ids = (0..).map(|number| format!("crowd:{shard}:{number}"));
        let ids: Vec<String> = ids.filter(|id| self.home_of(id) == shard).take(CROWD).collect();
        let members = self.sessions[like].members.clone();
        let add = |id| {
            self.oracle.add_session();
            self.add_session(id, members.clone())
        };
        ids.into_iter().map(add).collect()
    }

    /// Whether all members of a session can be told, or have a row, without a wait: calls of their own wait for each other at a
    /// gateway.
    fn is_sound(&self, session: usize) -> bool {
        let members = &self.sessions[session].members;
        let is_sound = |user: &usize| {
            let is_sound = |gateway| self.serves(gateway) && !self.is_called(gateway);
            !self.plan.is_bad_owner(*user) && self.users[*user].at().iter().all(is_sound)
        };
        !members.is_empty() && members.iter().all(is_sound)
    }

    fn is_called(&self, gateway: usize) -> bool {
        self.conns.iter().any(|conn| conn.gateway == gateway && conn.protocol == Protocol::Unary)
    }

    fn play_crowd(&mut self, session: usize, class: Priority, crowd: &[usize], of_crowd: Priority) {
        let turn = self.plan.turn_recipients();
        // Who is looked at for routes has a part of a turn, and once more when they are known. What an event takes more than its
        // line has is paid back before the next one.
        let looks = if self.plan.tracked { 1 } else { 2 };
        let bound = looks * self.sessions[session].members.len().div_ceil(share_of(turn, class)) as u64 + OTHER_STEPS;
        let mut crowd = crowd.iter().copied().cycle();
        let mut probe = Probe { session, class, waits: None, bound };
        self.is_crowded = true;
        for step in 0..STEPS {
            for _ in 0..=2 * turn / self.sessions[session].members.len() {
                let next = crowd.next().expect("it has no end");
                self.publish_as(next, of_crowd);
            }
            self.watch(&mut probe, step);
            self.step(STEP);
        }
        for step in STEPS..STEPS + probe.bound {
            self.watch(&mut probe, step);
            self.step(STEP);
        }
        self.is_crowded = false;
        let bound = self.settle_bound();
        self.run_until(bound, "a crowd is served", Self::is_quiet);
    }

    fn watch(&mut self, probe: &mut Probe, step: u64) {
        if let Some((number, since)) = probe.waits {
            let event = self.oracle.by_key.get(&(probe.session, number)).map(|event| &self.oracle.events[*event]);
            let (waited, class) = (step - since, probe.class.label());
            if event.is_some_and(|event| event.is_settled) {
                self.tally.longest_wait = self.tally.longest_wait.max(waited.saturating_sub(probe.bound - OTHER_STEPS));
                probe.waits = None;
            } else {
                let share = share_of(self.plan.turn_recipients(), probe.class);
                let members = self.sessions[probe.session].members.len();
                assert!(
                    waited < probe.bound,
                    "an event of class {class} waits for {waited} turns behind others; it has {members} members, and its line {share} \
                     recipients of a turn"
                );
            }
        }
        if probe.waits.is_none() && step < STEPS {
            let (_, number) = self.publish_as(probe.session, probe.class);
            probe.waits = Some((number, step));
        }
    }

    fn publish_as(&mut self, session: usize, class: Priority) -> (usize, i64) {
        self.said_in_crowd = Said::Class(class);
        self.publish(session)
    }

    /// Hands in what waits as the pump does: urgent events first.
    pub(super) fn feed_crowd(&mut self, shard: usize) {
        for is_urgent_lane in [true, false] {
            let push = &self.shards[shard];
            let mut room = if is_urgent_lane { push.room_for_urgent() } else { push.room() };
            let is_here = |arrival: &Arrival| (arrival.said == Said::Class(Priority::Urgent)) == is_urgent_lane;
            let (here, left) = std::mem::take(&mut self.intake[shard]).into_iter().partition(is_here);
            self.intake[shard] = left;
            let mut here: VecDeque<Arrival> = here;
            while room > 0
                && let Some(arrival) = here.pop_front()
            {
                room -= 1;
                let key = arrival.key.expect("a crowd is of events");
                self.oracle.tags[arrival.tag.number as usize].handed_in();
                let (payload, tag) = (arrival.payload.clone(), arrival.tag);
                self.feed(shard, Input::Event { payload, tag, said: arrival.said });
                self.note_event(key, &arrival);
            }
            here.into_iter().rev().for_each(|arrival| self.intake[shard].push_front(arrival));
        }
    }
}

/// Recipients of a turn that are a class's while all wait.
fn share_of(turn: usize, class: Priority) -> usize {
    (turn * TURN_PARTS[line_of(class)] / TURN_PARTS.iter().sum::<usize>()).max(1)
}

fn line_of(class: Priority) -> usize {
    match class {
        Priority::Urgent => 0,
        Priority::Normal => 1,
        Priority::Bulk | Priority::Fleeting => 2,
    }
}
