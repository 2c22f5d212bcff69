//! The users one shard knows: each name once, in wire form, with its route beside it.
//!
//! Promises that a user keeps its place while any member list names it, that routes are one array of integers (so a
//! pass over a session's members reads memory in place and hashes nothing), and that memory follows the member lists:
//! a user no list names any more is forgotten.

mod asked;
mod sets;
mod several;

use std::collections::HashSet;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::model::ids::{GatewayIx, Nanos, UserIx};
use crate::model::limits::{GATEWAY_SETS_MAX, GATEWAYS_MAX, ROUTE_CHANGES_KEPT};
use crate::model::prefetch::prefetch;
use crate::model::protobuf::{put_varint, read_varint};
use crate::push::users::sets::GatewaySets;
pub use crate::push::users::sets::SetIx;

/// `to_username` and `to_usernames` are both field 1, length-delimited.
pub const USERNAME_TAG: u8 = 1 << 3 | 2;

/// What is known of a user's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// Nothing, or nothing that still holds.
    Unknown,
    /// It is being asked for.
    Asked,
    /// Not connected.
    Offline,
    /// Its route is none.
    Bad,
    /// Its route names a gateway that found no place in the table; asked again when one is free.
    NoPlace,
    /// Connected there.
    At(GatewayIx),
    /// Connected to each gateway of a set.
    AtEach(SetIx),
}

const UNKNOWN: u32 = u32::MAX;
const ASKED: u32 = u32::MAX - 1;
const OFFLINE: u32 = u32::MAX - 2;
const BAD: u32 = u32::MAX - 3;
const NO_PLACE: u32 = u32::MAX - 4;
/// Of [`Users::before_loss`]: nothing is remembered.
const NOWHERE: u32 = u32::MAX;
/// In the code of a gateway: it holds for what is under way, and is asked again before it is used for more.
const DOUBTED: u32 = 1 << 31;
/// From here on codes are sets of gateways.
const SETS: u32 = 1 << 24;
const _: () = assert!(2 * GATEWAYS_MAX <= SETS as usize);
const _: () = assert!(SETS as usize + GATEWAY_SETS_MAX <= DOUBTED as usize);
const _: () = assert!(SETS as usize + GATEWAY_SETS_MAX + (DOUBTED as usize) < NO_PLACE as usize);

impl RouteState {
    #[inline]
    fn from_code(code: u32) -> Self {
        match code {
            UNKNOWN => Self::Unknown,
            ASKED => Self::Asked,
            OFFLINE => Self::Offline,
            BAD => Self::Bad,
            NO_PLACE => Self::NoPlace,
            code => match code & !DOUBTED {
                place if place < SETS => Self::At(GatewayIx(place)),
                set => Self::AtEach(SetIx(set - SETS)),
            },
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Unknown => UNKNOWN,
            Self::Asked => ASKED,
            Self::Offline => OFFLINE,
            Self::Bad => BAD,
            Self::NoPlace => NO_PLACE,
            Self::At(gateway) => gateway.0,
            Self::AtEach(set) => set.0 + SETS,
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashTable<u32>,
    hasher: FixedState,
    wire: Vec<Box<[u8]>>,
    route: Vec<u32>,
    /// The gateway that a user was at when all routes were last lost, or before it was asked for anew.
    before_loss: Vec<u32>,
    asked_in: Vec<u32>,
    /// The number of the ask that its route is from.
    known_in: Vec<u32>,
    named_by: Vec<u32>,
    free: Vec<u32>,
    sets: GatewaySets,
    /// Some user's route may be [`RouteState::NoPlace`].
    has_no_place: bool,
    /// Whose set lacks a gateway for which there was no place.
    lacking: HashSet<UserIx>,
    /// There was no room for a set.
    are_sets_full: bool,
    sets_swept: Option<Nanos>,
    epoch: u64,
    /// Whose route made each of the last epochs, by epoch modulo its length.
    changed: Vec<UserIx>,
}

impl Users {
    /// Grows whenever a route that a session may have been grouped by holds no longer.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whose routes have changed since an epoch, each as often as it did; nothing when they are too many to be told.
    pub fn changed_since(&self, epoch: u64) -> Option<impl ExactSizeIterator<Item = UserIx>> {
        let changes = usize::try_from(self.epoch - epoch).ok().filter(|changes| *changes <= self.changed.len())?;
        Some((0..changes).map(move |at| self.changed[(epoch as usize + 1 + at) % ROUTE_CHANGES_KEPT]))
    }

    fn note_change(&mut self, user: UserIx) {
        self.epoch += 1;
        let place = self.epoch as usize % ROUTE_CHANGES_KEPT;
        if self.changed.is_empty() {
            self.changed.resize(ROUTE_CHANGES_KEPT, user);
        }
        self.changed[place] = user;
    }

    /// How many users are known.
    pub fn known(&self) -> usize {
        self.wire.len() - self.free.len()
    }

    /// The user of a name, if known.
    pub fn find(&self, name: impl AsRef<[u8]>) -> Option<UserIx> {
        let name = name.as_ref();
        let hash = self.hash(name);
        self.by_name.find(hash, |&at| name_of(&self.wire[at as usize]) == name).map(|&at| UserIx(at))
    }

    /// What [`guess`](Self::guess) looks for a name by.
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    /// A user whose name may have this hash.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<UserIx> {
        self.by_name.find(hash, |_| true).map(|&at| UserIx(at))
    }

    /// Asks for the memory that a look-up of this user reads first.
    pub fn prefetch(&self, user: UserIx) {
        prefetch(&raw const self.wire[user.0 as usize]);
        prefetch(&raw const self.route[user.0 as usize]);
    }

    /// The user of a name, made known when it is not, and named by one more list.
    pub fn name(&mut self, name: &str) -> UserIx {
        if let Some(user) = self.find(name) {
            self.named_by[user.0 as usize] += 1;
            return user;
        }
        let mut wire = Vec::with_capacity(name.len() + 3);
        wire.push(USERNAME_TAG);
        put_varint(&mut wire, name.len() as u64);
        wire.extend_from_slice(name.as_bytes());
        let at = self.free.pop().unwrap_or_else(|| {
            self.wire.push(Box::default());
            self.route.push(UNKNOWN);
            self.before_loss.push(NOWHERE);
            self.asked_in.push(0);
            self.known_in.push(0);
            self.named_by.push(0);
            (self.wire.len() - 1) as u32
        });
        self.wire[at as usize] = wire.into_boxed_slice();
        self.route[at as usize] = UNKNOWN;
        self.before_loss[at as usize] = NOWHERE;
        self.asked_in[at as usize] = 0;
        self.known_in[at as usize] = 0;
        self.named_by[at as usize] = 1;
        let hash = self.hash(name.as_bytes());
        let (hasher, wires) = (&self.hasher, &self.wire);
        self.by_name.insert_unique(hash, at, |&at| hasher.hash_one(name_of(&wires[at as usize])));
        UserIx(at)
    }

    /// One list less names these users; those that none names are forgotten.
    pub fn unname(&mut self, users: &[UserIx]) {
        for user in users {
            let at = user.0 as usize;
            self.named_by[at] -= 1;
            if self.named_by[at] == 0 {
                let hash = self.hash(name_of(&self.wire[at]));
                if let Ok(entry) = self.by_name.find_entry(hash, |&found| found == user.0) {
                    entry.remove();
                }
                self.wire[at] = Box::default();
                self.free.push(user.0);
            }
        }
    }

    /// A user whose route is known, looked for from a place on in so many; the place after that is the next one's.
    pub fn next_routed(&self, from: &mut usize, most: usize) -> Option<UserIx> {
        for _ in 0..most.min(self.route.len()) {
            let at = *from % self.route.len();
            *from = at + 1;
            let route = RouteState::from_code(self.route[at]);
            let is_known = matches!(route, RouteState::Offline | RouteState::At(_) | RouteState::AtEach(_));
            if is_known && self.named_by[at] > 0 {
                return Some(UserIx(at as u32));
            }
        }
        None
    }

    /// Keeps a user known for as long as something else refers to its place; undone by [`unname`](Self::unname).
    pub fn hold(&mut self, user: UserIx) {
        self.named_by[user.0 as usize] += 1;
    }

    /// The name with its tag and length.
    #[inline]
    pub fn wire(&self, user: UserIx) -> &[u8] {
        &self.wire[user.0 as usize]
    }

    /// The name.
    pub fn text(&self, user: UserIx) -> &str {
        std::str::from_utf8(name_of(&self.wire[user.0 as usize])).expect("made from a str")
    }

    /// What is known of its route.
    #[inline]
    pub fn route(&self, user: UserIx) -> RouteState {
        RouteState::from_code(self.route[user.0 as usize])
    }

    /// The number of the ask that it was asked in last.
    #[inline]
    pub fn asked_in(&self, user: UserIx) -> u32 {
        self.asked_in[user.0 as usize]
    }

    /// Notes that a user's route is being asked for. What it was before no longer holds, but sessions grouped by it
    /// are told only by the answer.
    pub fn set_asked(&mut self, user: UserIx, ask: u32) {
        self.remember(user);
        self.route[user.0 as usize] = ASKED;
        self.asked_in[user.0 as usize] = ask;
        self.note_change(user);
    }

    /// The store may come back without its routes.
    fn remember(&mut self, user: UserIx) {
        let was = self.route[user.0 as usize];
        if was < DOUBTED {
            self.before_loss[user.0 as usize] = was;
        }
    }

    /// Notes an answer.
    pub fn set_route(&mut self, user: UserIx, route: RouteState) {
        let place = &mut self.route[user.0 as usize];
        let was = RouteState::from_code(*place);
        *place = route.code();
        self.before_loss[user.0 as usize] = NOWHERE;
        self.known_in[user.0 as usize] = self.asked_in[user.0 as usize];
        self.has_no_place |= route == RouteState::NoPlace;
        if was != route {
            self.note_change(user);
        }
    }

    /// The store has no route of a user who had one when all routes were lost: the user is taken to be where it was. False when
    /// nothing is remembered.
    pub fn keep_route(&mut self, user: UserIx) -> bool {
        let was = self.before_loss[user.0 as usize];
        if was == NOWHERE {
            return false;
        }
        self.route[user.0 as usize] = was;
        self.known_in[user.0 as usize] = self.asked_in[user.0 as usize];
        self.note_change(user);
        true
    }

    /// What is remembered of the time before a loss holds no longer: whoever was kept where it was is asked for again.
    pub fn forget_kept_routes(&mut self) {
        for at in 0..self.route.len() {
            let was = std::mem::replace(&mut self.before_loss[at], NOWHERE);
            if was != NOWHERE && self.route[at] == was {
                self.forget_route(UserIx(at as u32));
            }
        }
    }

    /// This gateway says that the user is not connected to it.
    pub fn is_not_at(&mut self, user: UserIx, gateway: GatewayIx) {
        let is_one_of_several = self.was_not_at(user, |at| at == gateway);
        let before = self.before_loss[user.0 as usize];
        if self.is_at(user, gateway) {
            self.forget_route(user);
        }
        if is_one_of_several {
            // The others have said nothing.
            self.before_loss[user.0 as usize] = before;
        }
    }

    /// What was known of this user holds no longer; one that is being asked for stays so.
    pub fn forget_route(&mut self, user: UserIx) {
        let at = user.0 as usize;
        self.before_loss[at] = NOWHERE;
        if self.route[at] != ASKED && self.route[at] != UNKNOWN {
            self.route[at] = if self.is_asked_again(at) { ASKED } else { UNKNOWN };
            self.note_change(user);
        }
    }

    /// A user's route to this gateway, if that is what is known, is asked again before it is used for another event. What
    /// is under way is judged by it until then: a gateway that hangs ends many pushes at once, and to forget would make
    /// each of them wait for an ask of its own.
    pub fn mark_stale(&mut self, user: UserIx, gateway: GatewayIx) {
        self.was_not_at(user, |at| at == gateway);
        let code = self.route[user.0 as usize];
        if code < DOUBTED && self.leads_to(code, |at| at == gateway) {
            self.doubt(user);
        }
    }

    fn doubt(&mut self, user: UserIx) {
        self.route[user.0 as usize] |= DOUBTED;
        self.note_change(user);
    }

    /// The same for whoever is connected to one of these gateways.
    pub fn mark_stale_to(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        for at in 0..self.route.len() {
            self.was_not_at(UserIx(at as u32), &is_one);
            if self.route[at] < DOUBTED && self.leads_to(self.route[at], &is_one) {
                self.doubt(UserIx(at as u32));
            }
        }
    }

    /// Whether the route is to be asked again.
    #[inline]
    pub fn is_stale(&self, user: UserIx) -> bool {
        let code = self.route[user.0 as usize];
        code & DOUBTED != 0 && code < NO_PLACE
    }

    /// Forgets the routes to some gateways of so many users from a place on; the place to go on from, none at the end.
    pub fn forget_routes_to(&mut self, from: usize, most: usize, is_one: impl Fn(GatewayIx) -> bool) -> Option<usize> {
        let until = self.route.len().min(from + most);
        for at in from..until {
            self.was_not_at(UserIx(at as u32), &is_one);
            if self.leads_to(self.route[at], &is_one) {
                self.forget_route(UserIx(at as u32));
            }
        }
        (until < self.route.len()).then_some(until)
    }

    /// There is a place for a gateway again: who was routed to one without is asked for anew.
    pub fn forget_no_place(&mut self) {
        for user in std::mem::take(&mut self.lacking) {
            self.forget_route(user);
        }
        if std::mem::take(&mut self.has_no_place) {
            for at in 0..self.route.len() {
                if self.route[at] == NO_PLACE {
                    self.forget_route(UserIx(at as u32));
                }
            }
        }
    }

    /// What was known of any user holds no longer. Where each was is remembered: the store may come back without.
    pub fn lose_all_routes(&mut self) {
        for at in 0..self.route.len() {
            if self.route[at] < DOUBTED {
                self.before_loss[at] = self.route[at];
            }
            if self.route[at] != ASKED {
                self.route[at] = if self.is_asked_again(at) { ASKED } else { UNKNOWN };
            }
        }
        // Too far for anyone to be told one by one.
        self.epoch += 1 + ROUTE_CHANGES_KEPT as u64;
    }
}

fn name_of(wire: &[u8]) -> &[u8] {
    match wire {
        [_, rest @ ..] => read_varint(rest).map_or(&[], |(_, used)| &rest[used..]),
        [] => &[],
    }
}

#[cfg(test)]
mod tests;
