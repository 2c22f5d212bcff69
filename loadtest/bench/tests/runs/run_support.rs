//! A run of the program on stores in memory: the document that it leaves, and what it printed.

use std::process::Command;

use loadtest::result::RunResult;

/// Runs `loadtest run` with these arguments in a folder of its own; it must end well.
pub fn run(arguments: &[&str]) -> (RunResult, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let _alone = crate::MEASURED.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("run")
        .args(arguments)
        .args(["--name", "it", "--out", "out"])
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.path().join("out/it.json")).expect("the document");
    (serde_json::from_str(&text).expect("it is a run"), printed)
}
