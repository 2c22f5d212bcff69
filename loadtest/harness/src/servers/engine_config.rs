//! The configuration by which an engine finds throw-away servers.
//!
//! Refuses to know the keys: what a caller sets is written as it is, so that other engines' keys can be written, too.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use super::{Etcd, Maria, Nats, Redis};
use crate::error::{Error, Result};

/// Sections of keys, written as YAML.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig(Vec<(&'static str, Vec<(&'static str, String)>)>);

impl EngineConfig {
    /// Where the servers are, and the login of MariaDB.
    pub fn of(nats: &Nats, redis: &Redis, maria: &Maria, etcd: &Etcd) -> Self {
        let mut config = Self::default();
        config.set("nats", "url", nats.url()).set("redis", "addr", redis.addr());
        config.set("mysql", "host", "127.0.0.1").set("mysql", "port", maria.port());
        config.set("mysql", "username", Maria::USER).set("mysql", "password", Maria::PASSWORD);
        config.set("mysql", "database", Maria::DATABASE).set(
            "etcd",
            "endpoints",
            format_args!("[\"{}\"]", etcd.addr()),
        );
        config
    }

    /// Sets a key, also one that is set already. The value is YAML.
    pub fn set(&mut self, section: &'static str, key: &'static str, value: impl Display) -> &mut Self {
        let at = self.0.iter().position(|(name, _)| *name == section).unwrap_or_else(|| {
            self.0.push((section, Vec::new()));
            self.0.len() - 1
        });
        let keys = &mut self.0[at].1;
        keys.retain(|(name, _)| *name != key);
        keys.push((key, value.to_string()));
        self
    }

    /// The YAML.
    pub fn text(&self) -> String {
        let key = |(key, value): &(&str, String)| format!("  {key}: {value}\n");
        let section = |(name, keys): &(&str, Vec<_>)| format!("{name}:\n{}", keys.iter().map(key).collect::<String>());
        self.0.iter().map(section).collect()
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()).map_err(|cause| Error::of("cannot write the engine's configuration", cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_once_under_their_section() {
        let mut config = EngineConfig::default();
        config
            .set("nats", "url", "nats://a:1")
            .set("mysql", "port", 1)
            .set("nats", "token", "t")
            .set("mysql", "port", 2);
        assert_eq!(config.text(), "nats:\n  url: nats://a:1\n  token: t\nmysql:\n  port: 2\n");
    }
}
