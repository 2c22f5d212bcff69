//! The route store: its connections to the shards, what it is asked and what it says, in order.

use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::ports::LookupError;
use task_engine::push::facts::{AskNo, Input};

use super::{Said, Stored};
use crate::simulation::plan::Fault;
use crate::simulation::world::World;

impl World {
    /// A shard's connection to the route store stands; with tracking, it says so first.
    pub fn connect_routes(&mut self, shard: usize) {
        self.route_wires[shard].is_lost = false;
        if self.plan.tracked {
            self.route_wires[shard].is_tracking = true;
            self.say(shard, Said::Tracked(true));
        }
    }

    /// What was not said yet is lost, what was asked has no answer.
    pub(super) fn lose_routes(&mut self, shard: usize) {
        self.trace.line(self.now, || format!("shard {shard} loses the route store"));
        let wire = &mut self.route_wires[shard];
        wire.is_lost = true;
        wire.is_tracking = false;
        let said = std::mem::take(&mut wire.said);
        let unanswered = said.into_iter().filter_map(|(_, said)| match said {
            Said::Answer(ask, _) => Some(ask),
            _ => None,
        });
        let asks = unanswered.chain(wire.asks.drain(..).map(|(_, ask, _)| ask)).collect::<Vec<_>>();
        let is_told_first = self.rng.chance(500);
        if is_told_first {
            self.say(shard, Said::Tracked(false));
        }
        for ask in asks {
            self.say(shard, Said::Answer(ask, Err(LookupError::Unavailable("routes are away".into()))));
        }
        if !is_told_first {
            self.say(shard, Said::Tracked(false));
        }
    }

    /// The route store loses all that it had; gateways write it again, one user after the other.
    pub(super) fn empty_routes(&mut self) {
        self.trace.line(self.now, || "the route store is empty".to_owned());
        for user in 0..self.users.len() {
            self.users[user].stored = Stored::Offline;
            self.users[user].is_disturbed = true;
            let due = self.soon(2_000);
            self.late_routes.push((due, user));
        }
        for shard in 0..self.shards.len() {
            if !self.route_wires[shard].is_lost {
                self.say(shard, Said::Tracked(self.plan.tracked));
            }
        }
    }

    /// The core asks for routes.
    pub fn routes_asked(&mut self, shard: usize, ask: AskNo, users: &NameList) {
        let users = users.iter().map(|name| self.user_of[name]).collect::<Vec<_>>();
        self.trace.line(self.now, || format!("< shard {shard}: routes {ask} of {users:?}"));
        if self.route_wires[shard].is_lost {
            return self.say(shard, Said::Answer(ask, Err(LookupError::NotReached("routes are away".into()))));
        }
        let late = if self.fault(Fault::Lookups, 80) { 300 } else { 5 };
        let due = self.soon(late);
        self.route_wires[shard].asks.push_back((due, ask, users));
    }

    pub(super) fn read_routes(&mut self, users: &[usize]) -> Result<RouteList, LookupError> {
        if self.now < self.outages.routes_until {
            return Err(self.outage());
        }
        if self.fault(Fault::Lookups, 15) {
            return Err(LookupError::Unavailable("routes are away".into()));
        }
        if self.fault(Fault::Lookups, 15) {
            return Err(LookupError::Rejected("WRONGTYPE".into()));
        }
        // A proxy before several servers lacks the users whose server is away.
        let lacks = if self.fault(Fault::Lookups, 30) { self.rng.pick(&[2, 3, 5]) } else { 1 };
        let mut list = RouteList::new();
        for user in users.iter().copied() {
            match self.users[user].stored {
                _ if user % lacks == 1 => list.push(Route::Unread),
                Stored::At(gateways) => list.push_gateways(gateways.iter().map(|at| self.gateways[at].id.as_str())),
                Stored::Stranger(number) => list.push(Route::Gateway(&format!("stranger-{number}"))),
                Stored::Offline => list.push(Route::Offline),
                Stored::Bad => list.push(Route::Bad),
            }
        }
        if self.fault(Fault::Lookups, 10) {
            list.push(Route::Offline);
        }
        Ok(list)
    }

    /// What the route store said, in order.
    pub fn feed_routes(&mut self, shard: usize) {
        while self.route_wires[shard].said.front().is_some_and(|(due, _)| *due <= self.now) {
            let (_, said) = self.route_wires[shard].said.pop_front().expect("looked at above");
            let input = match said {
                Said::Answer(ask, answer) => Input::Routes { ask, answer },
                Said::Changed(user) => Input::RouteChanged(self.users[user].name.as_str().into()),
                Said::Tracked(is_tracking) if self.plan.tracked => Input::RoutesTracked(is_tracking),
                Said::Tracked(_) => Input::RoutesUnknown,
            };
            self.feed(shard, input);
        }
    }
}
