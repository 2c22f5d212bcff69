//! What an engine asks to know how its parts are: for `/readyz`, and for the gate.

use std::sync::Arc;

use crate::admin::HealthCheck;
use crate::config::Database;
use crate::engine::gate::{self, Need, Store};
use crate::engine::shards::Workers;
use crate::ports::Health;
use crate::ports::intake::Intake;
use crate::ports::registry::RegistrySink;
use crate::shard::pump::Shared;
use crate::shard::workers::writers::{ContentThread, InboxThreads};

/// What `/readyz` asks, by name.
pub(super) fn health_checks(
    intake: &Intake,
    workers: &Workers,
    sink: &RegistrySink,
    shared: &Arc<Shared>,
    database: Database,
) -> Vec<(&'static str, HealthCheck)> {
    let (intake, sink, shared) = (intake.clone(), sink.clone(), shared.clone());
    let Workers { lookups, inbox, contents, letters } = workers.clone();
    // One server for all: the first that has something to say.
    let rows = rows_health(inbox, contents);
    let stores = move || match (lookups.health(), &rows) {
        (Health::Ready, Some(rows)) => rows(),
        (health, _) => health,
    };
    let routes = move || {
        let all = shared.routes_health.iter().map(|health| health.lock().unwrap_or_else(|e| e.into_inner()).clone());
        all.into_iter().find(|health| *health != Health::Ready).unwrap_or(Health::Ready)
    };
    vec![
        ("nats", Arc::new(move || intake.health()) as HealthCheck),
        (database.section(), Arc::new(stores)),
        ("redis", Arc::new(routes)),
        ("etcd", Arc::new(move || sink.health())),
        ("dead_letters", Arc::new(move || letters.health())),
    ]
}

/// How the inbox is, and where contents are looked for as well, how that goes.
fn rows_health(inbox: Option<InboxThreads>, contents: Option<ContentThread>) -> Option<HealthCheck> {
    let inbox = inbox?;
    Some(Arc::new(move || match (inbox.health(), &contents) {
        (Health::Ready, Some(contents)) => contents.health(),
        (health, _) => health,
    }))
}

/// The stores without which no event can end as it should.
pub(super) fn needed_stores(
    workers: &Workers,
    health: &[(&'static str, HealthCheck)],
    shared: &Arc<Shared>,
    (routes_say, registry_says): (bool, bool),
) -> Vec<Store> {
    let of = |name: &str| health.iter().find(|(of, _)| *of == name).map(|(_, health)| health.clone());
    let Workers { lookups, inbox, contents, .. } = workers.clone();
    let members: HealthCheck = Arc::new(move || lookups.health());
    let rows = rows_health(inbox, contents);
    let routes = (0..shared.routes_health.len()).filter(|_| routes_say).map(|shard| {
        let shared = shared.clone();
        Some(Arc::new(move || shared.routes_health_of(shard, gate::MOMENT)) as HealthCheck)
    });
    let all = [
        ("members", Need::Lookups, Some(members)),
        ("inbox", Need::Inbox, rows),
        ("gateways", Need::FirstAnswer, of("etcd").filter(|_| registry_says)),
        ("dead letters", Need::Letters, of("dead_letters")),
    ];
    let all = all.into_iter().chain(routes.map(|health| ("routes", Need::Lookups, health)));
    all.filter_map(|(name, need, health)| Some(Store { name, need, health: health? })).collect()
}
