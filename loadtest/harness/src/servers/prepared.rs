//! Data folders of databases: made once a machine, and copied for each server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::Server;
use crate::error::{Error, Result};

/// The prepared data folder of what `key` tells apart, made by `made` when no process of this machine has made it yet: by a server
/// that has it in its folder as `data`.
pub(super) fn prepared(kind: &str, key: &[u8], made: impl FnOnce() -> Result<Server>) -> Result<PathBuf> {
    let key = task_engine::model::ids::fnv1a32(key);
    let user = rustix::process::geteuid().as_raw();
    let place = std::env::temp_dir().join(format!("task-engine-{kind}-prepared-{user}-{key:08x}"));
    let lock = File::create(place.with_extension("lock"))
        .and_then(|lock| Ok(flock(&lock, FlockOperation::LockExclusive).map(|()| lock)?));
    let _lock = lock.map_err(|cause| Error::of(&format!("cannot lock the prepared {kind} folder"), cause))?;
    if place.is_dir() {
        return Ok(place);
    }
    let server = made()?;
    server.terminate()?;
    // Beside its final place, then renamed: a crash in between leaves no half-made folder under the final name.
    let half = place.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    copy(&server.folder().join("data"), &half)?;
    fs::rename(&half, &place).map_err(|cause| Error::of(&format!("cannot keep the prepared {kind} folder"), cause))?;
    Ok(place)
}

/// Copies a data folder, its owners as well.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.arg("-a").arg("--reflink=auto").args([from, to]);
    run(command, "cp")
}

/// What a program says when it is asked for its version.
pub(super) fn version(program: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    Ok(output.map_err(|cause| Error::of(&format!("cannot run {} --version", program.display()), cause))?.stdout)
}

/// Runs a program to its end, which must be good.
pub(super) fn run(mut command: Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|cause| Error::of(&format!("cannot run {name}"), cause))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::of(&format!("{name} ended with {}", output.status), String::from_utf8_lossy(&said)))
}
