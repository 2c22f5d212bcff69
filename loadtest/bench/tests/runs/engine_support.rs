//! Real servers, gateways, and one of this program's own engines on them.
#![allow(dead_code)] // each test has its own need of it

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::gateways::{Answer, Gateway, GatewayOptions, Log, Protocols};
use harness::pages;
use harness::publisher::NatsPublisher;
use harness::servers::{EngineConfig, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions, free_port};
use mysql::prelude::Queryable as _;
use prost::Message as _;
use task_engine::model::proto::event::PushEvent;

pub const TOPIC: &str = "resonance.push.event.v1";
pub const SOON: Duration = Duration::from_secs(20);

pub struct Bed {
    nats: Nats,
    redis: Redis,
    maria: Maria,
    pub etcd: Etcd,
    pub log: Arc<Log>,
    pub gateways: Vec<Gateway>,
    _beside_others: std::sync::RwLockReadGuard<'static, ()>,
}

impl Bed {
    /// Servers and gateways `g0`, `g1` ... that are registered as speaking `announced`.
    pub fn start(gateways: &[Protocols], announced: impl Fn(Protocols) -> String) -> Self {
        let log = Log::shared();
        let start = |(number, protocols): (usize, &Protocols)| {
            Gateway::start(GatewayOptions::new(format!("g{number}"), log.clone()).protocols(*protocols)).unwrap()
        };
        let bed = Self {
            _beside_others: crate::MEASURED.read().unwrap_or_else(std::sync::PoisonError::into_inner),
            nats: Nats::start(&NatsOptions::default()).unwrap(),
            redis: Redis::start(&RedisOptions { password: "geheim".into(), ..Default::default() }).unwrap(),
            maria: Maria::start().unwrap(),
            etcd: Etcd::start(&EtcdOptions::default()).unwrap(),
            gateways: gateways.iter().enumerate().map(start).collect(),
            log,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut etcd = etcd_client::Client::connect([bed.etcd.addr()], None).await.unwrap();
            for gateway in &bed.gateways {
                let id = gateway.id();
                let value = format!(
                    r#"{{"id":"i-{id}","metadata":{{"gateway_id":"{id}","push_protocols":"{}"}},"endpoints":["grpc://{}"]}}"#,
                    announced(gateway.protocols()),
                    gateway.addr()
                );
                etcd.put(format!("/resonance/services/gateway-service/i-{id}"), value, None).await.unwrap();
            }
        });
        bed
    }

    pub fn members(&self, session: &str, users: &[&str]) {
        let mut connection = self.maria.connect().unwrap();
        let insert = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
        connection.exec_batch(insert, users.iter().map(|user| (session, *user))).unwrap();
    }

    pub fn route(&self, user: &str, gateway: &str) {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let value = format!(r#"{{"username":"{user}","gateway_id":"{gateway}","remote_ip":"::1","timestamp":1}}"#);
        let mut set = redis::cmd("SET");
        set.arg(format!("resonance:router:user:{user}"))
            .arg(value)
            .exec(&mut client.get_connection().unwrap())
            .unwrap();
    }

    /// Bytes that need not be an event.
    pub fn publish_bytes(&self, payload: &[u8]) {
        let mut publisher = NatsPublisher::connect(&self.nats.addr()).unwrap();
        publisher.publish(TOPIC, payload).unwrap();
        publisher.sync().unwrap();
    }

    pub fn publish(&self, session: &str, from: &str, messages: impl IntoIterator<Item = i64>) {
        let mut publisher = NatsPublisher::connect(&self.nats.addr()).unwrap();
        for msg_id in messages {
            let event = PushEvent {
                msg_id,
                seq_id: msg_id + 7,
                session_id: session.into(),
                from_username: from.into(),
                content: format!("content {msg_id}"),
                r#type: "text".into(),
                timestamp: 1_732_000_000,
                session_name: "name".into(),
                session_type: 2,
                ..Default::default()
            };
            publisher.publish(TOPIC, &event.encode_to_vec()).unwrap();
        }
        publisher.sync().unwrap();
    }

    pub fn delivered(&self, session: &str, user: &str, messages: impl Iterator<Item = i64>) {
        let messages: Vec<i64> = messages.collect();
        let taken = |record: &&harness::gateways::Record| {
            record.session == session && record.recipient == user && record.answer != Answer::Refused
        };
        let enough = self.log.wait(SOON, |records| records.iter().filter(taken).count() >= messages.len());
        assert!(enough.is_ok(), "{user}: {:?} of {messages:?}", self.log.delivered(session, user));
        assert_eq!(self.log.delivered(session, user), messages, "{session}, {user}");
    }
}

/// The engine as a process of its own.
pub struct Engine {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Engine {
    /// `name` is the subcommand.
    pub fn start(name: &str, cores: u16, bed: &Bed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("task.yaml");
        let mut text = EngineConfig::of(&bed.nats, &bed.redis, &bed.maria, &bed.etcd);
        text.set("redis", "password", "geheim").set("consumer", "topic", TOPIC).write(&config).unwrap();
        let admin = free_port().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg(name).arg("--config").arg(&config).args(["--admin", &format!("127.0.0.1:{admin}")]);
        command.args(["--cores", &cores.to_string()]).stdout(Stdio::piped());
        let mut engine = Self { child: command.spawn().unwrap(), _folder: folder };
        let until = Instant::now() + SOON;
        while !is_ready(admin) {
            assert!(engine.child.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < until, "not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        engine
    }

    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Its last line, once it has ended as it should.
    pub fn last_words(mut self) -> String {
        let mut words = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut words).unwrap();
        assert!(self.child.wait().unwrap().success(), "{words}");
        words
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(port: u16) -> bool {
    pages::get(port, "/readyz").is_some_and(|page| page.status == 200)
}
