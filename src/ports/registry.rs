//! What a registry says reaches the shards through here: the directory of all gateways, and the facts about changes.
//!
//! Promises that a change is never lost (what a full mailbox refuses is sent again, as the state of that moment), that
//! what did not change sends nothing, and that no call waits. Refuses more than [`GATEWAYS_MAX`] gateways.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::model::ids::{GatewayId, ShardId};
use crate::model::limits::GATEWAYS_MAX;
use crate::ports::mailbox::FactSender;
use crate::ports::{GatewayRecord, Health};
use crate::push::facts::Input;
use crate::telemetry::log_limiter::LogLimiter;

/// How soon a mailbox that was full is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Why an entry of the registry, or a part of it, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistryFault {
    /// The value is not a JSON object.
    NotJson,
    /// It has neither metadata.gateway_id nor id (or one of over 256 bytes).
    NoId,
    /// It lists no endpoint.
    NoEndpoint,
    /// An endpoint is no address; the good ones beside it are kept.
    BadEndpoint,
    /// There are more gateways than an engine knows.
    TooMany,
    /// It lists more good endpoints than are kept; the others are used.
    TooManyEndpoints,
    /// Another record claims the same gateway id with another address; the one written last is used first.
    SameId,
    /// The value is longer than a gateway's can be.
    TooLarge,
    /// What its metadata say of protocols is not understood; the gateway is used by the rest of it.
    BadMetadata,
}

impl RegistryFault {
    /// Every reason, in the order of the metric page.
    pub const ALL: [Self; 9] = [
        Self::NotJson,
        Self::NoId,
        Self::NoEndpoint,
        Self::BadEndpoint,
        Self::TooMany,
        Self::TooManyEndpoints,
        Self::SameId,
        Self::TooLarge,
        Self::BadMetadata,
    ];

    /// The label on the metric page and in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotJson => "registry_not_json",
            Self::NoId => "registry_no_id",
            Self::NoEndpoint => "registry_no_endpoint",
            Self::BadEndpoint => "registry_bad_endpoint",
            Self::TooMany => "registry_too_many",
            Self::TooManyEndpoints => "registry_too_many_endpoints",
            Self::SameId => "registry_same_id",
            Self::TooLarge => "registry_too_large",
            Self::BadMetadata => "registry_bad_metadata",
        }
    }
}

/// All gateways the registry lists now; its clones see the same. Written by the registry only.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<DashMap<GatewayId, GatewayRecord>>);

impl Directory {
    /// How many gateways are listed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One gateway, if it is listed.
    pub fn get(&self, gateway_id: &str) -> Option<GatewayRecord> {
        self.0.get(gateway_id).map(|record| record.clone())
    }

    /// All of them, by id.
    pub fn list(&self) -> Vec<GatewayRecord> {
        let mut records: Vec<_> = self.0.iter().map(|record| record.clone()).collect();
        records.sort_by(|a, b| a.gateway_id.cmp(&b.gateway_id));
        records
    }
}

/// Where a [`Registry`](crate::ports::Registry) puts what it knows. Its clones are the same sink.
#[derive(Clone, Debug)]
pub struct RegistrySink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Vec<FactSender>,
    directory: Directory,
    /// Gateways whose shard has not been told their newest state, per shard. Also makes writers take turns.
    untold: Mutex<Vec<Untold>>,
    refused: Notify,
    health: Mutex<Reported>,
    away_warning: LogLimiter,
    empty_warning: LogLimiter,
    faults: [AtomicU64; RegistryFault::ALL.len()],
    fault_warnings: [LogLimiter; RegistryFault::ALL.len()],
}

/// What was reported, and what was said of it.
#[derive(Debug)]
struct Reported {
    health: Health,
    /// It was said that the registry, which is read, lists nobody.
    is_empty_said: bool,
    /// Gateways of which several records have addresses.
    contested: BTreeSet<GatewayId>,
}

/// What [`RegistrySink::health`] says of a registry that is read and lists nobody.
const NO_GATEWAY: &str = "no gateway is registered";

/// Ids in the order they changed, each once: bounded by the number of gateways.
#[derive(Debug, Default)]
struct Untold {
    order: VecDeque<GatewayId>,
    known: HashSet<GatewayId>,
}

impl Untold {
    fn mark(&mut self, id: GatewayId) {
        if self.known.insert(id.clone()) {
            self.order.push_back(id);
        }
    }
}

impl RegistrySink {
    /// A sink that tells these shards (in the order of their numbers), and the directory it fills.
    ///
    /// # Panics
    /// Without a shard.
    pub fn new(shards: Vec<FactSender>) -> (Self, Directory) {
        assert!(!shards.is_empty(), "an engine has at least one shard");
        let directory = Directory::default();
        let untold = shards.iter().map(|_| Untold::default()).collect();
        let inner = Inner {
            shards,
            directory: directory.clone(),
            untold: Mutex::new(untold),
            refused: Notify::new(),
            health: Mutex::new(Reported {
                health: Health::Waiting("the gateway registry has not been read yet".to_owned()),
                is_empty_said: false,
                contested: BTreeSet::new(),
            }),
            away_warning: LogLimiter::new(),
            empty_warning: LogLimiter::new(),
            faults: Default::default(),
            fault_warnings: Default::default(),
        };
        (Self(Arc::new(inner)), directory)
    }

    /// This gateway is listed, new or changed. One that is known as it is says nothing.
    pub fn upsert(&self, record: GatewayRecord) {
        let mut untold = self.untold();
        self.put(&mut untold, record);
        self.tell(&mut untold);
        drop(untold);
        self.note_emptiness(&mut self.reported());
    }

    /// This gateway is listed no longer. One that is not known says nothing.
    pub fn remove(&self, gateway_id: &str) {
        let mut untold = self.untold();
        self.take(&mut untold, gateway_id);
        self.tell(&mut untold);
        drop(untold);
        self.note_emptiness(&mut self.reported());
    }

    /// These are all gateways there are: who is not among them is gone, and only differences are told.
    pub fn replace_all(&self, records: Vec<GatewayRecord>) {
        let mut untold = self.untold();
        let listed: HashSet<GatewayId> = records.iter().map(|record| record.gateway_id.clone()).collect();
        let directory = &self.0.directory.0;
        let gone: Vec<GatewayId> =
            directory.iter().map(|entry| entry.key().clone()).filter(|id| !listed.contains(id)).collect();
        for id in gone {
            self.take(&mut untold, &id);
        }
        for record in records {
            self.put(&mut untold, record);
        }
        self.tell(&mut untold);
        drop(untold);
        self.note_emptiness(&mut self.reported());
    }

    /// How the registry is; said in the log when it changes, and by `/readyz?verbose`.
    pub fn report(&self, health: Health) {
        let mut known = self.reported();
        if known.health != health {
            match &health {
                Health::Ready | Health::Says(_) => {
                    tracing::info!(gateways = self.0.directory.len(), "the gateway registry is read")
                }
                Health::Waiting(why) | Health::Degraded(why) => {
                    if let Some(left_out) = self.0.away_warning.allow() {
                        tracing::warn!(left_out, "registry: {why}");
                    }
                }
            }
            known.health = health;
        }
        self.note_emptiness(&mut known);
    }

    /// What was last reported; waiting until the first report. A registry that is read and lists nobody is degraded: that
    /// may be how it is, but more often the registrations were lost. So is one in which two records claim one id.
    pub fn health(&self) -> Health {
        let known = self.reported();
        match &known.health {
            Health::Ready if self.0.directory.is_empty() => Health::Degraded(NO_GATEWAY.to_owned()),
            Health::Ready => known.contested.first().map_or(Health::Ready, |first| {
                let more = match known.contested.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                Health::Degraded(format!("several records with different addresses claim gateway id {first}{more}"))
            }),
            health => health.clone(),
        }
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that nobody is registered, and once that somebody is again.
    fn note_emptiness(&self, known: &mut Reported) {
        let is_empty = known.health == Health::Ready && self.0.directory.is_empty();
        if is_empty && !known.is_empty_said {
            if let Some(left_out) = self.0.empty_warning.allow() {
                known.is_empty_said = true;
                tracing::warn!(
                    left_out,
                    "registry: {NO_GATEWAY}; the last known addresses are used for registry.forget_after while they \
                     answer; check registry.namespace and gateway_service_name, and that the gateways can write to etcd"
                );
            }
        } else if known.is_empty_said && !self.0.directory.is_empty() {
            known.is_empty_said = false;
            tracing::info!(gateways = self.0.directory.len(), "registry: gateways are registered again");
        }
    }

    /// An entry, or a part of it, was not taken: counted, and said once a while. Call it once for each bad value, not
    /// each time it is seen.
    pub fn bad_entry(&self, fault: RegistryFault, key: &str, why: &str) {
        self.0.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.0.fault_warnings[fault as usize].allow() {
            tracing::warn!(reason = fault.label(), key, left_out, "registry entry: {why}");
        }
    }

    /// How many entries were not taken for this reason.
    pub fn bad_entries(&self, fault: RegistryFault) -> u64 {
        self.0.faults[fault as usize].load(Ordering::Relaxed)
    }

    /// Tries again to tell the shards whose mailbox was full; true when nothing is left to tell.
    pub fn flush_pending(&self) -> bool {
        self.tell(&mut self.untold())
    }

    /// Tries every 20 ms until the shards know everything.
    pub async fn flush_until_empty(&self) {
        while !self.flush_pending() {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Flushes whenever something could not be told. The control thread runs it for as long as the engine lives.
    pub async fn keep_flushing(self) {
        loop {
            self.0.refused.notified().await;
            self.flush_until_empty().await;
        }
    }

    fn untold(&self) -> MutexGuard<'_, Vec<Untold>> {
        self.0.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, untold: &mut [Untold], record: GatewayRecord) {
        let directory = &self.0.directory.0;
        let id = record.gateway_id.clone();
        let was_contested = match directory.get(&id) {
            Some(known) if *known == record => return,
            Some(known) => !known.others.is_empty(),
            None if directory.len() >= GATEWAYS_MAX => {
                let why = format!("there are {GATEWAYS_MAX} gateways already");
                return self.bad_entry(RegistryFault::TooMany, &id, &why);
            }
            None => false,
        };
        match (was_contested, !record.others.is_empty()) {
            (false, true) => _ = self.reported().contested.insert(id.clone()),
            (true, false) => _ = self.reported().contested.remove(&id),
            _ => {}
        }
        directory.insert(id.clone(), record);
        self.mark(untold, id);
    }

    fn take(&self, untold: &mut [Untold], gateway_id: &str) {
        // Every shard may know routes to it.
        if let Some((id, record)) = self.0.directory.0.remove(gateway_id) {
            if !record.others.is_empty() {
                self.reported().contested.remove(&id);
            }
            untold.iter_mut().for_each(|shard| shard.mark(id.clone()));
        }
    }

    fn mark(&self, untold: &mut [Untold], id: GatewayId) {
        untold[self.owner(&id)].mark(id);
    }

    fn owner(&self, gateway_id: &str) -> usize {
        usize::from(ShardId::of_gateway(gateway_id, self.0.shards.len() as u16).0)
    }

    fn tell(&self, untold: &mut [Untold]) -> bool {
        let mut all_told = true;
        for (number, (shard, untold)) in self.0.shards.iter().zip(untold).enumerate() {
            while let Some(id) = untold.order.front() {
                let fact = match self.0.directory.get(id) {
                    Some(record) if self.owner(id) == number => Some(Input::GatewayListed(record)),
                    Some(_) => None,
                    None => Some(Input::GatewayGone(id.clone())),
                };
                if fact.is_some_and(|fact| shard.try_send(fact).is_err()) {
                    all_told = false;
                    break;
                }
                untold.known.remove(id);
                untold.order.pop_front();
            }
        }
        if !all_told {
            self.0.refused.notify_one();
        }
        all_told
    }
}

#[cfg(test)]
mod tests;
