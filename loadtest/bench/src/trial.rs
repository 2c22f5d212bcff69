//! One trial: servers, gateways and an engine, started for it and ended with it; phases of load are driven on it.
//!
//! Promises that each phase waits until what it published has come, or nothing more comes. Refuses to go on when the
//! engine dies.

mod comings;
mod inbox;
mod rules;
mod servers;
mod several;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use harness::contents::Contents;
use harness::error::{Error, Result};
use harness::gateways::{Gateway, Protocols};
use harness::moves::{Mover, RouteWriter};
use harness::publisher::{NatsPublisher, Subject};
use harness::servers::{folder, free_port};
use harness::verdict::Verdict;
use harness::workload::{Load, Workload};
use harness::world::World;
use hdrhistogram::Histogram;
use tempfile::TempDir;

use self::comings::Comings;
use self::servers::{PARTITIONS, Servers, TOPIC};
pub use self::several::{Ownership, Several};
use self::watch::{ByEngine, Watch};
use crate::cost::Cpu;
use crate::engine::fleet::Step;
use crate::engine::{self, Embedded, Engine, Ready, Stopped};
use crate::live::Live;
use crate::load::{Published, Publishing, Sink};
use crate::result::{InstanceFigures, QueryFigures, SecondFigures, StageFigures, StepFigures};

/// Stage histograms are told once per second: those of a moment ago are complete so much later.
const SETTLED_AFTER: Duration = Duration::from_millis(1_300);
/// A page tells once a second what ended by class, and rows end after the last push.
const CLASSES_TOLD_WITHIN: Duration = Duration::from_secs(5);
const CLASSES_LOOK: Duration = Duration::from_millis(100);
/// Pushes under way while each session is touched once.
const TOUCH_IN_FLIGHT: u64 = 50_000;

/// Which rpc the gateways know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rpc {
    /// `PushMessage`, one user a frame.
    Stream,
    /// `PushMessage`, all users of a message in a frame, as gateways of Resonance 0.1.0 take it; these read in the plain way.
    StreamMany,
    /// `PushBatch`.
    Batch,
    /// `PushGroups`.
    Group,
    /// `Push`.
    Unary,
}

/// What holds members, inbox and contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// PostgreSQL, and the engine reads the YAML of Resonance's own service (config/resonance.yaml), in which only the servers'
    /// addresses and logins are changed: each member gets a row of each message, the sender too.
    Resonance,
}

/// Who reads which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Assignment {
    /// One subject, one reader.
    Queue,
    /// One subject per partition, one reader per shard.
    Partitioned,
}

/// What is driven, and on what.
#[derive(Clone, Debug, clap::Args)]
pub struct Setup {
    /// Real throw-away NATS, Redis, database and etcd, and the engine as a process of its own.
    #[arg(long)]
    pub servers: bool,
    /// What holds members, inbox and contents (with --servers).
    #[arg(long, value_enum, default_value_t = StoreKind::Mysql)]
    pub store: StoreKind,
    /// How the engine becomes ready.
    #[arg(long, value_enum, default_value_t)]
    pub ready: Ready,
    /// How long it may take to.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub ready_timeout: u32,
    /// Which rpc the gateways know.
    #[arg(long, value_enum, default_value_t = Rpc::Stream)]
    pub protocol: Rpc,
    /// Each gateway forgets a list of its stream before one in so many frames (with `--protocol group`).
    #[arg(long, default_value_t = 0, value_name = "FRAMES")]
    pub forget_groups: u64,
    /// Who reads which events (with --servers).
    #[arg(long, value_enum, default_value_t = Assignment::Queue)]
    pub assignment: Assignment,
    /// Events come through a JetStream stream that `task-engine setup` makes (with --servers). They are published without
    /// waiting for the broker's word; what it refuses is not expected. Where all messages of some sessions are urgent, these
    /// sessions have an urgent topic (but with --ownership etcd). The engine `task-engine-jetstream` has it set.
    #[arg(long)]
    pub jetstream: bool,
    /// The engine talks TLS to NATS (with --servers); the load test's own connections stay plain.
    #[arg(long)]
    pub nats_tls: bool,
    /// The engine talks TLS on all five links, with a certificate of its own (with --servers).
    #[arg(long)]
    pub tls: bool,
    /// The engine's inbox.rows_up_to (with --servers): in sessions of more members, whoever cannot be reached gets no row of a
    /// message whose content is kept.
    #[arg(long, value_name = "MEMBERS")]
    pub rows_up_to: Option<u32>,
    /// Of 100 messages, how many have their content kept before they are published; each costs the publisher a round trip.
    #[arg(long, value_name = "PERCENT", requires = "rows_up_to", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub content_rows: Option<u32>,
    /// The engine's gateway.notice_above, and gateways that announce `notice` (with --protocol group): in sessions of more members, who is
    /// connected is told the highest sequence where the content is kept.
    #[arg(long, value_name = "MEMBERS", requires = "rows_up_to", value_parser = clap::value_parser!(u32).range(1..))]
    pub notice_above: Option<u32>,
    /// Shards of the engine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cores: u16,
    /// Plain tonic gateways in place of the fast ones.
    #[arg(long)]
    pub plain: bool,
    /// Several engines beside each other.
    #[command(flatten)]
    pub several: Several,
}

/// An engine, how it is fed, how routes are changed, and what it runs on.
type Started = (Engine, Sink, RouteWriter, Option<(Servers, TempDir)>);

/// A running trial; everything ends with it.
pub struct Trial {
    engine: Option<Engine>,
    publishing: Publishing,
    mover: Option<Mover>,
    comings: Comings,
    verdict: Arc<Verdict>,
    inbox: inbox::Inbox,
    _gateways: Vec<Gateway>,
    servers: Option<(Servers, TempDir)>,
}

/// What one phase of load showed.
pub struct Phase {
    /// What was published.
    pub published: Published,
    /// From its begin to the last push.
    pub seconds: f64,
    /// The pushes' latencies in nanoseconds.
    pub all: Histogram<u64>,
    /// Each second's: its end, how long it was, and its latencies.
    pub by_second: Vec<(f64, f64, Histogram<u64>)>,
    /// Each group of sessions' latencies, as the workload has them.
    pub by_group: Vec<Histogram<u64>>,
    /// Each class's latencies, and how many of them came while events were published; none where messages say no class.
    pub by_class: Vec<(Histogram<u64>, u64)>,
    /// The seconds in figures.
    pub figures_by_second: Vec<SecondFigures>,
    /// CPU that the engine used.
    pub cpu: Cpu,
    /// Heap allocations of the engine, when they can be counted.
    pub allocations: Option<u64>,
    /// The engine's stages.
    pub stages: Vec<StageFigures>,
    /// What the engine counted, by name.
    pub counters: BTreeMap<String, u64>,
    /// Each instance of several.
    pub instances: Vec<InstanceFigures>,
    /// What came of instances that came and went.
    pub steps: Vec<StepFigures>,
    /// Users that moved.
    pub moves: u64,
    /// Whether it was ended early because `give_up_above` was passed.
    pub was_given_up: bool,
}

/// How a phase is driven.
#[derive(Clone, Copy, Debug)]
pub struct Drive {
    /// What it is called in the line of live figures.
    pub phase: &'static str,
    /// How events are published; none: one event for each session.
    pub load: Option<Load>,
    /// For how long.
    pub seconds: f64,
    /// Ends it early when one second's p99 is above so many milliseconds.
    pub give_up_above_ms: Option<f64>,
}

impl Setup {
    /// With what the engine's name says of it.
    pub fn of_engine(&self, engine: Option<&str>) -> Self {
        Self { jetstream: self.jetstream || engine == Some(engine::own::ON_JETSTREAM), ..self.clone() }
    }

    /// What gateways are started with.
    fn protocols(&self) -> Protocols {
        if self.notice_above.is_some() { Protocols::NOTICE } else { self.protocol.protocols() }
    }

    /// Where its events come from.
    pub fn source(&self, with_servers: bool) -> &'static str {
        match (with_servers, self.jetstream) {
            (false, _) => "embedded",
            (true, false) => "core",
            (true, true) => "jetstream",
        }
    }
}

impl Rpc {
    /// What gateways are started with.
    pub fn protocols(self) -> Protocols {
        match self {
            Self::Stream => Protocols::STREAM,
            Self::StreamMany => Protocols::MANY,
            Self::Batch => Protocols::BATCH,
            Self::Group => Protocols::GROUP,
            Self::Unary => Protocols::UNARY,
        }
    }
}

/// A value's name on the command line.
pub fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Trial {
    /// Starts everything; `engine` is a command line, or none for this build's own engine.
    ///
    /// # Errors
    /// When a part does not start, or the workload cannot be run.
    pub fn start(setup: &Setup, engine: Option<&str>, workload: &Workload, live: &Live) -> Result<Self> {
        workload.check()?;
        let with_servers = setup.servers || engine.is_some();
        setup.check(engine)?;
        comings::check(workload, with_servers)?;
        let world = World::new(workload);
        let verdict = Verdict::new(world.clone());
        if setup.notice_above.is_some() {
            verdict.expect_notices();
        }
        let gateways = world.start_gateways(&verdict, setup.protocols(), setup.plain)?;
        gateways.iter().for_each(|gateway| gateway.forget_groups(setup.forget_groups));
        let inbox = inbox::Inbox::of(engine, setup.store);
        let mut comings = Comings::default();
        let (started, sink, writer, servers) = if with_servers {
            Self::start_on_servers(setup, engine, (&world, &mut comings), &gateways, live)?
        } else {
            let stores = world.in_memory(&gateways);
            let writer = RouteWriter::Memory(stores.routes.clone());
            let (engine, publisher) = Embedded::start(setup.cores, rules::of(workload)?, stores, inbox.embedded())?;
            (Engine::Embedded(Box::new(engine)), Sink::Embedded(publisher), writer, None)
        };
        let mover = Mover::start(world.clone(), writer)?;
        let contents = match (&servers, setup.content_rows, setup.rows_up_to) {
            (Some((servers, _)), Some(percent), Some(above)) => {
                Some(Contents::connect(&*servers.store, percent, above)?)
            }
            _ => None,
        };
        let publishing = Publishing::new(world, verdict.clone(), sink).with_contents(contents);
        Ok(Self { engine: Some(started), publishing, mover, comings, verdict, inbox, _gateways: gateways, servers })
    }

    fn start_on_servers(
        setup: &Setup,
        engine: Option<&str>,
        (world, comings): (&Arc<World>, &mut Comings),
        gateways: &[Gateway],
        live: &Live,
    ) -> Result<Started> {
        // Before half a minute is spent on servers.
        let command = engine::own::command_of(engine)?;
        engine::words_of(&command)?;
        live.note("starting NATS, Redis, the database and etcd");
        let servers = Servers::start(setup)?;
        live.note("writing members, routes and gateways");
        world.seed(&*servers.store, &servers.redis, &servers.etcd, gateways)?;
        servers.secure(gateways)?;
        *comings = Comings::start(world, &servers)?;
        let folder = folder("engine")?;
        let admin_port = free_port()?;
        live.note(&format!("starting {command}"));
        let engine = setup.start_engine(&command, &servers, (folder.path(), admin_port), world.workload())?;
        let subject_of = |topic: &str| match setup.assignment {
            Assignment::Queue => Subject::One(topic.to_owned()),
            Assignment::Partitioned => Subject::Partitioned { topic: topic.to_owned(), partitions: PARTITIONS },
        };
        let urgent = setup.urgent_topic(world.workload()).map(subject_of);
        let publisher = match setup.jetstream {
            false => NatsPublisher::connect(&servers.nats.addr())?,
            true => NatsPublisher::connect_to_stream(&servers.nats.addr())?,
        };
        let sink = Sink::nats(publisher, &subject_of(TOPIC), urgent.as_ref(), world);
        let writer = RouteWriter::Redis(servers.redis.url());
        Ok((engine, sink, writer, Some((servers, folder))))
    }

    /// Publishes, watches, and waits for what was published.
    ///
    /// # Errors
    /// When the engine dies or takes no events.
    pub fn drive(&mut self, drive: Drive, live: &Live) -> Result<Phase> {
        let Self { engine, publishing, mover, verdict, .. } = self;
        let engine = engine.as_mut().ok_or_else(|| Error::new("the engine was stopped"))?;
        let stop = AtomicBool::new(false);
        let moves_before = mover.as_ref().map_or(0, Mover::moves);
        let (stages, counters, tallies) = (engine.stages(), engine.counters(), engine.tallies());
        let (cpu, allocations, ended_before) = (engine.cpu()?, engine.allocations(), engine.events_ended());
        let mut watch = Watch::new(drive, verdict, cpu);
        let published = std::thread::scope(|scope| {
            let publisher = std::thread::Builder::new().name("publisher".to_owned());
            let work = || match drive.load {
                Some(load) => publishing.drive(load, drive.seconds, &stop),
                None => publishing.touch_all(TOUCH_IN_FLIGHT, &stop),
            };
            let thread = publisher.spawn_scoped(scope, work);
            let thread = thread.map_err(|cause| Error::of("cannot start the publisher's thread", cause))?;
            let watched = watch.until(engine, live, &stop, || thread.is_finished());
            // Whatever was seen, the publisher must not go on without being watched.
            stop.store(true, Ordering::Relaxed);
            let published = thread.join().map_err(|_| Error::new("the publisher's thread panicked"))?;
            watched.and(published)
        })?;
        watch.until_all_came(engine, live, ended_before, published.events)?;
        let moves = mover.as_ref().map_or(0, Mover::moves) - moves_before;
        let cpu_used = engine.cpu()?.since(cpu);
        let allocated = engine.allocations().map(|now| now - allocations.unwrap_or(0));
        std::thread::sleep(SETTLED_AFTER);
        let (stages, counters) = (engine.stages().since(&stages), engine.counters().since(&counters));
        let (instances, steps) = engine.instances(&tallies);
        let by_engine = ByEngine { cpu: cpu_used, allocations: allocated, stages, counters, instances, steps };
        Ok(watch.finish(published, by_engine, moves))
    }

    /// From now on instances come and go as these say.
    pub fn begin(&mut self, steps: &[Step]) {
        if let Some(Engine::Fleet(fleet)) = &mut self.engine {
            fleet.begin(steps);
        }
    }

    /// How long the database took for its statements, where somebody joined sessions.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn query_figures(&mut self) -> Result<Vec<QueryFigures>> {
        self.comings.figures()
    }

    /// What judges it.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The most memory the engine held so far, in MiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_rss_mib(&self) -> Result<f64> {
        self.engine.as_ref().ok_or_else(|| Error::new("the engine was stopped"))?.peak_rss_mib()
    }

    /// Tells the verdict what the engine counted of fleeting events, of each class, and of notices; asked once all is settled.
    pub fn judge_classes(&self) {
        let Some(engine) = &self.engine else { return };
        let mut counters = engine.counters();
        if let Some(published) = self.verdict.published_by_class().filter(|_| engine.is_one()) {
            let until = Instant::now() + CLASSES_TOLD_WITHIN;
            while counters.ended_by_class().is_some_and(|ended| ended != published) && Instant::now() < until {
                std::thread::sleep(CLASSES_LOOK);
                counters = engine.counters();
            }
            self.verdict.classes_by_engine(counters.ended_by_class());
        }
        if let Some(told) = self.verdict.told_by_notices().filter(|_| engine.is_one()) {
            let until = Instant::now() + CLASSES_TOLD_WITHIN;
            while counters.told() != told && Instant::now() < until {
                std::thread::sleep(CLASSES_LOOK);
                counters = engine.counters();
            }
            self.verdict.notices_by_engine(counters.told());
        }
        self.verdict.shed_by_engine(counters.shed());
    }

    /// Stops the movers and the engine.
    ///
    /// # Errors
    /// When the engine does not stop.
    pub fn stop(&mut self) -> Result<Stopped> {
        if let Some(mover) = self.mover.take() {
            mover.stop()?;
        }
        self.comings.stop()?;
        self.engine.take().ok_or_else(|| Error::new("the engine was stopped"))?.stop()
    }
}
