//! Promise: each key of the table, changed to another value that may be written, is either applied by a running engine, which then
//! shows it, or said to take effect at the next start and left as it is; as its row says. No value of a secret is told.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::servers::Authority;
use nkeys::KeyPair;
use task_engine::Engine;
use task_engine::config::keys::{KEYS, Key, Reload};
use task_engine::config::kinds::Kind;
use task_engine::config::reload::Fate;
use task_engine::config::{Checked, Config, Flags, parse};
use task_engine::edge::memory::{MemoryInbox, MemoryMembers, MemoryRegistry, MemoryRoutes, MemorySource};
use task_engine::engine::reload::{ReloadOutcome, ReloadReport, Reloader};
use tempfile::TempDir;

/// What no line may show.
const SECRET: &str = "geheim";

/// Files that keys may name.
struct Files {
    folder: TempDir,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    _authority: Authority,
}

impl Files {
    fn new() -> Self {
        let authority = Authority::new().expect("a CA");
        let files = authority.certificate(&["localhost"]).expect("a certificate");
        let (ca, folder) = (authority.ca(), tempfile::tempdir().expect("a folder"));
        Self { folder, ca, cert: files.cert, key: files.key, _authority: authority }
    }

    /// A file with this text.
    fn with(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    /// The same file at another place.
    fn copy(&self, of: &Path, name: &str) -> String {
        self.with(name, &std::fs::read_to_string(of).expect("a file"))
    }

    /// Credentials of a user of NATS.
    fn credentials(&self) -> String {
        let user = KeyPair::new_user();
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let claims = format!(r#"{{"sub":"{}","nats":{{}}}}"#, user.public_key());
        let jwt = format!("{}.{}.{}", part(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#), part(&claims), part("signature"));
        let seed = user.seed().expect("a seed");
        self.with(
            "creds",
            &format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            ),
        )
    }

    /// Another value that may be written.
    fn other(&self, key: &Key) -> String {
        let seed = || KeyPair::new_user().seed().expect("a seed");
        match key.full().as_str() {
            "nats.creds_file" => return self.credentials(),
            "nats.nkey_seed_file" => return self.with("seed", &seed()),
            "nats.nkey_seed" => return seed(),
            "mysql.dsn_file" => return self.with("dsn", &format!("u:{SECRET}@tcp(other.example:1)/other")),
            "engine.drain_timeout" => return "30s".to_owned(),
            "postgres.sslmode" => return "require".to_owned(),
            "tracing.headers" | "tracing.resource" => return "a=b".to_owned(),
            _ => {}
        }
        match key.name {
            "tls.ca" => return self.copy(&self.ca, "other-ca.pem"),
            "tls.cert" => return self.copy(&self.cert, "other-cert.pem"),
            "tls.key" => return self.copy(&self.key, "other-key.pem"),
            _ => {}
        }
        let of = |words: &[&str]| words.iter().find(|word| **word != key.default).expect("another word").to_string();
        match key.kind {
            Kind::Noted => unreachable!("{} is not used", key.full()),
            Kind::Text | Kind::Word | Kind::Host => "other.example".to_owned(),
            Kind::Secret => SECRET.to_owned(),
            Kind::SecretFile => self.with(&key.full(), &format!("a={SECRET}\n")),
            Kind::Prefix => "/other".to_owned(),
            Kind::Subject => "other.subject".to_owned(),
            Kind::Name => "OTHER".to_owned(),
            Kind::Bool => if key.default == "true" { "false" } else { "true" }.to_owned(),
            Kind::Level(words) | Kind::Choice(words) => of(words),
            // Of push_consumer no default is written: it is that of consumer.
            Kind::Count(..) | Kind::Port => (key.default.parse::<u64>().unwrap_or(3) + 1).to_string(),
            Kind::Span(_, max) => if max < 6_000 { "6ms" } else { "6s" }.to_owned(),
            Kind::GoSpan | Kind::Seconds => "6s".to_owned(),
            Kind::Lifetime => "6m".to_owned(),
            Kind::Directives => "h2=debug".to_owned(),
            Kind::Cores => "2".to_owned(),
            Kind::HostPort(_) | Kind::EtcdUrls(_) => "other.example:1".to_owned(),
            Kind::Dsn => format!("u:{SECRET}@tcp(other.example:1)/other"),
            Kind::NatsUrls => format!("nats://u:{SECRET}@other.example:1"),
            Kind::Listen => "127.0.0.1:9".to_owned(),
            Kind::HttpUrl => "http://other.example:1".to_owned(),
            Kind::Header => "Other-Header".to_owned(),
            Kind::TypeClasses => "call=urgent".to_owned(),
            Kind::SizeClasses => "7=bulk".to_owned(),
        }
    }

    /// What has to be written besides for the value to be legal; before and after the change alike.
    fn besides(&self, key: &Key) -> Vec<(String, String)> {
        let (cert, private) = (self.cert.display().to_string(), self.key.display().to_string());
        let ca = |section: &str| (format!("{section}.tls.ca"), self.ca.display().to_string());
        let jetstream = [("consumer.mode", "jetstream"), ("consumer.assignment", "partitioned")];
        match (key.section, key.name) {
            (section, "tls.cert" | "tls.key") => {
                vec![ca(section), (format!("{section}.tls.cert"), cert), (format!("{section}.tls.key"), private)]
            }
            ("postgres", "sslmode") => vec![ca("postgres")],
            (section, name) if name.starts_with("tls.") && name != "tls.ca" => vec![ca(section)],
            ("nats", "password" | "password_file") => vec![("nats.username".into(), "u".into())],
            ("etcd", "password" | "password_file") => vec![("etcd.username".into(), "u".into())],
            ("redis", "username") => vec![("redis.password".into(), SECRET.into())],
            ("consumer", "urgent_topic") => vec![("consumer.mode".into(), "jetstream".into())],
            ("consumer", "ownership" | "partitioner") => {
                jetstream.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            }
            ("gateway", "notice_above") => vec![("inbox.rows_up_to".into(), "500".into())],
            _ => Vec::new(),
        }
    }
}

/// By which key it is told that this one changed: what Resonance writes in sections of its own means keys of ours.
fn told_as(key: &Key) -> String {
    match (key.section, key.name) {
        ("push_consumer", name) => format!("consumer.{name}"),
        ("storage_consumer", "topic") => "consumer.topic".to_owned(),
        ("storage_consumer", _) => "inbox.store".to_owned(),
        ("mysql", "dsn") => "mysql.host".to_owned(),
        _ => key.full(),
    }
}

/// A configuration with these keys.
fn read(base: &[(String, String)], pairs: &[(String, String)]) -> Checked {
    let variable = |key: &str| {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let found = KEYS.iter().find(|row| row.section == section && row.name == name);
        found.unwrap_or_else(|| panic!("no key {key}")).variables().next().expect("a variable")
    };
    let environment = base.iter().chain(pairs).map(|(key, value)| (OsString::from(variable(key)), value.into()));
    parse("walk", "", environment, &Flags::default()).unwrap_or_else(|mistakes| panic!("{pairs:?}: {mistakes}"))
}

/// An engine that connects to nothing, and what it was started with.
struct World {
    files: Files,
    base: Vec<(String, String)>,
    reloader: Reloader,
    _engine: Engine,
}

impl World {
    fn start(more: &[(&str, &str)]) -> Self {
        let files = Files::new();
        let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
        let mut base: Vec<(String, String)> = Vec::new();
        for (key, value) in [("engine.cores", "1"), ("admin.listen", "127.0.0.1:0")].iter().chain(more) {
            base.push(((*key).to_owned(), (*value).to_owned()));
        }
        // A port that speaks TLS goes on doing so.
        base.extend([("admin.tls.cert".to_owned(), cert), ("admin.tls.key".to_owned(), key)]);
        let config = read(&base, &[]).config;
        assert_eq!(config.admin.listen, SocketAddr::from(([127, 0, 0, 1], 0)));
        let (source, _) = MemorySource::new();
        let engine = Engine::builder(config)
            .source(source)
            .members(MemoryMembers::new())
            .routes(MemoryRoutes::new())
            .registry(MemoryRegistry::new())
            .inbox(MemoryInbox::new())
            .start()
            .expect("the engine starts");
        let reloader = engine.reloader();
        Self { files, base, reloader, _engine: engine }
    }

    fn read(&self, pairs: &[(String, String)]) -> Checked {
        let is_other = |(key, _): &&(String, String)| !pairs.iter().any(|(other, _)| other == key);
        let base: Vec<_> = self.base.iter().filter(is_other).cloned().collect();
        read(&base, pairs)
    }

    /// Goes back to what it was started with.
    fn reset(&self) -> Config {
        let base = self.read(&[]);
        let config = base.config.clone();
        self.reloader.reload(Ok(base));
        assert_eq!(self.reloader.config(), config);
        config
    }

    fn change(&self, key: &Key) {
        let started = self.reset();
        let besides = self.files.besides(key);
        self.reloader.reload(Ok(self.read(&besides)));
        let before = self.reloader.config();
        let mut pairs = besides;
        pairs.retain(|(name, _)| *name != key.full());
        pairs.push((key.full(), self.files.other(key)));
        let other = self.read(&pairs);
        let wanted = other.config.clone();
        assert!(wanted != before || key.section == "storage_consumer", "{} says the same", key.full());
        let report = self.reloader.reload(Ok(other));
        assert!(!format!("{report:?}").contains(SECRET), "{report:?}");
        self.judge(key, &report, &wanted, &started);
    }

    fn judge(&self, key: &Key, report: &ReloadReport, wanted: &Config, started: &Config) {
        let name = told_as(key);
        let change = report.changes.iter().find(|change| change.key == name);
        let change = change.unwrap_or_else(|| panic!("{}: {name} is not told: {report:?}", key.full()));
        let line = change.to_string();
        match key.reload {
            Reload::Running => {
                assert!(change.is_applied() && report.outcome() == ReloadOutcome::Applied, "{line}: {report:?}");
                assert_eq!(self.reloader.config(), *wanted, "{line}");
            }
            Reload::Restart | Reload::Parts => {
                assert_eq!(change.fate, Fate::NextStart, "{line}");
                assert!(line.ends_with(": takes effect at the next start"), "{line}");
                assert_eq!(report.outcome(), ReloadOutcome::Restart, "{report:?}");
                assert_eq!(self.reloader.config(), *started, "{line}");
            }
        }
        assert_eq!(change.values.is_none(), key.is_secret() && key.name != "dsn", "{line}");
    }
}

#[test]
fn each_key_is_applied_and_shown_or_said_to_need_a_start_and_left() {
    let mysql = World::start(&[]);
    let postgres = World::start(&[("postgres.username", "first")]);
    let mut count = 0;
    for key in KEYS.iter().filter(|key| key.is_used()) {
        if key.full() == "mysql.dsn_file" {
            // It says what the DSN says; the file itself waits for the server that is named in it.
            let report = mysql.reloader.reload(Ok(mysql.read(&[(key.full(), mysql.files.other(key))])));
            let fate = |name: &str| report.changes.iter().find(|change| change.key == name).map(|change| &change.fate);
            assert_eq!(fate("mysql.host"), Some(&Fate::NextStart), "{report:?}");
            assert_eq!(fate("mysql.dsn_file"), Some(&Fate::Waits("with mysql.host".into())), "{report:?}");
        } else {
            let world = if key.section == "postgres" { &postgres } else { &mysql };
            world.change(key);
        }
        count += 1;
    }
    assert_eq!(count, KEYS.iter().filter(|key| key.is_used()).count());
    assert!(count > 140, "{count} keys");
}

#[test]
fn a_section_about_a_server_is_taken_whole_or_not_at_all() {
    let world = World::start(&[]);
    let of = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let started = world.reset();
    let pairs = of(&[("redis.addr", "other.example:1"), ("redis.password", SECRET), ("members.cache_ttl", "7s")]);
    let report = world.reloader.reload(Ok(world.read(&pairs)));
    let lines: Vec<_> = report.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "redis.addr changed from 127.0.0.1:6379 to other.example:1: takes effect at the next start",
            "redis.password changed: takes effect at the next start, with redis.addr",
            "members.cache_ttl changed from 1s to 7s: applied",
        ]
    );
    assert_eq!(report.to_string(), "configuration reloaded: 1 applied, 2 at the next start");
    let holds = world.reloader.config();
    assert_eq!((&holds.redis, holds.members.cache_ttl.as_secs()), (&started.redis, 7));
    // It is said at each reload, until the engine is started again or the key is as it was.
    let again = world.reloader.reload(Ok(world.read(&pairs)));
    assert_eq!((again.outcome(), again.changes.len()), (ReloadOutcome::Restart, 2));
    let report = world.reloader.reload(Ok(world.read(&of(&[("members.cache_ttl", "7s")]))));
    assert_eq!(report.to_string(), "configuration reloaded: nothing changed");
    // Another database is another start; what is written of it is no change of a key.
    let report = world.reloader.reload(Ok(world.read(&of(&[("postgres.username", "u"), ("members.cache_ttl", "7s")]))));
    let lines: Vec<_> = report.changes.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["mysql or postgres changed from mysql to postgres: takes effect at the next start"]);
    // A renewed password in the URL, and one in a file.
    let file = world.files.with("password", "one");
    let with = |password: &str| {
        std::fs::write(&file, SECRET.to_owned() + password).expect("written");
        let url = format!("nats://u:{SECRET}-{password}@127.0.0.1:4222");
        world.read(&of(&[("nats.url", &url), ("redis.password_file", &file)]))
    };
    world.reloader.reload(Ok(with("one")));
    let report = world.reloader.reload(Ok(with("two")));
    let lines: Vec<_> = report.changes.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["redis.password changed: applied", "nats.url changed: applied"]);
}
