//! The lists of users that one stream of protocol `group` was told, as a gateway keeps them.
//!
//! Promises what `proto/gateway.proto` asks of a gateway: a list that it does not know stays unknown until it is said whole again,
//! and a version that does not fit is never guessed at.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use task_engine::model::proto::gateway::GroupChange;

use super::Gateway;

impl Gateway {
    /// From now on forgets a list of `group` before one in so many frames; 0: none.
    pub fn forget_groups(&self, one_in_frames: u64) {
        self.control.forgets.store(one_in_frames, Ordering::Relaxed);
    }
}

/// The lists of one stream.
#[derive(Clone, Debug, Default)]
pub struct KeptGroups {
    lists: HashMap<u32, List>,
}

#[derive(Clone, Debug)]
struct List {
    version: u32,
    users: Vec<String>,
}

impl KeptGroups {
    /// Takes one change of a frame; false when the engine said something that it must not say.
    pub fn change(&mut self, change: GroupChange) -> bool {
        let GroupChange { group_id, version, replace, add, remove, forget } = change;
        if forget {
            self.lists.remove(&group_id);
            return group_id > 0 && !replace && add.is_empty() && remove.is_empty();
        }
        if replace {
            let is_right = group_id > 0 && version > 0 && remove.is_empty() && !add.is_empty();
            self.lists.insert(group_id, List { version, users: add });
            return is_right;
        }
        let Some(list) = self.lists.get_mut(&group_id) else { return true };
        if list.version.wrapping_add(1).max(1) != version {
            self.lists.remove(&group_id);
            return true;
        }
        let is_right = remove.is_sorted() && remove.last().is_none_or(|last| (*last as usize) < list.users.len());
        let mut place = 0;
        list.users.retain(|_| {
            place += 1;
            remove.binary_search(&(place - 1)).is_err()
        });
        list.users.extend(add);
        list.version = version;
        is_right
    }

    /// The users of a list; none when it is not known as of this version.
    pub fn users(&mut self, group_id: u32, version: u32) -> Option<&[String]> {
        if self.lists.get(&group_id).is_some_and(|list| list.version != version) {
            self.lists.remove(&group_id);
        }
        self.lists.get(&group_id).map(|list| &*list.users)
    }

    /// Forgets the lists of which this is true.
    pub fn forget(&mut self, mut is_one: impl FnMut(u32) -> bool) {
        self.lists.retain(|id, _| !is_one(*id));
    }

    /// The version of a list becomes another one: as if a change had been missed.
    pub fn misremember(&mut self, mut is_one: impl FnMut(u32) -> bool) {
        self.lists.iter_mut().filter(|(id, _)| is_one(**id)).for_each(|(_, list)| list.version ^= 1 << 20);
    }

    /// The ids of all lists, ascending.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<_> = self.lists.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Users in all lists.
    pub fn members(&self) -> usize {
        self.lists.values().map(|list| list.users.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u32, add: &[&str], remove: &[u32]) -> GroupChange {
        let add = add.iter().map(|name| (*name).to_owned()).collect();
        GroupChange { group_id: 7, version, add, remove: remove.to_vec(), ..Default::default() }
    }

    #[test]
    fn a_list_is_known_as_of_one_version_only() {
        let mut kept = KeptGroups::default();
        assert!(kept.change(change(2, &["a"], &[])), "a change of what is not known is passed over");
        assert_eq!(kept.users(7, 2), None);
        assert!(kept.change(GroupChange { replace: true, ..change(5, &["a", "b", "c", "d"], &[]) }));
        assert!(kept.change(change(6, &["e"], &[0, 2])));
        assert_eq!(kept.users(7, 6).unwrap(), ["b", "d", "e"]);
        assert_eq!(kept.users(7, 5), None, "an older version");
        assert_eq!(kept.users(7, 6), None, "and then it is forgotten");
        assert!(kept.change(GroupChange { replace: true, ..change(9, &["a"], &[]) }));
        assert!(kept.change(change(11, &["b"], &[])));
        assert_eq!(kept.users(7, 11), None, "a change was missed");
        assert_eq!(kept.members(), 0);
    }

    #[test]
    fn what_must_not_be_said_is_told() {
        let mut kept = KeptGroups::default();
        assert!(kept.change(GroupChange { replace: true, ..change(1, &["a", "b"], &[]) }));
        assert!(!kept.change(change(2, &[], &[2])), "a place out of range");
        assert!(!kept.change(change(3, &[], &[1, 0])), "places that do not ascend");
        assert!(!kept.change(GroupChange { replace: true, ..change(4, &[], &[]) }), "an empty list");
        assert!(!kept.change(GroupChange { replace: true, group_id: 0, ..change(4, &["a"], &[]) }));
    }
}
