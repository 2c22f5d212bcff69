//! Users, with the devices that they have, and what the route store says of them.

use super::Said;
use crate::simulation::plan::Fault;
use crate::simulation::world::{User, World};

/// Some gateways, by a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places(u8);

impl Places {
    pub fn has(self, gateway: usize) -> bool {
        self.0 >> gateway & 1 == 1
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |gateway| self.has(*gateway))
    }
}

impl FromIterator<usize> for Places {
    fn from_iter<I: IntoIterator<Item = usize>>(gateways: I) -> Self {
        Self(gateways.into_iter().fold(0, |bits, gateway| bits | 1 << gateway))
    }
}

/// A user's value in the route store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    At(Places),
    /// A gateway that is none, and was named by no other route.
    Stranger(usize),
    Offline,
    Bad,
}

impl Stored {
    /// The truth about a user.
    pub fn of(user: &User) -> Self {
        match user.at() {
            at if at == Places::default() => Self::Offline,
            at => Self::At(at),
        }
    }
}

impl World {
    /// Draws the users.
    pub fn make_users(&mut self) {
        let roaming = self.rng.below(100);
        for number in 0..self.plan.users {
            let name = match self.rng.below(40) {
                0 => format!("u{number}-{}", "é".repeat(120)),
                _ => format!("u{number}"),
            };
            let mut devices = vec![self.draw_place()];
            let roams = self.rng.below(100) < roaming;
            if self.plan.devices() > 1 {
                let more = self.rng.below(self.plan.devices());
                devices.extend((0..more).map(|_| self.draw_place()));
            }
            self.user_of.insert(name.clone(), number);
            let was_at = devices.iter().copied().flatten().collect();
            let mut user = User { name, devices, stored: Stored::Offline, was_at, roams, is_disturbed: false };
            user.stored = Stored::of(&user);
            self.users.push(user);
        }
    }

    fn draw_place(&mut self) -> Option<usize> {
        (!self.rng.chance(200)).then(|| self.rng.below(self.gateways.len()))
    }

    /// Users move, sessions change.
    pub fn disturb_users(&mut self) {
        if self.rng.chance(self.plan.moves) {
            let user = self.rng.below(self.users.len());
            if self.users[user].roams {
                self.move_user(user);
            }
        }
        if self.fault(Fault::Strangers, 15) {
            let user = self.rng.below(self.users.len());
            self.strangers += 1;
            self.users[user].is_disturbed = true;
            self.store_route(user, Stored::Stranger(self.strangers));
            let due = self.soon(1_500);
            self.late_routes.push((due, user));
        }
        if self.rng.chance(self.plan.moves / 8) {
            let session = self.rng.below(self.sessions.len());
            let user = self.rng.below(self.users.len());
            let now = self.now;
            let session = &mut self.sessions[session];
            match session.members.iter().position(|member| *member == user) {
                Some(place) => {
                    session.members.remove(place);
                }
                None => session.members.push(user),
            }
            session.ever.insert(user);
            session.changed.insert(user);
            self.users[user].is_disturbed = true;
            self.trace.line(now, || format!("user {user} joins or leaves a session"));
        }
    }

    fn move_user(&mut self, user: usize) {
        let at = self.draw_place();
        let devices = self.users[user].devices.len();
        let device = if devices > 1 { self.rng.below(devices) } else { 0 };
        self.users[user].devices[device] = at;
        self.users[user].is_disturbed = true;
        self.trace.line(self.now, || format!("device {device} of user {user} is now at {at:?}"));
        if self.rng.chance(100) {
            self.store_route(user, Stored::Bad);
        }
        if devices > 1 && self.rng.chance(400) {
            // The new gateway's hello comes before the old one's goodbye.
            let was = match self.users[user].stored {
                Stored::At(gateways) => gateways,
                _ => Places::default(),
            };
            let both = was.iter().chain(self.users[user].at().iter()).collect();
            if both != Places::default() {
                self.store_route(user, Stored::At(both));
            }
            let due = self.soon(400);
            self.late_routes.push((due, user));
        } else if self.rng.chance(600) {
            self.write_route(user);
        } else {
            let due = self.soon(400);
            self.late_routes.push((due, user));
        }
    }

    pub fn write_route(&mut self, user: usize) {
        self.store_route(user, Stored::of(&self.users[user]));
    }

    fn store_route(&mut self, user: usize, stored: Stored) {
        self.users[user].stored = stored;
        self.users[user].was_at.extend(
            match stored {
                Stored::At(gateways) => gateways,
                _ => Places::default(),
            }
            .iter(),
        );
        self.trace.line(self.now, || format!("the store says of user {user}: {stored:?}"));
        for shard in 0..self.shards.len() {
            if self.route_wires[shard].is_tracking {
                self.say(shard, Said::Changed(user));
            }
        }
    }

    /// Routes that a gateway writes late.
    pub fn write_late_routes(&mut self) {
        let mut at = 0;
        while at < self.late_routes.len() {
            if self.late_routes[at].0 <= self.now || self.is_calm {
                let (_, user) = self.late_routes.remove(at);
                self.write_route(user);
            } else {
                at += 1;
            }
        }
    }
}
