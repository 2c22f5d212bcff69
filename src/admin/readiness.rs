//! Whether the engine can do its work, from what each of its parts says: for `/readyz`, the page of numbers and the log.
//!
//! Promises that the three say the same, and that a change is logged once, with what it waits for. Refuses to call a stop
//! a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::{AdminState, HealthCheck};
use crate::ports::Health;
use crate::telemetry::metrics::table;
use crate::telemetry::metrics::{Line, Value};
use crate::telemetry::watchdog::Heartbeats;

/// The parts that are asked, in the order they are listed.
#[derive(Clone)]
pub(super) struct Parts {
    heartbeats: Arc<Heartbeats>,
    health: Vec<(&'static str, HealthCheck)>,
    stopping: Arc<AtomicBool>,
}

impl Parts {
    pub(super) fn of(state: &AdminState) -> Self {
        let AdminState { heartbeats, health, stopping, .. } = state.clone();
        Self { heartbeats, health, stopping }
    }

    /// What each says now.
    pub(super) fn ask(&self) -> Vec<(&'static str, Health)> {
        let mut said: Vec<_> = self.health.iter().map(|(name, check)| (*name, check())).collect();
        said.push(("shards", self.standstills().map_or(Health::Ready, Health::Waiting)));
        said
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Which shards do not move; none while all do.
    pub(super) fn standstills(&self) -> Option<String> {
        let standing: Vec<String> = self.heartbeats.look(Instant::now()).iter().map(ToString::to_string).collect();
        (!standing.is_empty()).then(|| standing.join("; "))
    }
}

/// The names of those that keep the engine from its work.
pub(super) fn waiting(said: &[(&'static str, Health)]) -> Vec<&'static str> {
    said.iter().filter(|(_, health)| matches!(health, Health::Waiting(_))).map(|(name, _)| *name).collect()
}

/// Puts readiness on the page of numbers.
pub(super) fn register(state: &AdminState) {
    let parts = Parts::of(state);
    let is_ready = move || u64::from(!parts.is_stopping() && waiting(&parts.ask()).is_empty());
    state.meter.register(&table::READY, &[], is_ready);
    let parts = Parts::of(state);
    let up = move |(name, health): (&'static str, Health)| -> Line {
        (vec![name.to_owned()], Value::Number(u64::from(!matches!(health, Health::Waiting(_)))))
    };
    state.meter.register_lines(&table::DEPENDENCY_UP, move || parts.ask().into_iter().map(up).collect());
}

/// Tells the log when readiness changes.
pub(super) struct Changes {
    parts: Parts,
    since: Instant,
    /// What it waited for when it was last looked at; nothing before the first look.
    known: Option<Vec<&'static str>>,
}

impl Changes {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, since: Instant::now(), known: None }
    }

    /// Looks, and logs what changed. To be called about once a second, so that it says no more than that.
    pub(super) fn look(&mut self, now: Instant) {
        if self.parts.is_stopping() {
            return;
        }
        let said = self.parts.ask();
        let waits_for = waiting(&said);
        let before = self.known.replace(waits_for.clone());
        let was_ready = before.as_ref().is_some_and(Vec::is_empty);
        match before {
            Some(before) if before == waits_for => {}
            _ if waits_for.is_empty() => self.tell_ready(before.is_some(), now),
            _ => self.tell_waiting(&said, was_ready, now),
        }
    }

    fn tell_ready(&mut self, waited: bool, now: Instant) {
        match waited {
            true => tracing::info!("ready again, after {}", in_seconds(now.saturating_duration_since(self.since))),
            false => tracing::info!("ready: every part can do its work"),
        }
        self.since = now;
    }

    fn tell_waiting(&mut self, said: &[(&'static str, Health)], was_ready: bool, now: Instant) {
        if was_ready {
            self.since = now;
        }
        let whys = said.iter().filter_map(|(name, health)| match health {
            Health::Waiting(why) => Some(format!("{name}: {}", super::one_line(why))),
            _ => None,
        });
        let whys = whys.collect::<Vec<_>>().join("; ");
        tracing::warn!("not ready, for {}: {whys}", in_seconds(now.saturating_duration_since(self.since)));
    }
}

fn in_seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
