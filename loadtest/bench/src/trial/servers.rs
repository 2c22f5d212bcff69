//! The throw-away servers of a trial, and the configuration by which an engine finds them.

use std::path::Path;

use harness::error::Result;
use harness::servers::{
    Authority, EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions, free_ports,
};

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
    /// Who signed the certificate of NATS, when it has one.
    authority: Option<Authority>,
    pub redis: Redis,
    pub maria: Maria,
    pub etcd: Etcd,
}

impl Servers {
    /// Starts them; with `jetstream` NATS keeps streams, with `tls` it speaks TLS to those who want it.
    ///
    /// # Errors
    /// When one is not installed or does not start.
    pub fn start(jetstream: bool, tls: bool) -> Result<Self> {
        let nats_pages = free_ports(1)?[0];
        let mut config = format!("http: \"127.0.0.1:{nats_pages}\"\n");
        let authority = tls.then(Authority::new).transpose()?;
        if let Some(authority) = &authority {
            let files = authority.certificate(&["127.0.0.1"])?;
            config.push_str(&authority.nats_block(&files, ""));
            config.push_str("allow_non_tls: true\n");
        }
        Ok(Self {
            authority,
            nats: Nats::start(&NatsOptions { config, jetstream, ..NatsOptions::default() })?,
            nats_pages,
            redis: Redis::start(&RedisOptions::default())?,
            maria: Maria::start()?,
            etcd: Etcd::start(&EtcdOptions::default())?,
        })
    }

    /// The configuration that every engine of the house reads.
    pub fn config(&self, setup: &Setup, admin_port: u16, folder: &Path) -> EngineConfig {
        let mut config = EngineConfig::of(&self.nats, &self.redis, &self.maria, &self.etcd);
        config.set("consumer", "topic", TOPIC);
        if let Some(authority) = &self.authority {
            config.set("nats", "tls", format_args!("{{ca: {:?}}}", authority.ca()));
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
