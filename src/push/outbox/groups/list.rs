//! One list of users as the gateway has it, and how it becomes another one.
//!
//! Promises that a place of the list and a place of the group of which it was made are told apart: who joins comes at the end of the
//! list, and stands among the others in the group.

use std::sync::Arc;

use crate::push::bundle::Group;
use crate::push::outbox::encode::name_len;

/// A list of which more than this part changed is said anew.
const CHANGED_PART_MAX: usize = 4;

/// A list as it was last said.
#[derive(Debug)]
pub(super) struct List {
    pub(super) id: u32,
    pub(super) version: u32,
    /// Whose users they are.
    pub(super) group: Arc<Group>,
    /// In which order they are; none: as in the group.
    pub(super) order: Option<Arc<Order>>,
    /// The gateway has not said that it knows it no more.
    pub(super) is_known: bool,
    /// The last frame with a push to it.
    pub(super) used_in: u64,
}

/// The order of a list.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::push::outbox) struct Order {
    /// The place in the group by the place in the list.
    pub(super) in_group: Box<[u32]>,
    /// The other way round.
    pub(super) in_list: Box<[u32]>,
}

impl List {
    pub(super) fn new(id: u32, group: Arc<Group>) -> Self {
        Self { id, version: 1, group, order: None, is_known: true, used_in: 0 }
    }

    /// It is said anew.
    pub(super) fn replace(&mut self, group: Arc<Group>) {
        self.version = next_version(self.version);
        (self.group, self.order, self.is_known) = (group, None, true);
    }

    /// It is changed.
    pub(super) fn apply(&mut self, difference: &Difference, group: Arc<Group>) {
        self.version = next_version(self.version);
        self.order = difference.order(group.users.len());
        self.group = group;
    }

    /// Whether the frame has a push to it.
    pub(super) fn is_used_in(&self, frame: u64) -> bool {
        self.used_in == frame
    }

    /// Where a place of the group stands in the list.
    pub(super) fn in_list(&self, place: u32) -> u32 {
        self.order.as_ref().map_or(place, |order| order.in_list[place as usize])
    }
}

/// 0 is no version.
fn next_version(version: u32) -> u32 {
    version.wrapping_add(1).max(1)
}

/// What makes another list of one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Places of the list that leave, ascending.
    pub(super) removed: Vec<u32>,
    /// Who joins: places in the new group, ascending.
    pub(super) added: Vec<u32>,
    /// Who stays, in the order of the list: places in the new group.
    kept: Vec<u32>,
}

impl Difference {
    /// Users are the same when their places and their names are: a place may be another user's by now.
    pub(super) fn between(list: &List, group: &Group) -> Self {
        let old = &*list.group;
        let mut became = vec![None; old.users.len()];
        let mut added = Vec::new();
        let (mut old_names, mut at) = (NamesOf(&old.wire), 0);
        let mut old_name = old_names.next();
        for ((place, user), name) in group.users.iter().enumerate().zip(NamesOf(&group.wire)) {
            while at < old.users.len() && old.users[at] < *user {
                (at, old_name) = (at + 1, old_names.next());
            }
            match old.users.get(at) == Some(user) && old_name == Some(name) {
                true => {
                    became[at] = Some(place as u32);
                    (at, old_name) = (at + 1, old_names.next());
                }
                false => added.push(place as u32),
            }
        }
        let mut difference = Self { added, ..Self::default() };
        for place in 0..old.users.len() as u32 {
            let in_group = list.order.as_ref().map_or(place, |order| order.in_group[place as usize]);
            match became[in_group as usize] {
                Some(now) => difference.kept.push(now),
                None => difference.removed.push(place),
            }
        }
        difference
    }

    /// Nothing changed.
    pub(super) fn is_none(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// To say the list is no more than to say what changed.
    pub(super) fn is_large(&self) -> bool {
        (self.removed.len() + self.added.len()) * CHANGED_PART_MAX > self.kept.len() + self.added.len()
    }

    /// The order of the list that it makes.
    fn order(&self, users: usize) -> Option<Arc<Order>> {
        let in_group: Box<[u32]> = self.kept.iter().chain(&self.added).copied().collect();
        debug_assert_eq!(in_group.len(), users);
        if in_group.is_sorted() {
            return None;
        }
        let mut in_list = vec![0; in_group.len()];
        for (place, of_group) in in_group.iter().enumerate() {
            in_list[*of_group as usize] = place as u32;
        }
        Some(Arc::new(Order { in_group, in_list: in_list.into() }))
    }
}

/// The names of a group, each as a field of the wire: tag, length, bytes.
pub(super) struct NamesOf<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for NamesOf<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (name, rest) = self.0.split_at(name_len(self.0).min(self.0.len()));
        self.0 = rest;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{GatewayIx, UserIx};

    /// A group of users by number; who is called otherwise has another name than its number says.
    fn group(users: &[u32], renamed: Option<u32>) -> Arc<Group> {
        let mut wire = Vec::new();
        for user in users {
            let name = if renamed == Some(*user) { format!("other-{user}") } else { format!("user-{user}") };
            wire.extend([1 << 3 | 2, name.len() as u8]);
            wire.extend_from_slice(name.as_bytes());
        }
        let users = users.iter().copied().map(UserIx).collect();
        Arc::new(Group::new("gw".into(), GatewayIx(0), 0, users, wire.into()))
    }

    #[test]
    fn a_list_that_is_changed_step_by_step_is_the_group() {
        let steps: [(&[u32], Option<u32>); 7] = [
            (&[1, 3, 5, 7, 9], None),
            (&[1, 2, 3, 5, 7, 9], None),
            (&[2, 3, 5, 6, 9], None),
            (&[2, 3, 5, 6, 9], Some(5)),
            (&[9], None),
            (&[0, 4, 9, 11], None),
            (&[5, 6], None),
        ];
        let mut list = List::new(1, group(steps[0].0, None));
        let mut at_gateway: Vec<Vec<u8>> = NamesOf(&list.group.wire).map(<[u8]>::to_vec).collect();
        for (users, renamed) in steps {
            let now = group(users, renamed);
            let names: Vec<_> = NamesOf(&now.wire).map(<[u8]>::to_vec).collect();
            let difference = Difference::between(&list, &now);
            let mut place = 0;
            at_gateway.retain(|_| {
                place += 1;
                !difference.removed.contains(&(place - 1))
            });
            at_gateway.extend(difference.added.iter().map(|place| names[*place as usize].clone()));
            list.apply(&difference, now);
            for (place, name) in names.iter().enumerate() {
                let in_list = list.in_list(place as u32);
                assert_eq!(at_gateway[in_list as usize], *name, "{users:?}");
                let back = list.order.as_ref().map_or(in_list, |order| order.in_group[in_list as usize]);
                assert_eq!(back, place as u32);
            }
            assert_eq!(at_gateway.len(), names.len());
        }
        assert_eq!(list.version, 8);
    }
}
