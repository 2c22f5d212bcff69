//! Real servers, one gateway, and engines that reach some of the servers through doors.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::gateways::Gateway;
use harness::servers::NatsVersion;
use serde_json::Value;

use crate::door::{Door, Way};
use crate::jetstream_support::world_of;
use testkit::engine::{PATIENCE, Process, SUBJECT, World, event, eventually};

/// Sessions of two members each.
pub const SESSIONS: usize = 20;

/// See the module.
pub struct Scene {
    pub world: World,
    pub client: nats::Connection,
    _gateway: Gateway,
}

/// One engine, and its own ways to the stores.
pub struct Instance {
    pub engine: Process,
    pub redis: Door,
    pub mysql: Door,
    pub etcd: Door,
}

/// How an instance's ways to Redis, MySQL and etcd are at first.
pub const ALL_OPEN: [Way; 3] = [Way::Open; 3];

impl Scene {
    /// With a stream `S` for both assignments.
    pub fn start(version: NatsVersion) -> Self {
        let (world, client, gateway) = world_of(version, SESSIONS);
        let scene = Self { world, client, _gateway: gateway };
        let stream = format!(r#"{{"name":"S","subjects":["{SUBJECT}","{SUBJECT}.*"],"storage":"file"}}"#);
        assert!(scene.ask("STREAM.CREATE.S", &stream)["error"].is_null());
        scene
    }

    /// A request to JetStream's API.
    pub fn ask(&self, subject: &str, body: &str) -> Value {
        let answer = self.client.request_timeout(&format!("$JS.API.{subject}"), body, PATIENCE).expect("an answer");
        serde_json::from_slice(&answer.data).expect("JSON")
    }

    /// An instance with these ways to Redis, MySQL and etcd.
    pub fn instance(&self, consumer: &str, ways: [Way; 3]) -> Instance {
        self.instance_of("engine", consumer, ways)
    }

    /// The same, as this user of MySQL.
    pub fn instance_of(&self, mysql_user: &str, consumer: &str, [redis, mysql, etcd]: [Way; 3]) -> Instance {
        let port = |addr: &str| addr.rsplit_once(':').expect("host:port").1.parse::<u16>().expect("a port");
        let redis = Door::to(port(&self.world.redis.addr()), redis);
        let mysql = Door::to(self.world.maria.port(), mysql);
        let etcd = Door::to(port(&self.world.etcd.addr()), etcd);
        let yaml = self
            .world
            .yaml()
            .replace("username: engine", &format!("username: {mysql_user}"))
            .replace(&self.world.redis.addr(), &format!("127.0.0.1:{}", redis.port()))
            .replace(&format!("port: {}", self.world.maria.port()), &format!("port: {}", mysql.port()))
            .replace(&self.world.etcd.addr(), &format!("127.0.0.1:{}", etcd.port()));
        let engine = self.world.engine_of(2, &(yaml + consumer));
        Instance { engine, redis, mysql, etcd }
    }

    /// Publishes an event for each of these, over all sessions, and waits until the server has them.
    pub fn publish(&self, msg_ids: std::ops::Range<i64>) {
        self.publish_on(msg_ids, |_| SUBJECT.to_owned());
    }

    /// The same on a subject that depends on the session.
    pub fn publish_on(&self, msg_ids: std::ops::Range<i64>, subject: impl Fn(&str) -> String) {
        use prost::Message;
        for msg_id in msg_ids {
            let session = session_of(msg_id);
            let payload = event(&session, "system", msg_id).encode_to_vec();
            self.client.publish(&subject(&session), payload).expect("published");
        }
        self.client.flush_timeout(PATIENCE).expect("flushed");
    }

    /// Waits until each of these was pushed to both members of its session; nobody got anything twice.
    pub fn until_pushed(&self, msg_ids: std::ops::Range<i64>, engines: &[&Process]) {
        let want: BTreeSet<i64> = msg_ids.collect();
        let mut missing = Vec::new();
        let is_done = || {
            let mut seen = BTreeSet::new();
            for record in self.world.log.records() {
                let is_b = record.recipient.starts_with('b');
                assert!(seen.insert((record.msg_id, is_b)), "{} came twice to {}", record.msg_id, record.recipient);
            }
            missing =
                want.iter().filter(|id| !seen.contains(&(**id, true)) || !seen.contains(&(**id, false))).collect();
            missing.is_empty()
        };
        let said = || engines.iter().map(|engine| engine.output()).collect::<Vec<_>>().join("\n---\n");
        let is_done = std::cell::RefCell::new(is_done);
        let began = std::time::Instant::now();
        while !(is_done.borrow_mut())() {
            assert!(began.elapsed() < PATIENCE, "not pushed\n{}", said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until nothing of a durable is out or to come.
    pub fn until_settled(&self, durable: &str) {
        eventually("all is acknowledged", || {
            let info = self.ask(&format!("CONSUMER.INFO.S.{durable}"), "");
            info["num_ack_pending"] == 0 && info["num_pending"] == 0
        });
    }
}

/// The session that an event is of.
pub fn session_of(msg_id: i64) -> String {
    format!("group:{}", msg_id as usize % SESSIONS)
}

/// The subject of the partition that a session's events are published to, of the four that [`jetstream`] has.
pub fn partition_of(session: &str) -> String {
    let hash = session.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{SUBJECT}.{}", hash % 4)
}

/// A JetStream consumer's part of the configuration.
pub fn jetstream(assignment: &str) -> String {
    format!(
        "consumer:\n  mode: jetstream\n  stream: S\n  durable: d\n  assignment: {assignment}\n  partitions: 4\n  \
         ack_wait: 2s\n  retry_interval: 500ms\n  max_ack_pending: 256\n"
    )
}

/// Core NATS.
pub const CORE: &str = "consumer:\n  ack_wait: 2s\n  retry_interval: 500ms\n";
