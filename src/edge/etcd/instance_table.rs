//! Which instances the registry lists, and which of them is the primary of each gateway. Pure: no etcd, no clock.
//!
//! Promises that of several instances with the same gateway id the one written last counts, with the addresses of the others
//! for the time in which nobody answers at its own, that when it leaves the next one does, and that a bad value, or a second
//! instance elsewhere, is reported once, not each time it is listed; and that a change costs the same however many instances say the
//! same id. Refuses more instances than [`GATEWAYS_MAX`], values over [`VALUE_BYTES_MAX`], and more than
//! [`VALUES_BYTES_MAX`] of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::entry::{ENDPOINTS_MAX, Entry};
use crate::model::ids::GatewayId;
use crate::model::limits::GATEWAYS_MAX;
use crate::ports::registry::RegistryFault;
use crate::ports::{GatewayRecord, Protocols};

/// A value longer than this is no gateway's: theirs have some hundred bytes.
pub(super) const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Values that are kept, together.
pub(super) const VALUES_BYTES_MAX: usize = 64 << 20;
/// Instances of one gateway, the latest ones, whose addresses are looked through.
const INSTANCES_LOOKED_AT: usize = 4 * ENDPOINTS_MAX;

/// One key as etcd holds it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    /// The whole key; names the instance.
    pub key: String,
    /// The revision it was last written at.
    pub revision: i64,
    /// Its value; of one that is too large a byte more than [`VALUE_BYTES_MAX`].
    pub value: Vec<u8>,
}

/// A change for the sink.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The gateway is reachable like this now.
    Listed(GatewayRecord),
    /// No instance of it is listed any longer.
    Gone(GatewayId),
}

/// A value, or a part of it, that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordIssue {
    pub fault: RegistryFault,
    pub key: String,
    pub why: String,
}

#[derive(Debug)]
pub(super) struct InstanceTable {
    /// What gateways speak that announce nothing.
    unannounced: Protocols,
    instances: HashMap<String, Instance>,
    /// The keys of each gateway's good instances, in the order in which they were written. Two keys of one transaction have the same
    /// revision: the key decides, so that all engines agree.
    keys_by_gateway: HashMap<GatewayId, BTreeSet<(i64, String)>>,
    value_bytes: usize,
}

#[derive(Debug)]
struct Instance {
    revision: i64,
    value: Vec<u8>,
    record: Option<GatewayRecord>,
}

impl InstanceTable {
    /// An empty one.
    pub fn new(unannounced: Protocols) -> Self {
        Self { unannounced, instances: HashMap::new(), keys_by_gateway: HashMap::new(), value_bytes: 0 }
    }

    /// A key was written.
    pub fn put(&mut self, listed: Listed, issues: &mut Vec<RecordIssue>) -> Vec<Change> {
        let Listed { key, revision, value } = listed;
        if let Some(known) = self.instances.get_mut(&key)
            && known.value == value
        {
            // A gateway that writes the same again: only its rank among its instances changes.
            let before = (std::mem::replace(&mut known.revision, revision), key);
            let id = known.record.as_ref().map(|record| record.gateway_id.clone());
            return id.map(|id| self.ranked_anew(id, before, revision)).into_iter().collect();
        }
        let mut touched = self.forget(&key);
        if let Some(why) = self.has_no_room(value.len()) {
            issues.push(RecordIssue { fault: RegistryFault::TooMany, key, why });
            return touched.into_iter().map(|id| self.primary(id)).collect();
        }
        let entry = if value.len() > VALUE_BYTES_MAX { too_large() } else { Entry::read(&value, self.unannounced) };
        let report_issue = |(fault, why)| RecordIssue { fault, key: key.clone(), why };
        issues.extend(entry.faults.into_iter().map(report_issue));
        if let Some(record) = &entry.record {
            let id = record.gateway_id.clone();
            self.keys_by_gateway.entry(id.clone()).or_default().insert((revision, key.clone()));
            if !touched.contains(&id) {
                touched.push(id);
            }
        }
        let id = entry.record.as_ref().map(|record| record.gateway_id.clone());
        self.value_bytes += value.len();
        self.instances.insert(key.clone(), Instance { revision, value, record: entry.record });
        issues.extend(id.and_then(|id| self.contested(&id, key)));
        touched.into_iter().map(|id| self.primary(id)).collect()
    }

    fn ranked_anew(&mut self, id: GatewayId, before: (i64, String), revision: i64) -> Change {
        if let Some(keys) = self.keys_by_gateway.get_mut(&id) {
            keys.remove(&before);
            keys.insert((revision, before.1));
        }
        self.primary(id)
    }

    /// Why one more value of so many bytes is not kept.
    fn has_no_room(&self, bytes: usize) -> Option<String> {
        if self.instances.len() >= GATEWAYS_MAX {
            return Some(format!("there are {GATEWAYS_MAX} instances already"));
        }
        let is_full = self.value_bytes + bytes > VALUES_BYTES_MAX;
        is_full.then(|| format!("the entries have {VALUES_BYTES_MAX} bytes together already"))
    }

    /// A key was deleted, or its lease ran out.
    pub fn delete(&mut self, key: &str) -> Vec<Change> {
        self.forget(key).into_iter().map(|id| self.primary(id)).collect()
    }

    /// These are all keys there are. Follow it with [`records`](Self::records).
    pub fn replace(&mut self, all: Vec<Listed>, issues: &mut Vec<RecordIssue>) {
        let keys: HashSet<&str> = all.iter().map(|listed| listed.key.as_str()).collect();
        let gone: Vec<String> = self.instances.keys().filter(|key| !keys.contains(key.as_str())).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
        for listed in all {
            self.put(listed, issues);
        }
    }

    /// How many gateways have a primary.
    pub fn gateways(&self) -> usize {
        self.keys_by_gateway.len()
    }

    /// Each gateway as its primary describes it.
    pub fn records(&self) -> Vec<GatewayRecord> {
        self.keys_by_gateway.keys().filter_map(|id| self.latest(id)).collect()
    }

    fn primary(&self, id: GatewayId) -> Change {
        self.latest(&id).map_or(Change::Gone(id), Change::Listed)
    }

    fn latest(&self, id: &GatewayId) -> Option<GatewayRecord> {
        let keys = self.keys_by_gateway.get(id)?;
        let ranked = keys.iter().rev().take(INSTANCES_LOOKED_AT);
        let mut records = ranked.filter_map(|(_, key)| self.instances.get(key)?.record.as_ref());
        let mut latest = records.next()?.clone();
        for endpoint in records.flat_map(|record| &record.endpoints) {
            if latest.others.len() == ENDPOINTS_MAX {
                break;
            }
            if !latest.endpoints.contains(endpoint) && !latest.others.contains(endpoint) {
                latest.others.push(endpoint.clone());
            }
        }
        Some(latest)
    }

    /// What is told of a value whose gateway has another instance elsewhere.
    fn contested(&self, id: &GatewayId, key: String) -> Option<RecordIssue> {
        if self.latest(id)?.others.is_empty() {
            return None;
        }
        let other = self.keys_by_gateway.get(id)?.iter().map(|(_, other)| other).find(|other| **other != key)?;
        let why = format!(
            "gateway id {id} is claimed by {other} as well: the one written last is used, the other while no stream opens there"
        );
        Some(RecordIssue { fault: RegistryFault::SameId, key, why })
    }

    fn forget(&mut self, key: &str) -> Vec<GatewayId> {
        let Some(Instance { revision, value, record }) = self.instances.remove(key) else { return Vec::new() };
        self.value_bytes -= value.len();
        let Some(id) = record.map(|record| record.gateway_id) else { return Vec::new() };
        if let Some(keys) = self.keys_by_gateway.get_mut(&id) {
            keys.remove(&(revision, key.to_owned()));
            if keys.is_empty() {
                self.keys_by_gateway.remove(&id);
            }
        }
        vec![id]
    }
}

fn too_large() -> Entry {
    let why = format!("the value has more than {VALUE_BYTES_MAX} bytes");
    Entry { record: None, faults: vec![(RegistryFault::TooLarge, why)] }
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

    fn ports(instance_table: &InstanceTable) -> Vec<String> {
        let mut ports = brief(instance_table.records().into_iter().map(Change::Listed).collect());
        ports.sort();
        ports
    }

    enum Step {
        Put(&'static str, i64, &'static str, u16),
        Delete(&'static str),
    }
    use Step::{Delete, Put};

    #[test]
    fn the_primary_of_a_gateway() {
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
        let (mut instance_table, mut issues) = (InstanceTable::new(Protocols::STREAM), Vec::new());
        for (number, (step, expected)) in table.iter().enumerate() {
            let changes = match *step {
                Put(key, revision, gateway, port) => {
                    instance_table.put(listed(key, revision, gateway, port), &mut issues)
                }
                Delete(key) => instance_table.delete(key),
            };
            assert_eq!(brief(changes), *expected, "step {number}");
        }
        assert!(instance_table.keys_by_gateway.is_empty() && instance_table.instances.is_empty());
        let issues = issues.iter().map(|issue| (issue.fault, issue.key.as_str())).collect::<Vec<_>>();
        let same = RegistryFault::SameId;
        assert_eq!(issues, [(same, "k2"), (same, "k1")], "k1 was put with another value while k2 was there");
    }

    #[test]
    fn the_addresses_of_other_instances_follow_in_their_order() {
        let (mut instance_table, mut issues) = (InstanceTable::new(Protocols::STREAM), Vec::new());
        for (key, revision, port) in [("k1", 1, 1), ("k2", 2, 2), ("k3", 3, 3), ("same", 4, 3)] {
            instance_table.put(listed(key, revision, "g", port), &mut issues);
        }
        let others = |instance_table: &InstanceTable| {
            let record = instance_table.records().pop().expect("one gateway");
            (record.endpoints[0].port, record.others.iter().map(|other| other.port).collect::<Vec<_>>())
        };
        assert_eq!(others(&instance_table), (3, vec![2, 1]));
        assert!(issues[1].why.contains("g is claimed by k"), "{issues:?}");
        instance_table.delete("k2");
        instance_table.delete("k1");
        assert_eq!(others(&instance_table), (3, vec![]), "two keys of one address are no contest");
        issues.clear();
        instance_table.put(Listed { revision: 5, ..listed("same", 5, "g", 3) }, &mut issues);
        instance_table.put(listed("again", 6, "g", 3), &mut issues);
        assert!(issues.is_empty(), "{issues:?}");
    }

    #[test]
    fn a_list_replaces_everything_and_reports_a_bad_value_once() {
        let (mut instance_table, mut issues) = (InstanceTable::new(Protocols::STREAM), Vec::new());
        let bad = Listed { key: "bad".into(), revision: 3, value: b"?".into() };
        instance_table.replace(vec![listed("k1", 1, "a", 1), listed("k2", 2, "b", 2), bad.clone()], &mut issues);
        assert_eq!(ports(&instance_table), ["a@1", "b@2"]);
        instance_table.replace(vec![listed("k2", 4, "b", 5), listed("k3", 2, "c", 3), bad.clone()], &mut issues);
        assert_eq!(ports(&instance_table), ["b@5", "c@3"]);
        assert_eq!(issues.len(), 1);
        assert_eq!((issues[0].fault, issues[0].key.as_str()), (RegistryFault::NotJson, "bad"));
        instance_table.put(Listed { value: b"!".into(), ..bad }, &mut issues);
        assert_eq!(issues.len(), 2, "another bad value is another issue");
    }

    #[test]
    fn a_value_that_turns_bad_ends_its_gateway() {
        let (mut instance_table, mut issues) = (InstanceTable::new(Protocols::STREAM), Vec::new());
        instance_table.put(listed("k", 1, "g", 1), &mut issues);
        let changes = instance_table.put(Listed { key: "k".into(), revision: 2, value: b"{}".into() }, &mut issues);
        assert_eq!(brief(changes), ["-g"]);
        assert_eq!(issues.len(), 1);
    }

    #[test]
    fn values_are_bounded_each_and_together() {
        let (mut instance_table, mut issues) = (InstanceTable::new(Protocols::STREAM), Vec::new());
        let large = |key: &str| Listed { key: key.into(), revision: 1, value: vec![b' '; VALUE_BYTES_MAX + 1] };
        for _ in 0..2 {
            instance_table.put(large("large"), &mut issues);
        }
        assert_eq!(issues.iter().map(|issue| issue.fault).collect::<Vec<_>>(), [RegistryFault::TooLarge], "once");
        issues.clear();
        let fit = VALUES_BYTES_MAX / (VALUE_BYTES_MAX + 1);
        (1..fit).for_each(|at| drop(instance_table.put(large(&at.to_string()), &mut issues)));
        instance_table.put(large("one more"), &mut issues);
        assert_eq!(
            (issues.pop().map(|issue| issue.fault), instance_table.instances.len()),
            (Some(RegistryFault::TooMany), fit)
        );
        assert!(instance_table.value_bytes <= VALUES_BYTES_MAX);
        instance_table.delete("large");
        instance_table.put(listed("k", 2, "g", 1), &mut issues);
        assert_eq!(ports(&instance_table), ["g@1"], "there is room again");
        instance_table.replace(Vec::new(), &mut issues);
        assert_eq!((instance_table.value_bytes, instance_table.keys_by_gateway.len()), (0, 0));
    }
}
