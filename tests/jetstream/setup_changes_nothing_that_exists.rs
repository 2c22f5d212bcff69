//! `task-engine setup` makes what is missing, does nothing the second time, nothing at all with --dry-run, and never
//! changes what exists; its exit codes are those of the command line.
#![allow(deprecated)]

use std::process::Command;

use crate::jetstream_support::{NatsVersion, ask, client, consumer, on_both_servers, server, set_up, settings};
use task_engine::config::Assignment;

on_both_servers! {
    a_dry_run_says_what_a_run_makes_and_a_second_run_nothing
    what_differs_is_said_and_left
    what_cannot_be_used_is_said_and_left
    the_command_line_tells_how_it_went
}

fn a_dry_run_says_what_a_run_makes_and_a_second_run_nothing(version: NatsVersion) {
    for (assignment, subject, consumers) in
        [(Assignment::Queue, "events", "consumer engine "), (Assignment::Partitioned, "events.*", "4 consumers")]
    {
        let server = server(version);
        let settings = settings(&server, assignment);
        let client = client(&server);
        let (dry, is_usable) = set_up(&settings, true).expect("a dry run");
        assert!(is_usable && dry.len() == 3, "{dry:?}");
        assert!(dry[0].starts_with("would make stream STREAM") && dry[0].contains(subject), "{dry:?}");
        assert!(dry[1].contains(consumers) && dry[2].contains("STREAM_DLQ.>"), "{dry:?}");
        assert_eq!(ask(&client, "$JS.API.STREAM.NAMES", "")["total"], 0, "nothing was made");
        let (made, _) = set_up(&settings, false).expect("a run");
        let would: Vec<_> = made.iter().map(|line| format!("would make{}", line.trim_start_matches("made"))).collect();
        assert_eq!(would, dry);
        let (again, is_usable) = set_up(&settings, false).expect("a second run");
        assert!(is_usable && again.iter().all(|line| line.contains("exist") && !line.contains("left as")), "{again:?}");
        let dead = ask(&client, "$JS.API.STREAM.INFO.STREAM_DLQ", "");
        assert_eq!(dead["config"]["duplicate_window"], 2 * 3600 * 1_000_000_000_u64);
    }
}

fn what_differs_is_said_and_left(version: NatsVersion) {
    let server = server(version);
    let settings = settings(&server, Assignment::Queue);
    let client = client(&server);
    let stream = r#"{"name":"STREAM","subjects":["events",  "more"],"retention":"workqueue","storage":"memory"}"#;
    assert!(ask(&client, "$JS.API.STREAM.CREATE.STREAM", stream)["error"].is_null());
    let made = r#"{"stream_name":"STREAM","config":{"durable_name":"engine","ack_policy":"explicit","deliver_policy":"all","ack_wait":7000000000,"max_ack_pending":5}}"#;
    assert!(ask(&client, "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.engine", made)["error"].is_null());
    let before = [
        ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone(),
        consumer(&client, "engine")["config"].clone(),
    ];
    let (lines, is_usable) = set_up(&settings, false).expect("a run");
    assert!(is_usable, "{lines:?}");
    let all = lines.join("\n");
    for words in [
        "subjects is events, more",
        "retention is workqueue",
        "storage is memory",
        "ack_wait is 7s",
        "max_ack_pending is 5",
    ] {
        assert!(all.contains(words), "{words} in {all}");
    }
    let after = [
        ask(&client, "$JS.API.STREAM.INFO.STREAM", "")["config"].clone(),
        consumer(&client, "engine")["config"].clone(),
    ];
    assert_eq!(before, after);
}

fn what_cannot_be_used_is_said_and_left(version: NatsVersion) {
    let server = server(version);
    let settings = settings(&server, Assignment::Partitioned);
    let client = client(&server);
    let stream = r#"{"name":"STREAM","subjects":["events"],"storage":"memory"}"#;
    assert!(ask(&client, "$JS.API.STREAM.CREATE.STREAM", stream)["error"].is_null());
    // Consumers for subjects that the stream does not take are refused by some servers.
    let said = match set_up(&settings, true) {
        Ok((lines, false)) => lines.join("\n"),
        other => panic!("{other:?}"),
    };
    assert!(said.contains("cannot be used") && said.contains("events.*"), "{said}");
}

fn the_command_line_tells_how_it_went(version: NatsVersion) {
    let server = server(version);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("task.yaml");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_task-engine")).args(arguments).output().expect("it runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    let path = file.to_str().expect("UTF-8");
    let yaml = |url: &str| format!("nats:\n  url: {url}\n  timeout: 2s\nconsumer:\n  mode: jetstream\n  stream: S\n");
    std::fs::write(&file, yaml(&server.url())).expect("written");
    let (code, text) = run(&["setup", "--config", path, "--dry-run"]);
    assert!(code == Some(0) && text.contains("would make stream S "), "{code:?} {text}");
    let (code, text) = run(&["setup", "--config", path, "--max-age", "1h"]);
    assert!(code == Some(0) && text.contains("made stream S ") && text.contains("kept for 1h"), "{code:?} {text}");
    server.kill9();
    let (code, text) = run(&["setup", "--config", path]);
    assert!(code == Some(1) && text.contains(&server.addr()) && text.contains("nats.url"), "{code:?} {text}");
    std::fs::write(&file, "consumer:\n  stream: a.b\n").expect("written");
    assert_eq!(run(&["setup", "--config", path]).0, Some(2));
    assert_eq!(run(&["setup", "--replicas", "9"]).0, Some(2));
}

#[test]
fn a_subject_that_another_stream_has_is_named_with_that_stream() {
    let server = server(NatsVersion::Current);
    let client = client(&server);
    assert!(
        ask(&client, "$JS.API.STREAM.CREATE.FOREIGN", r#"{"name":"FOREIGN","subjects":["events"]}"#)["error"].is_null()
    );
    let (lines, is_usable) = set_up(&settings(&server, Assignment::Queue), false).expect("a run");
    let said = "stream STREAM cannot be made: stream FOREIGN takes events";
    assert!(!is_usable && lines.iter().any(|line| line.starts_with(said)), "{lines:?}");
}
