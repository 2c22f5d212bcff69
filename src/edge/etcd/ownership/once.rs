//! The keys of partition ownership for a command: one look, one write, over a connection of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::Client;

use super::super::reach::reach;
use super::super::{connect, list_keys, patience, places, within};
use super::{KEYS_MAX, state};
use crate::config::EtcdConfig;
use crate::ownership::facts::Write;
use crate::ownership::keys::{Key, KeyState, LeaseId, Revision};
use crate::ownership::records;

/// All keys at one revision.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The revision.
    pub revision: Revision,
    /// The keys that this program knows.
    pub keys: Vec<KeyState>,
    /// What is left of each member's lease. One that has just ended is not in it.
    pub leases: BTreeMap<LeaseId, Duration>,
}

/// Reads all keys below `root`, and how long the members' leases last.
///
/// # Errors
/// In words, with the endpoints and what to check.
pub fn look(settings: &EtcdConfig, root: &str) -> Result<Look, String> {
    run(settings, "read", async |client, patience| {
        let (all, revision) = list_keys(&client, root, patience, KEYS_MAX).await?;
        let keys: Vec<KeyState> = all.into_iter().filter_map(|kv| state(root, kv)).collect();
        let mut leases = BTreeMap::new();
        for lease in keys.iter().filter_map(lease_of) {
            let left = within(patience, client.lease_client().time_to_live(lease.0, None)).await?.ttl();
            if let Ok(left) = u64::try_from(left) {
                leases.insert(lease, Duration::from_secs(left));
            }
        }
        Ok(Look { revision, keys, leases })
    })
}

/// Does one write below `root`; whether the key was there before.
///
/// # Errors
/// In words, with the endpoints and what to check.
pub fn write(settings: &EtcdConfig, root: &str, write: &Write) -> Result<bool, String> {
    let path = format!("{root}{}", write.key());
    run(settings, "written to", async |client, patience| {
        let mut kv = client.kv_client();
        match write {
            Write::Put { value, lease, .. } => {
                let put = etcd_client::PutOptions::new().with_prev_key();
                let put = lease.map_or(put.clone(), |lease| put.with_lease(lease.0));
                Ok(within(patience, kv.put(path.as_str(), value.as_str(), Some(put))).await?.prev_key().is_some())
            }
            Write::Delete { .. } => Ok(within(patience, kv.delete(path.as_str(), None)).await?.deleted() > 0),
        }
    })
}

fn lease_of(state: &KeyState) -> Option<LeaseId> {
    let (Key::Member(_), Some(value)) = (&state.key, &state.value) else { return None };
    records::read_member(value).ok().map(|member| member.lease())
}

/// Does something over the first endpoint that answers.
pub(in crate::edge::etcd) fn run<T>(
    settings: &EtcdConfig,
    what: &str,
    work: impl AsyncFnOnce(Client, Duration) -> Result<T, String>,
) -> Result<T, String> {
    let patience = patience(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no Tokio runtime can be started: {error}"))?;
    let failed = |endpoint: usize, why: String| {
        let credentials = if settings.username.is_empty() { "" } else { ", etcd.username and etcd.password" };
        let (all, at) = (places(settings), &settings.endpoints[endpoint]);
        format!("etcd at {all} cannot be {what} ({at}: {why}); check that it runs, etcd.endpoints{credentials}")
    };
    if settings.endpoints.is_empty() {
        return Err("etcd.endpoints is empty: name at least one".to_owned());
    }
    runtime.block_on(async {
        let reached = reach(settings.endpoints.len(), 0, |endpoint| open(settings.clone(), endpoint)).await;
        let (endpoint, client) = reached.map_err(|(endpoint, why)| failed(endpoint, why))?;
        work(client, patience).await.map_err(|why| failed(endpoint, why))
    })
}

/// A client whose endpoint answered.
async fn open(settings: EtcdConfig, endpoint: usize) -> Result<Client, String> {
    let patience = patience(&settings);
    let client = connect(&settings, &settings.endpoints[endpoint]).await?;
    // Any key: it tells whether there is a leader, and whether we may log in.
    match within(patience, client.kv_client().get("/", None)).await {
        Err(why) if !why.contains("permission denied") => Err(why),
        _ => Ok(client),
    }
}
