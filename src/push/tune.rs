//! What may change while a shard runs: times and counts on which no table's size depends.

use std::time::Duration;

use crate::push::Push;

/// See the module; the names are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tune {
    /// `members.cache_ttl`.
    pub members_ttl: Duration,
    /// `members.empty_wait`.
    pub empty_wait: Duration,
    /// `gateway.delivery_timeout`.
    pub delivery_timeout: Duration,
    /// `registry.forget_after`.
    pub registry_forget_after: Duration,
    /// `consumer.max_retry`.
    pub max_retry: u32,
    /// `consumer.retry_interval`.
    pub retry_interval: Duration,
}

impl Push {
    /// What waits is judged by the new times from the next tick on; a pause that has begun ends as it was meant to.
    pub(super) fn tune(&mut self, tune: &Tune) {
        let settings = &mut self.cx.settings;
        settings.members_ttl = tune.members_ttl;
        settings.empty_wait = tune.empty_wait;
        settings.delivery_timeout = tune.delivery_timeout;
        settings.registry_forget_after = tune.registry_forget_after;
        settings.max_retry = tune.max_retry;
        settings.retry_interval = tune.retry_interval;
        self.delivery.gateways.tune(tune.delivery_timeout, tune.registry_forget_after);
    }
}
