//! `unsafe` stands in named files only, each with its reason and at most so often.

use crate::source::read;

/// File, how often the word may stand there, and why it must. The list may only get shorter.
const NAMED: [(&str, usize, &str); 11] = [
    ("benches/support/allocations.rs", 9, "an allocator that counts is an unsafe trait"),
    ("benches/support/hop.rs", 1, "a name that callgrind finds"),
    ("benches/support/world.rs", 1, "a name that callgrind finds"),
    (
        "loadtest/bench/src/cost.rs",
        10,
        "an allocator that counts is an unsafe trait, and it asks for its thread's name without allocating",
    ),
    ("loadtest/harness/src/servers.rs", 1, "a child's death signal is set between fork and exec"),
    ("src/edge/gateway/io.rs", 4, "glommio gives no borrow of its sockets, and its send has no scatter and gather"),
    ("src/edge/socket.rs", 2, "glommio gives no borrow of its sockets, and a process knows its sockets by number only"),
    ("src/model/prefetch.rs", 1, "a prefetch instruction"),
    ("src/shard/uring_check.rs", 6, "io_uring is tried before glommio needs it"),
    ("src/telemetry/metrics/process.rs", 1, "getrusage; rustix has none"),
    (
        "tests/engine/says_what_the_machine_lacks.rs",
        3,
        "what a machine lacks is taken from a child between fork and exec",
    ),
];

#[test]
fn unsafe_stands_in_named_files_only() {
    let sources = read(&["src", "tests", "benches", "loadtest", "testkit"]);
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| !source.unsafe_lines.is_empty()) {
        let allowed = NAMED.iter().find(|(file, ..)| *file == source.path).map_or(0, |(_, times, _)| *times);
        let times = source.unsafe_lines.len();
        if times > allowed {
            let (path, lines) = (&source.path, &source.unsafe_lines);
            wrong.push(format!("{path}:{}: {times} times unsafe, {allowed} allowed (lines {lines:?}): use a safe call of rustix or std; only where there is none, name it in tests/tidy/unsafe_code.rs", lines[0]));
        }
    }
    for (file, ..) in NAMED {
        let is_there = sources.iter().any(|source| source.path == file && !source.unsafe_lines.is_empty());
        if !is_there {
            wrong.push(format!("{file} has no unsafe: take it out of NAMED of tests/tidy/unsafe_code.rs"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
