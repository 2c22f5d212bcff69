//! Promise: what cannot be run is refused in words that say what to do, with exit code 2, and an engine that dies or
//! never becomes ready is told with what was waited for and its last lines.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_loadtest");
    Command::new(program).args(args).current_dir(folder.path()).output().expect("it starts")
}

#[track_caller]
fn refuses(args: &[&str], words: &[&str]) {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
    }
}

#[test]
fn impossible_workloads() {
    refuses(&["run", "--workload", "nothing-such"], &["nothing-such", "mixed", "group-100"]);
    refuses(&["run", "--rate", "0"], &["rate"]);
    refuses(&["run", "--workload", "group-100", "--users", "50"], &["members", "users"]);
    refuses(&["run", "--gateways", "0"], &["gateways"]);
    refuses(&["run", "--assignment", "partitioned"], &["--servers"]);
    refuses(&["run", "--rate", "max", "--slo-p99", "0", "--seconds", "1"], &["--slo-p99"]);
    refuses(&["run", "--workload", "cold", "--rate", "max"], &["cold", "--rate max"]);
    refuses(&["run", "--workload", "cold", "--warm-up", "1"], &["cold", "--warm-up 0"]);
    refuses(&["run", "--workload", "priority", "--window", "1000"], &["fleeting", "--rate"]);
    refuses(&["compare", "--engine", "task-engine"], &["two engines"]);
    refuses(&["compare", "--engine", "a {config}", "--engine", "b {config}", "--rate", "max"], &["--rate NUMBER"]);
}

#[test]
fn instances_that_cannot_be_beside_each_other() {
    let several = |more: &[&'static str], words: &[&str]| {
        let all = [&["run", "--servers", "--instances", "3"][..], more].concat();
        refuses(&all, words);
    };
    refuses(&["run", "--instances", "3"], &["--servers"]);
    refuses(&["run", "--instances", "0"], &["--instances", "1..=16"]);
    several(&["--ownership", "etcd"], &["--jetstream", "--assignment partitioned"]);
    several(&["--assignment", "partitioned", "--jetstream"], &["lose the order", "--ownership etcd"]);
    several(&["--ready", "subscribed"], &["--ready subscribed"]);
    several(&["--during", "5s leave 4"], &["5s leave 4", "1 to 3"]);
    several(&["--during", "5s leave 2", "--seconds", "4"], &["after the end", "--seconds"]);
    several(&["--during", "5s leave 2", "--rate", "max"], &["--rate max", "--during"]);
    refuses(&["run", "--servers", "--during", "5s leave 1"], &["no instance would be left"]);
}

#[test]
fn files_that_cannot_be_written_before_anything_starts() {
    for args in [&["run", "--name", "a/b"][..], &["run", "--out", "/proc/nope"], &["run", "--name", ""]] {
        refuses(args, &["--out"]);
        assert!(run(args).stdout.is_empty(), "{args:?} ran first");
    }
    let engines = ["compare", "--engine", "a {config}", "--engine", "b {config}", "--out", "/proc/nope"];
    refuses(&engines, &["cannot make the folder /proc/nope"]);
}

#[test]
fn engines_that_cannot_be_started() {
    refuses(&["run", "--engine", "/no/such/engine {config}"], &["/no/such/engine", "cannot start"]);
    refuses(&["run", "--engine", "engine"], &["{config}"]);
}

#[test]
fn an_engine_that_dies_is_quoted() {
    let dying = "sh -c 'echo the disk is on fire; exit 3' {config}";
    refuses(&["run", "--engine", dying], &["ended by itself", "exit status: 3", "the disk is on fire"]);
}

#[test]
fn an_engine_that_never_becomes_ready_is_told_with_what_was_waited_for() {
    let idle = "sh -c 'echo still thinking; exec sleep 600' {config}";
    let words = ["did not become ready within 1 s", "/readyz", "nobody listens there", "still thinking"];
    refuses(&["run", "--engine", idle, "--ready-timeout", "1"], &words);
    let words = ["did not become ready within 1 s", "a NATS subscription on resonance.push.event.v1"];
    refuses(&["run", "--engine", idle, "--ready-timeout", "1", "--ready", "subscribed"], &words);
}

#[test]
fn a_missing_server_is_named_with_its_package() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = env!("CARGO_BIN_EXE_loadtest");
    // Debian's nats-server is in /usr/sbin, where it is found whatever PATH says; redis-server is only in PATH.
    let output = Command::new(program)
        .args(["run", "--engine", "true {config}"])
        .env("PATH", "/nonexistent")
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("redis-server is not installed") && said.contains("apt-get install redis-server"), "{said}");
}
