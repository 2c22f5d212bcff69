//! The real thing, for end-to-end tests: real NATS, Redis, MariaDB and etcd, each with a password, real gRPC gateways,
//! and the `task-engine` binary between them.
//!
//! Promises that nothing outlives its value, and that every wait has a deadline and says what never came true.
#![allow(deprecated, reason = "the sync nats client publishes for the tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use harness::gateways::{Gateway, GatewayOptions, Log, Protocols};
use harness::servers::{
    EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsAuth, NatsOptions, OverTls, Redis, RedisOptions, free_port,
};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use prost::Message;
use tempfile::TempDir;

pub use crate::events::event;
pub use crate::process::{Metrics, Process, got};
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
    /// Where the servers speak TLS.
    pub tls: Option<OverTls>,
    pub log: Arc<Log>,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

/// A MariaDB that the engine may use.
pub fn maria() -> Maria {
    for_the_engine(Maria::start().expect("MariaDB"), "")
}

/// One that speaks TLS to it.
fn maria_over(tls: &OverTls) -> Maria {
    for_the_engine(Maria::over_tls(&tls.authority, &tls.theirs).expect("MariaDB"), "REQUIRE X509")
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
    /// Starts the servers, empty; where `TEST_OVER_TLS` is set, as [`World::over_tls`] does.
    pub fn start() -> Self {
        if std::env::var_os("TEST_OVER_TLS").is_some() { Self::over_tls() } else { Self::with(maria(), "", "", None) }
    }

    /// The same on servers that speak TLS, to the engine nothing else: it has to ask for TLS, and to have a certificate of the same CA.
    /// The test itself reaches them plainly.
    pub fn over_tls() -> Self {
        let tls = OverTls::new().expect("a CA");
        let maria = maria_over(&tls);
        let nats = tls.authority.nats_block(&tls.theirs, "verify: true") + "allow_non_tls: true\n";
        let redis = tls.redis();
        Self::with(maria, &nats, &redis, Some(tls))
    }

    fn with(maria: Maria, nats: &str, redis: &str, tls: Option<OverTls>) -> Self {
        let auth = NatsAuth::Token(SECRETS[0].to_owned());
        // Larger than any gRPC message, so that the engine is the one who refuses.
        let config = format!("max_payload: 8388608\n{nats}");
        let redis = RedisOptions { password: SECRETS[1].to_owned(), config: redis.to_owned() };
        let pair = tls.as_ref().map(|tls| (&tls.authority, &tls.theirs));
        let etcd = Etcd::start(&EtcdOptions { root_password: SECRETS[3].to_owned(), tls: pair }).expect("etcd");
        Self {
            nats: Nats::start(&NatsOptions { auth, config, ..NatsOptions::default() }).expect("NATS"),
            redis: Redis::start(&redis).expect("Redis"),
            maria,
            etcd,
            tls,
            log: Log::shared(),
            folder: tempfile::tempdir().expect("a temp folder"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    /// Another MariaDB, which the engine may use as the first.
    pub fn another_maria(&self) -> Maria {
        self.tls.as_ref().map_or_else(maria, maria_over)
    }

    /// A gateway that all tests' pushes are logged of, registered in etcd.
    pub fn gateway(&self, id: &str, protocols: Protocols) -> Gateway {
        let gateway = self.plain_gateway(id, protocols);
        if let Some(tls) = &self.tls {
            gateway.secure(&tls.authority, &tls.theirs).expect("a certificate");
            self.register_gateway(&gateway, "grpcs");
        }
        gateway
    }

    /// One that speaks no TLS, whatever the servers do.
    pub fn plain_gateway(&self, id: &str, protocols: Protocols) -> Gateway {
        let options = GatewayOptions::new(id, self.log.clone()).protocols(protocols);
        let gateway = Gateway::start(options).expect("a gateway");
        self.register_gateway(&gateway, "grpc");
        gateway
    }

    fn register_gateway(&self, gateway: &Gateway, scheme: &str) {
        let (id, address) = (gateway.id(), gateway.addr());
        let metadata = match gateway.protocols() {
            Protocols::STREAM => format!(r#"{{"gateway_id":"{id}"}}"#),
            other => format!(r#"{{"gateway_id":"{id}","push_protocols":"{}"}}"#, other.announcement()),
        };
        self.register(
            id,
            &format!(
                r#"{{"id":"instance-{id}","name":"gateway-service","version":"1","metadata":{metadata},"endpoints":["{scheme}://{address}"]}}"#
            ),
        );
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
        // Not in the file, where `more` may have the section.
        let gateway = self.tls.iter().flat_map(|tls| tls.variables("RESONANCE_GATEWAY_TLS"));
        let gateway: Vec<_> = gateway.collect();
        let gateway = gateway.iter().map(|(name, path)| (name.as_str(), path.as_str()));
        let variables: Vec<_> = gateway.chain(variables.iter().copied()).collect();
        self.engine_as(shards, &(self.yaml() + more), &variables)
    }

    /// The same with a configuration of its own.
    pub fn engine_of(&self, shards: u16, yaml: &str) -> Process {
        self.engine_as(shards, yaml, &[])
    }

    /// The same with these variables, which win over it.
    pub fn engine_as(&self, shards: u16, yaml: &str, variables: &[(&str, &str)]) -> Process {
        let port = free_port().expect("a free port");
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
        Process { child, admin, config, output }
    }

    /// What another command of the program says, with this section of the configuration.
    pub fn command(&self, more: &str, args: &[&str]) -> Output {
        self.command_as(&(self.yaml() + more), &[], args)
    }

    /// The same with a configuration of its own, and with these variables, which win over it.
    pub fn command_as(&self, yaml: &str, variables: &[(&str, &str)], args: &[&str]) -> Output {
        let config = self.folder.path().join("command.yaml");
        std::fs::write(&config, yaml).expect("a configuration");
        let mut command = Command::new(binary());
        command.args(args).arg("--config").arg(&config).current_dir(self.folder.path());
        command.envs(variables.iter().copied()).output().expect("it runs")
    }

    /// The file of dead letters, when there are any.
    pub fn letters(&self) -> PathBuf {
        self.folder.path().join("task-engine-dead-letters.jsonl")
    }

    /// The configuration of an engine on these servers, to which sections may be added: how it speaks TLS to gateways is not in it.
    pub fn yaml(&self) -> String {
        self.servers().text()
    }

    /// The whole of it, to be changed. Where the servers speak TLS, so does the engine to them and to gateways.
    pub fn config(&self) -> EngineConfig {
        let mut config = self.servers();
        if let Some(tls) = &self.tls {
            config.set("gateway", "tls", tls.block());
        }
        config
    }

    fn servers(&self) -> EngineConfig {
        let mut config = self.plain_config();
        if let Some(tls) = &self.tls {
            tls.set(&mut config, "mysql", &self.etcd);
        }
        config
    }

    /// The configuration of an engine that speaks no TLS to servers that let it.
    pub fn plain_config(&self) -> EngineConfig {
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
