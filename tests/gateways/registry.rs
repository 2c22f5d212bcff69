//! A running `EtcdRegistry` on a control thread of its own, and what it tells one shard.

use std::sync::Arc;
use std::thread::JoinHandle;

use task_engine::config::{EtcdConfig, RegistryConfig};
use task_engine::edge::etcd::EtcdRegistry;
use task_engine::ports::mailbox::{Mailbox, Wake, mailbox};
use task_engine::ports::registry::Directory;
use task_engine::ports::{Health, Registry, RegistrySink};
use task_engine::push::facts::Input;
use tokio::sync::oneshot;

pub use testkit::mysql_etcd::etcd_settings as settings;
use testkit::mysql_etcd::eventually;

pub const PREFIX: &str = "/resonance/services/gateway-service/";

pub fn value(gateway: &str, port: u16) -> String {
    format!(r#"{{"id":"{gateway}","name":"gateway-service","version":"v1","endpoints":["grpc://127.0.0.1:{port}"]}}"#)
}

pub struct Followed {
    pub sink: RegistrySink,
    pub directory: Directory,
    facts: Mailbox,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Followed {
    /// What it waits for, if for anything.
    pub fn waiting(&self) -> Option<String> {
        match self.sink.health() {
            Health::Waiting(why) | Health::Degraded(why) => Some(why),
            Health::Ready | Health::Says(_) => None,
        }
    }

    pub fn start(settings: EtcdConfig) -> Self {
        let registry = EtcdRegistry::new(settings, &RegistryConfig::default(), "gateway-service");
        // A small mailbox, so that what it refuses and the background flush brings later is part of each test.
        let (sender, facts) = mailbox(1, Arc::new(Wake::default()));
        let (sink, directory) = RegistrySink::new(vec![sender]);
        let (stop, stopped) = oneshot::channel();
        let running = sink.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = Box::new(registry).run(running.clone()) => {}
                    () = running.keep_flushing() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { sink, directory, facts, stop: Some(stop), thread: Some(thread) }
    }

    /// The next thing the shard is told: `gateway@port` or `-gateway`.
    pub fn next(&mut self) -> String {
        let mut got = None;
        eventually("a fact about a gateway", || {
            got = self.facts.try_next();
            got.is_some()
        });
        match got {
            Some(Input::GatewayListed(record)) => format!("{}@{}", record.gateway_id, record.endpoints[0].port),
            Some(Input::GatewayGone(id)) => format!("-{id}"),
            other => panic!("not a gateway fact: {other:?}"),
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
