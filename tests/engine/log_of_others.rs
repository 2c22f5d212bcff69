//! `log.level` is the engine's own: at debug no line of the crates below it, and none a push; `log.filter` asks for them.

use std::process::Command;

use harness::gateways::Protocols;

use testkit::engine::{World, eventually};

const PUSHES: i64 = 2_000;

/// The lines that were written: target, level and message.
fn lines(output: &str) -> Vec<(String, String, String)> {
    let objects = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    objects.map(|object| (text(&object["target"]), text(&object["level"]), text(&object["message"]))).collect()
}

/// What the engine writes about many pushes with these lines in its configuration.
fn written(world: &World, gateway: &str, more: &str) -> Vec<(String, String, String)> {
    let engine = world.engine(1, &format!("log:\n  format: json\n  addSource: true\n{more}"));
    let (log, session) = (&world.log, format!("of-{gateway}"));
    let _gateway = world.gateway(gateway, Protocols::STREAM);
    world.route(gateway, gateway);
    world.members(&session, &[gateway]);
    let publisher = world.publisher();
    publisher.publish(&session, "system", 1..=PUSHES);
    let mine = || log.records().iter().filter(|record| record.recipient == gateway).count();
    eventually("all are pushed", || mine() == PUSHES as usize);
    lines(&engine.stop_clean())
}

#[test]
fn at_debug_no_line_is_anothers_and_none_is_a_push() {
    let world = World::start();
    let info = written(&world, "gw-info", "  level: info\n");
    let debug = written(&world, "gw-debug", "  level: debug\n");
    let trace = written(&world, "gw-trace", "  level: trace\n");
    assert!(!info.is_empty() && info.iter().any(|(_, _, message)| message.contains("runs; admin pages")), "{info:?}");
    for (level, lines) in [("debug", &debug), ("trace", &trace)] {
        let others: Vec<_> = lines
            .iter()
            .filter(|(target, at, _)| {
                !target.starts_with("task_engine") && (at == "DEBUG" || at == "TRACE" || at == "INFO")
            })
            .collect();
        assert!(others.is_empty(), "{level}: {} lines of others, such as {:?}", others.len(), others[0]);
        assert!(lines.len() < info.len() + 50, "{level}: {} lines for {PUSHES} pushes", lines.len());
    }
    let asked = written(&world, "gw-filter", "  level: info\n  filter: \"h2::codec=debug,[push{a=1,b=2}]=debug\"\n");
    let of_h2 = asked.iter().filter(|(target, ..)| target.starts_with("h2::codec")).count();
    assert!(of_h2 > 0, "what is asked for is there");
    assert!(
        asked.iter().all(|(target, ..)| target.starts_with("task_engine") || target.starts_with("h2")),
        "and no more"
    );
}

#[test]
fn a_bad_filter_is_a_mistake_that_names_the_directive() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("task.yaml");
    let cases = [
        ("h2=debug,task_engine=lots", "task_engine=lots"),
        ("debgu", "debgu"),
        ("warning", "warning"),
        ("h2=debug=info", "h2=debug=info"),
        ("h2[=debug", "h2[=debug"),
        ("[push{a=1,b=2}=debug,h2=info", "[push{a=1,b=2}=debug,h2=info"),
        ("h2=info,[push{a=1,}]=debug", "[push{a=1,}]=debug"),
    ];
    for (filter, bad) in cases {
        std::fs::write(&file, format!("log:\n  filter: \"{filter}\"\n")).expect("a file");
        for args in [&["check-config"][..], &["--config"]] {
            let engine =
                Command::new(env!("CARGO_BIN_EXE_task-engine")).args(args).arg(&file).output().expect("it starts");
            let error = String::from_utf8_lossy(&engine.stderr).into_owned();
            assert_eq!(engine.status.code(), Some(2), "{filter}: {error}");
            assert!(error.contains(":2:11: log.filter: ") && error.contains(&format!("{bad:?}")), "{error}");
        }
    }
    for filter in ["debug", "h2=debug, hyper=info", "task_engine::push=trace,off", "tonic[span{a=1,b=2}]=debug"] {
        std::fs::write(&file, format!("log:\n  filter: \"{filter}\"\n")).expect("a file");
        let engine =
            Command::new(env!("CARGO_BIN_EXE_task-engine")).arg("check-config").arg(&file).output().expect("it starts");
        assert_eq!(engine.status.code(), Some(0), "{filter}: {}", String::from_utf8_lossy(&engine.stderr));
    }
}
