//! What an inbox table may do to the engine: refuse one of many rows, refuse everything in words that nobody knows; and what
//! becomes of the letters that follow when their replay fails too. Real MariaDB, NATS JetStream, Redis, etcd and gateways.

mod a_replay_that_fails;
mod an_outage_in_unknown_words;
mod one_bad_member;

use std::process::Command;

use harness::servers::{Maria, Nats, NatsAuth, NatsOptions};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use testkit::engine::{SECRETS, World};

const JETSTREAM: &str = "consumer:\n  mode: jetstream\n  max_retry: 2\n  retry_interval: 50ms\n";

/// A world with JetStream, its configuration in a file, after `task-engine setup`.
struct Field {
    world: World,
    folder: tempfile::TempDir,
}

impl Field {
    fn start() -> Self {
        let mut world = World::start();
        let auth = NatsAuth::Token(SECRETS[0].to_owned());
        let options = NatsOptions { auth, jetstream: true, ..NatsOptions::default() };
        world.nats = Nats::start(&options).expect("NATS with JetStream");
        let field = Self { world, folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(field.folder.path().join("task.yaml"), field.world.yaml() + JETSTREAM).expect("a configuration");
        let said = field.command(&["setup"]);
        assert!(said.0, "{}", said.1);
        field
    }

    /// `task-engine args --config ...`: whether it went well, and what it said.
    fn command(&self, args: &[&str]) -> (bool, String) {
        let config = self.folder.path().join("task.yaml");
        let output = Command::new(env!("CARGO_BIN_EXE_task-engine"))
            .args(args)
            .arg("--config")
            .arg(config)
            .current_dir(self.folder.path())
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }

    /// The dead letters there are.
    fn letters(&self) -> Vec<serde_json::Value> {
        let (is_good, said) = self.command(&["dlq", "list", "--json"]);
        assert!(is_good, "{said}");
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn sql(&self, statement: &str) {
        let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(self.world.maria.port());
        let root = root.user(Some("root")).prefer_socket(false).db_name(Some(Maria::DATABASE));
        Conn::new(root).expect("root may connect").query_drop(statement).expect("done");
    }

    fn owners(&self) -> Vec<String> {
        let sql = "SELECT owner_username FROM t_inbox ORDER BY 1";
        self.world.maria.connect().expect("MariaDB answers").query(sql).expect("rows")
    }
}
