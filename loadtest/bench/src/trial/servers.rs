//! The throw-away servers of a trial, and the configuration by which an engine finds them.

use std::path::Path;

use harness::error::Result;
use harness::gateways::Gateway;
use harness::servers::{
    EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, OverTls, Postgres, Redis, RedisOptions, Store, free_port,
};
use harness::world::{register, registration_over_tls};

use super::{Assignment, Setup, StoreKind};
use crate::engine::Ready;

pub(super) const TOPIC: &str = "resonance.push.event.v1";
/// Of sessions all of whose messages are urgent.
pub(super) const URGENT_TOPIC: &str = "resonance.push.urgent.v1";
pub(super) const PARTITIONS: u32 = 64;
/// What the task service of Resonance reads.
const RESONANCE: &str = include_str!("../../../../config/resonance.yaml");

/// All of them; they end with it.
pub(super) struct Servers {
    pub nats: Nats,
    pub nats_pages: u16,
    tls: Option<Tls>,
    pub redis: Redis,
    pub store: Box<dyn Store>,
    pub etcd: Etcd,
}

/// Links of the engine that go over TLS.
struct Tls {
    over: OverTls,
    /// Not that to NATS alone.
    is_everywhere: bool,
}

impl Tls {
    fn of(setup: &Setup) -> Result<Option<Self>> {
        if !setup.nats_tls && !setup.tls {
            return Ok(None);
        }
        Ok(Some(Self { over: OverTls::new()?, is_everywhere: setup.tls }))
    }

    fn set(&self, config: &mut EngineConfig, store: &dyn Store, etcd: &Etcd) {
        if self.is_everywhere {
            self.over.set(config, store.section(), etcd);
            config.set("gateway", "tls", self.over.block());
        } else {
            config.set("nats", "tls", self.over.block());
        }
    }
}

impl Servers {
    /// Starts them; with `setup.jetstream` NATS keeps streams, with `setup.tls` they speak TLS to the engine, which shows a certificate.
    ///
    /// # Errors
    /// When one is not installed or does not start.
    pub fn start(setup: &Setup) -> Result<Self> {
        let nats_pages = free_port()?;
        let mut config = format!("http: \"127.0.0.1:{nats_pages}\"\n");
        let tls = Tls::of(setup)?;
        if let Some(tls) = &tls {
            config.push_str(&tls.over.authority.nats_block(&tls.over.theirs, ""));
            config.push_str("allow_non_tls: true\n");
        }
        let everywhere = tls.as_ref().filter(|tls| tls.is_everywhere).map(|tls| &tls.over);
        let redis =
            RedisOptions { config: everywhere.map_or(String::new(), OverTls::redis), ..RedisOptions::default() };
        let pair = everywhere.map(|tls| (&tls.authority, &tls.theirs));
        let (jetstream, etcd) = (setup.jetstream, EtcdOptions { tls: pair, ..EtcdOptions::default() });
        Ok(Self {
            nats: Nats::start(&NatsOptions { config, jetstream, ..NatsOptions::default() })?,
            nats_pages,
            redis: Redis::start(&redis)?,
            store: match (setup.store, pair) {
                (StoreKind::Mysql, None) => Box::new(Maria::start()?),
                (StoreKind::Mysql, Some((authority, files))) => Box::new(Maria::over_tls(authority, files)?),
                (StoreKind::Postgres | StoreKind::Resonance, None) => Box::new(Postgres::start()?),
                (StoreKind::Postgres | StoreKind::Resonance, Some((authority, files))) => {
                    Box::new(Postgres::over_tls(authority, files)?)
                }
            },
            etcd: Etcd::start(&etcd)?,
            tls,
        })
    }

    /// Lets the gateways speak TLS where all links do, and registers them so.
    ///
    /// # Errors
    /// When their certificate cannot be used, or etcd does not answer.
    pub fn secure(&self, gateways: &[Gateway]) -> Result<()> {
        let Some(tls) = self.tls.as_ref().filter(|tls| tls.is_everywhere) else { return Ok(()) };
        let mut registrations = Vec::new();
        for gateway in gateways {
            gateway.secure(&tls.over.authority, &tls.over.theirs)?;
            registrations.push(registration_over_tls(gateway));
        }
        register(&self.etcd, "/resonance/services", &registrations)
    }

    /// The configuration that every engine of the house reads.
    pub fn config(&self, setup: &Setup, admin_port: u16, folder: &Path) -> EngineConfig {
        let mut config = match setup.store {
            StoreKind::Resonance => EngineConfig::read(RESONANCE),
            StoreKind::Mysql | StoreKind::Postgres => EngineConfig::default(),
        };
        config.point_to(&self.nats, &self.redis, &*self.store, &self.etcd);
        if setup.store != StoreKind::Resonance {
            config.set("consumer", "topic", TOPIC);
        }
        if let Some(tls) = &self.tls {
            tls.set(&mut config, &*self.store, &self.etcd);
        }
        // Keys that other engines do not know are left out where they say nothing.
        if setup.jetstream {
            config.set("consumer", "mode", "jetstream");
        }
        if setup.assignment == Assignment::Partitioned {
            config.set("consumer", "assignment", "partitioned").set("consumer", "partitions", PARTITIONS);
        }
        if let Some(members) = setup.rows_up_to {
            config.set("inbox", "rows_up_to", members);
        }
        if let Some(members) = setup.notice_above {
            config.set("gateway", "notice_above", members);
        }
        if setup.ready == Ready::Readyz {
            config.set("engine", "cores", setup.cores);
            config.set("admin", "listen", format_args!("127.0.0.1:{admin_port}"));
            config.set("dead_letters", "path", format_args!("\"{}\"", folder.join("dead-letters.jsonl").display()));
        }
        config
    }
}
