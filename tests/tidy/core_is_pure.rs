//! Promise: the push core and partition ownership are plain state machines. Its files name no clock, no lock, no thread, no randomness, no runtime and
//! no log, so that a simulator's seed decides everything that happens in them.

use std::path::{Path, PathBuf};

/// What stands in the core's place of each, by the words that would name it.
const BANNED: &[(&str, &str)] = &[
    ("Instant::now", "time is a fact: the pump hands it in"),
    ("SystemTime", "there is no wall clock in the core"),
    ("Mutex", "a shard owns its state; nothing is locked"),
    ("RwLock", "a shard owns its state; nothing is locked"),
    ("Condvar", "the core never waits"),
    ("std::thread", "the core never waits and starts nothing"),
    ("thread_local", "state is owned by a stage"),
    ("rand::", "randomness is handed in, so that a seed repeats a run"),
    ("RandomState", "a table's order must follow from its keys alone"),
    ("glommio", "the pump is what knows the runtime"),
    ("tokio", "the pump is what knows the runtime"),
    ("tracing", "the core tells facts; who runs it logs them"),
    ("std::fs", "the edge opens things"),
    ("std::net::Tcp", "the edge opens things"),
];

/// The core, and beside it what is pure for another reason: the NATS protocol, which a shard and a blocking thread share.
const FLOORS: &[&str] = &[
    "src/push",
    "src/push.rs",
    "src/ownership",
    "src/ownership.rs",
    "src/model",
    "src/model.rs",
    "src/partitioner",
    "src/partitioner.rs",
    "src/edge/nats/protocol",
    "src/edge/nats/protocol.rs",
];

fn files(at: &Path, into: &mut Vec<PathBuf>) {
    if at.is_dir() {
        let entries = std::fs::read_dir(at).expect("a folder");
        entries.for_each(|entry| files(&entry.expect("an entry").path(), into));
    } else if at.extension().is_some_and(|end| end == "rs") {
        into.push(at.to_owned());
    }
}

/// The lines of the product: no comments, nothing behind the first `#[cfg(test)]` module with a body.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

/// What is banned in a text, by line.
fn banned(text: &str) -> Vec<String> {
    let found = |(at, line): (usize, &str)| {
        let word = BANNED.iter().find(|(word, _)| line.contains(word))?;
        Some(format!("line {at}: {}: {}", word.0, word.1))
    };
    code(text).filter_map(found).collect()
}

#[test]
fn the_core_names_nothing_that_a_seed_does_not_decide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    FLOORS.iter().for_each(|floor| files(&root.join(floor), &mut all));
    assert!(all.len() > 40, "the core's files are found: {}", all.len());
    let mut faults = Vec::new();
    for file in all.iter().filter(|file| !file.to_string_lossy().ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        faults.extend(banned(&text).into_iter().map(|fault| format!("{}: {fault}", file.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_clock_would_be_found_and_a_comment_or_a_test_is_not_one() {
    assert_eq!(banned("fn f() {\n    let now = Instant::now();\n}").len(), 1);
    assert_eq!(banned("// Instant::now\nuse std::sync::Mutex;").len(), 1);
    assert!(banned("/// No Mutex.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use tokio::x;\n}").is_empty());
}
