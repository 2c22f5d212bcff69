//! The throw-away servers of a trial, and the configuration by which an engine finds them.

use std::path::Path;

use harness::error::Result;
use harness::gateways::Gateway;
use harness::servers::{
    Authority, CertificateFiles, EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions,
    TlsDoor, free_ports,
};
use harness::world::{register, registration_over_tls};

use super::{Assignment, Setup};
use crate::engine::Ready;

pub(super) const TOPIC: &str = "resonance.push.event.v1";
/// Of sessions all of whose messages are urgent.
pub(super) const URGENT_TOPIC: &str = "resonance.push.urgent.v1";
pub(super) const PARTITIONS: u32 = 64;

/// All of them; they end with it.
pub(super) struct Servers {
    pub nats: Nats,
    pub nats_pages: u16,
    tls: Option<Tls>,
    pub redis: Redis,
    pub maria: Maria,
    pub etcd: Etcd,
}

/// What makes links of the engine ones over TLS.
struct Tls {
    authority: Authority,
    theirs: CertificateFiles,
    ours: CertificateFiles,
    /// Not of NATS alone.
    is_everywhere: bool,
    redis_port: u16,
    doors: Vec<TlsDoor>,
}

impl Tls {
    fn of(setup: &Setup) -> Result<Option<Self>> {
        if !setup.nats_tls && !setup.tls {
            return Ok(None);
        }
        let authority = Authority::new()?;
        let (theirs, ours) = (authority.certificate(&["127.0.0.1"])?, authority.certificate(&["task-engine"])?);
        let redis_port = free_ports(1)?[0];
        Ok(Some(Self { authority, theirs, ours, is_everywhere: setup.tls, redis_port, doors: Vec::new() }))
    }

    fn redis(&self) -> String {
        let (port, ca, CertificateFiles { cert, key }) = (self.redis_port, self.authority.ca(), &self.theirs);
        let [ca, cert, key] = [&ca, cert, key].map(|path| path.display());
        format!("tls-port {port}\ntls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}\n")
    }

    fn set(&self, config: &mut EngineConfig, servers: &Servers) {
        let (ca, CertificateFiles { cert, key }) = (self.authority.ca(), &self.ours);
        let block = format!("{{ca: {ca:?}, cert: {cert:?}, key: {key:?}}}");
        config.set("nats", "tls", &block);
        if self.is_everywhere {
            for section in ["redis", "mysql", "etcd", "gateway"] {
                config.set(section, "tls", &block);
            }
            config.set("redis", "addr", format_args!("127.0.0.1:{}", self.redis_port));
            config.set("etcd", "endpoints", format_args!("[\"https://{}\"]", servers.etcd.addr()));
        }
    }
}

impl Servers {
    /// Starts them; with `setup.jetstream` NATS keeps streams, with `setup.tls` they speak TLS to the engine, which shows a certificate.
    ///
    /// # Errors
    /// When one is not installed or does not start.
    pub fn start(setup: &Setup) -> Result<Self> {
        let nats_pages = free_ports(1)?[0];
        let mut config = format!("http: \"127.0.0.1:{nats_pages}\"\n");
        let tls = Tls::of(setup)?;
        if let Some(tls) = &tls {
            config.push_str(&tls.authority.nats_block(&tls.theirs, ""));
            config.push_str("allow_non_tls: true\n");
        }
        let everywhere = tls.as_ref().filter(|tls| tls.is_everywhere);
        let redis = RedisOptions { config: everywhere.map_or(String::new(), Tls::redis), ..RedisOptions::default() };
        let pair = everywhere.map(|tls| (&tls.authority, &tls.theirs));
        let (jetstream, etcd) = (setup.jetstream, EtcdOptions { tls: pair, ..EtcdOptions::default() });
        Ok(Self {
            nats: Nats::start(&NatsOptions { config, jetstream, ..NatsOptions::default() })?,
            nats_pages,
            redis: Redis::start(&redis)?,
            maria: pair.map_or_else(Maria::start, |(authority, files)| Maria::over_tls(authority, files))?,
            etcd: Etcd::start(&etcd)?,
            tls,
        })
    }

    /// Puts TLS before the gateways where all links go over it, and registers them there.
    ///
    /// # Errors
    /// When the machine refuses a port or a thread, or etcd does not answer.
    pub fn secure(&mut self, gateways: &[Gateway]) -> Result<()> {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.is_everywhere) else { return Ok(()) };
        let mut registrations = Vec::new();
        for gateway in gateways {
            let door = TlsDoor::before(gateway.port(), &tls.authority, &tls.theirs)?;
            registrations.push(registration_over_tls(gateway, door.address().port()));
            tls.doors.push(door);
        }
        register(&self.etcd, "/resonance/services", &registrations)
    }

    /// The configuration that every engine of the house reads.
    pub fn config(&self, setup: &Setup, admin_port: u16, folder: &Path) -> EngineConfig {
        let mut config = EngineConfig::of(&self.nats, &self.redis, &self.maria, &self.etcd);
        config.set("consumer", "topic", TOPIC);
        if let Some(tls) = &self.tls {
            tls.set(&mut config, self);
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
        if setup.ready == Ready::Readyz {
            config.set("engine", "cores", setup.cores);
            config.set("admin", "listen", format_args!("127.0.0.1:{admin_port}"));
            config.set("dead_letters", "path", format_args!("\"{}\"", folder.join("dead-letters.jsonl").display()));
        }
        config
    }
}
