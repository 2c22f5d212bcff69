//! The reference engine: the plain asynchronous way, on the same wire as task-engine; what a core-pinned engine must beat.
//!
//! Tokio's multi-thread runtime, async-nats, the mysql crate behind `spawn_blocking`, a multiplexed Redis connection, one
//! tonic channel and one long-lived stream a gateway. A session has one task, which takes its events in order: it knows the
//! members (for `members.cache_ttl`), asks Redis for the routes it does not know, and hands each gateway's recipients to
//! that gateway's task; up to [`session::FLYING_MAX`] events of a session may be unanswered.
//!
//! Promises order for each session and gateway, also when users move; that an event read before the stop is finished
//! within [`DRAIN`]; that all queues are bounded, by waiting. It is no straw man: a message is encoded once, its bytes and
//! names are shared, and lookups are batched. Routes are kept for a time (see [`routes`]) rather than tracked.
//!
//! Refuses JetStream. A gateway that is full makes the sessions that need it wait, and in the end the reader, for at most
//! `gateway.delivery_timeout`: that is the price of the plain way.

mod delivery;
mod gateway;
mod intake;
mod link;
mod members;
mod registry;
mod requests;
mod routes;
mod session;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::error::{Error, Result};
use task_engine::config::{self, Config, ConsumerMode, Flags};
use tokio::sync::oneshot;

use self::gateway::Gateways;
use self::members::Members;
use self::routes::Routes;
use crate::page;

/// How long what is under way may take after a signal.
const DRAIN: Duration = Duration::from_secs(20);

/// What all tasks share.
struct Engine {
    config: Config,
    members: Members,
    routes: Routes,
    gateways: Arc<Gateways>,
    counts: Arc<Counts>,
}

/// What became of all that was read; recipients unless it says otherwise.
#[derive(Debug, Default)]
struct Counts {
    /// Events read.
    events: AtomicU64,
    /// Events that were no events, or came again.
    passed_over: AtomicU64,
    /// Events that ended because a store did not answer.
    failed_events: AtomicU64,
    delivered: AtomicU64,
    /// No route, or the gateway says so of its last route.
    offline: AtomicU64,
    /// The gateway's other words.
    failed: AtomicU64,
    /// The gateway did not take or answer them in time.
    unreached: AtomicU64,
    /// Events that the NATS client dropped because they were not read in time.
    dropped: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "reference: {} events, {} pushes delivered, {} offline, {} failed, {} unreached; events: {} passed over, {} \
             failed, {} dropped",
            get(&self.events),
            get(&self.delivered),
            get(&self.offline),
            get(&self.failed),
            get(&self.unreached),
            get(&self.passed_over),
            get(&self.failed_events),
            get(&self.dropped),
        )
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

/// Runs until SIGTERM or SIGINT, then finishes what it has read and prints one line of counts.
///
/// # Errors
/// When the configuration is wrong, a server does not answer at the start, or the drain takes too long.
pub fn run(config: &Path, admin: Option<SocketAddr>, cores: Option<u16>) -> Result<()> {
    let flags = Flags { cores: cores.map(|cores| cores.to_string()), admin: admin.map(|admin| admin.to_string()) };
    let checked = config::load(Some(config), std::env::vars_os(), &flags);
    let config = checked.map_err(|mistakes| Error::new(mistakes.to_string()))?.config;
    if config.consumer.mode == ConsumerMode::JetStream {
        return Err(Error::new("the reference engine reads core NATS only: set consumer.mode to core"));
    }
    // Before any thread starts, so that all of them leave the signals to the one that waits.
    let stop = page::stop_signal()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(usize::from(config.engine.cores)).enable_all().build();
    let runtime = built.map_err(|cause| Error::of("cannot start Tokio", cause))?;
    let counts = Arc::<Counts>::default();
    let outcome = runtime.block_on(serve(config, counts.clone(), stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    println!("{counts}");
    outcome
}

async fn serve(config: Config, counts: Arc<Counts>, stop: oneshot::Receiver<()>) -> Result<()> {
    let is_subscribed = Arc::new(AtomicBool::new(false));
    let gateways = Arc::new(Gateways::new(config.gateway.delivery_timeout, counts.clone()));
    let page_reads = (is_subscribed.clone(), gateways.clone());
    page::serve(config.admin.listen, move || page_reads.0.load(Ordering::Acquire) && page_reads.1.any_listed())?;
    let routes = Routes::connect(&config).await?;
    let members = Members::connect(&config).await?;
    registry::follow(&config, gateways.clone()).await?;
    let engine = Arc::new(Engine { config, members, routes, gateways, counts });
    let subscription = intake::subscribe(&engine).await?;
    is_subscribed.store(true, Ordering::Release);
    let mut sessions = intake::read(&engine, subscription, stop).await?;
    is_subscribed.store(false, Ordering::Release);
    // Each session's task holds a sender, and nobody sends: the channel ends with the last of them.
    let drained = tokio::time::timeout(DRAIN, sessions.recv()).await;
    drained.map(|_| ()).map_err(|_| Error::new(format!("not all was finished {} s after the stop", DRAIN.as_secs())))
}
