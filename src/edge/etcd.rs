//! The built-in registry: gateways as etcd lists them under `<namespace>/<service>/`.
//!
//! Promises to follow every change (list at a revision, watch from the next one, list again when the watch ends and
//! every minute as a net), to keep what is known while etcd is away, and to go on by itself: of several endpoints the next
//! one is asked when one fails or is silent for a moment, and when all failed, all again after a jittered wait. A hung etcd is noticed by HTTP/2 pings
//! and by a deadline on each request, of which a small one goes out every two seconds ([`look`]). Refuses to let a bad value disturb another one, and to print the password.

mod entry;
mod instance_table;
mod look;

use std::collections::hash_map::RandomState;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasher;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::instance_table::{Change, InstanceTable, Listed, RecordIssue};
use crate::model::limits::{GATEWAYS_MAX, RECONNECT_BACKOFF};
use crate::model::redact;
use crate::model::words::counted;
use crate::ports::{ControlFuture, Health, Registry, RegistrySink};

/// How often everything is listed again.
const RELIST: Duration = Duration::from_secs(60);
/// Keys in one answer of a list.
const PAGE_KEYS: i64 = 1000;
/// The largest answer taken; more than an etcd with default limits sends for a page.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// etcd cuts off clients that ping more often than every five seconds.
const PING_EVERY_MIN: Duration = Duration::from_secs(6);
/// An endpoint that has not answered for this long is not waited for alone.
const ENDPOINT_PATIENCE: Duration = Duration::from_millis(250);
/// Endpoints asked at once.
const ENDPOINTS_AT_ONCE: usize = 16;
/// A connection that followed etcd for this long starts the backoff anew.
const STEADY: Duration = RECONNECT_BACKOFF.1;

/// Where etcd is and what to read there. Its `Debug` shows no password.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `host:port` or `http://host:port`, tried in turn.
    pub endpoints: Vec<String>,
    /// The user; empty means no authentication.
    pub username: String,
    /// Its password; never shown.
    pub password: String,
    /// How long a connect may take.
    pub dial_timeout: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often a connection is pinged; at least six seconds are used.
    pub keep_alive_time: Duration,
    /// How long the answer to a ping may take.
    pub keep_alive_timeout: Duration,
    /// The first part of the keys, such as `/resonance/services`.
    pub namespace: String,
    /// The second part, such as `gateway-service`.
    pub service: String,
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.places())
            .field("username", &self.username)
            .field("password", &"***")
            .field("prefix", &self.prefix())
            .finish_non_exhaustive()
    }
}

impl EtcdSettings {
    fn prefix(&self) -> String {
        format!("{}/{}/", self.namespace.trim_end_matches('/'), self.service.trim_matches('/'))
    }

    fn places(&self) -> String {
        self.endpoints.iter().map(|endpoint| redact::address(endpoint)).collect::<Vec<_>>().join(", ")
    }

    /// For one request, the connection included.
    fn patience(&self) -> Duration {
        self.dial_timeout + self.timeout
    }

    fn options(&self) -> ConnectOptions {
        let options = ConnectOptions::new()
            .with_connect_timeout(self.dial_timeout)
            .with_keep_alive(self.keep_alive_time.max(PING_EVERY_MIN), self.keep_alive_timeout)
            .with_keep_alive_while_idle(false)
            .with_tcp_keepalive(self.keep_alive_time.max(PING_EVERY_MIN))
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        match self.username.as_str() {
            "" => options,
            user => options.with_user(user, self.password.as_str()),
        }
    }
}

/// Which gateways there are, out of etcd.
#[derive(Clone, Debug)]
pub struct EtcdRegistry(EtcdSettings);

impl EtcdRegistry {
    /// The registry these settings describe; connects when it is run.
    pub fn new(settings: EtcdSettings) -> Self {
        Self(settings)
    }
}

impl Registry for EtcdRegistry {
    fn run(self: Box<Self>, sink: RegistrySink) -> ControlFuture<()> {
        let (prefix, turn) = (self.0.prefix(), random() as usize);
        Box::pin(Follower { prefix, settings: self.0, instances: InstanceTable::default(), sink, turn }.follow())
    }
}

struct Follower {
    settings: EtcdSettings,
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
            let endpoint = self.settings.endpoints[endpoint].clone();
            if failures.is_multiple_of(endpoints) {
                self.sink.report(Health::Waiting(self.trouble(&endpoint, &why)));
                sleep(backoff(failures / endpoints, random())).await;
            } else {
                tracing::info!("etcd at {}: {why}; trying the next endpoint", redact::address(&endpoint));
            }
        }
    }

    /// The first endpoint that lists all keys. The next one is asked when one has failed or has not answered for a moment;
    /// when all have failed, what the last of them said.
    async fn reach(&self) -> Result<Reached, (usize, String)> {
        let endpoints = self.settings.endpoints.len();
        let mut untried = (0..endpoints).map(|step| self.turn.wrapping_add(step) % endpoints);
        let mut attempts = JoinSet::new();
        let mut last = (self.turn % endpoints, "no answer".to_owned());
        let mut is_due = true;
        loop {
            if is_due
                && attempts.len() < ENDPOINTS_AT_ONCE
                && let Some(endpoint) = untried.next()
            {
                let (settings, prefix) = (self.settings.clone(), self.prefix.clone());
                attempts.spawn(async move { (endpoint, reach_one(&settings, &prefix, endpoint).await) });
            }
            match timeout(ENDPOINT_PATIENCE, attempts.join_next()).await {
                Err(_) => is_due = true,
                Ok(None) => return Err(last),
                Ok(Some(Ok((_, Ok(reached))))) => return Ok(reached),
                Ok(Some(Ok((endpoint, Err(why))))) => {
                    tracing::debug!("etcd at {}: {why}", redact::address(&self.settings.endpoints[endpoint]));
                    (last, is_due) = ((endpoint, why), true);
                }
                Ok(Some(Err(error))) => (last.1, is_due) = (error.to_string(), true),
            }
        }
    }

    fn trouble(&self, endpoint: &str, why: &str) -> String {
        let (places, at, known) = (self.settings.places(), redact::address(endpoint), self.instances.gateways());
        let credentials = if self.settings.username.is_empty() { "" } else { ", etcd.username and etcd.password" };
        let kept = kept(known);
        format!(
            "etcd at {places} cannot be followed ({at}: {why}); {kept}; check that it runs, etcd.endpoints{credentials}"
        )
    }

    /// Follows etcd over one endpoint until that fails.
    async fn follow_one(&mut self, reached: Reached) -> Result<std::convert::Infallible, String> {
        let Reached { endpoint, mut client, mut all, mut revision } = reached;
        let patience = self.settings.patience();
        let mut compactions = 0;
        loop {
            let mut issues = Vec::new();
            self.instances.replace(all, &mut issues);
            self.report_issue(issues);
            self.sink.replace_all(self.instances.records());
            let (kv, settings, sink) = (client.kv_client(), self.settings.clone(), self.sink.clone());
            let kept = kept(self.instances.gateways());
            let looks = look::looks(kv, &settings, &settings.endpoints[endpoint], &sink, &kept);
            let watched = tokio::select! {
                watched = self.watch(&mut client, revision + 1) => watched?,
                Err(why) = looks => return Err(why),
            };
            match watched {
                Ended::Due => compactions = 0,
                Ended::Compacted => {
                    compactions += 1;
                    sleep(backoff(compactions, random())).await;
                }
            }
            (all, revision) = list(&mut client, &self.prefix, patience).await?;
        }
    }

    async fn watch(&mut self, client: &mut Client, revision: i64) -> Result<Ended, String> {
        let due = Instant::now() + RELIST.mul_f64(0.9 + 0.2 * fraction(random()));
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

async fn reach_one(settings: &EtcdSettings, prefix: &str, endpoint: usize) -> Result<Reached, String> {
    let patience = settings.patience();
    let address = settings.endpoints[endpoint].as_str();
    let mut client = within(patience, Client::connect([address], Some(settings.options()))).await?;
    let (all, revision) = list(&mut client, prefix, patience).await?;
    Ok(Reached { endpoint, client, all, revision })
}

/// All keys under the prefix, as of one revision.
async fn list(client: &mut Client, prefix: &str, patience: Duration) -> Result<(Vec<Listed>, i64), String> {
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut from = prefix.to_owned().into_bytes();
    let (mut all, mut revision) = (Vec::new(), 0);
    loop {
        let options = GetOptions::new().with_range(end_of(prefix)).with_limit(PAGE_KEYS).with_revision(revision);
        let mut page = within(patience, kv.get(from, Some(options))).await?;
        if revision == 0 {
            revision = page.header().ok_or("an answer without a head")?.revision();
        }
        let more = page.more();
        all.extend(page.take_kvs().into_iter().map(listed));
        // Past what the table takes there is nothing to learn.
        match all.last() {
            Some(last) if more && all.len() <= GATEWAYS_MAX => from = format!("{}\0", last.key).into_bytes(),
            _ => return Ok((all, revision)),
        }
    }
}

fn listed(kv: KeyValue) -> Listed {
    let revision = kv.mod_revision();
    let (key, value) = kv.into_key_value();
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
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(innermost) if !said.contains(&innermost) => format!("{said} ({innermost})"),
        _ => said,
    }
}

/// The wait after the `failures`th failure in a row (from 1): doubles up to the limit, then half of it at random.
fn backoff(failures: usize, random: u64) -> Duration {
    let (first, longest) = RECONNECT_BACKOFF;
    let doublings = failures.saturating_sub(1).min(16) as u32;
    (first * (1 << doublings)).min(longest).mul_f64(0.5 + 0.5 * fraction(random))
}

fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EtcdSettings {
        EtcdSettings {
            endpoints: vec!["http://u:hunter2@a:2379".into(), "b:2379".into()],
            username: "u".into(),
            password: "hunter2".into(),
            dial_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(3),
            namespace: "/resonance/services/".into(),
            service: "gateway-service".into(),
        }
    }

    #[test]
    fn the_prefix_ends_the_service_name() {
        assert_eq!(settings().prefix(), "/resonance/services/gateway-service/");
        assert_eq!(end_of("/a/"), b"/a0");
    }

    #[test]
    fn the_password_is_never_shown() {
        let shown = format!("{:?}", EtcdRegistry::new(settings()));
        assert!(shown.contains("http://***@a:2379, b:2379") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn waits_grow_to_the_limit_and_are_jittered() {
        for (failures, least, most) in [(1, 25, 50), (2, 50, 100), (5, 400, 800), (6, 500, 1_000), (999, 500, 1_000)] {
            for random in [0, u64::MAX / 3, u64::MAX] {
                let wait = backoff(failures, random).as_millis();
                assert!((least..=most).contains(&wait), "{failures}: {wait} ms");
            }
        }
    }
}
