//! What this instance knows of the keys in etcd: the newest state of each that a listing, a watch or a transaction has told.
//!
//! Promises that an older word never takes the place of a newer one, whatever order they come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::records::{self, Epoch, Layout, Member, Owner, Plan, Unreadable};
use crate::model::ids::Partition;
use crate::ownership::facts::{Txn, Write};
use crate::ownership::keys::{Instance, Key, KeyState, Revision};

/// A record as it was last seen.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// The newest revision at which it is known to have been so.
    at: Revision,
    /// Of its making; 0: there is none.
    pub created: Revision,
    /// Its value, which names the write that made it; `None`: there is none.
    pub value: Option<Arc<[u8]>>,
    /// The record; `None`: there is none.
    pub record: Option<Result<T, Unreadable>>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { at: 0, created: 0, value: None, record: None }
    }
}

impl<T> Seen<T> {
    /// The record, when there is one that can be read.
    pub fn get(&self) -> Option<&T> {
        self.record.as_ref()?.as_ref().ok()
    }

    /// Whether there is no such key.
    pub fn is_absent(&self) -> bool {
        self.record.is_none()
    }

    /// Why it cannot be read, when it cannot.
    pub fn fault(&self) -> Option<&Unreadable> {
        self.record.as_ref()?.as_ref().err()
    }

    fn learn(&mut self, at: Revision, state: &KeyState, read: impl Fn(&[u8]) -> Result<T, Unreadable>) -> bool {
        if at < self.at {
            return false;
        }
        self.at = at;
        // Not by its revision: where etcd was emptied another write may have the same.
        if state.create_revision == self.created && state.value == self.value {
            return false;
        }
        (self.created, self.value) = (state.create_revision, state.value.clone());
        self.record = state.value.as_deref().map(read);
        true
    }
}

/// All keys.
#[derive(Debug, Default)]
pub struct View {
    /// The highest revision that was heard of.
    pub revision: Revision,
    /// Whether all keys were listed, and changes are watched since.
    pub is_listed: bool,
    /// `layout`.
    pub layout: Seen<Layout>,
    /// `plan`.
    pub plan: Seen<Plan>,
    /// `members/`; those without a record are known to be gone.
    pub members: BTreeMap<Instance, Seen<Member>>,
    /// `drained/`.
    pub drained: BTreeMap<Instance, Seen<records::Drained>>,
    /// `owners/`, by partition.
    pub owners: Vec<Seen<Owner>>,
    /// `epochs/`, by partition.
    pub epochs: Vec<Seen<Epoch>>,
}

impl View {
    /// Nothing is known of any.
    pub fn new(partitions: u32) -> Self {
        let count = partitions as usize;
        Self { owners: vec![Seen::default(); count], epochs: vec![Seen::default(); count], ..Self::default() }
    }

    /// A member that is there.
    pub fn member(&self, name: &Instance) -> Option<(&Member, Revision)> {
        let seen = self.members.get(name)?;
        Some((seen.get()?, seen.created))
    }

    /// Takes in a key's state, true at a revision; whether it is news.
    pub fn learn(&mut self, at: Revision, state: &KeyState) -> bool {
        self.revision = self.revision.max(at);
        match &state.key {
            Key::Layout => self.layout.learn(at, state, records::read),
            Key::Plan => self.plan.learn(at, state, records::read),
            Key::Member(name) => self.members.entry(name.clone()).or_default().learn(at, state, records::read_member),
            Key::Drained(name) => self.drained.entry(name.clone()).or_default().learn(at, state, records::read),
            Key::Owner(Partition(partition)) => match self.owners.get_mut(*partition as usize) {
                Some(seen) => seen.learn(at, state, records::read),
                None => false,
            },
            Key::Epoch(Partition(partition)) => match self.epochs.get_mut(*partition as usize) {
                Some(seen) => seen.learn(at, state, records::read),
                None => false,
            },
        }
    }

    /// Takes in what a transaction wrote; the keys that are news.
    pub fn wrote(&mut self, at: Revision, txn: &Txn) -> Vec<Key> {
        let mut news = Vec::new();
        for write in &txn.writes {
            let state = match write {
                Write::Put { key, value, .. } => {
                    let known = self.created(key);
                    let create_revision = if known == 0 { at } else { known };
                    KeyState {
                        key: key.clone(),
                        value: Some(value.as_bytes().into()),
                        mod_revision: at,
                        create_revision,
                    }
                }
                Write::Delete { key } => absent(key.clone()),
            };
            if self.learn(at, &state) {
                news.push(state.key);
            }
        }
        news
    }

    fn created(&self, key: &Key) -> Revision {
        match key {
            Key::Layout => self.layout.created,
            Key::Plan => self.plan.created,
            Key::Member(name) => self.members.get(name).map_or(0, |seen| seen.created),
            Key::Drained(name) => self.drained.get(name).map_or(0, |seen| seen.created),
            Key::Owner(Partition(at)) => self.owners.get(*at as usize).map_or(0, |seen| seen.created),
            Key::Epoch(Partition(at)) => self.epochs.get(*at as usize).map_or(0, |seen| seen.created),
        }
    }

    /// Takes in a listing; the keys that are news. One of a lower revision than was heard of when it was asked for (`known`) is of an
    /// etcd that was restored or emptied: then only what it says counts, and it gives true. One that is only late is no such one.
    pub fn list(&mut self, known: Revision, revision: Revision, keys: &[KeyState]) -> (Vec<Key>, bool) {
        let is_another = revision < known;
        if is_another {
            self.forget_revisions();
            self.revision = revision;
        }
        let listed: BTreeSet<&Key> = keys.iter().map(|state| &state.key).collect();
        let gone: Vec<KeyState> = self.present().into_iter().filter(|key| !listed.contains(key)).map(absent).collect();
        self.is_listed = true;
        let states = keys.iter().chain(&gone);
        let news = states.filter(|state| self.learn(revision, state)).map(|state| state.key.clone()).collect();
        // Members that are gone are forgotten here: a name in each restart would otherwise stay for ever.
        self.members.retain(|_, seen| !seen.is_absent());
        self.drained.retain(|_, seen| !seen.is_absent());
        (news, is_another)
    }

    fn present(&self) -> Vec<Key> {
        let numbers = |seen: &[bool]| {
            let there = seen.iter().enumerate().filter(|(_, is_there)| **is_there);
            there.map(|(at, _)| Partition(at as u32)).collect::<Vec<_>>()
        };
        let owners = self.owners.iter().map(|seen| !seen.is_absent()).collect::<Vec<_>>();
        let epochs = self.epochs.iter().map(|seen| !seen.is_absent()).collect::<Vec<_>>();
        let members = self.members.iter().filter(|(_, seen)| !seen.is_absent());
        let drained = self.drained.iter().filter(|(_, seen)| !seen.is_absent());
        let mut keys: Vec<Key> = members.map(|(name, _)| Key::Member(name.clone())).collect();
        keys.extend(drained.map(|(name, _)| Key::Drained(name.clone())));
        keys.extend(numbers(&owners).into_iter().map(Key::Owner));
        keys.extend(numbers(&epochs).into_iter().map(Key::Epoch));
        keys.extend((!self.layout.is_absent()).then_some(Key::Layout));
        keys.extend((!self.plan.is_absent()).then_some(Key::Plan));
        keys
    }

    fn forget_revisions(&mut self) {
        self.layout.at = 0;
        self.plan.at = 0;
        self.members.values_mut().for_each(|seen| seen.at = 0);
        self.drained.values_mut().for_each(|seen| seen.at = 0);
        self.owners.iter_mut().for_each(|seen| seen.at = 0);
        self.epochs.iter_mut().for_each(|seen| seen.at = 0);
    }
}

/// The state of a key that is not there.
pub fn absent(key: Key) -> KeyState {
    KeyState { key, value: None, mod_revision: 0, create_revision: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(epoch: u64, revision: Revision) -> KeyState {
        let record = Owner { instance: "a".into(), epoch, ..Owner::default() };
        let value = Some(records::write(&record).as_bytes().into());
        KeyState { key: Key::Owner(Partition(0)), value, mod_revision: revision, create_revision: revision }
    }

    fn epoch_of(view: &View) -> Option<u64> {
        view.owners[0].get().map(|owner| owner.epoch)
    }

    #[test]
    fn an_older_word_changes_nothing() {
        let mut view = View::new(1);
        assert!(view.learn(12, &owner(2, 12)));
        assert!(!view.learn(10, &owner(1, 10)), "a watch that is behind a transaction's answer");
        assert!(!view.learn(11, &absent(Key::Owner(Partition(0)))));
        assert_eq!(epoch_of(&view), Some(2));
        assert!(view.learn(13, &absent(Key::Owner(Partition(0)))));
        assert_eq!(epoch_of(&view), None);
    }

    #[test]
    fn what_a_listing_lacks_is_gone_and_one_of_an_emptied_etcd_counts() {
        let mut view = View::new(1);
        view.learn(12, &owner(2, 12));
        let (news, is_another) = view.list(12, 20, &[]);
        assert_eq!((news.as_slice(), is_another), (&[Key::Owner(Partition(0))][..], false));
        view.learn(22, &owner(3, 22));
        let (_, is_another) = view.list(22, 3, &[owner(1, 2)]);
        assert!(is_another);
        view.learn(9, &owner(2, 9));
        let (news, is_another) = view.list(3, 5, &[owner(1, 2)]);
        assert!(!is_another && news.is_empty(), "asked for before what a transaction has told since");
        let mut view = View::new(1);
        view.learn(22, &owner(3, 22));
        view.list(22, 3, &[owner(1, 2)]);
        assert_eq!((epoch_of(&view), view.revision), (Some(1), 3));
    }

    #[test]
    fn another_value_of_the_same_revision_is_news() {
        let mut view = View::new(1);
        view.learn(5, &owner(1, 5));
        view.learn(9, &absent(Key::Plan));
        let (news, is_another) = view.list(9, 5, &[owner(2, 5)]);
        assert!(is_another, "emptied, and written by another at the same revision");
        assert_eq!((news.as_slice(), epoch_of(&view)), (&[Key::Owner(Partition(0))][..], Some(2)));
        assert!(view.list(5, 12, &[owner(1, 5)]).0.len() == 1, "again, and further than was heard of");
    }
}
