//! Real servers with everything an engine needs, and users who lack something.

#![allow(deprecated, reason = "the sync nats client asks for the tests")]

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use harness::gateways::{Gateway, GatewayOptions, Log};
use harness::servers::{EngineConfig, Etcd, EtcdOptions, Nats, NatsOptions, Redis, RedisOptions, free_port};
use serde_json::Value;
use tempfile::TempDir;
use testkit::databases::{Database, Kind};
use testkit::wait::eventually;

const SECRET: &str = "right-secret";
/// Who reads and writes all; who may not acknowledge; and one without JetStream.
const NATS_USERS: &str = r#"
jetstream { store_dir: "DIR" }
accounts {
  EVENTS { jetstream: enabled, users: [
    { user: engine, password: "right-secret" }
    { user: lesser, password: "right-secret", permissions: { publish: { deny: ["$JS.ACK.>"] } } }
  ] }
  PLAIN { users: [ { user: streamless, password: "right-secret" } ] }
}
"#;

/// Makes it right again.
type Mend = Box<dyn FnOnce(&World)>;

/// What is different in a broken world.
#[derive(Default)]
pub struct Broken {
    key: Option<(&'static str, &'static str, String)>,
    limit: Option<&'static str>,
    mend: Option<Mend>,
}

/// A key of the configuration.
pub fn broken(section: &'static str, key: &'static str, value: impl ToString) -> Broken {
    Broken { key: Some((section, key, value.to_string())), ..Broken::default() }
}

/// A server.
pub fn hurt(world: &World, breaks: impl FnOnce(&World), mends: impl FnOnce(&World) + 'static) -> Broken {
    breaks(world);
    Broken { mend: Some(Box::new(mends)), ..Broken::default() }
}

impl Broken {
    /// The process may have no more than this (`ulimit`).
    pub fn limited(limit: &'static str) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    pub fn mend(&mut self, world: &World) {
        if let Some(mend) = self.mend.take() {
            mend(world);
        }
    }
}

/// What `doctor` said.
pub struct Seen {
    pub code: i32,
    text: String,
    findings: Vec<Value>,
}

impl Seen {
    /// The checks that are not well, each once.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.findings.iter().filter(|finding| finding["grade"] != "ok");
        let mut checks: Vec<_> = wrong.filter_map(|finding| Some(finding["check"].as_str()?.to_owned())).collect();
        checks.dedup();
        checks
    }

    /// Whether it says what to do about what is wrong.
    pub fn has_advice(&self) -> bool {
        let wrong = self.findings.iter().filter(|finding| finding["grade"] != "ok");
        wrong.filter_map(|finding| finding["advice"].as_str()).any(|advice| !advice.is_empty())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.findings.iter().filter(|finding| finding["grade"] != "ok").map(ToString::to_string);
        let text = if self.findings.is_empty() { &self.text } else { "" };
        write!(f, "exit code {}\n{text}{}", self.code, wrong.collect::<Vec<_>>().join("\n"))
    }
}

pub struct World {
    pub nats: Nats,
    pub database: Database,
    pub redis: Redis,
    pub etcd: Etcd,
    /// A port where nobody listens.
    pub closed: u16,
    gateway: Gateway,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    odd: Mutex<Vec<Redis>>,
}

impl World {
    /// With this database.
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let config = NATS_USERS.replace("DIR", &folder.path().join("streams").display().to_string());
        let redis = "user lesser on >right-secret +hello +auth +ping ~resonance:router:user:*\n\
                     user untold on >right-secret +hello +auth +mget +info ~resonance:router:user:*\n";
        let redis = RedisOptions { password: SECRET.to_owned(), config: redis.to_owned() };
        let world = Self {
            nats: Nats::start(&NatsOptions { config, ..NatsOptions::default() }).expect("NATS"),
            database: Database::start(kind),
            redis: Redis::start(&redis).expect("Redis"),
            etcd: Etcd::start(&EtcdOptions { root_password: SECRET.to_owned(), tls: None }).expect("etcd"),
            closed: free_port().expect("a free port"),
            gateway: Gateway::start(GatewayOptions::new("gw-1", Log::shared())).expect("a gateway"),
            folder,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            odd: Mutex::default(),
        };
        world.database.run(world.database.either(
            &[
                "CREATE USER engine IDENTIFIED BY 'right-secret'",
                "GRANT ALL ON resonance.* TO engine",
                "CREATE USER lesser IDENTIFIED BY 'right-secret'",
                "GRANT SELECT ON resonance.* TO lesser",
            ],
            &[
                "CREATE USER engine PASSWORD 'right-secret'; CREATE USER lesser PASSWORD 'right-secret'",
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO engine, lesser",
                "GRANT INSERT ON t_inbox TO engine",
                "GRANT USAGE ON SEQUENCE t_inbox_id_seq TO engine",
            ],
        ));
        world.in_etcd(async |client| {
            client.user_add("lesser", SECRET, None).await.expect("a user");
            let value = format!(r#"{{"id":"gw-1","endpoints":["grpc://{}"]}}"#, world.gateway());
            client.put("/resonance/services/gateway-service/one", value, None).await.expect("etcd writes");
        });
        world.setup();
        let pushes = serde_json::json!({ "stream_name": "EVENTS", "config": {
            "durable_name": "pushes", "deliver_subject": "somewhere", "ack_policy": "explicit" } });
        world.jetstream("CONSUMER.DURABLE.CREATE.EVENTS.pushes", &pushes);
        world
    }

    /// Where the gateway is.
    pub fn gateway(&self) -> String {
        self.gateway.addr().to_string()
    }

    /// Makes what JetStream lacks.
    pub fn setup(&self) {
        let made = self.command(&["setup"], &Broken::default()).output().expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    pub fn doctor(&self, broken: &Broken) -> Seen {
        let output = self.command(&["doctor", "--json"], broken).output().expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let findings = json["findings"].as_array().cloned().unwrap_or_default();
        Seen { code: output.status.code().unwrap_or(-1), text, findings }
    }

    fn command(&self, args: &[&str], broken: &Broken) -> Command {
        let path = self.config(broken);
        let mut command = Command::new("sh");
        let limit = broken.limit.map_or(String::new(), |limit| format!("ulimit {limit} && "));
        command.args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_task-engine")]);
        command.args(args).arg("--config").arg(path).current_dir(self.folder.path());
        command
    }

    fn config(&self, broken: &Broken) -> PathBuf {
        let mut config = EngineConfig::of(&self.nats, &self.redis, self.database.store(), &self.etcd);
        config.set("nats", "username", "engine").set("nats", "password", SECRET).set("redis", "password", SECRET);
        let section = self.database.section();
        config.set(section, "username", "engine").set(section, "password", SECRET);
        config.set("etcd", "username", "root").set("etcd", "password", SECRET);
        config.set("consumer", "mode", "jetstream").set("consumer", "stream", "EVENTS");
        config.set("engine", "cores", 1);
        if let Some((section, key, value)) = &broken.key {
            config.set(section, key, value);
        }
        let path = self.folder.path().join("task.yaml");
        config.write(&path).expect("a configuration");
        path
    }

    /// Breaks by one statement, and mends by another.
    pub fn sql(&self, breaks: &str, mends: &str) -> Broken {
        let mends = mends.to_owned();
        hurt(self, |world| world.database.run(&[breaks]), move |world| world.database.run(&[&mends]))
    }

    /// Is mended by this.
    pub fn mends(&self, mend: fn(&World)) -> Broken {
        Broken { mend: Some(Box::new(mend)), ..Broken::default() }
    }

    /// Says something to Redis.
    pub fn redis_says(&self, commands: &[&str]) {
        let mut connection =
            redis::Client::open(self.redis.url()).and_then(|client| client.get_connection()).expect("Redis");
        for command in commands {
            let mut words = command.split(' ');
            let mut command = redis::cmd(words.next().expect("a word"));
            for word in words {
                command.arg(word);
            }
            command.exec(&mut connection).expect("Redis takes it");
        }
    }

    /// The address of another Redis, with this line.
    pub fn odd_redis(&self, line: &str) -> String {
        let options = RedisOptions { password: SECRET.to_owned(), config: line.to_owned() };
        let redis = Redis::start(&options).expect("Redis");
        let address = redis.addr();
        self.odd.lock().expect("no panic").push(redis);
        address
    }

    /// The address of a relay before Redis that makes its seconds older.
    pub fn redis_of_another_time(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, redis) = (listener.local_addr().expect("its address").to_string(), self.redis.addr());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&redis).expect("Redis");
                let (mut up, mut back) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
                let mut from = client;
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut up)));
                let (mut server, mut piece) = (server, [0; 64 * 1024]);
                while let Ok(read @ 1..) = server.read(&mut piece) {
                    let seconds = b"$10\r\n1";
                    if let Some(at) = piece[..read].windows(seconds.len()).position(|window| window == seconds) {
                        piece[at + seconds.len()] = b'0';
                    }
                    if back.write_all(&piece[..read]).is_err() {
                        break;
                    }
                }
            }
        });
        address
    }

    /// The address of a gateway that takes no end of a stream but one in a frame of data, as grpc-go does.
    pub fn gateway_as_in_go(&self) -> String {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("its address").to_string()).expect("the test waits");
                while let Ok((socket, _)) = listener.accept().await {
                    let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
                    let mut unanswered = Vec::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if request.body().is_end_stream() {
                            unanswered.push(respond);
                            continue;
                        }
                        tokio::spawn(async move {
                            let mut body = request.into_body();
                            while body.data().await.is_some() {}
                            let answer = http::Response::builder().header("content-type", "application/grpc");
                            let answer = answer.header("grpc-status", "0").body(()).expect("an answer");
                            drop(respond.send_response(answer, true));
                        });
                    }
                }
            });
        });
        told.recv().expect("it listens")
    }

    /// Registers this beside the gateway.
    pub fn registers(&self, value: &str) -> Broken {
        const KEY: &str = "/resonance/services/gateway-service/two";
        self.in_etcd(async |client| drop(client.put(KEY, value, None).await.expect("etcd writes")));
        self.mends(|world| world.in_etcd(async |client| drop(client.delete(KEY, None).await.expect("etcd deletes"))))
    }

    fn in_etcd<T>(&self, work: impl AsyncFnOnce(&mut etcd_client::Client) -> T) -> T {
        self.runtime.block_on(async {
            let options = self.etcd.connect_options();
            let mut client = etcd_client::Client::connect([self.etcd.addr()], options).await.expect("etcd answers");
            work(&mut client).await
        })
    }

    /// One request to JetStream, and its answer.
    pub fn jetstream(&self, subject: &str, body: &Value) -> Value {
        let connection = nats::Options::with_user_pass("engine", SECRET).connect(self.nats.addr()).expect("NATS");
        let subject = format!("$JS.API.{subject}");
        let answer = connection.request_timeout(&subject, body.to_string(), Duration::from_secs(5)).expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.data).expect("JSON");
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }

    /// Changes some of a stream's configuration.
    pub fn change_stream(&self, stream: &str, change: &Value) {
        let mut config = self.jetstream(&format!("STREAM.INFO.{stream}"), &serde_json::json!({}))["config"].clone();
        for (key, value) in change.as_object().expect("an object") {
            config[key] = value.clone();
        }
        self.jetstream(&format!("STREAM.UPDATE.{stream}"), &config);
    }

    /// All that doctor looks at and could have changed.
    pub fn state(&self) -> Vec<String> {
        let mut all = Vec::new();
        for ask in ["STREAM.NAMES", "CONSUMER.NAMES.EVENTS", "CONSUMER.INFO.EVENTS.task-engine"] {
            let answer = self.jetstream_or_not(ask);
            all.push(answer);
        }
        let mut root = self.database.root();
        for described in self.database.either(
            [
                "SELECT CONCAT_WS(' ', table_name, column_name, column_type, is_nullable, character_set_name) \
                 FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position",
                "SELECT CONCAT_WS(' ', table_name, index_name, non_unique, column_name) FROM information_schema.statistics \
                 WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index",
            ],
            [
                "SELECT CONCAT_WS(' ', attrelid::regclass, attname, atttypid::regtype, atttypmod, attnotnull, atthasdef) \
                 FROM pg_attribute WHERE attrelid::regclass::text LIKE 't_%' AND NOT attisdropped AND attnum > 0 ORDER BY attrelid::regclass::text, attnum",
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
            ],
        ) {
            all.extend(root.texts(described));
        }
        all.push(format!(
            "{:?}",
            ["t_session_member", "t_inbox"].map(|table| root.number(&format!("SELECT COUNT(*) FROM {table}")))
        ));
        let keys = self.in_etcd(async |client| {
            let options = etcd_client::GetOptions::new().with_prefix().with_keys_only();
            let page = client.get("/", Some(options)).await.expect("etcd reads");
            page.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect::<Vec<_>>()
        });
        all.extend(keys);
        let redis = redis::Client::open(self.redis.url()).and_then(|client| client.get_connection());
        let mut redis = redis.expect("Redis answers");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).expect("keys");
        all.push(format!("{keys:?}"));
        eventually("the gateway has no stream left", || self.gateway.open() == 0);
        assert_eq!(self.gateway.pushes(), 0);
        all
    }

    /// The names of an answer, or that there is none.
    fn jetstream_or_not(&self, subject: &str) -> String {
        let connection = nats::Options::with_user_pass("engine", SECRET).connect(self.nats.addr()).expect("NATS");
        let answer =
            connection.request_timeout(&format!("$JS.API.{subject}"), "{}", Duration::from_secs(5)).expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.data).expect("JSON");
        format!("{:?} {:?} {:?}", answer["streams"], answer["consumers"], answer["config"])
    }
}
