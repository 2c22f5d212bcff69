//! Which gateways there are, from etcd: a list, then a watch from there on, and both again when the watch ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions};
use harness::error::{Error, Result};
use task_engine::config::Config;
use task_engine::ports;

use super::delivery::{Address, Protocol};
use super::gateway::Gateways;
use crate::wiring::{Etcd, Registration};

/// The pause before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_millis(500);

/// Lists the gateways and follows the registry from then on.
///
/// # Errors
/// When etcd does not answer now; what is known is kept when it goes away later.
pub(super) async fn follow(config: &Config, gateways: Arc<Gateways>) -> Result<()> {
    let Etcd { endpoints, options, prefix } = Etcd::of(config);
    let failed = |cause| Error::of(&format!("etcd at {}", endpoints.join(",")), cause);
    let mut book = Book { instances: HashMap::new(), gateways };
    let mut client = Client::connect(&endpoints, Some(options.clone())).await.map_err(failed)?;
    let mut revision = book.list(&mut client, &prefix).await.map_err(failed)?;
    tokio::spawn(async move {
        loop {
            if let Err(error) = book.watch(&mut client, &prefix, revision).await {
                eprintln!("reference: etcd: {error}");
            }
            tokio::time::sleep(PAUSE).await;
            // A token may have run out with the old client.
            if let Ok(again) = Client::connect(&endpoints, Some(options.clone())).await {
                client = again;
            }
            match book.list(&mut client, &prefix).await {
                Ok(listed) => revision = listed,
                Err(error) => eprintln!("reference: etcd: {error}"),
            }
        }
    });
    Ok(())
}

struct Instance {
    gateway: String,
    revision: i64,
    address: Address,
}

struct Book {
    instances: HashMap<Vec<u8>, Instance>,
    gateways: Arc<Gateways>,
}

impl Book {
    async fn list(&mut self, client: &mut Client, prefix: &str) -> std::result::Result<i64, etcd_client::Error> {
        let answer = client.get(prefix, Some(GetOptions::new().with_prefix())).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let gone = std::mem::take(&mut self.instances);
        for pair in answer.kvs() {
            self.put(pair);
        }
        for instance in gone.into_values() {
            self.tell(&instance.gateway);
        }
        Ok(revision)
    }

    async fn watch(
        &mut self,
        client: &mut Client,
        prefix: &str,
        revision: i64,
    ) -> std::result::Result<(), etcd_client::Error> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut changes = client.watch(prefix, Some(options)).await?;
        while let Some(answer) = changes.message().await? {
            if answer.canceled() {
                return Ok(());
            }
            for event in answer.events() {
                match (event.event_type(), event.kv()) {
                    (EventType::Put, Some(pair)) => self.put(pair),
                    (EventType::Delete, Some(pair)) => self.delete(pair.key()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, pair: &KeyValue) {
        let Some((gateway, address)) = read(pair.value()) else {
            eprintln!("reference: etcd: {} is no gateway", String::from_utf8_lossy(pair.key()));
            return self.delete(pair.key());
        };
        let instance = Instance { gateway: gateway.clone(), revision: pair.mod_revision(), address };
        let before = self.instances.insert(pair.key().to_vec(), instance);
        self.tell(&gateway);
        if let Some(before) = before.filter(|before| before.gateway != gateway) {
            self.tell(&before.gateway);
        }
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some(instance) = self.instances.remove(key) {
            self.tell(&instance.gateway);
        }
    }

    /// Of several instances the one that was written last speaks for the gateway.
    fn tell(&self, gateway: &str) {
        let mine = self.instances.values().filter(|instance| instance.gateway == gateway);
        let latest = mine.max_by_key(|instance| instance.revision);
        self.gateways.set(gateway, latest.map(|instance| instance.address.clone()));
    }
}

fn read(value: &[u8]) -> Option<(String, Address)> {
    let Registration { gateway, endpoints, protocols } = Registration::read(value)?;
    let best = match protocols.best()? {
        // It knows no groups: whoever speaks them speaks batches too, or is found out not to.
        ports::Protocol::Group | ports::Protocol::Batch => Protocol::Batch,
        ports::Protocol::StreamMany | ports::Protocol::Stream => Protocol::Stream,
        ports::Protocol::Unary => Protocol::Unary,
    };
    let endpoints = endpoints.into_iter().map(|endpoint| format!("http://{endpoint}")).collect();
    Some((gateway, Address { endpoints, best }))
}
