//! The reference engine on real servers: each event reaches each member's gateway once and in order, by each protocol, also
//! when a user has moved; and a stop finishes what was read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::gateways::{Answer, Behaviour, Gateway, GatewayOptions, Log, Protocols};
use loadtest::publisher::NatsPublisher;
use loadtest::servers::{Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions, free_ports};
use mysql::prelude::Queryable as _;
use prost::Message as _;
use task_engine::proto::event::PushEvent;

const TOPIC: &str = "resonance.push.event.v1";
const SOON: Duration = Duration::from_secs(20);

struct Bed {
    nats: Nats,
    redis: Redis,
    maria: Maria,
    etcd: Etcd,
    log: Arc<Log>,
    gateways: Vec<Gateway>,
}

impl Bed {
    /// Servers and gateways `g0`, `g1` ... that are registered as speaking `announced`.
    fn start(gateways: &[Protocols], announced: impl Fn(Protocols) -> String) -> Self {
        let log = Log::shared();
        let start = |(number, protocols): (usize, &Protocols)| {
            Gateway::start(GatewayOptions::new(format!("g{number}"), log.clone()).protocols(*protocols)).unwrap()
        };
        let bed = Self {
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

    fn members(&self, session: &str, users: &[&str]) {
        let mut connection = self.maria.connect().unwrap();
        let insert = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
        connection.exec_batch(insert, users.iter().map(|user| (session, *user))).unwrap();
    }

    fn route(&self, user: &str, gateway: &str) {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let value = format!(r#"{{"username":"{user}","gateway_id":"{gateway}","remote_ip":"::1","timestamp":1}}"#);
        let mut set = redis::cmd("SET");
        set.arg(format!("resonance:router:user:{user}"))
            .arg(value)
            .exec(&mut client.get_connection().unwrap())
            .unwrap();
    }

    fn publish(&self, session: &str, from: &str, messages: impl IntoIterator<Item = i64>) {
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

    fn delivered(&self, session: &str, user: &str, messages: impl Iterator<Item = i64>) {
        let messages: Vec<i64> = messages.collect();
        let taken = |record: &&loadtest::gateways::Record| {
            record.session == session && record.recipient == user && record.answer != Answer::Refused
        };
        let enough = self.log.wait(SOON, |records| records.iter().filter(taken).count() >= messages.len());
        assert!(enough.is_ok(), "{user}: {:?} of {messages:?}", self.log.delivered(session, user));
        assert_eq!(self.log.delivered(session, user), messages, "{session}, {user}");
    }
}

/// The engine as a process of its own.
struct Engine {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Engine {
    fn start(bed: &Bed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("task.yaml");
        let text = format!(
            "nats:\n  url: {}\nredis:\n  addr: {}\n  password: geheim\netcd:\n  endpoints: [\"{}\"]\n\
             mysql:\n  host: 127.0.0.1\n  port: {}\n  username: {}\n  password: {}\n  database: {}\n\
             consumer:\n  topic: {TOPIC}\n",
            bed.nats.url(),
            bed.redis.addr(),
            bed.etcd.addr(),
            bed.maria.port(),
            Maria::USER,
            Maria::PASSWORD,
            Maria::DATABASE
        );
        std::fs::write(&config, text).unwrap();
        let admin = free_ports(1).unwrap()[0];
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.arg("reference").arg("--config").arg(&config).args(["--admin", &format!("127.0.0.1:{admin}")]);
        command.args(["--cores", "2"]).stdout(Stdio::piped());
        let mut engine = Self { child: command.spawn().unwrap(), _folder: folder };
        let until = Instant::now() + SOON;
        while !is_ready(admin) {
            assert!(engine.child.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < until, "not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        engine
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Its last line, once it has ended as it should.
    fn last_words(mut self) -> String {
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
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn each_member_gets_each_message_once_and_in_order_by_each_protocol() {
    // g3 announces everything and knows only unary: the engine steps down twice.
    let protocols = [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY, Protocols::UNARY];
    let number = std::sync::atomic::AtomicUsize::new(0);
    let bed = Bed::start(&protocols, |known| {
        let is_last = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3;
        if is_last { Protocols::ALL.announcement() } else { known.announcement() }
    });
    let users: Vec<String> = (0..40).map(|user| format!("user{user}")).collect();
    let mut members: Vec<&str> = users.iter().map(String::as_str).collect();
    for (number, user) in users.iter().enumerate() {
        bed.route(user, &format!("g{}", number % 4));
    }
    members.extend(["sender", "gone"]);
    bed.members("group", &members);
    bed.members("pair", &["sender", "user2"]);
    let engine = Engine::start(&bed);
    bed.publish("group", "sender", (1..=200).chain([200, 1]));
    bed.publish("pair", "sender", 1001..=1050);
    for user in &users {
        bed.delivered("group", user, 1..=200);
    }
    bed.delivered("pair", "user2", 1001..=1050);
    engine.terminate();
    let words = engine.last_words();
    assert!(words.contains("252 events, 8050 pushes delivered, 200 offline, 0 failed, 0 unreached"), "{words}");
    assert!(words.contains("2 passed over, 0 failed, 0 dropped"), "{words}");
    assert_eq!(bed.log.records().len(), 8050);
    let message = bed.log.records().into_iter().find_map(|record| record.message).unwrap();
    assert_eq!((message.seq_id - message.msg_id, message.timestamp, &*message.r#type), (7, 1_732_000_000, "text"));
    assert_eq!(message.session_meta.map(|meta| (meta.name, meta.r#type)), Some(("name".into(), 2)));
}

#[test]
fn a_user_who_moved_gets_the_rest_at_the_other_gateway_in_order() {
    for protocols in [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY] {
        let bed = Bed::start(&[protocols, protocols], Protocols::announcement);
        bed.members("s", &["sender", "anna", "ben"]);
        bed.route("anna", "g0");
        bed.route("ben", "g0");
        let engine = Engine::start(&bed);
        bed.publish("s", "sender", 1..=50);
        bed.delivered("s", "anna", 1..=50);
        bed.gateways[0].refuse(["anna"]);
        // The gateway knows before Redis does: what comes in between is refused, asked again, and sent when it is known.
        bed.route("anna", "g1");
        bed.publish("s", "sender", 51..=300);
        bed.delivered("s", "anna", 1..=300);
        bed.delivered("s", "ben", 1..=300);
        assert!(bed.gateways[1].pushes() == 250 && bed.log.records().len() >= 601, "refused at least once");
        engine.terminate();
        let words = engine.last_words();
        assert!(words.contains("600 pushes delivered, 0 offline, 0 failed, 0 unreached"), "{words}");
    }
}

#[test]
fn a_cut_stream_loses_nothing_and_a_stop_finishes_what_was_read() {
    for protocols in [Protocols::STREAM, Protocols::BATCH, Protocols::UNARY] {
        let bed = Bed::start(&[protocols], Protocols::announcement);
        bed.members("s", &["sender", "anna"]);
        bed.route("anna", "g0");
        let engine = Engine::start(&bed);
        bed.gateways[0].behave(Behaviour::Deaf);
        bed.publish("s", "sender", 1..=100);
        bed.log.wait_for(1, SOON).unwrap();
        bed.gateways[0].cut_streams();
        // Sent again after the cut, and held again: a stop now has all of it before it.
        bed.gateways[0].wait("sent again", SOON, |gateway| gateway.streams() >= 2).unwrap();
        engine.terminate();
        bed.gateways[0].behave(Behaviour::Prompt);
        let words = engine.last_words();
        assert!(words.contains("100 events, 100 pushes delivered, 0 offline, 0 failed, 0 unreached"), "{words}");
        let mut taken = bed.log.delivered("s", "anna");
        assert_eq!(taken.last(), Some(&100));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken, (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn a_gateway_that_is_registered_late_still_gets_what_waits_and_one_that_never_comes_is_given_up() {
    let bed = Bed::start(&[Protocols::STREAM], Protocols::announcement);
    bed.members("s", &["sender", "anna", "ben"]);
    bed.route("anna", "late");
    bed.route("ben", "g0");
    let engine = Engine::start(&bed);
    bed.publish("s", "sender", 1..=20);
    bed.delivered("s", "ben", 1..=20);
    let late = Gateway::start(GatewayOptions::new("late", bed.log.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut etcd = etcd_client::Client::connect([bed.etcd.addr()], None).await.unwrap();
        let value = format!(r#"{{"id":"late","metadata":null,"endpoints":["grpc://{}"]}}"#, late.addr());
        etcd.put("/resonance/services/gateway-service/late", value, None).await.unwrap();
    });
    bed.delivered("s", "anna", 1..=20);
    bed.route("ben", "never");
    bed.gateways[0].refuse(["ben"]);
    bed.publish("s", "sender", 21..=22);
    bed.delivered("s", "anna", 1..=22);
    engine.terminate();
    let words = engine.last_words();
    assert!(words.contains("42 pushes delivered, 0 offline, 0 failed, 2 unreached"), "{words}");
}
