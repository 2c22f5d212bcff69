//! A session's members by gateway: the groups that its events go to, made once and used until a route changes.
//!
//! Promises a counting sort over integers: no hash, no allocation per member. Refuses to look anything up: whoever
//! calls it has seen to it that each member's route is known.

use std::sync::Arc;

use crate::model::ids::{GatewayId, GatewayIx, UserIx};
use crate::model::limits::{GROUP_USERS_MAX, GROUP_WIRE_BYTES_MAX, LISTED_USERS_MAX};
use crate::push::bundle::{Group, SKIP_NONE};
use crate::push::lanes::SessionLane;
use crate::push::users::{RouteState, SetIx, Users};

/// A member who is at several gateways, and so in the group of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Several {
    /// Who.
    pub user: UserIx,
    /// Where.
    pub set: SetIx,
    /// How many these are.
    pub gateways: u8,
}

/// A group, and beside it what is looked at to find one of many.
#[derive(Debug)]
pub struct LaidGroup {
    /// The group.
    pub group: Arc<Group>,
    /// Its gateway.
    pub gateway: GatewayIx,
}

impl LaidGroup {
    /// The place of a user in it, or [`SKIP_NONE`].
    pub fn place_of(&self, user: UserIx) -> u32 {
        self.group.users.binary_search(&user).map_or(SKIP_NONE, |at| at as u32)
    }
}

/// A group without its users: with its counts, and its place in the layout.
const GROUP_BYTES: usize = size_of::<Group>() + 2 * size_of::<usize>() + size_of::<LaidGroup>();
/// A member at several gateways, with the place in each of two groups.
const SEVERAL_BYTES: usize = size_of::<Several>() + 2 * size_of::<u32>();

/// The members of a session by what is to be done for them.
#[derive(Debug, Default)]
pub struct Layout {
    /// The users' epoch it was made or last checked at.
    pub epoch: u64,
    /// Where parts are cut by what their gateways keep: the [epoch](crate::push::gateways::Gateways::lists_epoch) of that it was made at.
    pub lists_epoch: Option<u32>,
    /// It must not be used again: the member list was replaced, or who is held has changed.
    pub is_stale: bool,
    /// The member list was replaced.
    pub is_of_old_list: bool,
    /// Who is connected, by gateway.
    pub groups: Vec<LaidGroup>,
    /// Which of them are at several gateways; ascending.
    pub several: Box<[Several]>,
    /// Who is not.
    pub offline: Box<[UserIx]>,
    /// Whose route is none.
    pub bad: Box<[UserIx]>,
    /// Whose route names a gateway without a place.
    pub no_place: Box<[UserIx]>,
    /// Whose messages wait for their place in the order.
    pub held: Box<[UserIx]>,
    /// Bytes of memory that it keeps.
    pub bytes: usize,
    /// Whose waiting messages went to a gateway since it was made.
    pub released: Vec<(UserIx, GatewayIx)>,
}

/// Where a member stands in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a group, at a place.
    InGroup {
        /// Which group.
        group: usize,
        /// Where in it.
        at: u32,
    },
    /// In several groups.
    InGroups,
    /// Among the others, or nowhere.
    Elsewhere,
}

impl Layout {
    /// Whether each member's route is still what it was grouped by.
    pub fn still_holds(&self, users: &Users) -> bool {
        self.groups.iter().all(|laid| {
            let there = RouteState::At(laid.gateway);
            laid.group.users.iter().all(|user| users.route(*user) == there || self.is_several(*user))
        }) && self.several.iter().all(|several| users.route(several.user) == RouteState::AtEach(several.set))
            && self.offline.iter().all(|user| users.route(*user) == RouteState::Offline)
            && self.bad.iter().all(|user| users.route(*user) == RouteState::Bad)
            && self.no_place.iter().all(|user| users.route(*user) == RouteState::NoPlace)
    }

    /// Whether its groups would be cut into the same parts again.
    #[inline]
    pub fn is_cut_for(&self, lists_epoch: u32) -> bool {
        self.lists_epoch.is_none_or(|epoch| epoch == lists_epoch)
    }

    fn is_several(&self, user: UserIx) -> bool {
        self.several.binary_search_by_key(&user, |several| several.user).is_ok()
    }

    /// Whether something was sent to several gateways for somebody.
    pub fn may_have_several(&self) -> bool {
        !self.several.is_empty() || self.released.windows(2).any(|pair| pair[0].0 == pair[1].0)
    }

    /// The gateways of the groups that a user is in, and of those that its waiting messages went to.
    pub fn gateways_of(&self, user: UserIx) -> Vec<GatewayIx> {
        let groups = self.groups.iter().filter(|laid| laid.place_of(user) != SKIP_NONE);
        let released = self.released.iter().filter(|(of, _)| *of == user);
        groups.map(|laid| laid.gateway).chain(released.map(|(_, gateway)| *gateway)).collect()
    }

    /// Nothing of it refers to these gateways any more. They hold nothing of the session, so that nobody has to wait for them;
    /// what is left is to be made anew.
    pub fn forget_gateways(&mut self, is_one: impl Fn(GatewayIx) -> bool, users: &Users) {
        let is_kept = |several: &&Several| !users.gateways_of(several.set).iter().any(|gateway| is_one(*gateway));
        if !self.several.iter().all(|several| is_kept(&several)) {
            self.several = self.several.iter().filter(is_kept).copied().collect();
            self.is_stale = true;
        }
        let before = self.groups.len() + self.released.len();
        self.groups.retain(|laid| !is_one(laid.gateway));
        self.released.retain(|(_, gateway)| !is_one(*gateway));
        self.is_stale |= self.groups.len() + self.released.len() < before;
    }

    /// Finds a member.
    pub fn place_of(&self, user: UserIx, route: RouteState) -> Place {
        let gateway = match route {
            RouteState::At(gateway) => gateway,
            RouteState::AtEach(_) => return Place::InGroups,
            _ => return Place::Elsewhere,
        };
        for (index, laid) in self.groups.iter().enumerate() {
            if laid.gateway == gateway
                && let Ok(at) = laid.group.users.binary_search(&user)
            {
                return Place::InGroup { group: index, at: at as u32 };
            }
        }
        Place::Elsewhere
    }
}

/// What is kept between two groupings so that none allocates it again.
#[derive(Debug)]
pub struct Grouper {
    users_max: usize,
    slot_of: Vec<u32>,
    slots: Vec<Slot>,
    /// Those who are connected, and the slot of each.
    connected: Vec<(UserIx, u32)>,
    sorted: Vec<UserIx>,
    offline: Vec<UserIx>,
    bad: Vec<UserIx>,
    no_place: Vec<UserIx>,
    held: Vec<UserIx>,
    several: Vec<Several>,
}

/// What a layout is to know of gateways.
pub trait KnownGateways {
    /// The id of a place.
    fn id(&self, at: GatewayIx) -> GatewayId;

    /// Whether the gateway there keeps lists of users: fewer, larger parts are worth it.
    fn keeps_lists(&self, at: GatewayIx) -> bool;

    /// Grows when that becomes another answer for any of them.
    fn lists_epoch(&self) -> u32;
}

/// A part on a gateway that keeps lists of users, against one on any other.
const LISTED_TIMES: usize = LISTED_USERS_MAX / GROUP_USERS_MAX;

/// The users on one gateway.
#[derive(Debug)]
struct Slot {
    gateway: GatewayIx,
    lane: u32,
    users: u32,
    wire_bytes: usize,
    /// Where the next of them goes in the sorted list; in the end, where they end.
    next: u32,
}

impl Default for Grouper {
    fn default() -> Self {
        Self::of(GROUP_USERS_MAX)
    }
}

impl Grouper {
    /// One that puts at most so many users into a group.
    pub fn of(users_max: usize) -> Self {
        Self {
            users_max: users_max.max(1),
            slot_of: Vec::new(),
            slots: Vec::new(),
            connected: Vec::new(),
            sorted: Vec::new(),
            offline: Vec::new(),
            bad: Vec::new(),
            no_place: Vec::new(),
            held: Vec::new(),
            several: Vec::new(),
        }
    }

    /// Groups `members` (ascending), leaving out `held` (ascending). Lanes without traffic are dropped from `lanes`,
    /// and those of the new groups added.
    pub fn group(
        &mut self,
        members: &[UserIx],
        held: &[UserIx],
        users: &Users,
        gateways: &impl KnownGateways,
        lanes: &mut Vec<SessionLane>,
    ) -> Layout {
        self.tell_apart(members, held, users);
        self.sort();
        self.find_lanes(lanes);
        let mut groups = Vec::with_capacity(self.slots.len());
        let mut is_any_cut = false;
        for slot in self.slots.drain(..) {
            self.slot_of[slot.gateway.0 as usize] = u32::MAX;
            let of_slot = &self.sorted[(slot.next - slot.users) as usize..slot.next as usize];
            let (gateway, several) = (slot.gateway, &self.several);
            let users_max = if gateways.keeps_lists(gateway) { self.users_max * LISTED_TIMES } else { self.users_max };
            is_any_cut |= slot.users as usize > self.users_max;
            let is_part = slot.users as usize > users_max || slot.wire_bytes > GROUP_WIRE_BYTES_MAX;
            let mut part = 0;
            cut_into_groups(&slot, of_slot, users_max, users, |in_it, wire, is_last| {
                let of_several = places_of(several, &in_it);
                let group = Group::new(gateways.id(gateway), gateway, slot.lane, in_it, wire);
                let group = group.as_part(is_part, part, !is_last).with_several(of_several);
                part += 1;
                groups.push(LaidGroup { group: Arc::new(group), gateway })
            });
        }
        let of_groups = groups.iter().map(|laid| GROUP_BYTES + laid.group.wire.len() + size_of_val(&*laid.group.users));
        let others = self.offline.len() + self.bad.len() + self.no_place.len() + self.held.len();
        Layout {
            epoch: users.epoch(),
            lists_epoch: is_any_cut.then_some(gateways.lists_epoch()),
            is_stale: false,
            is_of_old_list: false,
            bytes: of_groups.sum::<usize>()
                + others * size_of::<UserIx>()
                + self.several.len() * SEVERAL_BYTES
                + size_of::<Layout>(),
            groups,
            several: self.several.drain(..).collect(),
            offline: self.offline.drain(..).collect(),
            bad: self.bad.drain(..).collect(),
            no_place: self.no_place.drain(..).collect(),
            held: self.held.drain(..).collect(),
            released: Vec::new(),
        }
    }

    fn tell_apart(&mut self, members: &[UserIx], held: &[UserIx], users: &Users) {
        self.connected.clear();
        for user in members {
            if !held.is_empty() && held.binary_search(user).is_ok() {
                self.held.push(*user);
                continue;
            }
            match users.route(*user) {
                RouteState::At(gateway) => self.connect(*user, gateway, users),
                RouteState::AtEach(set) => {
                    let gateways = users.gateways_of(set);
                    gateways.iter().for_each(|gateway| self.connect(*user, *gateway, users));
                    self.several.push(Several { user: *user, set, gateways: gateways.len() as u8 });
                }
                RouteState::Bad => self.bad.push(*user),
                RouteState::NoPlace => self.no_place.push(*user),
                RouteState::Offline | RouteState::Unknown | RouteState::Asked => self.offline.push(*user),
            }
        }
    }

    #[inline]
    fn connect(&mut self, user: UserIx, gateway: GatewayIx, users: &Users) {
        let slot = self.slot(gateway);
        self.slots[slot as usize].users += 1;
        self.slots[slot as usize].wire_bytes += users.wire(user).len();
        self.connected.push((user, slot));
    }

    fn sort(&mut self) {
        let mut start = 0;
        for slot in &mut self.slots {
            slot.next = start;
            start += slot.users;
        }
        self.sorted.resize(self.connected.len(), UserIx(0));
        for (user, slot) in &self.connected {
            let next = &mut self.slots[*slot as usize].next;
            self.sorted[*next as usize] = *user;
            *next += 1;
        }
    }

    fn find_lanes(&mut self, lanes: &mut Vec<SessionLane>) {
        lanes.retain(|lane| lane.sent != lane.done);
        for (at, lane) in lanes.iter().enumerate() {
            if let Some(&slot) = self.slot_of.get(lane.gateway.0 as usize)
                && slot != u32::MAX
            {
                self.slots[slot as usize].lane = at as u32;
            }
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.lane == u32::MAX) {
            slot.lane = lanes.len() as u32;
            lanes.push(SessionLane { gateway: slot.gateway, sent: 0, done: 0 });
        }
    }

    #[inline]
    fn slot(&mut self, gateway: GatewayIx) -> u32 {
        match self.slot_of.get(gateway.0 as usize) {
            Some(&slot) if slot != u32::MAX => slot,
            _ => self.new_slot(gateway),
        }
    }

    fn new_slot(&mut self, gateway: GatewayIx) -> u32 {
        let at = gateway.0 as usize;
        if at >= self.slot_of.len() {
            self.slot_of.resize(at + 1, u32::MAX);
        }
        self.slot_of[at] = self.slots.len() as u32;
        self.slots.push(Slot { gateway, lane: u32::MAX, users: 0, wire_bytes: 0, next: 0 });
        self.slot_of[at]
    }
}

/// A single user as a group of its own; `is_several`: the message goes to other gateways of the user as well.
pub fn group_of_one(
    user: UserIx,
    users: &Users,
    gateway_id: GatewayId,
    gateway: GatewayIx,
    lane: usize,
    is_several: bool,
) -> Arc<Group> {
    let group = Group::new(gateway_id, gateway, lane as u32, Box::new([user]), users.wire(user).into());
    Arc::new(if is_several { group.with_several(Box::new([0])) } else { group })
}

/// The places in a group of those who are at several gateways.
fn places_of(several: &[Several], users: &[UserIx]) -> Box<[u32]> {
    if several.is_empty() {
        return Box::default();
    }
    let is_one = |user: &UserIx| several.binary_search_by_key(user, |several| several.user).is_ok();
    let places = users.iter().enumerate().filter(|(_, user)| is_one(user));
    places.map(|(at, _)| at as u32).collect()
}

fn cut_into_groups(
    slot: &Slot,
    of_slot: &[UserIx],
    users_max: usize,
    users: &Users,
    mut take: impl FnMut(Box<[UserIx]>, Box<[u8]>, bool),
) {
    let mut wire = Vec::with_capacity(slot.wire_bytes.min(GROUP_WIRE_BYTES_MAX));
    let mut start = 0;
    for (index, user) in of_slot.iter().enumerate() {
        let name = users.wire(*user);
        let (in_part, bytes) = (index - start, wire.len() + name.len());
        // Nobody is alone in the last part: nothing would go there of a message that he sent, nor what a notice of it stands for.
        let leaves_one = match of_slot[index + 1..] {
            [last] => {
                in_part >= 2 && (in_part + 1 >= users_max || bytes + users.wire(last).len() > GROUP_WIRE_BYTES_MAX)
            }
            _ => false,
        };
        if bytes > GROUP_WIRE_BYTES_MAX || in_part >= users_max || leaves_one {
            take(of_slot[start..index].into(), std::mem::take(&mut wire).into_boxed_slice(), false);
            start = index;
        }
        wire.extend_from_slice(name);
    }
    take(of_slot[start..].into(), wire.into_boxed_slice(), true);
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
