//! What partition ownership asks of etcd: list and watch its keys, hold a lease, run transactions.
//!
//! Promises that each request is sent once and ends within its time; that what leaves open whether it was done is
//! [`Commit::Unknown`]; that the connection is opened anew by itself, over the next endpoint, when a request on it has no answer; and
//! that a watch which cannot be trusted any more is said to be lost. Refuses to try a request again: the core does. (An etcd that
//! finds the login's token too old has done nothing; then the client logs in and sends the request once more.)

mod follow;
mod keep_alive;
pub mod once;
mod session;
mod txn;
mod version;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::KeyValue;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use self::session::Line;
use crate::config::{Current, EtcdConfig};
use crate::ownership::facts::{AskNo, Commit, Fact, Txn};
use crate::ownership::keys::{Key, KeyState, LeaseId};

/// What every key begins with.
const ROOT: &str = "/resonance/task-engine";
/// No request waits longer, whatever `etcd.timeout` is: the core counts on an end before six seconds.
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// Keys below the root that are read; partitions have two each, and there are at most 16,384.
const KEYS_MAX: usize = 64 * 1024;

/// Where a durable's keys are: `/resonance/task-engine/<stream>/<durable>/`.
pub fn root(stream: &str, durable: &str) -> String {
    format!("{ROOT}/{stream}/{durable}/")
}

/// See the module. Lives on one Tokio runtime; what it does ends with that runtime.
pub struct OwnershipEtcd {
    root: Arc<str>,
    patience: Duration,
    line: Line,
    tell: UnboundedSender<Fact>,
    follower: Option<JoinHandle<()>>,
    keepalives: UnboundedSender<(AskNo, LeaseId)>,
    revokes: JoinSet<()>,
}

impl OwnershipEtcd {
    /// Begins to connect, on the runtime that it is called on. Answers go to `tell`. A keepalive without an answer for half of
    /// `lease_ttl` ends the connection: what is left of the lease is time for another endpoint.
    pub fn start(
        settings: impl Into<Current<EtcdConfig>>,
        root: &str,
        lease_ttl: Duration,
        tell: UnboundedSender<Fact>,
    ) -> Self {
        let settings = settings.into().hold();
        let patience = settings.timeout.min(PATIENCE_MAX);
        let root: Arc<str> = Arc::from(root);
        let line = Line::start(settings, &root);
        let (keepalives, asks) = unbounded_channel();
        tokio::spawn(keep_alive::keep_alive(line.clone(), lease_ttl / 2, asks, tell.clone()));
        Self { root, patience, line, tell, follower: None, keepalives, revokes: JoinSet::new() }
    }

    /// [`Intention::List`](crate::ownership::facts::Intention::List).
    pub fn list(&mut self) {
        if let Some(older) = self.follower.take() {
            older.abort();
        }
        let (line, root, tell) = (self.line.clone(), self.root.clone(), self.tell.clone());
        self.follower = Some(tokio::spawn(follow::follow(line, root, self.patience, tell)));
    }

    /// [`Intention::Grant`](crate::ownership::facts::Intention::Grant).
    pub fn grant(&self, ask: AskNo, ttl: Duration) {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX) + i64::from(ttl.subsec_nanos() > 0);
        let (line, patience, tell) = (self.line.clone(), self.patience, self.tell.clone());
        tokio::spawn(async move {
            let granted = line.ask(patience, |client| async move { client.lease_client().grant(seconds, None).await });
            let lease = granted.await.ok().map(|lease| LeaseId(lease.id()));
            let _ = tell.send(Fact::Granted { ask, lease });
        });
    }

    /// [`Intention::KeepAlive`](crate::ownership::facts::Intention::KeepAlive).
    pub fn keep_alive(&self, ask: AskNo, lease: LeaseId) {
        let _ = self.keepalives.send((ask, lease));
    }

    /// [`Intention::Revoke`](crate::ownership::facts::Intention::Revoke).
    pub fn revoke(&mut self, lease: LeaseId) {
        let (line, patience) = (self.line.clone(), self.patience);
        while self.revokes.try_join_next().is_some() {}
        self.revokes.spawn(async move {
            let revoked =
                line.ask(patience, |client| async move { client.lease_client().revoke(lease.0).await.map(drop) });
            if let Err(failure) = revoked.await {
                tracing::info!("lease {:x} was not revoked, and ends by itself: {failure}", lease.0);
            }
        });
    }

    /// [`Intention::Commit`](crate::ownership::facts::Intention::Commit).
    pub fn commit(&self, ask: AskNo, txn: Txn) {
        let (line, patience, tell) = (self.line.clone(), self.patience, self.tell.clone());
        let root = self.root.clone();
        tokio::spawn(async move {
            let answer = txn::commit(&line, &root, patience, &txn).await;
            if answer == Commit::Unknown {
                tracing::debug!("etcd: what became of transaction {} is not known", ask.0);
            }
            let _ = tell.send(Fact::Committed { ask, answer });
        });
    }

    /// Waits until all leases are revoked that were to be, at most for so long.
    pub async fn revoked(&mut self, patience: Duration) {
        let all = async { while self.revokes.join_next().await.is_some() {} };
        let _ = timeout(patience, all).await;
    }
}

/// A key below the root and its state; `None` for a key that is not this program's.
fn state(root: &str, kv: KeyValue) -> Option<KeyState> {
    let key = Key::parse(std::str::from_utf8(kv.key()).ok()?.strip_prefix(root)?)?;
    let (mod_revision, create_revision) = (kv.mod_revision(), kv.create_revision());
    let (_, value) = kv.into_key_value();
    Some(KeyState { key, value: Some(value.into()), mod_revision, create_revision })
}
