//! Which instances the registry lists, and which of them speaks for each gateway. Pure: no etcd, no clock.
//!
//! Promises that of several instances with the same gateway id the one written last counts, that when it leaves the
//! next one does, and that a bad value is reported once, not each time it is listed. Refuses more instances than
//! [`GATEWAYS_MAX`].

use std::collections::{HashMap, HashSet};

use super::entry::Entry;
use crate::model::ids::GatewayId;
use crate::model::limits::GATEWAYS_MAX;
use crate::ports::GatewayRecord;
use crate::ports::registry::RegistryFault;

/// One key as etcd holds it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// The whole key; names the instance.
    pub key: String,
    /// The revision it was last written at.
    pub revision: i64,
    /// Its value.
    pub value: Vec<u8>,
}

/// A change for the sink.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The gateway is reachable like this now.
    Listed(GatewayRecord),
    /// No instance speaks for it any longer.
    Gone(GatewayId),
}

/// A value, or a part of it, that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub fault: RegistryFault,
    pub key: String,
    pub why: String,
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Book {
    instances: HashMap<String, Instance>,
    /// The keys of each gateway's good instances.
    speakers: HashMap<GatewayId, Vec<String>>,
}

#[derive(Debug)]
struct Instance {
    revision: i64,
    value: Vec<u8>,
    record: Option<GatewayRecord>,
}

impl Book {
    /// A key was written.
    pub fn put(&mut self, listed: Listed, complaints: &mut Vec<Complaint>) -> Vec<Change> {
        let Listed { key, revision, value } = listed;
        if let Some(known) = self.instances.get_mut(&key)
            && known.value == value
        {
            // A gateway that writes the same again: only its rank among speakers changes.
            known.revision = revision;
            let id = known.record.as_ref().map(|record| record.gateway_id.clone());
            return id.into_iter().map(|id| self.speaker(id)).collect();
        }
        let mut touched = self.forget(&key);
        if self.instances.len() >= GATEWAYS_MAX {
            let why = format!("there are {GATEWAYS_MAX} instances already");
            complaints.push(Complaint { fault: RegistryFault::TooMany, key, why });
            return touched.into_iter().map(|id| self.speaker(id)).collect();
        }
        let entry = Entry::read(&value);
        let complain = |(fault, why)| Complaint { fault, key: key.clone(), why };
        complaints.extend(entry.faults.into_iter().map(complain));
        if let Some(record) = &entry.record {
            let id = record.gateway_id.clone();
            self.speakers.entry(id.clone()).or_default().push(key.clone());
            if !touched.contains(&id) {
                touched.push(id);
            }
        }
        self.instances.insert(key, Instance { revision, value, record: entry.record });
        touched.into_iter().map(|id| self.speaker(id)).collect()
    }

    /// A key was deleted, or its lease ran out.
    pub fn delete(&mut self, key: &str) -> Vec<Change> {
        self.forget(key).into_iter().map(|id| self.speaker(id)).collect()
    }

    /// These are all keys there are. Follow it with [`records`](Self::records).
    pub fn replace(&mut self, all: Vec<Listed>, complaints: &mut Vec<Complaint>) {
        let keys: HashSet<&str> = all.iter().map(|listed| listed.key.as_str()).collect();
        let gone: Vec<String> = self.instances.keys().filter(|key| !keys.contains(key.as_str())).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        for listed in all {
            self.put(listed, complaints);
        }
    }

    /// How many gateways have a speaker.
    pub fn gateways(&self) -> usize {
        self.speakers.len()
    }

    /// Each gateway as its speaker describes it.
    pub fn records(&self) -> Vec<GatewayRecord> {
        self.speakers.keys().filter_map(|id| self.latest(id).cloned()).collect()
    }

    fn speaker(&self, id: GatewayId) -> Change {
        self.latest(&id).cloned().map_or(Change::Gone(id), Change::Listed)
    }

    fn latest(&self, id: &GatewayId) -> Option<&GatewayRecord> {
        let instances = self.speakers.get(id)?.iter().filter_map(|key| Some((key, self.instances.get(key)?)));
        // Two keys of one transaction have the same revision: the key decides, so that all engines agree.
        instances.max_by_key(|(key, instance)| (instance.revision, *key)).and_then(|(_, latest)| latest.record.as_ref())
    }

    fn forget(&mut self, key: &str) -> Vec<GatewayId> {
        let Some(record) = self.instances.remove(key).and_then(|instance| instance.record) else { return Vec::new() };
        let id = record.gateway_id;
        if let Some(keys) = self.speakers.get_mut(&id) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.speakers.remove(&id);
            }
        }
        vec![id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, revision: i64, gateway: &str, port: u16) -> Listed {
        let value = format!(r#"{{"id":"{gateway}","endpoints":["grpc://h:{port}"]}}"#);
        Listed { key: key.into(), revision, value: value.into() }
    }

    fn brief(changes: Vec<Change>) -> Vec<String> {
        let brief = |change| match change {
            Change::Listed(record) => format!("{}@{}", record.gateway_id, record.endpoints[0].port),
            Change::Gone(id) => format!("-{id}"),
        };
        changes.into_iter().map(brief).collect()
    }

    fn ports(book: &Book) -> Vec<String> {
        let mut ports = brief(book.records().into_iter().map(Change::Listed).collect());
        ports.sort();
        ports
    }

    enum Step {
        Put(&'static str, i64, &'static str, u16),
        Delete(&'static str),
    }
    use Step::{Delete, Put};

    #[test]
    fn who_speaks_for_a_gateway() {
        let table: &[(Step, &[&str])] = &[
            (Put("k1", 10, "g", 1), &["g@1"]),
            (Put("k2", 11, "g", 2), &["g@2"]),
            // The older instance says the same again later: it is the latest now.
            (Put("k1", 12, "g", 1), &["g@1"]),
            (Delete("k1"), &["g@2"]),
            (Put("k1", 13, "g", 3), &["g@3"]),
            // An instance that takes another id gives the first back to the other instance.
            (Put("k1", 14, "other", 4), &["g@2", "other@4"]),
            (Delete("k2"), &["-g"]),
            (Delete("k2"), &[]),
            (Delete("nobody"), &[]),
            (Delete("k1"), &["-other"]),
        ];
        let (mut book, mut complaints) = (Book::default(), Vec::new());
        for (number, (step, expected)) in table.iter().enumerate() {
            let changes = match *step {
                Put(key, revision, gateway, port) => book.put(listed(key, revision, gateway, port), &mut complaints),
                Delete(key) => book.delete(key),
            };
            assert_eq!(brief(changes), *expected, "step {number}");
        }
        assert!(complaints.is_empty() && book.speakers.is_empty() && book.instances.is_empty());
    }

    #[test]
    fn a_list_replaces_everything_and_complains_of_a_bad_value_once() {
        let (mut book, mut complaints) = (Book::default(), Vec::new());
        let bad = Listed { key: "bad".into(), revision: 3, value: b"?".into() };
        book.replace(vec![listed("k1", 1, "a", 1), listed("k2", 2, "b", 2), bad.clone()], &mut complaints);
        assert_eq!(ports(&book), ["a@1", "b@2"]);
        book.replace(vec![listed("k2", 4, "b", 5), listed("k3", 2, "c", 3), bad.clone()], &mut complaints);
        assert_eq!(ports(&book), ["b@5", "c@3"]);
        assert_eq!(complaints.len(), 1);
        assert_eq!((complaints[0].fault, complaints[0].key.as_str()), (RegistryFault::NotJson, "bad"));
        book.put(Listed { value: b"!".into(), ..bad }, &mut complaints);
        assert_eq!(complaints.len(), 2, "another bad value is another complaint");
    }

    #[test]
    fn a_value_that_turns_bad_ends_its_gateway() {
        let (mut book, mut complaints) = (Book::default(), Vec::new());
        book.put(listed("k", 1, "g", 1), &mut complaints);
        let changes = book.put(Listed { key: "k".into(), revision: 2, value: b"{}".into() }, &mut complaints);
        assert_eq!(brief(changes), ["-g"]);
        assert_eq!(complaints.len(), 1);
    }
}
