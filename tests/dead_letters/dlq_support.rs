//! The `task-engine dlq` command and a writer of dead letters, against a real nats-server.
#![allow(dead_code, deprecated, reason = "each test file uses its own part; the sync client is the engine's")]

use std::path::{Path, PathBuf};
use std::process::Command;

pub use harness::servers::NatsVersion;
use harness::servers::{Nats, NatsAuth, NatsOptions};
use prost::Message;
use task_engine::config::{self, Flags};
use task_engine::engine::adapters::{dead_letter_store_of, dead_letters_of};
use task_engine::ports::{DeadLetter, DeadLetterWriter, Origin};
use tempfile::TempDir;

pub use testkit::wait::{PATIENCE, eventually};

/// The server's token; must never be seen.
pub const TOKEN: &str = "geheim-nats";
pub const TOPIC: &str = "resonance.push.event.v1";

/// A server and a configuration for it.
pub struct World {
    pub nats: Nats,
    folder: TempDir,
    config: PathBuf,
}

/// What the command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    /// A server with or without JetStream, and `consumer.mode`.
    pub fn start(version: NatsVersion, jetstream: bool, mode: &str) -> Self {
        Self::with(version, jetstream, mode, String::new(), "")
    }

    /// The same with more lines for the server, and more of `nats` for us.
    pub fn with(version: NatsVersion, jetstream: bool, mode: &str, config: String, nats_keys: &str) -> Self {
        let auth = NatsAuth::Token(TOKEN.to_owned());
        let options = NatsOptions { version, auth, jetstream, config, ..NatsOptions::default() };
        let nats = Nats::start(&options).expect("NATS");
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("task.yaml");
        let path = folder.path().join("letters.jsonl");
        let text = format!(
            "nats:\n  url: {}\n  token: {TOKEN}\n  timeout: 2s\n{nats_keys}consumer:\n  mode: {mode}\n  stream: EVENTS\ndead_letters:\n  path: {}\n",
            nats.url(),
            path.display()
        );
        std::fs::write(&config, text).expect("a configuration");
        Self { nats, folder, config }
    }

    pub fn client(&self) -> nats::Connection {
        nats::Options::with_token(TOKEN).connect(self.nats.addr()).expect("a client")
    }

    /// A stream that takes these subjects.
    pub fn stream(&self, name: &str, subjects: &[&str]) {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let config = nats::jetstream::StreamConfig { name: name.to_owned(), subjects, ..Default::default() };
        nats::jetstream::new(self.client()).add_stream(&config).expect("a stream");
    }

    pub fn messages(&self, stream: &str) -> u64 {
        nats::jetstream::new(self.client()).stream_info(stream).expect("its state").state.messages
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("letters.jsonl")
    }

    pub fn config(&self) -> config::Config {
        config::load(Some(&self.config), [], &Flags::default()).expect("it is right").config
    }

    pub fn writer(&self) -> Box<dyn DeadLetterWriter> {
        assert!(!format!("{:?}", dead_letters_of(&self.config())).contains(TOKEN), "the token is shown");
        dead_letter_store_of(&self.config()).open()
    }

    /// `task-engine dlq --config ... args`.
    pub fn dlq(&self, args: &[&str]) -> Said {
        let config = self.config.to_str().expect("UTF-8");
        run(&[&["dlq"], args, &["--config", config]].concat(), self.folder.path())
    }

    /// The same with `--json`: one value a line.
    pub fn dlq_json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let said = self.dlq(&[args, &["--json"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The ids that `list` with these arguments shows.
    pub fn ids(&self, args: &[&str]) -> Vec<String> {
        let list = self.dlq_json(&[&["list"], args].concat());
        list.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
    }
}

/// Runs the binary, without this process's own configuration.
pub fn run(args: &[&str], folder: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RESONANCE_") {
            command.env_remove(name);
        }
    }
    let output = command.args(args).current_dir(folder).output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let said = Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
    assert!(!said.out.contains(TOKEN) && !said.err.contains(TOKEN), "the token is shown: {said:?}");
    said
}

pub fn event(msg_id: i64) -> Vec<u8> {
    testkit::events::event("group:1", "ann", msg_id).encode_to_vec()
}

pub fn letter(reason: &'static str, payload: Vec<u8>, recipient: Option<&str>) -> DeadLetter {
    let detail = format!("it was {reason}\nreally");
    DeadLetter { reason, detail, payload: payload.into(), recipient: recipient.map(Into::into), tries: 4 }
}

pub fn origin(sequence: u64) -> Origin {
    Origin {
        subject: TOPIC.to_owned(),
        stream_sequence: Some(sequence),
        deliveries: 2,
        published_unix_nanos: Some(1_700_000_000_000_000_000),
    }
}
