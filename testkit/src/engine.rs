//! The real thing, for end-to-end tests: real NATS, Redis, MariaDB and etcd, each with a password, real gRPC gateways,
//! and the `task-engine` binary between them.
//!
//! Promises that nothing outlives its value, and that every wait has a deadline and says what never came true.
#![allow(deprecated, reason = "the sync nats client publishes for the tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::Client;
use harness::gateways::{Answer, Gateway, GatewayOptions, Log, Protocols, Record};
use harness::pages;
use harness::servers::{
    Authority, CertificateFiles, EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsAuth, NatsOptions, Redis,
    RedisOptions, free_ports,
};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use prost::Message;
use tempfile::TempDir;

pub use crate::events::event;
use crate::redis_only::key;
pub use crate::wait::{PATIENCE, eventually};

/// The passwords of NATS, Redis, MySQL and etcd: none may ever be seen.
pub const SECRETS: [&str; 4] = ["geheim-nats", "geheim-redis", "geheim-mysql", "geheim-etcd"];

/// The topic of the events.
pub const SUBJECT: &str = "resonance.push.event.v1";

/// The `task-engine` that Cargo builds for these tests: it lies beside the folder of the test binaries.
fn binary() -> PathBuf {
    let me = std::env::current_exe().expect("a test binary");
    me.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("task-engine")
}

/// All servers, and what the gateways saw.
pub struct World {
    pub nats: Nats,
    pub redis: Redis,
    pub maria: Maria,
    pub etcd: Etcd,
    pub log: Arc<Log>,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

/// A MariaDB that the engine may use.
pub fn maria() -> Maria {
    for_the_engine(Maria::start().expect("MariaDB"), "")
}

/// Lets the engine in, on this condition.
fn for_the_engine(maria: Maria, condition: &str) -> Maria {
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(maria.port()).user(Some("root"));
    let mut root = Conn::new(root.prefer_socket(false)).expect("root may connect");
    root.query_drop(format!("CREATE USER engine@'%' IDENTIFIED BY '{}' {condition}", SECRETS[2])).expect("a user");
    root.query_drop("GRANT ALL ON resonance.* TO engine@'%'").expect("a grant");
    maria
}

impl World {
    /// Starts the servers, empty.
    pub fn start() -> Self {
        Self::with(maria(), "", "", None)
    }

    /// The same on servers that speak TLS, to the engine nothing else: it has to ask for TLS, and to have a certificate of the same CA.
    /// The test itself reaches them plainly. Gives the port at which Redis speaks TLS.
    pub fn over_tls(authority: &Authority, files: &CertificateFiles) -> (Self, u16) {
        let port = free_ports(1).expect("a free port")[0];
        let maria = for_the_engine(Maria::over_tls(authority, files).expect("MariaDB"), "REQUIRE X509");
        let (ca, CertificateFiles { cert, key }) = (authority.ca(), files);
        let redis = format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n",
            cert.display(),
            key.display(),
            ca.display()
        );
        let nats = authority.nats_block(files, "verify: true") + "allow_non_tls: true\n";
        (Self::with(maria, &nats, &redis, Some((authority, files))), port)
    }

    fn with(maria: Maria, nats: &str, redis: &str, tls: Option<(&Authority, &CertificateFiles)>) -> Self {
        let auth = NatsAuth::Token(SECRETS[0].to_owned());
        // Larger than any gRPC message, so that the engine is the one who refuses.
        let config = format!("max_payload: 8388608\n{nats}");
        let redis = RedisOptions { password: SECRETS[1].to_owned(), config: redis.to_owned() };
        Self {
            nats: Nats::start(&NatsOptions { auth, config, ..NatsOptions::default() }).expect("NATS"),
            redis: Redis::start(&redis).expect("Redis"),
            maria,
            etcd: Etcd::start(&EtcdOptions { root_password: SECRETS[3].to_owned(), tls }).expect("etcd"),
            log: Log::shared(),
            folder: tempfile::tempdir().expect("a temp folder"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    /// A gateway that all tests' pushes are logged of, registered in etcd.
    pub fn gateway(&self, id: &str, protocols: Protocols) -> Gateway {
        let options = GatewayOptions::new(id, self.log.clone()).protocols(protocols);
        let gateway = Gateway::start(options).expect("a gateway");
        let metadata = match protocols {
            Protocols::STREAM => format!(r#"{{"gateway_id":"{id}"}}"#),
            other => format!(r#"{{"gateway_id":"{id}","push_protocols":"{}"}}"#, other.announcement()),
        };
        self.register(
            id,
            &format!(
                r#"{{"id":"instance-{id}","name":"gateway-service","version":"1","metadata":{metadata},"endpoints":["grpc://{}"]}}"#,
                gateway.addr()
            ),
        );
        gateway
    }

    /// Writes one value of the registry.
    pub fn register(&self, instance: &str, value: &str) {
        let key = format!("/resonance/services/gateway-service/{instance}");
        self.runtime.block_on(async {
            let mut client =
                Client::connect([self.etcd.plain_addr()], self.etcd.connect_options()).await.expect("etcd answers");
            client.put(key, value, None).await.expect("etcd writes");
        });
    }

    /// Writes a session's members.
    pub fn members<S: AsRef<str>>(&self, session: &str, users: &[S]) {
        let rows = users.iter().map(|user| (session, user.as_ref()));
        let statement = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
        self.maria.connect().expect("MariaDB answers").exec_batch(statement, rows).expect("rows");
    }

    /// Writes a user's route as the gateways do.
    pub fn route(&self, user: &str, gateway: &str) {
        let value = format!(
            r#"{{"username":"{user}","gateway_id":"{gateway}","remote_ip":"10.0.0.1","timestamp":1700000000}}"#
        );
        self.route_value(user, &value);
    }

    /// Writes anything as a user's route.
    pub fn route_value(&self, user: &str, value: &str) {
        redis::cmd("SET").arg(key(user)).arg(value).exec(&mut self.redis_connection()).expect("SET");
    }

    /// A user's device connects, as `contrib/redis/route_add.lua` writes it.
    pub fn add_device(&self, user: &str, device: &str, gateway: &str) {
        let script = include_str!("../../contrib/redis/route_add.lua");
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(1).arg(key(user)).arg(&[user, device, gateway, "10.0.0.1", "600000"]);
        call.exec(&mut self.redis_connection()).expect("route_add");
    }

    /// It says goodbye, as `contrib/redis/route_remove.lua` writes it.
    pub fn remove_device(&self, user: &str, device: &str, gateway: &str) {
        let script = include_str!("../../contrib/redis/route_remove.lua");
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(1).arg(key(user)).arg(&[device, gateway]);
        call.exec(&mut self.redis_connection()).expect("route_remove");
    }

    fn redis_connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).expect("an address");
        client.get_connection().expect("Redis answers")
    }

    /// A connection that publishes.
    pub fn publisher(&self) -> Publisher {
        // By default the client waits up to a second before its first try.
        let options = nats::Options::with_token(SECRETS[0]).reconnect_delay_callback(|_| Duration::ZERO);
        Publisher(options.connect(self.nats.addr()).expect("a publisher's connection"))
    }

    /// Starts the binary with `shards` shards and these lines besides, and waits until it is ready.
    pub fn engine(&self, shards: u16, more: &str) -> Process {
        let engine = self.engine_not_ready(shards, more);
        engine.wait_ready();
        engine
    }

    /// The same without the wait.
    pub fn engine_not_ready(&self, shards: u16, more: &str) -> Process {
        self.engine_with(shards, more, &[])
    }

    /// The same with these variables, which win over the file.
    pub fn engine_with(&self, shards: u16, more: &str, variables: &[(&str, &str)]) -> Process {
        self.engine_as(shards, &(self.yaml() + more), variables)
    }

    /// The same with a configuration of its own.
    pub fn engine_of(&self, shards: u16, yaml: &str) -> Process {
        self.engine_as(shards, yaml, &[])
    }

    /// The same with these variables, which win over it.
    pub fn engine_as(&self, shards: u16, yaml: &str, variables: &[(&str, &str)]) -> Process {
        let port = free_ports(1).expect("a free port")[0];
        let admin = SocketAddr::from(([127, 0, 0, 1], port));
        let file = |name: &str| self.folder.path().join(format!("{name}-{port}"));
        let (config, output) = (file("task.yaml"), file("output"));
        std::fs::write(&config, yaml).expect("a configuration");
        let out = std::fs::File::create(&output).expect("an output file");
        let err = out.try_clone().expect("an output file");
        let child = Command::new(binary())
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["--cores", &shards.to_string(), "--admin", &admin.to_string()])
            // Where its file of dead letters goes.
            .current_dir(self.folder.path())
            .env("STATE_DIRECTORY", self.folder.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the engine starts");
        Process { child, admin, output }
    }

    /// What another command of the program says, with this section of the configuration.
    pub fn command(&self, more: &str, args: &[&str]) -> Output {
        let config = self.folder.path().join("command.yaml");
        std::fs::write(&config, self.yaml() + more).expect("a configuration");
        let mut command = Command::new(binary());
        command.args(args).arg("--config").arg(&config).current_dir(self.folder.path());
        command.output().expect("it runs")
    }

    /// The file of dead letters, when there are any.
    pub fn letters(&self) -> PathBuf {
        self.folder.path().join("task-engine-dead-letters.jsonl")
    }

    /// The configuration of an engine on these servers.
    pub fn yaml(&self) -> String {
        self.config().text()
    }

    /// The same, to be changed.
    pub fn config(&self) -> EngineConfig {
        let [nats, redis, mysql, etcd] = SECRETS;
        let mut config = EngineConfig::of(&self.nats, &self.redis, &self.maria, &self.etcd);
        config.set("nats", "token", nats).set("nats", "reconnect_delay", "100ms").set("redis", "password", redis);
        config.set("mysql", "username", "engine").set("mysql", "password", mysql);
        config.set("etcd", "username", "root").set("etcd", "password", etcd);
        config
    }
}

/// Publishes events over core NATS.
pub struct Publisher(nats::Connection);

impl Publisher {
    /// Publishes text messages and returns when the server has them all.
    pub fn publish(&self, session: &str, from: &str, msg_ids: impl IntoIterator<Item = i64>) {
        for msg_id in msg_ids {
            self.send(&event(session, from, msg_id).encode_to_vec());
        }
        self.flush();
    }

    /// Hands one payload to the client.
    pub fn send(&self, payload: &[u8]) {
        self.send_to(SUBJECT, payload);
    }

    /// The same on another subject.
    pub fn send_to(&self, subject: &str, payload: &[u8]) {
        self.0.publish(subject, payload).expect("published");
    }

    /// Returns when the server has all that was sent.
    pub fn flush(&self) {
        self.0.flush_timeout(PATIENCE).expect("flushed");
    }
}

/// The running binary; killed with its value.
pub struct Process {
    child: Child,
    admin: SocketAddr,
    output: PathBuf,
}

impl Process {
    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(Instant::now() < deadline, "never ready: {:?}\n{}", self.page("/readyz?verbose"), self.output());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Whether `/readyz` answers 200 now.
    pub fn is_ready(&self) -> bool {
        self.page("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Where its admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Status and body of an admin page; nothing when there is no answer.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        let page = pages::request(self.admin, "GET", path, "", PATIENCE)?;
        Some((page.status, page.body))
    }

    /// The metric page, after checking the conservation law on it.
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.page("/metrics").unwrap_or_else(|| panic!("no metrics\n{}", self.output()));
        assert_eq!(status, 200);
        let metrics = Metrics(text);
        metrics.assert_conserved();
        metrics
    }

    /// Waits until the metrics satisfy `holds` and gives them.
    pub fn wait_metrics(&self, what: &str, mut holds: impl FnMut(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "never came true: {what}\n{}\n{}", metrics.numbers(), self.output());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until so many events have arrived and all of them ended.
    pub fn wait_ended(&self, events: u64) -> Metrics {
        self.wait_metrics(&format!("{events} events have ended"), |metrics| {
            metrics.of("events_arrived_total", "") == events && metrics.of("events_in_flight", "") == 0
        })
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM.
    pub fn signal(&self) {
        self.send(libc::SIGTERM);
    }

    /// Sends any signal.
    pub fn send(&self, signal: i32) {
        crate::signals::send(&self.child, signal);
    }

    /// SIGTERM; gives its exit status and all it wrote.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal();
        self.wait()
    }

    /// Waits for its end; gives its exit status and all it wrote.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("the engine ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        (status.expect("just seen"), self.output())
    }

    /// SIGTERM; asserts exit code 0, a report without anything cut off, and that no password was written.
    pub fn stop_clean(self) -> String {
        let (status, output) = self.terminate();
        assert_eq!(status.code(), Some(0), "{output}");
        assert!(output.contains("cut off: 0 events, 0 pushes"), "{output}");
        SECRETS.iter().for_each(|secret| assert!(!output.contains(secret), "a password in the output:\n{output}"));
        output
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One page of numbers.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum over all lines of this name (without `task_engine_`) whose labels contain `label`.
    pub fn of(&self, name: &str, label: &str) -> u64 {
        self.lines(name).into_iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// The recipients that ended so.
    pub fn recipients(&self, end: &str) -> u64 {
        self.of("recipients_ended_total", &format!("end=\"{end}\""))
    }

    /// The recipients that could not be reached, by why; with the inbox on they end as `stored`.
    pub fn unreached(&self, why: &str) -> u64 {
        self.of("recipients_unreached_total", &format!("why=\"{why}\""))
    }

    /// The events that ended so.
    pub fn events(&self, end: &str) -> u64 {
        self.of("events_ended_total", &format!("end=\"{end}\""))
    }

    fn lines(&self, name: &str) -> Vec<(&str, u64)> {
        let name = format!("task_engine_{name}");
        pages::series(&self.0, &name).map(|(labels, value)| (labels, value as u64)).collect()
    }

    fn assert_conserved(&self) {
        for what in ["events", "recipients"] {
            let of = |name: &str| self.of(&format!("{what}_{name}"), "");
            assert!(!self.lines(&format!("{what}_arrived_total")).is_empty(), "{}", self.0);
            assert_eq!(of("arrived_total"), of("ended_total") + of("in_flight"), "{what}:\n{}", self.numbers());
        }
    }

    /// The lines that are not zero, for messages.
    pub fn numbers(&self) -> String {
        let told = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket");
        self.0.lines().filter(told).collect::<Vec<_>>().join("\n")
    }
}

/// The message ids that one user got of one session, in order, whatever the gateway; refused pushes left out.
pub fn got(records: &[Record], session: &str, user: &str) -> Vec<i64> {
    let mine = records.iter().filter(|record| record.session == session && record.recipient == user);
    mine.filter(|record| record.answer != Answer::Refused).map(|record| record.msg_id).collect()
}
