//! What a scenario is played on: fresh servers, gateways and an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harness::error::{Error, Result};
use harness::gateways::{Gateway, GatewayProcess};
use harness::servers::{
    self, EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Postgres, Redis, RedisOptions, Store,
};
use harness::verdict::Verdict;
use harness::world::World;
use tempfile::TempDir;

use super::FaultArgs;
use super::confirm::Confirmed;
use super::namespace::Disk;
use super::scenario::{Act, Part, Scenario};
use crate::engine::{Places, Process, Ready, own};
use crate::trial::Assignment;

pub(super) const TOPIC: &str = "resonance.push.event.v1";
pub(super) const STREAM: &str = "RESONANCE";
pub(super) const PARTITIONS: u32 = 16;

/// Everything of one scenario.
pub(super) struct Stage {
    pub nats: Nats,
    pub redis: Redis,
    pub store: Box<dyn Store>,
    pub etcd: Etcd,
    pub gateways: Vec<Gateway>,
    /// In place of the first gateway, where that one is hurt as a process.
    pub gateway_process: Option<GatewayProcess>,
    pub publisher: Arc<Confirmed>,
    /// Recipients of the events that the broker had no settlement of when the engine was killed.
    pub unsettled_recipients: u64,
    pub engine: Option<Process>,
    pub disk: Option<Disk>,
    config: PathBuf,
    admin_port: u16,
    cores: u16,
    /// Pushes of an event of the largest session.
    pushes_max: u64,
    _folder: TempDir,
}

impl Stage {
    /// Starts all of it.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(
        scenario: &Scenario,
        assignment: Assignment,
        args: &FaultArgs,
        (world, verdict): (&Arc<World>, &Arc<Verdict>),
        gateways: Vec<Gateway>,
    ) -> Result<Self> {
        let disk = if scenario.act == Act::FullDisk { Some(Disk::mount()?) } else { None };
        let store_dir = disk.as_ref().map(|disk| disk.folder().to_owned());
        let nats = Nats::start(&NatsOptions { jetstream: true, store_dir, ..NatsOptions::default() })?;
        let redis = Redis::start(&RedisOptions::default())?;
        let store: Box<dyn Store> = match scenario.is_on_postgres() {
            true => Box::new(Postgres::start()?),
            false => Box::new(Maria::start()?),
        };
        let etcd = Etcd::start(&EtcdOptions::default())?;
        world.seed(&*store, &redis, &etcd, &gateways)?;
        let folder = servers::folder("faults")?;
        let (path, admin_port) = (folder.path().join("task.yaml"), servers::free_port()?);
        config(&nats, &redis, &*store, &etcd, assignment).write(&path)?;
        let publisher = Arc::new(Confirmed::connect(&nats.addr())?);
        let mut stage = Self {
            nats,
            redis,
            store,
            etcd,
            gateway_process: hurt_gateway(scenario, &gateways, verdict)?,
            gateways,
            publisher,
            engine: None,
            disk,
            unsettled_recipients: 0,
            config: path,
            admin_port,
            cores: args.cores.unwrap_or(2),
            pushes_max: pushes_max(world),
            _folder: folder,
        };
        own::set_up(&stage.config)?;
        stage.start_engine()?;
        Ok(stage)
    }

    /// Starts the engine and waits until it is ready.
    pub(super) fn start_engine(&mut self) -> Result<()> {
        let command = own::command_of(None)?;
        let places = Places {
            config: &self.config,
            admin_port: self.admin_port,
            cores: self.cores,
            ready: Ready::Readyz,
            ready_timeout: Duration::from_secs(60),
            nats_pages: 0,
            topic: TOPIC,
            state: None,
        };
        self.engine = Some(Process::start(&command, &places)?);
        Ok(())
    }

    /// Counts what a killed engine left unsettled: so much may come again.
    pub(super) fn note_unsettled(&mut self) -> Result<()> {
        self.unsettled_recipients += self.publisher.unsettled(STREAM)?.unacked * self.pushes_max;
        Ok(())
    }

    /// The gateway that is a process of its own.
    pub(super) fn gateway_process(&mut self) -> Result<&mut GatewayProcess> {
        self.gateway_process.as_mut().ok_or_else(|| Error::new("no gateway is a process of its own"))
    }

    /// The running engine.
    pub(super) fn engine(&mut self) -> Result<&mut Process> {
        self.engine.as_mut().ok_or_else(|| Error::new("the engine is not there"))
    }
}

/// The first gateway as a process, on its port, when that is what is hurt.
fn hurt_gateway(scenario: &Scenario, gateways: &[Gateway], verdict: &Arc<Verdict>) -> Result<Option<GatewayProcess>> {
    if !matches!(scenario.act, Act::Kill(Part::Gateway) | Act::Hang(Part::Gateway)) {
        return Ok(None);
    }
    as_process(&gateways[0], verdict).map(Some)
}

/// A process in the place of a gateway, on its port.
pub(super) fn as_process(gateway: &Gateway, verdict: &Arc<Verdict>) -> Result<GatewayProcess> {
    gateway.kill();
    GatewayProcess::start(gateway.id(), gateway.port(), gateway.protocols(), verdict.clone())
}

fn pushes_max(world: &World) -> u64 {
    let members = world.workload().sessions.iter().map(|group| group.members).max().unwrap_or(0);
    u64::from(members.saturating_sub(1)) * u64::from(world.devices_max())
}

/// What differs from the defaults is what lets a scenario end soon, and limits what a killed engine leaves behind.
fn config(nats: &Nats, redis: &Redis, store: &dyn Store, etcd: &Etcd, assignment: Assignment) -> EngineConfig {
    let mut config = EngineConfig::of(nats, redis, store, etcd);
    config.set("nats", "reconnect_delay", "100ms").set(store.section(), "timeout", "2s");
    config.set("consumer", "topic", TOPIC).set("consumer", "mode", "jetstream").set("consumer", "stream", STREAM);
    config.set("consumer", "ack_wait", "4s").set("consumer", "max_ack_pending", 8192);
    if assignment == Assignment::Partitioned {
        config.set("consumer", "assignment", "partitioned").set("consumer", "partitions", PARTITIONS);
    }
    config
}
