//! What a row is played on: fresh servers, gateways and engines beside each other, each with ways of its own that can be cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::gateways::{Gateway, GatewayProcess, Protocols};
use harness::publisher::Subject;
use harness::servers::{self, EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions};
use harness::verdict::Verdict;
use harness::workload::Workload;
use harness::world::{World, register, registration_at};
use tempfile::TempDir;

use super::Server;
use super::links::{Link, Links};
use crate::engine::fleet::{Fleet, FleetOptions};
use crate::engine::own;
use crate::faults::confirm::{Confirmed, Unsettled};
use crate::faults::course::Load;

use crate::faults::stage::as_process;
pub(super) use crate::faults::stage::{STREAM, TOPIC};
pub(super) const DURABLE: &str = "push";
pub(super) const PARTITIONS: u32 = 64;
/// Recipients of the largest session of the workload.
const FAN_OUT_MAX: u64 = 19;
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the most of something is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Everything of one row.
pub(super) struct Stage {
    pub world: Arc<World>,
    pub verdict: Arc<Verdict>,
    pub nats: Nats,
    pub maria: Maria,
    pub etcd: Etcd,
    pub publisher: Arc<Confirmed>,
    pub fleet: Fleet,
    pub links: Links,
    /// Recipients of the events that were unsettled when an instance was hurt.
    pub unsettled_recipients: u64,
    gateways: Vec<Gateway>,
    /// In place of the first gateway, where that one is hurt as a process.
    gateway_process: Option<GatewayProcess>,
    _redis: Redis,
    _folder: TempDir,
}

impl Stage {
    /// Starts the servers; of the engines, for which there are `instances` places and one more, none runs. A gateway
    /// that is hurt is a process.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn start(server: Server, instances: usize, cores: u16, is_gateway_hurt: bool) -> Result<Self> {
        let world = World::new(&Workload::parse("faults", include_str!("../workload.toml"))?);
        let verdict = Verdict::new(world.clone());
        let gateways = world.start_gateways(&verdict, Protocols::STREAM, false)?;
        let nats = Nats::start(&NatsOptions { version: server.version(), jetstream: true, ..NatsOptions::default() })?;
        let (redis, maria) = (Redis::start(&RedisOptions::default())?, Maria::start()?);
        let etcd = Etcd::start(&EtcdOptions::default())?;
        world.seed(&maria, &redis, &etcd, &gateways)?;
        let links = Links::make(instances + 1, [nats.port(), etcd.port(), gateways[0].port()])?;
        let folder = servers::folder("owners")?;
        let config = |engine| config(&nats, &redis, &maria, &etcd, (&links, engine));
        let configs = (0..=instances).map(config).collect();
        let options =
            FleetOptions { command: own::command_of(None)?, cores, patience: PATIENCE, partitions: Some(PARTITIONS) };
        let fleet = Fleet::new(options, folder.path(), configs)?;
        let gateway_process = is_gateway_hurt.then(|| as_process(&gateways[0], &verdict)).transpose()?;
        let publisher = Arc::new(Confirmed::connect(&nats.addr())?);
        own::set_up(fleet.config(0))?;
        let stage = Self {
            world,
            verdict,
            nats,
            maria,
            etcd,
            publisher,
            fleet,
            links,
            unsettled_recipients: 0,
            gateway_process,
            gateways,
            _redis: redis,
            _folder: folder,
        };
        stage.register()?;
        Ok(stage)
    }

    /// The gateway that is a process of its own.
    ///
    /// # Errors
    /// When none is in this row.
    pub fn gateway_process(&self) -> Result<&GatewayProcess> {
        self.gateway_process.as_ref().ok_or_else(|| Error::new("no gateway is a process of its own"))
    }

    /// Registers the gateways for each engine: the first one at that engine's own port.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn register(&self) -> Result<()> {
        (0..self.fleet.len()).try_for_each(|engine| {
            let port = |at: usize, gateway: &Gateway| {
                if at == 0 { self.links.port(engine, Link::Gateway) } else { gateway.port() }
            };
            let all = self.gateways.iter().enumerate();
            let all: Vec<_> = all.map(|(at, gateway)| registration_at(gateway, port(at, gateway))).collect();
            register(&self.etcd, &namespace(engine), &all)
        })
    }

    /// The most that these partitions have unsettled `within` that time, an event at the least, may come again: when they are given up is
    /// not known. `meanwhile` is done now and then, also afterwards, until so long is over as it `lasts`.
    ///
    /// # Errors
    /// Those of `meanwhile`.
    pub fn note_most_unsettled(
        &mut self,
        of: &[u32],
        (within, lasts): (Duration, Duration),
        mut meanwhile: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (began, before) = (Instant::now(), self.unsettled_recipients);
        // An event is settled some two milliseconds after it came, between two looks: one may be unsettled that none of them sees.
        let mut most = FAN_OUT_MAX;
        while began.elapsed() < lasts {
            // A list that is taken while consumers come and go may be no list; the next one is.
            if began.elapsed() < within && self.note_unsettled(of).is_ok() {
                most = most.max(self.unsettled_recipients - before);
            }
            self.unsettled_recipients = before;
            meanwhile(self)?;
            std::thread::sleep(LOOK);
        }
        self.unsettled_recipients += most;
        Ok(())
    }

    /// What these partitions have unsettled may come again.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn note_unsettled(&mut self, of: &[u32]) -> Result<Unsettled> {
        let of_those = |name: &str| partition_of(name).is_some_and(|partition| of.contains(&partition));
        let unsettled = self.publisher.unsettled_of(STREAM, of_those)?;
        self.unsettled_recipients += unsettled.unacked * FAN_OUT_MAX;
        Ok(unsettled)
    }
}

/// So many events a second on the partitions of the stage.
pub(super) fn load_of(rate: u32) -> Load {
    let subject = Subject::Partitioned { topic: TOPIC.to_owned(), partitions: PARTITIONS };
    Load { subject, rate, poison_percent: 0, is_twice: false }
}

/// The partition of a consumer, by its name.
pub(super) fn partition_of(consumer: &str) -> Option<u32> {
    consumer.strip_prefix(DURABLE)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

/// Where an engine looks for gateways.
fn namespace(engine: usize) -> String {
    format!("/resonance/services-of-{engine}")
}

fn config(nats: &Nats, redis: &Redis, maria: &Maria, etcd: &Etcd, (links, engine): (&Links, usize)) -> EngineConfig {
    let mut config = EngineConfig::of(nats, redis, maria, etcd);
    config.set("nats", "url", format_args!("nats://127.0.0.1:{}", links.port(engine, Link::Nats)));
    config.set("etcd", "endpoints", format_args!("[\"127.0.0.1:{}\"]", links.port(engine, Link::Etcd)));
    config.set("registry", "namespace", namespace(engine));
    config.set("nats", "reconnect_delay", "100ms").set("mysql", "timeout", "2s");
    config.set("consumer", "topic", TOPIC).set("consumer", "mode", "jetstream").set("consumer", "stream", STREAM);
    config.set("consumer", "durable", DURABLE).set("consumer", "max_ack_pending", 8192);
    config.set("consumer", "assignment", "partitioned").set("consumer", "partitions", PARTITIONS);
    config.set("consumer", "ownership", "etcd").set("consumer", "lease_ttl", "5s");
    config
}
