//! Promise: a run of a workload with several groups of sessions tells each one's latency, and together they are the run's.

use std::process::Command;

use loadtest::result::RunResult;

#[test]
fn the_counts_of_the_groups_sum_up_to_the_pushes_of_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "--workload", "mixed", "--seconds", "2", "--warm-up", "0", "--name", "it", "--out", "out"])
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.path().join("out/it.json")).expect("the document");
    let run: RunResult = serde_json::from_str(&text).expect("it is a run");
    // 400 events a second follow the shares 279, 120 and 1 exactly.
    let counts: Vec<_> = run.groups.iter().map(|group| (group.group.as_str(), group.latency.count)).collect();
    assert_eq!(counts, [("2 members", 2 * 279), ("100 members", 2 * 120 * 99), ("5,000 members", 2 * 4_999)]);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), run.figures.pushes);
    let max = run.groups.iter().map(|group| group.latency.max_ms).fold(0.0, f64::max);
    assert_eq!(max, run.figures.latency.max_ms, "the slowest push is of one of them");
    for words in ["latency by kind of session", "2 members", "100 members", "5,000 members"] {
        assert!(printed.contains(words), "{words} is not in {printed}");
    }
}
