//! The gateways that are known, each with its task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Counts;
use super::delivery::{Address, Gateway, lock};
use super::link::Link;

/// All gateways that routes or the registry name.
pub(super) struct Gateways {
    known: Mutex<HashMap<String, Arc<Gateway>>>,
    any_listed: AtomicBool,
    patience: Duration,
    counts: Arc<Counts>,
}

impl Gateways {
    /// None yet; `patience` is `gateway.delivery_timeout`.
    pub fn new(patience: Duration, counts: Arc<Counts>) -> Self {
        Self { known: Mutex::default(), any_listed: AtomicBool::new(false), patience, counts }
    }

    /// The gateway of this id, which need not be registered yet.
    pub fn get(&self, id: &str) -> Arc<Gateway> {
        let mut known = lock(&self.known);
        if let Some(gateway) = known.get(id) {
            return gateway.clone();
        }
        let (gateway, bundles) = Gateway::new(known.len(), self.patience);
        tokio::spawn(Link::new(id, gateway.clone(), bundles, self.patience, self.counts.clone()).run());
        known.insert(id.to_owned(), gateway.clone());
        gateway
    }

    /// The registry says so.
    pub fn set(&self, id: &str, address: Option<Address>) {
        if address.is_some() {
            self.any_listed.store(true, Ordering::Release);
        }
        self.get(id).address.send_if_modified(|known| {
            let is_new = *known != address;
            *known = address;
            is_new
        });
    }

    /// Whether a gateway was ever registered.
    pub fn any_listed(&self) -> bool {
        self.any_listed.load(Ordering::Acquire)
    }
}
