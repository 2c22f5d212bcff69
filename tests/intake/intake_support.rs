//! A real nats-server on a free port, and an intake whose lanes a test reads itself.

#![allow(deprecated, dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::servers::free_port;
use task_engine::config::{Assignment, Config, ConsumerConfig, NatsAuth, NatsConfig};
use testkit::events::session_and_number;
use testkit::nats::server_at;

pub use testkit::events::numbered as event;
pub use testkit::taking::Taking;
pub use testkit::wait::eventually as until;

/// Of all sessions.
const PARTITIONS: u32 = 64;

/// A nats-server that ends with the test.
pub struct Server {
    child: Option<Child>,
    pub port: u16,
    args: Vec<String>,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let port = free_port().expect("a free port");
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut server = Self { child: None, port, args, folder: tempfile::tempdir().expect("a folder") };
        server.start_again();
        server
    }

    pub fn start_again(&mut self) {
        let log = || Stdio::from(File::create(self.folder.path().join("log")).expect("a log"));
        let child = Command::new("/usr/sbin/nats-server")
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string()])
            .args(&self.args)
            .stdout(log())
            .stderr(log())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let address = ("127.0.0.1", self.port);
        until("nats-server listens", || std::net::TcpStream::connect(address).is_ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running server");
            child.wait().expect("an ended server");
        }
    }

    /// Stops the process where it stands, or lets it go on: to its clients a link that died without a word.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().expect("a running server").id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn settings(&self) -> Config {
        let nats = NatsConfig {
            servers: server_at(&self.address()),
            timeout: Duration::from_secs(2),
            reconnect_delay: Duration::from_millis(50),
            ping_interval: Duration::from_secs(2),
            ..NatsConfig::default()
        };
        let consumer = ConsumerConfig {
            topic: "events".to_owned(),
            queue_group: "engines".to_owned(),
            ..ConsumerConfig::default()
        };
        Config { nats, consumer, ..Config::default() }
    }

    pub fn partitioned(&self) -> Config {
        let mut settings = self.settings();
        settings.consumer.assignment = Assignment::Partitioned;
        settings
    }

    pub fn logged_in(&self, auth: NatsAuth) -> Config {
        let mut settings = self.settings();
        settings.nats.auth = auth;
        settings
    }

    pub fn client(&self) -> nats::Connection {
        // By default the client waits up to a second before its first try.
        let options = nats::Options::new().reconnect_delay_callback(|_| Duration::ZERO);
        options.connect(self.address()).expect("a publisher's connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A started source and the lanes it fills.
pub fn started(settings: &Config, shards: usize) -> Taking {
    Taking::start(settings, PARTITIONS, shards)
}

/// The same with lanes that hold so many events.
pub fn started_with_lanes(settings: &Config, shards: usize, lane_events: usize) -> Taking {
    Taking::with_lanes(settings, PARTITIONS, shards, lane_events)
}

#[derive(Default)]
pub struct Seen {
    pub events: u64,
    pub sessions: BTreeMap<String, (usize, Vec<u64>)>,
}

impl Seen {
    /// Empties the lanes; checks that no session is on two shards and each is in order.
    pub fn take(&mut self, taking: &Taking) {
        for (shard, lane) in taking.lanes.iter().enumerate() {
            while let Some((payload, _)) = lane.try_take() {
                let (session, number) = session_and_number(&payload);
                let (home, numbers) = self.sessions.entry(session.clone()).or_insert((shard, Vec::new()));
                assert_eq!(*home, shard, "{session} is on two shards");
                assert!(
                    numbers.last().is_none_or(|&last| last < number),
                    "{session}: {number} after {:?}",
                    numbers.last()
                );
                numbers.push(number);
                self.events += 1;
            }
        }
    }
}
