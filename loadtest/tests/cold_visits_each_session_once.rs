//! Promise: a cold workload visits each session once and ends then; what the engine looked up for it is in the document.

use std::process::Command;

use loadtest::result::RunResult;

#[test]
fn each_session_is_looked_up_once_for_its_one_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "--workload", "cold", "--sessions", "3000", "--users", "30000", "--name", "it", "--out", "out"])
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.path().join("out/it.json")).expect("the document");
    let run: RunResult = serde_json::from_str(&text).expect("it is a run");
    assert_eq!((run.figures.events, run.figures.pushes, run.verdict.expected), (3_000, 27_000, 27_000));
    assert_eq!(run.counters["member_query_sessions"], 3_000, "{:?}", run.counters);
    // Senders have routes too, and nobody is in two sessions.
    assert!((27_000..=30_000).contains(&run.counters["mget_keys"]), "{:?}", run.counters);
    assert!(printed.contains("lookups"), "{printed}");
}
