//! This machine: what a shard needs of the kernel, files, CPUs, and the folder of dead letters.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};

use crate::config::{Config, ConsumerMode};
use crate::model::finding::{Check, Findings};
use crate::model::limits::{LETTER_FILE_BYTES_MAX, SHARD_MEMLOCK_BYTES_MIN};
use crate::model::words::counted;
use crate::shard::cores::{cores_available, cpus_allowed};
use crate::shard::uring_check::{self, UringError};

/// Files that an engine has open whatever its size: log, sockets of the admin port, of stores and their spare ones.
const FILES_OF_ALL: u64 = 256;
/// Of each shard: rings, wakes, its connections.
const FILES_OF_SHARD: u64 = 32;
/// Of each gateway: its connection, and the next one beside it.
const FILES_OF_GATEWAY: u64 = 2;

/// Looks at it.
pub(super) fn look(config: &Config, found: &mut Findings<'_>) {
    found.begin(Check::MachineIoUring);
    match uring_check::check() {
        Ok(()) => {
            found.ok(Check::MachineIoUring, "io_uring can be used");
            memlock_ok(found);
        }
        Err(error @ UringError::Memlock { .. }) => {
            let words = error.to_string();
            let (what, advice) = words.split_once(": raise").unwrap_or((&words, ""));
            found.fail(Check::MachineMemlock, what, format!("raise{advice}"));
        }
        Err(error) => {
            let words = error.to_string();
            found.fail_in_words(Check::MachineIoUring, &words.replacen("): ", "); ", 1));
        }
    }
    cpus(config, found);
    letters(config, found);
}

fn memlock_ok(found: &mut Findings<'_>) {
    let limit = getrlimit(Resource::Memlock).current;
    let words = limit.map_or("without limit".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    found.ok(Check::MachineMemlock, format!("{words}; {} KiB are needed", SHARD_MEMLOCK_BYTES_MIN >> 10));
}

fn cpus(config: &Config, found: &mut Findings<'_>) {
    found.begin(Check::MachineCpus);
    let shards = config.engine.cores;
    let (quota, allowed) = (cores_available(), cpus_allowed());
    let what = format!("{}, {allowed} CPUs that this process may run on, a quota of {quota}", counted(shards, "shard"));
    match usize::from(shards) <= allowed && shards <= quota {
        true => found.ok(Check::MachineCpus, what),
        false => found.warn(
            Check::MachineCpus,
            format!("{what}: shards share CPUs and are not pinned"),
            "set engine.cores to what there is, or give the process more (cpuset, cpu.max, CPUQuota=, limits.cpu)",
        ),
    }
}

/// Whether enough files may be open for so many gateways.
pub(super) fn files(config: &Config, gateways: usize, found: &mut Findings<'_>) {
    found.begin(Check::MachineFiles);
    let needed = FILES_OF_ALL + FILES_OF_SHARD * u64::from(config.engine.cores) + FILES_OF_GATEWAY * gateways as u64;
    let limit = getrlimit(Resource::Nofile).current;
    let words = limit.map_or("any number of files".to_owned(), |limit| format!("{limit} files"));
    let what = format!(
        "{words} may be open; {needed} are needed for {} and {}",
        counted(config.engine.cores, "shard"),
        counted(gateways as u64, "gateway")
    );
    match limit.is_none_or(|limit| limit >= needed) {
        true => found.ok(Check::MachineFiles, what),
        false => found.warn(
            Check::MachineFiles,
            what,
            "raise RLIMIT_NOFILE: `ulimit -n`, LimitNOFILE=, `docker run --ulimit nofile=`",
        ),
    }
}

/// Whether the file of dead letters can be written. With JetStream it takes what is too large for the stream only.
fn letters(config: &Config, found: &mut Findings<'_>) {
    found.begin(Check::DeadLettersPath);
    let path = &config.dead_letters.path;
    let shown = path.display();
    let needs = config.consumer.mode == ConsumerMode::Core;
    let advice = "set dead_letters.path to a file in a folder that this user may write";
    let mut wrong = |what: String| match needs {
        true => found.fail(Check::DeadLettersPath, what, advice),
        false => found.warn(Check::DeadLettersPath, what, advice),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return wrong(format!("{shown} is a folder"));
    }
    if !folder.is_dir() {
        return wrong(format!("there is no folder {}", folder.display()));
    }
    let asked = if path.exists() { path.as_path() } else { folder };
    if let Err(error) = access(asked, Access::WRITE_OK | Access::READ_OK) {
        return wrong(format!("{} may not be written: {}", asked.display(), crate::edge::socket::words(&error.into())));
    }
    let free = statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let has = path.metadata().map_or(0, |file| file.len());
    let room = LETTER_FILE_BYTES_MAX.saturating_sub(has);
    if room == 0 {
        return wrong(format!(
            "{shown} is full: it has the {LETTER_FILE_BYTES_MAX} bytes that it may have; see task-engine dlq --file {shown}"
        ));
    }
    match free < room {
        true => found.warn(
            Check::DeadLettersPath,
            format!("{shown} may grow by {} MiB, and the disk has {} MiB", room >> 20, free >> 20),
            "make room, or set dead_letters.path to another disk",
        ),
        false => found.ok(Check::DeadLettersPath, format!("{shown} can be written")),
    }
}
