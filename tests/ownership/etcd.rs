//! A model of etcd: a linearizable store with leases that end late, and watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use task_engine::ownership::facts::{Commit, Rejection, Txn, Write};
use task_engine::ownership::keys::{Key, KeyState, LeaseId, Revision};

use crate::rng::Rng;

const SECOND: u64 = 1_000_000_000;

/// A change, as a watch tells it.
pub type Changes = Vec<(Revision, KeyState)>;

#[derive(Clone, Debug)]
struct Entry {
    value: Arc<[u8]>,
    modified: Revision,
    created: Revision,
    lease: Option<i64>,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl: u64,
    ends: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Etcd {
    keys: BTreeMap<Key, Entry>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
    /// The newest revision.
    pub revision: Revision,
    /// Nothing is answered before.
    pub away_until: u64,
    /// Keepalives of leases that are gone are answered well before.
    pub lies_until: u64,
    /// Requests and bytes of transactions, for the figures.
    pub txns: u64,
    /// See [`Self::txns`].
    pub bytes: u64,
}

impl Etcd {
    /// Empty, at revision 1.
    pub fn new() -> Self {
        Self { revision: 1, next_lease: 100, ..Self::default() }
    }

    /// A key as it is.
    pub fn state(&self, key: &Key) -> KeyState {
        let entry = self.keys.get(key);
        KeyState {
            key: key.clone(),
            value: entry.map(|entry| entry.value.clone()),
            mod_revision: entry.map_or(0, |entry| entry.modified),
            create_revision: entry.map_or(0, |entry| entry.created),
        }
    }

    /// All keys.
    pub fn list(&self) -> Vec<KeyState> {
        self.keys.keys().map(|key| self.state(key)).collect()
    }

    /// A key's text.
    pub fn text(&self, key: &Key) -> Option<String> {
        self.keys.get(key).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    /// A new lease.
    pub fn grant(&mut self, now: u64, ttl: u64) -> LeaseId {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, Lease { ttl, ends: now + ttl });
        LeaseId(self.next_lease)
    }

    /// A keepalive: what is left, 0 when there is no such lease.
    pub fn keep_alive(&mut self, now: u64, lease: LeaseId) -> u64 {
        match self.leases.get_mut(&lease.0) {
            Some(lease) => {
                lease.ends = now + lease.ttl;
                lease.ttl
            }
            None if now < self.lies_until => 5 * SECOND,
            None => 0,
        }
    }

    /// Ends a lease and what is under it.
    pub fn revoke(&mut self, lease: LeaseId) -> Changes {
        if self.leases.remove(&lease.0).is_none() {
            return Vec::new();
        }
        let gone: Vec<Key> =
            self.keys.iter().filter(|(_, entry)| entry.lease == Some(lease.0)).map(|(key, _)| key.clone()).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        self.revision += 1;
        gone.into_iter()
            .map(|key| {
                self.keys.remove(&key);
                (self.revision, self.state(&key))
            })
            .collect()
    }

    /// Ends the leases whose time is over, each up to half a second late.
    pub fn expire(&mut self, now: u64, rng: &mut Rng) -> Changes {
        if now < self.away_until {
            return Vec::new();
        }
        let over: Vec<i64> = self.leases.iter().filter(|(_, lease)| lease.ends < now).map(|(id, _)| *id).collect();
        let mut changes = Vec::new();
        for lease in over {
            // Asked each 100 ms: so 0 to some 500 ms late.
            if rng.chance(350) {
                changes.extend(self.revoke(LeaseId(lease)));
            }
        }
        changes
    }

    /// Some lease, for a revocation that nobody asked for.
    pub fn some_lease(&self, rng: &mut Rng) -> Option<LeaseId> {
        let all: Vec<i64> = self.leases.keys().copied().collect();
        (!all.is_empty()).then(|| LeaseId(all[rng.below(all.len())]))
    }

    /// It was started again: each lease has its full time.
    pub fn restart(&mut self, now: u64) {
        self.leases.values_mut().for_each(|lease| lease.ends = now + lease.ttl);
    }

    /// It is emptied.
    pub fn wipe(&mut self) {
        (self.keys, self.leases, self.revision) = (BTreeMap::new(), BTreeMap::new(), 1);
    }

    /// It is put back to an earlier state, and started: each lease has its full time.
    pub fn restore(&mut self, earlier: Self, now: u64) {
        // Ids of leases are random.
        *self = Self { next_lease: self.next_lease, txns: self.txns, bytes: self.bytes, ..earlier };
        self.restart(now);
    }

    /// Runs a transaction.
    pub fn commit(&mut self, txn: &Txn) -> (Commit, Changes) {
        self.txns += 1;
        let holds = txn.compares.iter().all(|compare| compare.is.holds(&self.state(&compare.key)));
        if !holds {
            let found = txn.keys().iter().map(|key| self.state(key)).collect();
            return (Commit::Refused { revision: self.revision, found }, Vec::new());
        }
        let has_lease = |write: &Write| match write {
            Write::Put { lease: Some(lease), .. } => self.leases.contains_key(&lease.0),
            _ => true,
        };
        if !txn.writes.iter().all(has_lease) {
            return (Commit::Rejected(Rejection::NoLease), Vec::new());
        }
        self.revision += 1;
        let mut changes = Vec::new();
        for write in &txn.writes {
            match write {
                Write::Put { key, value, lease } => {
                    self.bytes += value.len() as u64;
                    let created = self.keys.get(key).map_or(self.revision, |entry| entry.created);
                    let value = value.as_bytes().into();
                    let lease = lease.map(|lease| lease.0);
                    self.keys.insert(key.clone(), Entry { value, modified: self.revision, created, lease });
                }
                Write::Delete { key } => {
                    self.keys.remove(key);
                }
            }
            changes.push((self.revision, self.state(write.key())));
        }
        (Commit::Applied { revision: self.revision }, changes)
    }
}
