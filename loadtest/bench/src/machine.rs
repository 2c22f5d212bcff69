//! What a run ran on: machine, commit and versions, as far as they can be read.
//!
//! Promises never to fail a run: what cannot be read is `unknown`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use crate::result::Machine;

/// How [`commit`] ends when the source had changes.
pub(crate) const DIRTY: &str = "-dirty";

/// The machine as it is now.
pub fn machine() -> Machine {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name))?.split_once(':')?.1.trim().to_owned();
        Some(line)
    };
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Machine {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: kib / 1024,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        load_average: loads.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
    }
}

/// The command line, quoted so that a shell takes it as it was given.
pub fn command() -> String {
    quoted(std::env::args())
}

/// Words as a shell takes them.
pub(crate) fn quoted(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    // Only a word with a NUL cannot be quoted, and no command line has one.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// The commit of the checkout in the current folder.
pub fn commit() -> String {
    let Some(commit) = said("git", &["rev-parse", "--short=12", "HEAD"]) else { return unknown() };
    // Runs write outside of the tree, so each change is one of the source.
    let changes = said("git", &["status", "--porcelain"]);
    if changes.is_some() { commit + DIRTY } else { commit }
}

/// Versions of the harness, of this build's own engine where it is what is driven, and of the servers.
pub fn versions(with_servers: bool, engine: Option<&str>) -> BTreeMap<String, String> {
    let own = || env!("CARGO_PKG_VERSION").to_owned();
    let mut versions = BTreeMap::from([("loadtest".to_owned(), own())]);
    if engine.is_none_or(|name| name.starts_with("task-engine")) {
        // One version for the whole workspace.
        versions.insert("task-engine".to_owned(), own());
    }
    if with_servers {
        for (binary, flag) in [
            ("nats-server", "--version"),
            ("redis-server", "--version"),
            ("mariadbd", "--version"),
            ("postgres", "--version"),
            ("etcd", "--version"),
        ] {
            let path = harness::servers::find_program(binary, binary);
            let words = path.ok().and_then(|path| said(&path.to_string_lossy(), &[flag]));
            versions.insert(binary.to_owned(), words.and_then(|words| number_in(&words)).unwrap_or_else(unknown));
        }
    }
    versions
}

/// The first word that is a version number.
fn number_in(words: &str) -> Option<String> {
    let starts_with_digit = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
    words.split([' ', '=', 'v', '\n', ',']).find(starts_with_digit).map(str::to_owned)
}

/// The instant as RFC 3339, to the second.
pub fn rfc3339(instant: SystemTime) -> String {
    humantime::format_rfc3339_seconds(instant).to_string()
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_servers_say() {
        for (words, version) in [
            ("nats-server: v2.9.10", "2.9.10"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15"),
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.19-MariaDB-0+deb12u1"),
            ("etcd Version: 3.4.23\nGit SHA: Not provided", "3.4.23"),
        ] {
            assert_eq!(number_in(words).as_deref(), Some(version), "{words}");
        }
        assert_eq!(number_in("no number"), None);
    }

    #[test]
    fn a_command_is_kept_as_a_shell_takes_it() {
        let words = ["loadtest", "run", "--engine", "my-engine --config {config}"].map(str::to_owned);
        let quoted = quoted(words.clone().into_iter());
        assert_eq!(shlex::split(&quoted), Some(words.to_vec()), "{quoted}");
    }

    #[test]
    fn the_machine_is_read() {
        let machine = machine();
        assert!(machine.cpus > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
