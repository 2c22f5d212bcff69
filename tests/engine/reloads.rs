//! Promise: at SIGHUP a running engine goes by what its files say now: levels, certificates, passwords and times, without a stream
//! that is cut; and one that is wrong, or a hundred signals at once, change nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::gateways::{Behaviour, Protocols};
use harness::servers::{Authority, CertificateFiles, TlsDoor};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use testkit::engine::{PATIENCE, SECRETS, World, eventually, got};

use crate::signals::{Alone, code, send, start_alone, text};

/// An engine without servers, its log and its file.
struct Lonely {
    engine: Alone,
    log: PathBuf,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Lonely {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, file) = (folder.path().join("engine.log"), folder.path().join("task.yaml"));
        let engine = start_alone(folder.path(), &format!("log:\n  output: {}\n", log.display()), Stdio::null());
        let lonely = Self { engine, log, file, folder };
        lonely.says("runs; admin pages");
        lonely
    }

    fn says(&self, what: &str) {
        eventually(what, || text(&self.log).contains(what));
    }

    /// Changes its file, has it read, and waits until it says that it was.
    fn reload(&self, change: impl FnOnce(String) -> String, says: &str) {
        std::fs::write(&self.file, change(text(&self.file))).expect("written");
        send(&self.engine, libc::SIGHUP);
        self.says(says);
    }

    /// A number of its metric page.
    fn number(&self, series: &str) -> u64 {
        let log = text(&self.log);
        let (_, rest) = log.split_once("admin pages on http://").expect("where they are");
        let admin = rest.split_whitespace().next().and_then(|at| at.parse().ok()).expect("an address");
        let page = harness::pages::request(admin, "GET", "/metrics", "", PATIENCE).expect("an answer").body;
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("task_engine_{series} ")));
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {series}:\n{page}"))
    }

    fn stops(mut self) -> String {
        send(&self.engine, libc::SIGTERM);
        let log = text(&self.log);
        assert_eq!(code(&mut self.engine), Some(0), "{log}");
        assert!(self.folder.path().exists());
        text(&self.log)
    }
}

#[test]
fn the_level_changes_a_key_of_the_start_is_said_and_what_is_wrong_changes_nothing() {
    let lonely = Lonely::start();
    assert!(!text(&lonely.log).contains(" DEBUG "), "{}", text(&lonely.log));
    lonely.reload(
        |yaml| yaml.replace("log:\n", "log:\n  level: debug\n"),
        "log.level changed from info to debug: applied",
    );
    // Of etcd, which is away and is tried again and again.
    lonely.says(" DEBUG ");
    lonely.says("configuration reloaded: 1 applied, 0 at the next start");
    lonely.reload(
        |yaml| yaml.replace("addr: 127.0.0.1:1", "addr: 127.0.0.1:2"),
        "redis.addr changed from 127.0.0.1:1 to 127.0.0.1:2: takes effect at the next start",
    );
    eventually("a key waits", || lonely.number("config_restart_keys") == 1);
    let good = text(&lonely.file);
    let bad = "log:\n  level: lots\nredis:\n  read_timeout: 3\nmysql:\n  pasword: geheim\n";
    lonely.reload(|_| bad.to_owned(), "configuration not reloaded: 3 mistakes; what held holds on");
    let log = text(&lonely.log);
    let at = |place: &str| format!("configuration not reloaded: {}:{place}", lonely.file.display());
    for line in [at("2:10: log.level: "), at("4:17: redis.read_timeout: "), at("6:3: mysql.pasword: unknown key")] {
        assert!(log.contains(&line), "{line}\n{log}");
    }
    assert!(!log.contains("geheim"), "{log}");
    // What check-config and the start would find in files as well.
    lonely.reload(
        |_| format!("{good}gateway:\n  tls:\n    ca: /nowhere/ca.pem\n"),
        "configuration not reloaded: gateway.tls.ca: /nowhere/ca.pem: cannot be read",
    );
    lonely.reload(|_| good.clone(), "configuration reloaded: 0 applied, 1 at the next start");
    let lines = |log: &str| log.lines().filter(|line| line.contains(" DEBUG ")).count();
    let before = lines(&text(&lonely.log));
    eventually("the level still holds", || lines(&text(&lonely.log)) > before);
    let of = |outcome: &str| lonely.number(&format!("config_reloads_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(["applied", "restart", "invalid", "unchanged"].map(of), [1, 2, 2, 0]);
    lonely.stops();
}

#[test]
fn a_hundred_signals_in_a_row_do_no_harm() {
    let lonely = Lonely::start();
    (0..100).for_each(|_| send(&lonely.engine, libc::SIGHUP));
    lonely.reload(
        |yaml| yaml.replace("log:\n", "log:\n  level: debug\n"),
        "log.level changed from info to debug: applied",
    );
    (0..100).for_each(|_| send(&lonely.engine, libc::SIGHUP));
    lonely.says("configuration reloaded: nothing changed");
    let log = lonely.stops();
    let reloads = log.lines().filter(|line| line.contains("configuration reloaded: ")).count();
    assert!((2..=201).contains(&reloads), "{reloads} reloads");
}

/// A copy that can be renewed at its place.
fn renew(from: &CertificateFiles, at: &CertificateFiles) {
    for (from, at) in [(&from.cert, &at.cert), (&from.key, &at.key)] {
        let next = at.with_extension("next");
        std::fs::copy(from, &next).expect("copied");
        std::fs::rename(next, at).expect("renamed");
    }
}

fn der(cert: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(cert).expect("a certificate").to_vec()
}

#[test]
fn certificates_are_exchanged_without_a_cut_stream() {
    let authority = Authority::new().expect("a CA");
    let certificate = |name: &str| authority.certificate(&[name]).expect("a certificate");
    let (first, second, third) = (certificate("first"), certificate("second"), certificate("third"));
    let world = World::start();
    let gateway = world.plain_gateway("gw-1", Protocols::STREAM);
    let door = TlsDoor::before(gateway.port(), &authority, &certificate("127.0.0.1")).expect("a door");
    world.register("gw-1", &format!(r#"{{"id":"gw-1","endpoints":["grpcs://{}"]}}"#, door.address()));
    world.route("ann", "gw-1");
    world.members("s", &["ann"]);
    let folder = tempfile::tempdir().expect("a folder");
    let ours = CertificateFiles { cert: folder.path().join("ours.pem"), key: folder.path().join("ours.key") };
    renew(&first, &ours);
    let yaml = |files: &CertificateFiles| {
        let CertificateFiles { cert, key } = files;
        let (ca, cert, key) = (authority.ca(), cert.display(), key.display());
        let tls = format!("{{ca: {}, cert: {cert}, key: {key}}}", ca.display());
        world.config().set("gateway", "tls", tls).text()
    };
    let engine = world.engine_of(1, &yaml(&ours));
    engine.wait_ready();
    let (publisher, mut last) = (world.publisher(), 0);
    let mut push = |count: i64| {
        publisher.publish("s", "system", last + 1..=last + count);
        last += count;
    };
    let has_all = |last: i64| world.log.wait(PATIENCE, |records| got(records, "s", "ann").ends_with(&[last])).is_ok();
    push(500);
    assert!(has_all(500), "{}", engine.output());
    // Other files at the same places, under load.
    push(500);
    renew(&second, &ours);
    let said = engine.reload(&yaml(&ours));
    push(500);
    assert!(said.contains("gateway.tls: its files are others: the next handshake goes by them"), "{said}");
    // Other places.
    let said = engine.reload(&yaml(&third));
    push(500);
    assert!(said.contains(&format!("gateway.tls.cert changed from {} to ", ours.cert.display())), "{said}");
    assert!(said.contains("configuration reloaded: 2 applied, 0 at the next start"), "{said}");
    assert!(has_all(2_000), "{}", engine.output());
    engine.wait_ended(2_000);
    assert_eq!((gateway.streams(), door.shown()), (1, vec![der(&first.cert)]), "no stream was cut");
    // The next connection goes by the last ones.
    gateway.kill();
    gateway.restart().expect("the same port");
    push(500);
    assert!(has_all(2_500), "{}", engine.output());
    assert_eq!(door.shown().last(), Some(&der(&third.cert)), "a new connection shows the new certificate");
    let mut all = got(&world.log.records(), "s", "ann");
    all.dedup();
    assert_eq!(all, (1..=2_500).collect::<Vec<_>>());
    engine.stop_clean();
}

#[test]
fn rotated_passwords_of_redis_and_mysql_are_those_of_the_next_connection() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    let push = |session: &str, user: &str| {
        world.members(session, &[user]);
        publisher.publish(session, "system", 1..=1);
        let came = world.log.wait(PATIENCE, |records| got(records, session, user) == [1]);
        assert!(came.is_ok(), "{session}\n{}", engine.output());
    };
    for user in ["ann", "bob", "cid", "dan"] {
        world.route(user, "gw-1");
    }
    push("before", "ann");
    let mut redis = redis::Client::open(world.redis.url()).expect("a URL").get_connection().expect("a connection");
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(world.maria.port()).user(Some("root"));
    let mut maria = Conn::new(root.prefer_socket(false)).expect("root may connect");
    // A password that is wrong takes nothing away that works.
    let mut config = world.config();
    config.set("redis", "password", "geheim-wrong").set("mysql", "password", "geheim-wrong");
    let said = engine.reload(&config.text());
    assert!(
        said.contains("redis.password changed: applied") && said.contains("mysql.password changed: applied"),
        "{said}"
    );
    eventually("it is said", || engine.output().contains("the old connection is used on"));
    push("wrong", "bob");
    assert!(engine.is_ready(), "{:?}\n{}", engine.page("/readyz?verbose"), engine.output());
    // Rotated on the servers, then here.
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("geheim-new").exec(&mut redis).expect("set");
    maria.query_drop("ALTER USER engine@'%' IDENTIFIED BY 'geheim-new'").expect("altered");
    config.set("redis", "password", "geheim-new").set("mysql", "password", "geheim-new");
    engine.reload(&config.text());
    eventually("it is replaced", || {
        engine.output().contains("the configuration was reloaded: the connection is replaced")
    });
    push("rotated", "cid");
    // All that is open is closed.
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut redis).expect("killed");
    maria.query_drop("KILL CONNECTION USER engine").expect("killed");
    push("again", "dan");
    engine.wait_ready();
    let output = engine.stop_clean();
    assert!(!output.contains("geheim"), "{output}");
    assert_eq!(gateway.pushes(), 4);
}

#[test]
fn a_time_limit_is_applied_to_what_waits() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("ann", "gw-1");
    world.members("s", &["ann"]);
    gateway.behave(Behaviour::Deaf);
    let yaml = |limit: &str| {
        let mut config = world.config();
        config.set("gateway", "delivery_timeout", limit).set("engine", "drain_timeout", "20m");
        config.text()
    };
    let engine = world.engine_of(1, &yaml("10m"));
    engine.wait_ready();
    world.publisher().publish("s", "system", 1..=1);
    let came = gateway.wait("the push", PATIENCE, |gateway| gateway.pushes() == 1);
    assert!(came.is_ok(), "{}\n{}", engine.metrics().numbers(), engine.output());
    let said = engine.reload(&yaml("1s"));
    assert!(said.contains("gateway.delivery_timeout changed from 10m to 1s: applied"), "{said}");
    let metrics = engine.wait_ended(1);
    assert_eq!(metrics.unreached("timed_out"), 1, "{}", metrics.numbers());
    let output = engine.stop_clean();
    assert!(SECRETS.iter().all(|secret| !output.contains(secret)), "{output}");
}
