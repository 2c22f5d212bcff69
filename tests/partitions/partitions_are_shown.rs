//! Promise: `task-engine partitions` shows who owns what, for a person and for a script; `drain` and `undrain` move partitions; and what goes
//! wrong is said with the server and what to do.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testkit::mysql_etcd::{Etcd, free_port};
use testkit::wait::eventually;

use crate::edge::{DURABLE, STREAM, path};
use crate::owners::{Instance, PARTITIONS, World};

const ALL: usize = PARTITIONS as usize;

struct Shell {
    config: PathBuf,
    _folder: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Shell {
    fn at(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("task.yaml");
        let text = format!(
            "nats:\n  url: nats://127.0.0.1:{}\netcd:\n  endpoints: {endpoint}\n  timeout: 2s\n  dial_timeout: 2s\nconsumer:\n  mode: jetstream\n  \
             assignment: partitioned\n  stream: {STREAM}\n  durable: {DURABLE}\n",
            // Nobody listens there.
            free_port()
        );
        std::fs::write(&config, text).expect("a configuration");
        Self { config, _folder: folder }
    }

    fn run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
        command.arg("partitions").args(args).arg("--config").arg(&self.config);
        let output = command.output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Said { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn owners_are_shown_and_a_drained_instance_gives_its_partitions_away() {
    let (etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let shell = Shell::at(&etcd.endpoint());
    let one = Instance::start(&world, &etcd.endpoint(), "one", Duration::from_secs(5), state.path());
    one.owns(ALL);
    let two = Instance::start(&world, &etcd.endpoint(), "two", Duration::from_secs(5), state.path());
    two.owns(ALL / 2);
    one.owns(ALL / 2);

    let shown = shell.run(&[]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.err.starts_with("lag and unacknowledged events are not known: "), "{}", shown.err);
    assert!(shown.err.contains("check nats.url") && shown.err.lines().count() == 1, "{}", shown.err);
    assert!(shown.out.starts_with("64 of 64 partitions have an owner; plan "), "{}", shown.out);
    let owned = |name: &str| shown.out.lines().filter(|line| line.contains("owned") && line.contains(name)).count();
    assert_eq!((owned("one"), owned("two")), (32, 32), "{}", shown.out);

    let drained = shell.run(&["drain", "two"]);
    assert_eq!((drained.code, drained.err.as_str()), (0, ""), "{}", drained.out);
    assert_eq!(drained.out, "two is drained: it owns 32 partitions and gives them to the others\n");
    one.owns(ALL);
    two.owns(0);
    let json = shell.run(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let members = json["members"].as_array().expect("members");
    assert_eq!(members.iter().map(|one| &one["drained"]).collect::<Vec<_>>(), [false, true]);
    assert_eq!(members.iter().map(|one| &one["owns"]).collect::<Vec<_>>(), [64, 0]);
    assert!(members[0]["lease_seconds"].as_u64().is_some_and(|left| left <= 5), "{members:?}");
    let partitions = json["partitions"].as_array().expect("partitions");
    assert!(partitions.len() == ALL && partitions.iter().all(|one| one["owner"] == "one" && one["state"] == "owned"));

    let last = shell.run(&["drain", "one"]);
    assert_eq!(last.code, 0);
    assert!(last.err.contains("no other instance is there"), "{}", last.err);
    let back = shell.run(&["undrain", "one", "--json"]);
    assert_eq!(back.out, "{\"drained\":false,\"instance\":\"one\",\"was_drained\":true}\n");
    let back = shell.run(&["undrain", "two"]);
    assert_eq!((back.code, back.out.as_str()), (0, "two is no longer drained: it gets partitions when it is there\n"));
    eventually("they share again", || (one.owned(), two.owned()) == (ALL / 2, ALL / 2));
    assert_eq!(shell.run(&["undrain", "two"]).out, "two was not drained\n");
    let absent = shell.run(&["drain", "three"]);
    assert_eq!(absent.out, "three is drained; it is not there now, and owns nothing when it comes\n");
    world.nothing_is_wrong();
}

#[test]
fn what_goes_wrong_is_said_with_the_server_and_what_to_do() {
    let dead = format!("127.0.0.1:{}", free_port());
    let said = Shell::at(&dead).run(&[]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains(&dead) && said.err.contains("check that it runs, etcd.endpoints"), "{}", said.err);

    let etcd = Etcd::start();
    let shell = Shell::at(&etcd.endpoint());
    let said = shell.run(&[]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("holds nothing below /resonance/task-engine/EVENTS/push/"), "{}", said.err);
    assert!(said.err.contains("consumer.durable"), "{}", said.err);

    etcd.put(&path(&task_engine::ownership::keys::Key::Plan), r#"{"v":7}"#);
    let said = shell.run(&[]);
    assert_eq!(said.code, 0);
    assert_eq!(said.err, "plan: it has version 7, and this program reads up to 1\n");
    assert_eq!(shell.run(&["drain", ""]).code, 2, "no name");
}
