//! Whether etcd can be used as it is, and which gateways it lists, for `task-engine doctor` and `task-engine why`.
//!
//! Promises to change nothing: whether an owner of partitions may write is asked by a transaction whose condition never holds.

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};

use super::instance_table::{InstanceTable, Listed, RecordIssue};
use super::ownership::root;
use super::{EtcdRegistry, connect, list, patience, within};
use crate::config::{Config, EtcdConfig, HostPort};
use crate::edge::reach::{Way, reach};
use crate::model::finding::{Check, Findings};
use crate::ports::GatewayRecord;
use crate::ports::registry::RegistryFault;

const WAY: Way = Way { name: Check::EtcdName, tcp: Check::EtcdTcp, key: "etcd.endpoints" };
/// Keys of other services that are told when there is none of ours.
const OTHERS_TOLD: usize = 5;
/// Entries that are told one by one.
const ENTRIES_TOLD: usize = 16;

/// Looks at it; gives the gateways that it lists.
pub fn look(config: &Config, found: &mut Findings<'_>) -> Vec<GatewayRecord> {
    let settings = &config.etcd;
    let answering: Vec<&HostPort> =
        settings.endpoints.iter().filter(|at| reach(WAY, at, settings.dial_timeout, found).is_some()).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            found.fail(
                Check::EtcdLogin,
                format!("no Tokio runtime can be started: {error}"),
                "look at the machine's limits",
            );
            return Vec::new();
        }
    };
    runtime.block_on(async {
        let mut client = None;
        for at in answering {
            found.begin(Check::EtcdLogin);
            match connect(settings, at).await {
                Ok(connected) => match asks(settings, &connected).await {
                    Ok(()) => {
                        let how = if settings.wants_tls() { "TLS is spoken" } else { "plain, as etcd.tls is not set" };
                        found.ok(Check::EtcdTls, format!("{at}: {how}"));
                        found.ok(Check::EtcdLogin, format!("{at} lets us in"));
                        client = client.or(Some(connected));
                    }
                    Err(why) => refused(settings, at, &why, found),
                },
                Err(why) => refused(settings, at, &why, found),
            }
        }
        match client {
            Some(client) => look_over(client, config, found).await,
            None => Vec::new(),
        }
    })
}

/// The gateways that etcd lists now.
///
/// # Errors
/// In words, with what to check.
pub fn gateways(config: &Config) -> Result<Vec<GatewayRecord>, String> {
    let EtcdRegistry { prefix, unannounced, .. } = EtcdRegistry::of(config, config.etcd.clone());
    super::ownership::once::run(&config.etcd, "read", async |mut client, patience| {
        let (all, _) = list(&mut client, &prefix, patience).await?;
        let (mut table, mut issues) = (InstanceTable::new(unannounced), Vec::new());
        table.replace(all, &mut issues);
        Ok(table.records())
    })
}

/// Any key: it tells whether there is a leader, and whether we may log in.
async fn asks(settings: &EtcdConfig, client: &Client) -> Result<(), String> {
    match within(patience(settings), client.kv_client().get("/", None)).await {
        Err(why) if !is_of_rights(&why) => Err(why),
        _ => Ok(()),
    }
}

fn is_of_rights(why: &str) -> bool {
    why.contains("permission denied")
}

fn refused(settings: &EtcdConfig, at: &HostPort, why: &str, found: &mut Findings<'_>) {
    let is_of_tls = why.to_lowercase().contains("tls");
    let is_word_of_etcd = why.contains("etcdserver:") || why.contains("auth");
    match (is_of_tls, is_word_of_etcd) {
        (true, _) => match why.split_once("; ") {
            Some((what, advice)) => found.fail(Check::EtcdTls, format!("{at}: {what}"), advice),
            None => found.fail(
                Check::EtcdTls,
                format!("{at}: {why}"),
                "check etcd.tls, and that etcd speaks TLS at this port",
            ),
        },
        (false, true) => {
            found.fail(
                Check::EtcdLogin,
                format!("{at}: {why}"),
                "check etcd.username, etcd.password, and the state of etcd's cluster",
            );
        }
        (false, false) => {
            let tls = if settings.wants_tls() { "" } else { ", and etcd.tls if it speaks TLS only" };
            found.fail(
                Check::EtcdLogin,
                format!("{at}: {why}"),
                format!("check that etcd.endpoints are etcd's and that it is well{tls}"),
            );
        }
    }
}

async fn look_over(mut client: Client, config: &Config, found: &mut Findings<'_>) -> Vec<GatewayRecord> {
    let patience = patience(&config.etcd);
    let registry = EtcdRegistry::of(config, config.etcd.clone());
    let prefix = &registry.prefix;
    found.begin(Check::EtcdRights);
    let all = match list(&mut client, prefix, patience).await {
        Ok((all, _)) => all,
        Err(why) => {
            let advice = format!("give the user of etcd.username read on the prefix {prefix}");
            found.fail(Check::EtcdRights, format!("{prefix} cannot be read: {why}"), advice);
            return Vec::new();
        }
    };
    match config.consumer.is_owned() {
        true => writes(&client, config, found).await,
        false => found.ok(Check::EtcdRights, format!("{prefix} may be read")),
    }
    found.begin(Check::EtcdPrefix);
    if all.is_empty() {
        let others = others(&client, config).await;
        let seen = if others.is_empty() { String::new() } else { format!("; what etcd has: {}", others.join(", ")) };
        found.fail(
            Check::EtcdPrefix,
            format!("no gateway is registered below {prefix}{seen}"),
            "check registry.namespace and gateway_service_name, and that gateways run",
        );
        return Vec::new();
    }
    entries(all, &registry, found)
}

/// What can be used, and what cannot.
fn entries(all: Vec<Listed>, registry: &EtcdRegistry, found: &mut Findings<'_>) -> Vec<GatewayRecord> {
    let EtcdRegistry { prefix, unannounced, .. } = registry;
    let (count, mut table, mut issues) = (all.len(), InstanceTable::new(*unannounced), Vec::new());
    table.replace(all, &mut issues);
    let records = table.records();
    found.ok(Check::EtcdPrefix, format!("{count} below {prefix}, of {} gateways", records.len()));
    // The older one of two is a way that is used as well.
    issues.retain(|issue| issue.fault != RegistryFault::SameId || !records.is_empty());
    if issues.is_empty() {
        found.ok(Check::EtcdEntries, "all can be used");
    }
    let left = issues.len().saturating_sub(ENTRIES_TOLD);
    for RecordIssue { key, why, .. } in issues.into_iter().take(ENTRIES_TOLD) {
        found.warn(Check::EtcdEntries, format!("{key}: {why}"), "mend what the gateway registers, or delete the key");
    }
    if left > 0 {
        found.warn(Check::EtcdEntries, format!("and {left} more"), "");
    }
    records
}

/// The folders of services that etcd has, for who looked in the wrong one.
async fn others(client: &Client, config: &Config) -> Vec<String> {
    let options = GetOptions::new().with_prefix().with_keys_only().with_limit(256);
    let namespace = config.registry.namespace.trim_end_matches('/');
    let above = namespace.rsplit_once('/').map_or("/", |(above, _)| above);
    let Ok(page) = within(patience(&config.etcd), client.kv_client().get(above, Some(options))).await else {
        return Vec::new();
    };
    let folder = |key: &[u8]| String::from_utf8_lossy(key).rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
    let mut folders: Vec<_> = page.kvs().iter().filter_map(|kv| folder(kv.key())).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.truncate(OTHERS_TOLD);
    folders
}

/// Whether an owner of partitions may write its keys.
async fn writes(client: &Client, config: &Config, found: &mut Findings<'_>) {
    let root = root(&config.consumer.stream, &config.consumer.durable);
    let key = format!("{root}doctor");
    // No key has a version below none.
    let never = Compare::version(key.as_str(), CompareOp::Less, 0);
    let txn = Txn::new().when([never]).and_then([TxnOp::put(key, "", None)]);
    match within(patience(&config.etcd), client.kv_client().txn(txn)).await {
        Ok(_) => found.ok(Check::EtcdRights, format!("gateways may be read, and {root} written")),
        Err(why) => found.fail(
            Check::EtcdRights,
            format!("{root} cannot be written, and consumer.ownership is etcd: {why}"),
            format!("give the user of etcd.username read and write on the prefix {root}"),
        ),
    }
}
