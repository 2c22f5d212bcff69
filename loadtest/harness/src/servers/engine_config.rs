//! The configuration by which an engine finds throw-away servers.
//!
//! Refuses to know the keys: what a caller sets is written as it is, so that other engines' keys can be written, too.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use super::{Etcd, Maria, Nats, Redis, Store};
use crate::error::{Error, Result};

/// Sections of keys, written as YAML.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig(Vec<(&'static str, Vec<(&'static str, String)>)>);

impl EngineConfig {
    /// Where the servers are, and the login of the database.
    pub fn of(nats: &Nats, redis: &Redis, store: &dyn Store, etcd: &Etcd) -> Self {
        let mut config = Self::default();
        config.point_to(nats, redis, store, etcd);
        config
    }

    /// What a file of two levels says, to be changed: sections with keys, lists of one line each below a key, and keys at the top.
    ///
    /// # Panics
    /// When a line is none of those: what is read is a file of this repository.
    pub fn read(text: &'static str) -> Self {
        let (mut config, mut section, mut list) = (Self::default(), "", "");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
            if let Some(item) = line.trim_start().strip_prefix("- ") {
                config.set(section, list, format_args!("[{item}]"));
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is no key"));
            let of = match (name.strip_prefix("  "), value.trim()) {
                (Some(key), "") => {
                    list = key;
                    continue;
                }
                (None, "") => {
                    section = name;
                    continue;
                }
                (Some(key), value) => (section, key, value),
                (None, value) => ("", name, value),
            };
            config.set(of.0, of.1, of.2);
        }
        config
    }

    /// The servers are these, whatever was said of them.
    pub fn point_to(&mut self, nats: &Nats, redis: &Redis, store: &dyn Store, etcd: &Etcd) -> &mut Self {
        let section = store.section();
        self.set("nats", "url", nats.url()).set("redis", "addr", redis.addr());
        self.set(section, "host", "127.0.0.1").set(section, "port", store.port());
        // Both have the same login.
        self.set(section, "username", Maria::USER).set(section, "password", Maria::PASSWORD);
        self.set(section, "database", Maria::DATABASE);
        self.set("etcd", "endpoints", format_args!("[\"{}\"]", etcd.addr()))
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
        let section = |(name, keys): &(&'static str, Vec<(&'static str, String)>)| {
            let (head, indent) = if name.is_empty() { (String::new(), "") } else { (format!("{name}:\n"), "  ") };
            keys.iter().fold(head, |text, (key, value)| text + &format!("{indent}{key}: {value}\n"))
        };
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

    #[test]
    fn a_file_of_two_levels_is_read_and_written() {
        let text = "# About it.\nservice:\n  name: a\n\netcd:\n  endpoints:\n    - 127.0.0.1:2379\n  dial_timeout: 5s\ntop: b\nnats:\n  url: \"\"\n";
        let mut config = EngineConfig::read(text);
        config.set("etcd", "dial_timeout", "1s");
        assert_eq!(
            config.text(),
            "service:\n  name: a\netcd:\n  endpoints: [127.0.0.1:2379]\n  dial_timeout: 1s\ntop: b\nnats:\n  url: \"\"\n"
        );
    }
}
