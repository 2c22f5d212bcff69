//! The edge to etcd on a runtime of its own, and the facts that it gives.

use std::time::Duration;

use task_engine::config::EtcdConfig;
use task_engine::edge::etcd::ownership::{OwnershipEtcd, root};
use task_engine::model::ids::Partition;
use task_engine::ownership::facts::{AskNo, Commit, Compare, Fact, Is, Txn, Write};
use task_engine::ownership::keys::{Key, KeyState, LeaseId};
use testkit::mysql_etcd::etcd_settings;
use testkit::wait::PATIENCE;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

pub const STREAM: &str = "EVENTS";
pub const DURABLE: &str = "push";
/// A keepalive is given up after half of it.
pub const LEASE_TTL: Duration = Duration::from_secs(5);

pub fn settings(endpoints: &[&str]) -> EtcdConfig {
    let (keep_alive_time, keep_alive_timeout) = (Duration::from_secs(30), Duration::from_secs(10));
    EtcdConfig { keep_alive_time, keep_alive_timeout, ..etcd_settings(endpoints) }
}

/// A key's path.
pub fn path(key: &Key) -> String {
    format!("{}{key}", root(STREAM, DURABLE))
}

pub struct Edge {
    runtime: Runtime,
    etcd: Option<OwnershipEtcd>,
    facts: UnboundedReceiver<Fact>,
}

impl Edge {
    pub fn start(endpoint: &str) -> Self {
        Self::with(settings(&[endpoint]), LEASE_TTL)
    }

    pub fn with(settings: EtcdConfig, lease_ttl: Duration) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let (tell, facts) = unbounded_channel();
        let etcd = {
            let _in = runtime.enter();
            OwnershipEtcd::start(settings, &root(STREAM, DURABLE), lease_ttl, tell)
        };
        Self { runtime, etcd: Some(etcd), facts }
    }

    pub fn ask<T>(&mut self, what: impl FnOnce(&mut OwnershipEtcd) -> T) -> T {
        let _in = self.runtime.enter();
        what(self.etcd.as_mut().expect("it runs"))
    }

    /// The next fact.
    pub fn next(&mut self) -> Fact {
        self.next_within(PATIENCE).expect("a fact")
    }

    pub fn next_within(&mut self, patience: Duration) -> Option<Fact> {
        self.runtime.block_on(async { timeout(patience, self.facts.recv()).await.ok().flatten() })
    }

    /// The next fact that is about none of the watch.
    pub fn answer(&mut self) -> Fact {
        loop {
            match self.next() {
                Fact::Listed { .. } | Fact::Watched { .. } | Fact::WatchLost => {}
                fact => return fact,
            }
        }
    }

    pub fn commit(&mut self, ask: u64, txn: Txn) -> Commit {
        self.ask(|etcd| etcd.commit(AskNo(ask), txn));
        match self.answer() {
            Fact::Committed { ask: of, answer } if of == AskNo(ask) => answer,
            other => panic!("not the answer: {other:?}"),
        }
    }

    pub fn grant(&mut self, ask: u64, ttl: Duration) -> Option<LeaseId> {
        self.ask(|etcd| etcd.grant(AskNo(ask), ttl));
        match self.answer() {
            Fact::Granted { ask: of, lease } if of == AskNo(ask) => lease,
            other => panic!("not the answer: {other:?}"),
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _in = self.runtime.enter();
        drop(self.etcd.take());
    }
}

pub fn owner(partition: u32) -> Key {
    Key::Owner(Partition(partition))
}

pub fn put(key: Key, value: &str) -> Write {
    Write::Put { key, value: value.to_owned(), lease: None }
}

pub fn put_under(key: Key, value: &str, lease: LeaseId) -> Write {
    Write::Put { key, value: value.to_owned(), lease: Some(lease) }
}

pub fn absent(key: Key) -> Compare {
    Compare { key, is: Is::Absent }
}

pub fn txn(compares: Vec<Compare>, writes: Vec<Write>) -> Txn {
    Txn { compares, writes }
}

pub fn value(state: &KeyState) -> Option<&str> {
    state.value.as_deref().map(|value| std::str::from_utf8(value).expect("text"))
}
