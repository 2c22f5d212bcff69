//! The built-in registry: gateways as etcd lists them under `<namespace>/<service>/`.
//!
//! Promises to follow every change (list at a revision, watch from the next one, list again when the watch ends and
//! every minute as a net), to keep what is known while etcd is away, and to go on by itself: of several endpoints the next
//! one is asked when one fails or is silent for a moment, and when all failed, all again after a jittered wait. A hung etcd is noticed by HTTP/2 pings
//! and by a deadline on each request, of which a small one goes out every two seconds ([`look`]). Refuses to let a bad value disturb another one, and to print the password.

mod connecting;
mod entry;
pub mod inspect;
mod instance_table;
mod look;
pub mod ownership;
mod reach;

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::connecting::{TLS_SECTION, connect};
use self::instance_table::{Change, InstanceTable, Listed, RecordIssue, VALUE_BYTES_MAX, VALUES_BYTES_MAX};
use self::reach::reach;
use crate::config::{Config, Current, EtcdConfig, Held, RegistryConfig, Unannounced};
use crate::edge::random::random;
use crate::edge::tls;
use crate::model::limits::{GATEWAYS_MAX, RECONNECT_BACKOFF};
use crate::model::words::counted;
use crate::ports::{ControlFuture, Health, Protocols, Registry, RegistrySink};

/// How often everything is listed again.
const RELIST: Duration = Duration::from_secs(60);
/// Keys in one answer of a list, unless they are so large that fewer have to do.
const PAGE_KEYS: i64 = 1000;
/// How much fewer are asked for when an answer was too large.
const PAGE_CUT: i64 = 8;
/// The largest answer taken; an etcd with default limits has no larger value than 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The gRPC code by which an answer over that is refused on this side.
const OUT_OF_RANGE: i32 = 11;
/// etcd cuts off clients that ping more often than every five seconds.
const PING_EVERY_MIN: Duration = Duration::from_secs(6);
/// A connection that followed etcd for this long starts the backoff anew.
const STEADY: Duration = RECONNECT_BACKOFF.longest;

fn places(settings: &EtcdConfig) -> String {
    settings.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// For one request, the connection included.
fn patience(settings: &EtcdConfig) -> Duration {
    settings.dial_timeout + settings.timeout
}

fn options(settings: &EtcdConfig) -> ConnectOptions {
    let ping_every = settings.keep_alive_time.max(PING_EVERY_MIN);
    let options = ConnectOptions::new()
        .with_connect_timeout(settings.dial_timeout)
        .with_keep_alive(ping_every, settings.keep_alive_timeout)
        .with_keep_alive_while_idle(false)
        .with_tcp_keepalive(ping_every)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    match settings.username.as_str() {
        "" => options,
        user => options.with_user(user, settings.password.reveal()),
    }
}

/// Which gateways there are, out of etcd.
#[derive(Clone, Debug)]
pub struct EtcdRegistry {
    settings: Current<EtcdConfig>,
    /// What the keys of the gateways begin with: `<namespace>/<service>/`.
    prefix: String,
    /// What gateways speak that announce nothing.
    unannounced: Protocols,
}

impl EtcdRegistry {
    /// The gateways that register as `service`; connects when it is run. One that announces no protocols speaks `stream`.
    pub fn new(settings: impl Into<Current<EtcdConfig>>, registry: &RegistryConfig, service: &str) -> Self {
        let prefix = format!("{}/{}/", registry.namespace.trim_end_matches('/'), service.trim_matches('/'));
        Self { settings: settings.into(), prefix, unannounced: Protocols::STREAM }
    }

    /// The gateways of a configuration, whose section of etcd may change.
    pub fn of(config: &Config, settings: impl Into<Current<EtcdConfig>>) -> Self {
        let unannounced = match config.gateway.protocol {
            Unannounced::Stream => Protocols::STREAM,
            Unannounced::StreamMany => Protocols::STREAM_MANY,
        };
        Self { unannounced, ..Self::new(settings, &config.registry, &config.gateway_service_name) }
    }
}

impl Registry for EtcdRegistry {
    fn run(self: Box<Self>, sink: RegistrySink) -> ControlFuture<()> {
        let turn = random() as usize;
        let Self { prefix, settings, unannounced } = *self;
        let (settings, instances) = (settings.hold(), InstanceTable::new(unannounced));
        Box::pin(Follower { prefix, settings, instances, sink, turn }.follow())
    }
}

struct Follower {
    settings: Held<EtcdConfig>,
    prefix: String,
    instances: InstanceTable,
    sink: RegistrySink,
    /// The endpoint that is tried first.
    turn: usize,
}

/// An endpoint that answered, with all that etcd holds as of one revision.
struct Reached {
    endpoint: usize,
    client: Client,
    all: Vec<Listed>,
    revision: i64,
}

/// Why a watch is over although etcd is well.
enum Ended {
    /// It is time for the net.
    Due,
    /// etcd no longer has the revisions to go on from.
    Compacted,
}

impl Follower {
    async fn follow(mut self) {
        let endpoints = self.settings.endpoints.len();
        if endpoints == 0 {
            let why = "etcd.endpoints is empty: no gateway will ever be found".to_owned();
            return self.sink.report(Health::Waiting(why));
        }
        let mut failures = 0_usize;
        loop {
            let started = Instant::now();
            self.settings.renew();
            let (endpoint, why, has_reached) = match self.reach().await {
                Ok(reached) => {
                    let endpoint = reached.endpoint;
                    let Err(why) = self.follow_one(reached).await;
                    (endpoint, why, true)
                }
                Err((endpoint, why)) => (endpoint, why, false),
            };
            // One that answers and then fails is not the first that is tried again.
            self.turn = endpoint.wrapping_add(1);
            failures = if started.elapsed() >= STEADY { 1 } else { failures + 1 };
            if !has_reached {
                failures = failures.next_multiple_of(endpoints);
            }
            let endpoint = self.settings.endpoints[endpoint].to_string();
            if failures.is_multiple_of(endpoints) {
                self.sink.report(Health::Waiting(self.trouble(&endpoint, &why)));
                sleep(RECONNECT_BACKOFF.jittered((failures / endpoints) as u32, random())).await;
            } else {
                tracing::info!("etcd at {endpoint}: {why}; trying the next endpoint");
            }
        }
    }

    /// The first endpoint that lists all keys; when all have failed, what the last of them said.
    async fn reach(&self) -> Result<Reached, (usize, String)> {
        let attempt = |endpoint: usize| {
            let (settings, prefix) = (self.settings.value().clone(), self.prefix.clone());
            async move {
                let reached = reach_one(&settings, &prefix, endpoint).await;
                reached.inspect_err(|why| tracing::debug!("etcd at {}: {why}", settings.endpoints[endpoint]))
            }
        };
        reach(self.settings.endpoints.len(), self.turn, attempt).await.map(|(_, reached)| reached)
    }

    fn trouble(&self, endpoint: &str, why: &str) -> String {
        let (places, known) = (places(&self.settings), self.instances.gateways());
        let credentials = if self.settings.username.is_empty() { "" } else { ", etcd.username and etcd.password" };
        let kept = kept(known);
        format!(
            "etcd at {places} cannot be followed ({endpoint}: {why}); {kept}; check that it runs, etcd.endpoints{credentials}"
        )
    }

    /// Follows etcd over one endpoint until that fails.
    async fn follow_one(&mut self, reached: Reached) -> Result<std::convert::Infallible, String> {
        let Reached { endpoint, mut client, mut all, mut revision } = reached;
        let patience = patience(&self.settings);
        let mut compactions = 0_u32;
        loop {
            let mut issues = Vec::new();
            self.instances.replace(all, &mut issues);
            self.report_issue(issues);
            self.sink.replace_all(self.instances.records());
            let (prefix, sink, kept) = (self.prefix.clone(), self.sink.clone(), kept(self.instances.gateways()));
            let at = self.settings.endpoints[endpoint].clone();
            let looks = look::looks(client.kv_client(), (&prefix, patience), &at, &sink, &kept);
            let watched = tokio::select! {
                watched = self.watch(&mut client, revision + 1) => watched?,
                Err(why) = looks => return Err(why),
            };
            match watched {
                Ended::Due => compactions = 0,
                Ended::Compacted => {
                    compactions += 1;
                    sleep(RECONNECT_BACKOFF.jittered(compactions, random())).await;
                }
            }
            (all, revision) = list(&mut client, &self.prefix, patience).await?;
        }
    }

    async fn watch(&mut self, client: &mut Client, revision: i64) -> Result<Ended, String> {
        let due = Instant::now() + RELIST.mul_f64(0.9 + 0.2 * (random() >> 11) as f64 / (1_u64 << 53) as f64);
        let options =
            WatchOptions::new().with_range(end_of(&self.prefix)).with_start_revision(revision).with_progress_notify();
        let mut watcher = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut stream = within(self.settings.timeout, watcher.watch(self.prefix.as_str(), Some(options))).await?;
        let mut first = Some(Instant::now() + self.settings.timeout);
        loop {
            let response = match (timeout_at(first.unwrap_or(due), stream.message()).await, first) {
                (Ok(Ok(Some(response))), _) => response,
                (Ok(Ok(None)), _) => return Err("the watch ended".to_owned()),
                (Ok(Err(error)), _) => return Err(words(&error)),
                (Err(_), Some(_)) => return Err(format!("no watch within {:?}", self.settings.timeout)),
                (Err(_), None) => return Ok(Ended::Due),
            };
            if response.canceled() {
                return match response.compact_revision() {
                    0 => Err(format!("the watch was cancelled: {}", response.cancel_reason())),
                    _ => Ok(Ended::Compacted),
                };
            }
            if first.take().is_some() {
                self.sink.report(Health::Ready);
            }
            self.apply(&response);
        }
    }

    fn apply(&mut self, response: &WatchResponse) {
        let mut issues = Vec::new();
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let changes = match event.event_type() {
                EventType::Put => self.instances.put(listed(kv.clone()), &mut issues),
                EventType::Delete => self.instances.delete(&String::from_utf8_lossy(kv.key())),
            };
            for change in changes {
                match change {
                    Change::Listed(record) => self.sink.upsert(record),
                    Change::Gone(id) => self.sink.remove(&id),
                }
            }
        }
        self.report_issue(issues);
    }

    fn report_issue(&self, issues: Vec<RecordIssue>) {
        for RecordIssue { fault, key, why } in issues {
            self.sink.bad_entry(fault, &key, &why);
        }
    }
}

/// What becomes of the gateways while etcd is away.
fn kept(gateways: usize) -> String {
    let are = if gateways == 1 { "is" } else { "are" };
    format!("{} {are} kept", counted(gateways as u64, "known gateway"))
}

async fn reach_one(settings: &EtcdConfig, prefix: &str, endpoint: usize) -> Result<Reached, String> {
    let patience = patience(settings);
    let mut client = connect(settings, &settings.endpoints[endpoint]).await?;
    let (all, revision) = list(&mut client, prefix, patience).await?;
    Ok(Reached { endpoint, client, all, revision })
}

/// All gateways' keys under the prefix, as of one revision.
async fn list(client: &mut Client, prefix: &str, patience: Duration) -> Result<(Vec<Listed>, i64), String> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    let revision = each_page(client, prefix, patience, |page| {
        let page = page.into_iter().map(listed);
        all.extend(page.inspect(|listed| bytes += listed.value.len()));
        // Past what the table takes there is nothing to learn.
        all.len() <= GATEWAYS_MAX && bytes <= VALUES_BYTES_MAX
    });
    let revision = revision.await?;
    Ok((all, revision))
}

/// All keys under the prefix, as of one revision; a page more than `most` at the most.
async fn list_keys(
    client: &Client,
    prefix: &str,
    patience: Duration,
    most: usize,
) -> Result<(Vec<KeyValue>, i64), String> {
    let mut all = Vec::new();
    let revision = each_page(client, prefix, patience, |mut page| {
        all.append(&mut page);
        all.len() <= most
    });
    let revision = revision.await?;
    Ok((all, revision))
}

/// Reads the keys under the prefix page by page for as long as they are wanted; gives the revision that they are of. A page that is too
/// large is asked for again in smaller ones, so that no entry keeps others from being read.
async fn each_page(
    client: &Client,
    prefix: &str,
    patience: Duration,
    mut wants_more: impl FnMut(Vec<KeyValue>) -> bool,
) -> Result<i64, String> {
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let (mut from, mut revision, mut limit) = (prefix.to_owned().into_bytes(), 0, PAGE_KEYS);
    loop {
        let options = GetOptions::new().with_range(end_of(prefix)).with_limit(limit).with_revision(revision);
        let answer = timeout(patience, kv.get(from.clone(), Some(options))).await;
        let mut page = match answer {
            Ok(Ok(page)) => page,
            Ok(Err(error)) if limit > 1 && is_too_large(&error) => {
                limit = (limit / PAGE_CUT).max(1);
                continue;
            }
            Ok(Err(error)) => return Err(words(&error)),
            Err(_) => return Err(format!("no answer within {patience:?}")),
        };
        if revision == 0 {
            revision = page.header().ok_or("an answer without a head")?.revision();
        }
        let (more, keys) = (page.more(), page.take_kvs());
        let last = keys.last().map(|last| [last.key(), b"\0"].concat());
        match last {
            Some(next) if wants_more(keys) && more => from = next,
            _ => return Ok(revision),
        }
        limit = (limit * 2).min(PAGE_KEYS);
    }
}

fn is_too_large(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if i32::from(status.code()) == OUT_OF_RANGE)
}

/// Of a value that is too large only so much is kept that it shows.
fn listed(kv: KeyValue) -> Listed {
    let revision = kv.mod_revision();
    let (key, mut value) = kv.into_key_value();
    if value.len() > VALUE_BYTES_MAX {
        value.truncate(VALUE_BYTES_MAX + 1);
        value.shrink_to_fit();
    }
    Listed { key: String::from_utf8_lossy(&key).into_owned(), revision, value }
}

/// The first key after all keys of a prefix. Ours ends in `/`, so its last byte can be counted up.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, String> {
    match timeout(patience, work).await {
        Ok(done) => done.map_err(|error| words(&error)),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}

/// What an error says, with its innermost cause: the outer ones say "transport error" of everything.
fn words(error: &etcd_client::Error) -> String {
    let (said, mut cause) = match error {
        etcd_client::Error::GRpcStatus(status) => {
            (format!("{:?}: {}", status.code(), status.message()), status.source())
        }
        etcd_client::Error::TransportError(error) => (error.to_string(), error.source()),
        other => (other.to_string(), None),
    };
    let mut innermost = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref().filter(|error| tls::of(error).is_some()) {
            return format!("no TLS with it: {}", tls::words(error, TLS_SECTION));
        }
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(innermost) if !said.contains(&innermost) => format!("{said} ({innermost})"),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_prefix_ends_the_service_name() {
        let registry = RegistryConfig { namespace: "/resonance/services/".into(), ..RegistryConfig::default() };
        let registry = EtcdRegistry::new(EtcdConfig::default(), &registry, "gateway-service");
        assert_eq!(registry.prefix, "/resonance/services/gateway-service/");
        assert_eq!(end_of("/a/"), b"/a0");
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = EtcdConfig { username: "u".into(), password: Secret::new("hunter2"), ..EtcdConfig::default() };
        let shown = format!("{:?}", EtcdRegistry::new(settings, &RegistryConfig::default(), "gateway-service"));
        assert!(shown.contains("127.0.0.1") && !shown.contains("hunter2"), "{shown}");
    }
}
