//! The throw-away servers of a trial, and the configuration by which an engine finds them.

use std::fs;
use std::path::{Path, PathBuf};

use harness::error::{Error, Result};
use harness::servers::{Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions, free_ports};

use super::{Assignment, Setup};
use crate::engine::Ready;

pub(super) const TOPIC: &str = "resonance.push.event.v1";
pub(super) const PARTITIONS: u32 = 64;

/// All of them; they end with it.
pub(super) struct Servers {
    pub nats: Nats,
    pub nats_pages: u16,
    pub redis: Redis,
    pub maria: Maria,
    pub etcd: Etcd,
}

impl Servers {
    /// Starts them; with `jetstream` NATS keeps streams.
    ///
    /// # Errors
    /// When one is not installed or does not start.
    pub fn start(jetstream: bool) -> Result<Self> {
        let nats_pages = free_ports(1)?[0];
        let config = format!("http: \"127.0.0.1:{nats_pages}\"\n");
        Ok(Self {
            nats: Nats::start(&NatsOptions { config, jetstream, ..NatsOptions::default() })?,
            nats_pages,
            redis: Redis::start(&RedisOptions::default())?,
            maria: Maria::start()?,
            etcd: Etcd::start(&EtcdOptions::default())?,
        })
    }

    /// Writes the configuration that every engine of the house reads; gives where.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_config(&self, setup: &Setup, admin_port: u16, folder: &Path) -> Result<PathBuf> {
        let config = folder.join("task.yaml");
        let written = fs::write(&config, self.config_text(setup, admin_port, folder));
        written.map_err(|cause| Error::of("cannot write the engine's configuration", cause))?;
        Ok(config)
    }

    fn config_text(&self, setup: &Setup, admin_port: u16, folder: &Path) -> String {
        let mut text = format!(
            "nats:\n  url: {}\nredis:\n  addr: {}\netcd:\n  endpoints: [\"{}\"]\n\
             mysql:\n  host: 127.0.0.1\n  port: {}\n  username: {}\n  password: {}\n  database: {}\n\
             consumer:\n  topic: {TOPIC}\n",
            self.nats.url(),
            self.redis.addr(),
            self.etcd.addr(),
            self.maria.port(),
            Maria::USER,
            Maria::PASSWORD,
            Maria::DATABASE,
        );
        // Keys that other engines do not know are left out where they say nothing.
        if setup.jetstream {
            text += "  mode: jetstream\n";
        }
        if setup.assignment == Assignment::Partitioned {
            text += &format!("  assignment: partitioned\n  partitions: {PARTITIONS}\n");
        }
        if setup.ready == Ready::Readyz {
            text += &format!("engine:\n  cores: {}\nadmin:\n  listen: 127.0.0.1:{admin_port}\n", setup.cores);
            text += &format!("dead_letters:\n  path: \"{}\"\n", folder.join("dead-letters.jsonl").display());
        }
        text
    }
}
