//! A configuration that was read again beside the one that holds: which keys differ, and what becomes of each.
//!
//! Promises that what is given back as the next configuration fits together: a section about a server is taken whole or not at
//! all, since a new password with the old address would lose a server that works; and that no secret is in what is said.
//! Refuses to take a key that a running engine cannot apply: it is told, and keeps its value.

use std::fmt;

use super::keys::{Goes, KEYS, Key, Reload};
use super::sections::{Config, NatsConfig, Partitioner};

/// What becomes of a key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is applied now.
    Applied,
    /// It takes effect at the next start.
    NextStart,
    /// So does this one, which could be applied by itself; why.
    Waits(String),
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in full.
    pub key: String,
    /// What held and what was read, as one would write them; nothing for a secret.
    pub values: Option<(String, String)>,
    /// What becomes of it.
    pub fate: Fate,
}

impl Change {
    /// Whether it is applied now.
    pub fn is_applied(&self) -> bool {
        self.fate == Fate::Applied
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changed", self.key)?;
        if let Some((from, to)) = &self.values {
            write!(f, " from {} to {}", shown(from), shown(to))?;
        }
        match &self.fate {
            Fate::Applied => f.write_str(": applied"),
            Fate::NextStart => f.write_str(": takes effect at the next start"),
            Fate::Waits(why) => write!(f, ": takes effect at the next start, {why}"),
        }
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "(empty)" } else { value }
}

/// What a reload does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What holds from now on.
    pub config: Config,
    /// What differs, in the order of the table.
    pub changes: Vec<Change>,
}

/// The sections that are taken whole or not at all.
const WHOLE: [&str; 6] = ["mysql", "postgres", "redis", "nats", "etcd", "tracing"];
/// What is said of another database in place of its keys.
const DATABASE: &str = "mysql or postgres";

/// What becomes of what was `read`, while `held` holds.
pub fn plan(held: &Config, read: &Config) -> Plan {
    let mut found = Found { held: held.clone(), read: read.clone(), changes: Vec::new() };
    found.compare();
    found.keep_sections_whole();
    found.keep_together();
    let config = found.next();
    let changes = found.changes.into_iter().map(|(_, change)| change).collect();
    Plan { config, changes }
}

struct Found {
    held: Config,
    read: Config,
    /// With their rows of the table; another database has none.
    changes: Vec<(Option<&'static Key>, Change)>,
}

impl Found {
    fn compare(&mut self) {
        let is_other_database = self.held.database != self.read.database;
        if is_other_database {
            let [from, to] = [&self.held, &self.read].map(|config| config.database.section().to_owned());
            let change = Change { key: DATABASE.to_owned(), values: Some((from, to)), fate: Fate::NextStart };
            self.changes.push((None, change));
        }
        for key in KEYS {
            if !(is_other_database && is_of_database(key.section)) && self.differs(key) {
                self.note(key);
            }
        }
    }

    fn differs(&mut self, key: &Key) -> bool {
        let (held, read) = (&mut self.held, &mut self.read);
        match key.goes {
            Goes::Nowhere => false,
            Goes::Field(field) => !field(held).is_same(field(read).as_any()),
            Goes::Joined(shown) => shown(held) != shown(read) || is_other_secret(key, &held.nats, &read.nats),
        }
    }

    fn note(&mut self, key: &'static Key) {
        let (held, read) = (&mut self.held, &mut self.read);
        let values = match key.goes {
            _ if key.is_secret() => None,
            Goes::Nowhere => None,
            Goes::Field(field) => Some((field(held).show(), field(read).show())),
            Goes::Joined(shown) => Some((shown(held), shown(read))),
        };
        let is_elsewhere = key.full() == "nats.url" && held.nats.servers != read.nats.servers;
        let fate = match key.reload {
            Reload::Restart => Fate::NextStart,
            Reload::Running | Reload::Parts if is_elsewhere => Fate::NextStart,
            Reload::Running | Reload::Parts => Fate::Applied,
        };
        self.changes.push((Some(key), Change { key: key.full(), values, fate }));
    }

    /// The first key of a section that waits for the next start, if one does.
    fn waits(&self, section: &str) -> Option<String> {
        let mut changes = self.changes.iter();
        let waits = changes
            .find(|(key, change)| key.is_some_and(|key| key.section == section) && change.fate == Fate::NextStart);
        waits.map(|(_, change)| change.key.clone())
    }

    /// Makes what could be applied of these keys wait as well.
    fn hold_back(&mut self, why: &str, is_one: impl Fn(&Key) -> bool) {
        for (key, change) in &mut self.changes {
            if key.is_some_and(&is_one) && change.is_applied() {
                change.fate = Fate::Waits(why.to_owned());
            }
        }
    }

    fn keep_sections_whole(&mut self) {
        for section in WHOLE {
            if let Some(first) = self.waits(section) {
                self.hold_back(&format!("with {first}"), |key| key.section == section);
            }
        }
    }

    /// Keys that mean something only together.
    fn keep_together(&mut self) {
        let is_retry =
            |key: &Key| key.section == "consumer" && (key.name == "max_retry" || key.name == "retry_interval");
        if self.held.consumer.partitioner == Partitioner::On {
            self.hold_back("since consumer.partitioner is on", is_retry);
        }
        if self.held.consumer.ack_wait != self.read.consumer.ack_wait {
            self.hold_back("with consumer.ack_wait", is_retry);
        }
        if self.held.admin.tls.is_written() != self.read.admin.tls.is_written() {
            self.hold_back("since the port changes between http and https", |key| key.section == "admin");
        }
    }

    fn next(&self) -> Config {
        let (mut config, mut read) = (self.held.clone(), self.read.clone());
        for section in WHOLE.into_iter().filter(|section| self.is_taken(section)) {
            match section {
                "mysql" => config.mysql = read.mysql.clone(),
                "postgres" => config.postgres = read.postgres.clone(),
                "redis" => config.redis = read.redis.clone(),
                "nats" => config.nats = read.nats.clone(),
                "etcd" => config.etcd = read.etcd.clone(),
                _ => config.tracing = read.tracing.clone(),
            }
        }
        let applied = self.changes.iter().filter(|(_, change)| change.is_applied());
        for key in applied.filter_map(|(key, _)| *key).filter(|key| !WHOLE.contains(&key.section)) {
            if let Goes::Field(field) = key.goes {
                field(&mut config).take(field(&mut read).as_any());
            }
        }
        config
    }

    fn is_taken(&self, section: &str) -> bool {
        let is_other_database = self.held.database != self.read.database && is_of_database(section);
        !is_other_database && self.waits(section).is_none()
    }
}

fn is_of_database(section: &str) -> bool {
    section == "mysql" || section == "postgres"
}

/// Whether this key holds who we are to NATS, and that differs though it is shown alike.
fn is_other_secret(key: &Key, held: &NatsConfig, read: &NatsConfig) -> bool {
    key.section == "nats" && key.name == read.auth_key() && held.auth_key() == read.auth_key() && held.auth != read.auth
}
