//! A session's members by gateway: the groups that its events go to, made once and used until a route changes.
//!
//! Promises a counting sort over integers: no hash, no allocation per member. Refuses to look anything up: whoever
//! calls it has seen to it that each member's route is known.

use std::sync::Arc;

use crate::ids::{GatewayId, GatewayIx, UserIx};
use crate::limits::GROUP_WIRE_BYTES_MAX;
use crate::push::bundle::Group;
use crate::push::sessions::SessionLane;
use crate::push::users::{Known, Users};

/// A group, and beside it what is looked at to find one of many.
#[derive(Debug)]
pub struct LaidGroup {
    /// The group.
    pub group: Arc<Group>,
    /// Its gateway.
    pub gateway: GatewayIx,
}

/// The members of a session by what is to be done for them.
#[derive(Debug)]
pub struct Layout {
    /// The users' epoch it was made or last checked at.
    pub epoch: u64,
    /// It must not be used again: the member list was replaced, or who is held has changed.
    pub is_stale: bool,
    /// The member list was replaced.
    pub is_of_old_list: bool,
    /// Who is connected, by gateway.
    pub groups: Vec<LaidGroup>,
    /// Who is not.
    pub offline: Box<[UserIx]>,
    /// Whose route is none.
    pub bad: Box<[UserIx]>,
    /// Whose messages wait for their place in the order.
    pub held: Box<[UserIx]>,
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
    /// Among the others, or nowhere.
    Elsewhere,
}

impl Layout {
    /// Whether each member's route is still what it was grouped by.
    pub fn still_holds(&self, users: &Users) -> bool {
        self.groups.iter().all(|laid| {
            let there = Known::At(laid.gateway);
            laid.group.users.iter().all(|user| users.route(*user) == there)
        }) && self.offline.iter().all(|user| users.route(*user) == Known::Offline)
            && self.bad.iter().all(|user| users.route(*user) == Known::Bad)
    }

    /// Finds a member.
    pub fn place_of(&self, user: UserIx, route: Known) -> Place {
        let Known::At(gateway) = route else { return Place::Elsewhere };
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
#[derive(Debug, Default)]
pub struct Grouper {
    slot_of: Vec<u32>,
    slots: Vec<Slot>,
    offline: Vec<UserIx>,
    bad: Vec<UserIx>,
    held: Vec<UserIx>,
}

#[derive(Debug)]
struct Slot {
    gateway: GatewayIx,
    lane: u32,
    users: Vec<UserIx>,
    wire_bytes: usize,
}

impl Grouper {
    /// Groups `members` (ascending), leaving out `held` (ascending). Lanes without traffic are dropped from `lanes`,
    /// and those of the new groups added.
    pub fn group(
        &mut self,
        members: &[UserIx],
        held: &[UserIx],
        users: &Users,
        gateway_id: impl Fn(GatewayIx) -> GatewayId,
        lanes: &mut Vec<SessionLane>,
    ) -> Layout {
        self.sort(members, held, users);
        lanes.retain(|lane| lane.sent != lane.done);
        for (at, lane) in lanes.iter().enumerate() {
            if let Some(&slot) = self.slot_of.get(lane.gateway.0 as usize)
                && slot != u32::MAX
            {
                self.slots[slot as usize].lane = at as u32;
            }
        }
        let mut groups = Vec::with_capacity(self.slots.len());
        for mut slot in self.slots.drain(..) {
            self.slot_of[slot.gateway.0 as usize] = u32::MAX;
            if slot.lane == u32::MAX {
                slot.lane = lanes.len() as u32;
                lanes.push(SessionLane { gateway: slot.gateway, sent: 0, done: 0 });
            }
            let gateway = slot.gateway;
            cut_into_groups(&slot, users, gateway_id(gateway), |group| groups.push(LaidGroup { group, gateway }));
        }
        Layout {
            epoch: users.epoch,
            is_stale: false,
            is_of_old_list: false,
            groups,
            offline: self.offline.drain(..).collect(),
            bad: self.bad.drain(..).collect(),
            held: self.held.drain(..).collect(),
            released: Vec::new(),
        }
    }

    fn sort(&mut self, members: &[UserIx], held: &[UserIx], users: &Users) {
        for user in members {
            if !held.is_empty() && held.binary_search(user).is_ok() {
                self.held.push(*user);
                continue;
            }
            match users.route(*user) {
                Known::At(gateway) => self.slot(gateway).push(*user, users),
                Known::Bad => self.bad.push(*user),
                Known::Offline | Known::Unknown | Known::Asked => self.offline.push(*user),
            }
        }
    }

    fn slot(&mut self, gateway: GatewayIx) -> &mut Slot {
        let at = gateway.0 as usize;
        if at >= self.slot_of.len() {
            self.slot_of.resize(at + 1, u32::MAX);
        }
        if self.slot_of[at] == u32::MAX {
            self.slot_of[at] = self.slots.len() as u32;
            self.slots.push(Slot { gateway, lane: u32::MAX, users: Vec::new(), wire_bytes: 0 });
        }
        &mut self.slots[self.slot_of[at] as usize]
    }
}

impl Slot {
    fn push(&mut self, user: UserIx, users: &Users) {
        self.users.push(user);
        self.wire_bytes += users.wire(user).len();
    }
}

/// A single user as a group of its own.
pub fn group_of_one(user: UserIx, users: &Users, gateway_id: GatewayId, gateway: GatewayIx, lane: usize) -> Arc<Group> {
    Arc::new(Group::new(gateway_id, gateway, lane as u32, Box::new([user]), users.wire(user).into()))
}

fn cut_into_groups(slot: &Slot, users: &Users, gateway_id: GatewayId, mut take: impl FnMut(Arc<Group>)) {
    let mut wire = Vec::with_capacity(slot.wire_bytes.min(GROUP_WIRE_BYTES_MAX));
    let mut start = 0;
    for (index, user) in slot.users.iter().enumerate() {
        let name = users.wire(*user);
        if wire.len() + name.len() > GROUP_WIRE_BYTES_MAX {
            let full = std::mem::take(&mut wire).into_boxed_slice();
            take(Arc::new(Group::new(
                gateway_id.clone(),
                slot.gateway,
                slot.lane,
                slot.users[start..index].into(),
                full,
            )));
            start = index;
        }
        wire.extend_from_slice(name);
    }
    take(Arc::new(Group::new(
        gateway_id,
        slot.gateway,
        slot.lane,
        slot.users[start..].into(),
        wire.into_boxed_slice(),
    )));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(routes: &[Known]) -> (Users, Vec<UserIx>) {
        let mut users = Users::default();
        let members = (0..routes.len()).map(|n| users.name(&format!("user-{n}"))).collect::<Vec<_>>();
        for (user, route) in members.iter().zip(routes) {
            users.set_route(*user, *route);
        }
        (users, members)
    }

    #[test]
    fn each_member_stands_in_exactly_one_place() {
        let (a, b) = (Known::At(GatewayIx(0)), Known::At(GatewayIx(5)));
        let (users, members) = world(&[a, b, Known::Offline, a, Known::Bad, b, a]);
        let mut lanes = vec![SessionLane { gateway: GatewayIx(9), sent: 3, done: 3 }];
        let held = [members[6]];
        let layout = Grouper::default().group(&members, &held, &users, |ix| format!("gw-{}", ix.0).into(), &mut lanes);
        let groups = layout.groups.iter().map(|laid| (&*laid.group.gateway_id, laid.group.users.to_vec()));
        let expected = vec![("gw-0", vec![members[0], members[3]]), ("gw-5", vec![members[1], members[5]])];
        assert_eq!(groups.collect::<Vec<_>>(), expected);
        assert_eq!(
            (&layout.offline[..], &layout.bad[..], &layout.held[..]),
            (&members[2..3], &members[4..5], &held[..])
        );
        assert_eq!(lanes.iter().map(|lane| lane.gateway.0).collect::<Vec<_>>(), [0, 5], "quiet lanes are dropped");
        assert_eq!(layout.place_of(members[3], a), Place::InGroup { group: 0, at: 1 });
        assert_eq!(layout.place_of(members[2], Known::Offline), Place::Elsewhere);
        assert!(layout.still_holds(&users));
    }

    #[test]
    fn a_large_group_is_cut_into_bounded_ones() {
        let (users, members) = world(&vec![Known::At(GatewayIx(0)); 20_000]);
        let layout = Grouper::default().group(&members, &[], &users, |_| "gw".into(), &mut Vec::new());
        assert!(layout.groups.len() > 2);
        let all = layout.groups.iter().flat_map(|laid| laid.group.users.to_vec()).collect::<Vec<_>>();
        assert_eq!(all, members);
        assert!(layout.groups.iter().all(|laid| laid.group.wire.len() <= GROUP_WIRE_BYTES_MAX));
    }
}
