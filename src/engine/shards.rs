//! Starts one pinned glommio executor a shard.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use glommio::{Latency, LocalExecutorBuilder, Shares};

use crate::config::{Config, ConsumerMode, EchoSender, Held, Recorder};
use crate::edge::alarm::Alarm;
use crate::edge::gateway::{GatewayOptions, Gateways};
use crate::edge::resolve::Resolver;
use crate::engine::sections::Sections;
use crate::engine::supervisor::{Ending, Ends, Handles, OnFailure};
use crate::engine::{Engine, StartError};
use crate::model::ids::ShardId;
use crate::model::ids::shard_name;
use crate::model::limits::{
    EVENTS_IN_FLIGHT_MAX, GATEWAY_USER_TIMEOUT, GROUP_USERS_MAX, INBOX_THREADS, MEMBER_THREADS, SHARD_IO_MEMORY_BYTES,
    SHARD_PREEMPT_AFTER, SHARD_READER_END_DEADLINE, USER_TIMEOUT_OWNED,
};
use crate::model::priority::PriorityRules;
use crate::ports::intake::{Intake, IntakeLane};
use crate::ports::mailbox::{FactSender, LocalFacts, Mailbox, Wake};
use crate::ports::route_queue::RouteQueue;
use crate::ports::traces::TraceSender;
use crate::ports::{DeadLetters, Inbox, Members, Routes, ShardReaders};
use crate::push::{Push, RecipientRules, Settings, TableBounds, TraceRules, Tune};
use crate::shard::cores::Cores;
use crate::shard::mesh::{MeshEnd, mesh};
use crate::shard::pump::{Pump, Shared, Work};
use crate::shard::workers::members::MemberThreads;
use crate::shard::workers::writers::{ContentThread, DeadLetterThread, InboxThreads};
use crate::telemetry::metrics::ShardPublisher;

/// What the shards are made of, one of each a shard, in shard order.
pub(super) struct Parts {
    pub publishers: Vec<ShardPublisher>,
    pub wakes: Vec<Arc<Wake>>,
    pub senders: Vec<FactSender>,
    pub mailboxes: Vec<Mailbox>,
    pub lanes: Vec<IntakeLane>,
    pub workers: Workers,
    pub routes: Arc<dyn Routes + Send + Sync>,
    pub resolver: Resolver,
    /// The source's readers that run on shards, and what they hand events to.
    pub readers: Option<(Arc<dyn ShardReaders>, Intake)>,
    /// Where traces of events go.
    pub traces: Option<TraceSender>,
}

/// The threads that make blocking calls for all shards.
#[derive(Clone)]
pub(super) struct Workers {
    pub lookups: MemberThreads,
    pub inbox: Option<InboxThreads>,
    pub contents: Option<ContentThread>,
    pub letters: DeadLetterThread,
}

impl Workers {
    /// Starts them; no inbox with `inbox.store: off`, and nobody who `reads_contents` without `inbox.rows_up_to`.
    pub(super) fn start(
        members: Arc<dyn Members>,
        inbox: Option<Arc<dyn Inbox>>,
        reads_contents: bool,
        dead_letters: Arc<dyn DeadLetters>,
    ) -> Result<Self, StartError> {
        let of = |what| move |error| StartError::Machine(what, error);
        let lookups = MemberThreads::start(members, MEMBER_THREADS).map_err(of("the member lookup threads"))?;
        let contents = inbox.as_ref().filter(|_| reads_contents).map(ContentThread::start).transpose();
        let contents = contents.map_err(of("the thread that looks for contents"))?.flatten();
        let inbox = inbox.map(|inbox| InboxThreads::start(inbox, INBOX_THREADS)).transpose();
        let inbox = inbox.map_err(of("the inbox threads"))?;
        let letters = DeadLetterThread::start(dead_letters).map_err(of("the dead-letter thread"))?;
        Ok(Self { lookups, inbox, contents, letters })
    }
}

/// The shards' threads.
pub(super) struct Threads {
    pub(super) ends: Ends,
    // Shards that are pinned hold their CPUs as long as this lives.
    _cores: Cores,
}

/// What one shard's thread is given.
struct Seed {
    /// No broker keeps an event whose dead letter is refused.
    letters_are_final: bool,
    remembers_ends: bool,
    rules: RecipientRules,
    priorities: PriorityRules,
    push_latency: bool,
    traces: Option<(TraceRules, TraceSender)>,
    settings: Settings,
    tune: Held<Tune>,
    gateways: GatewayOptions,
    publisher: ShardPublisher,
    wake: Arc<Wake>,
    sender: FactSender,
    mailbox: Mailbox,
    lane: IntakeLane,
    mesh: MeshEnd,
    workers: Workers,
    routes: Arc<dyn Routes + Send + Sync>,
    resolver: Resolver,
    readers: Option<(Arc<dyn ShardReaders>, Intake)>,
    shared: Arc<Shared>,
}

/// Starts them all, and returns when each runs.
pub(super) fn start(
    config: &Config,
    sections: &Sections,
    shared: Arc<Shared>,
    parts: Parts,
    on_failure: Option<OnFailure>,
) -> Result<Threads, StartError> {
    let stop = shared.clone();
    spawn(config, sections, shared, parts, on_failure).inspect_err(|_| stop.stop.cut_off())
}

fn spawn(
    config: &Config,
    sections: &Sections,
    shared: Arc<Shared>,
    parts: Parts,
    on_failure: Option<OnFailure>,
) -> Result<Threads, StartError> {
    let failed = |why: String| StartError::Machine("a shard's io_uring executor", std::io::Error::other(why));
    let shards = config.engine.cores;
    let cores = Cores::decide(shards);
    tracing::info!("{}", cores.describe());
    let mut handles = Handles::new();
    let meshes = mesh(&parts.wakes);
    let each = parts.publishers.into_iter().zip(parts.wakes).zip(parts.senders).zip(parts.mailboxes);
    for (at, ((((publisher, wake), sender), mailbox), (lane, mesh))) in
        each.zip(parts.lanes.into_iter().zip(meshes)).enumerate()
    {
        let shard = ShardId(at as u16);
        let tune = sections.tune.hold();
        let seed = Seed {
            letters_are_final: config.consumer.mode == ConsumerMode::Core,
            remembers_ends: config.engine.recorder == Recorder::On,
            rules: rules_of(config),
            priorities: config.rules_of_classes(),
            push_latency: config.admin.push_latency,
            traces: parts.traces.clone().map(|sender| (trace_rules_of(config), sender)),
            settings: settings_of(config, &tune, shard),
            tune,
            gateways: gateways_of(config, &shared, sections),
            publisher,
            wake,
            sender,
            mailbox,
            lane,
            mesh,
            workers: parts.workers.clone(),
            routes: parts.routes.clone(),
            resolver: parts.resolver.clone(),
            readers: parts.readers.clone(),
            shared: shared.clone(),
        };
        let ending = handles.ending(shard);
        let handle = LocalExecutorBuilder::new(cores.placement(shard))
            .name(&shard_name(shard))
            .io_memory(SHARD_IO_MEMORY_BYTES)
            .preempt_timer(SHARD_PREEMPT_AFTER)
            .spawn(move || run(seed, ending))
            .map_err(|error| failed(error.to_string()))?;
        handles.push(handle);
    }
    handles.all_run().map_err(failed)?;
    let ends =
        handles.watch(on_failure).map_err(|error| StartError::Machine("the thread that waits for shards", error))?;
    Ok(Threads { ends, _cores: cores })
}

fn settings_of(config: &Config, tune: &Tune, shard: ShardId) -> Settings {
    Settings {
        shard,
        shards: config.engine.cores,
        events_window: events_window_of(config),
        group_users_max: GROUP_USERS_MAX,
        members_ttl: tune.members_ttl,
        empty_wait: tune.empty_wait,
        caches_routes: Engine::caches_routes(config),
        delivery_timeout: tune.delivery_timeout,
        registry_forget_after: tune.registry_forget_after,
        gateway_table: TableBounds::default(),
        max_retry: tune.max_retry,
        retry_interval: tune.retry_interval,
        inbox: config.inbox.store,
    }
}

fn rules_of(config: &Config) -> RecipientRules {
    RecipientRules {
        rows_up_to: config.inbox.rows_up_to as usize,
        notice_above: config.gateway.notice_above as usize,
        sender_row: config.inbox.sender,
        echo_sender: config.consumer.echo_sender == EchoSender::On,
    }
}

/// Each shard has its part of what may be told.
fn trace_rules_of(config: &Config) -> TraceRules {
    let spans_per_second = config.tracing.spans_per_second.div_ceil(u32::from(config.engine.cores));
    TraceRules { slow_after: config.tracing.slow_after, spans_per_second }
}

fn gateways_of(config: &Config, shared: &Shared, sections: &Sections) -> GatewayOptions {
    GatewayOptions {
        user_timeout: user_timeout_of(config),
        permit: shared.permit.clone(),
        tls: sections.gateway_tls.clone(),
        ..GatewayOptions::default()
    }
}

fn user_timeout_of(config: &Config) -> Duration {
    if config.consumer.is_owned() { USER_TIMEOUT_OWNED } else { GATEWAY_USER_TIMEOUT }
}

/// JetStream's window is shared by all shards.
fn events_window_of(config: &Config) -> usize {
    match config.consumer.mode {
        ConsumerMode::Core => EVENTS_IN_FLIGHT_MAX,
        ConsumerMode::JetStream => (config.consumer.max_ack_pending as usize / usize::from(config.engine.cores)).max(1),
    }
}

async fn run(seed: Seed, mut ending: Ending) {
    ending.begins();
    // Urgent, so that what other threads say is heard at once; how long tasks run is `edge::pace`'s.
    let urgent = Latency::Matters(SHARD_PREEMPT_AFTER);
    let queue = glommio::executor().create_task_queue(Shares::default(), urgent, "push");
    glommio::spawn_local_into(run_in_queue(seed, ending), queue).expect("the queue was made above").await;
}

async fn run_in_queue(seed: Seed, mut ending: Ending) {
    let local = LocalFacts::default();
    let routes = RouteQueue::new(seed.settings.shard, local.clone());
    let server = glommio::spawn_local(seed.routes.serve(routes.clone()));
    let reader = seed.readers.map(|(readers, intake)| glommio::spawn_local(readers.serve(seed.settings.shard, intake)));
    let shard = seed.settings.shard;
    let push = Push::new(seed.settings)
        .with_final_letters(seed.letters_are_final)
        .with_recipient_rules(seed.rules)
        .with_priorities(seed.priorities)
        .with_recorder(seed.remembers_ends)
        .with_push_latency(seed.push_latency)
        .with_traces(seed.traces.as_ref().map(|(rules, _)| *rules));
    let pump = Pump {
        shard,
        push,
        mailbox: seed.mailbox,
        tune: seed.tune,
        sender: seed.sender,
        local: local.clone(),
        lane: seed.lane,
        mesh: seed.mesh,
        wake: seed.wake,
        gateways: Gateways::new(local, seed.resolver, seed.gateways),
        routes,
        members: seed.workers.lookups,
        inbox: seed.workers.inbox,
        contents: seed.workers.contents,
        letters: seed.workers.letters,
        traces: seed.traces.map(|(_, sender)| sender),
        publisher: seed.publisher,
        shared: seed.shared,
        alarm: Alarm::default(),
        work: Work::default(),
    };
    pump.run().await;
    ending.ends();
    drop(ending);
    server.cancel().await;
    // The last settlements leave when all shards have ended.
    if let Some(reader) = reader {
        future::or(reader, async { glommio::timer::sleep(SHARD_READER_END_DEADLINE).await }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ownership;

    #[test]
    fn what_a_stopped_owner_sent_is_dead_before_a_successor_pushes() {
        let mut config = Config::default();
        assert_eq!(user_timeout_of(&config), Duration::from_secs(30));
        config.consumer.ownership = Ownership::Etcd;
        // The kernel fires up to half a second late; a successor waits 3.5 s at the least.
        assert!(user_timeout_of(&config) + Duration::from_millis(500) < Duration::from_millis(3500));
    }
}
