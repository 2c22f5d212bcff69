//! The lock file of an instance: whoever holds it knows that no other process with this state directory has the name, so that an
//! instance which died and is started again need not wait for the lease of its predecessor.
//!
//! Promises that the id in it tells state directories apart, also copies of one: the file's own place on its file system is a part
//! of it. Without the lock nothing is lost but that shortcut, and that is said in words.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::identity::{kernel_boot, random_boot};
use crate::ownership::settings::Lock;

/// Where it is when nobody names a directory.
const DEFAULT: &str = "/var/lib/task-engine";
/// What may stand in the file's name as it is; a name of only dots cannot be one.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The lock, as long as this lives.
#[derive(Debug)]
pub struct LockFile {
    _file: Option<File>,
    lock: Lock,
}

impl LockFile {
    /// Takes the lock of `instance` in `directory`, or in the first directory of `$STATE_DIRECTORY` (systemd), or in
    /// `/var/lib/task-engine`. What cannot be had is logged.
    pub fn take(directory: Option<&Path>, instance: &str) -> Self {
        let by_systemd = std::env::var_os("STATE_DIRECTORY").filter(|all| !all.is_empty());
        let by_systemd = by_systemd.and_then(|all| std::env::split_paths(&all).next());
        let directory = directory.map(Path::to_owned).or(by_systemd).unwrap_or_else(|| PathBuf::from(DEFAULT));
        let path = directory.join(format!("{}.lock", utf8_percent_encode(instance, PLAIN)));
        let (file, lock) = match hold(&directory, &path) {
            Ok((file, lock)) => (Some(file), lock),
            Err(why) => {
                tracing::warn!("{}", cannot(&path, &why));
                (None, Lock { kernel: kernel_boot(), ..Lock::default() })
            }
        };
        Self { _file: file, lock }
    }

    /// What the core is told of it.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }
}

fn cannot(path: &Path, why: &io::Error) -> String {
    format!(
        "the lock file {} cannot be locked: {why}. The engine runs without it; after a crash it then waits until the lease of its \
         predecessor is over (consumer.lease_ttl). Let it be writable, or name another directory by STATE_DIRECTORY",
        path.display()
    )
}

fn hold(directory: &Path, path: &Path) -> io::Result<(File, Lock)> {
    fs::create_dir_all(directory)?;
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another process holds it"),
        TryLockError::Error(error) => error,
    })?;
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.trim().is_empty() {
        id = random_boot();
        file.rewind()?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
    }
    let (at, kernel) = (file.metadata()?, kernel_boot());
    let id = format!("{}-{:x}-{:x}", id.trim(), at.dev(), at.ino());
    // Without the kernel's id a copy on another machine could not be told from this one.
    let is_held = !kernel.is_empty();
    Ok((file, Lock { id, kernel, is_held }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_a_second_process_does_not_get_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = LockFile::take(Some(folder.path()), "host/1");
        assert!(first.lock().is_held && !first.lock().kernel.is_empty());
        assert!(folder.path().join("host%2F1.lock").exists());
        let second = LockFile::take(Some(folder.path()), "host/1");
        assert!(!second.lock().is_held && second.lock().id.is_empty());
        let other = LockFile::take(Some(folder.path()), "host-2");
        assert!(other.lock().is_held && other.lock().id != first.lock().id);
        let id = first.lock().id.clone();
        drop(first);
        let third = LockFile::take(Some(folder.path()), "host/1");
        assert!(third.lock().is_held);
        assert_eq!(third.lock().id, id, "the same after a restart");
    }

    #[test]
    fn a_copy_of_the_file_has_another_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = LockFile::take(Some(folder.path()), "a");
        fs::copy(folder.path().join("a.lock"), folder.path().join("b.lock")).expect("copied");
        let copy = LockFile::take(Some(folder.path()), "b");
        assert!(copy.lock().is_held && copy.lock().id != first.lock().id);
    }

    #[test]
    fn what_cannot_be_locked_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("written");
        let under_a_file = folder.path().join("file").join("deep");
        let lock = LockFile::take(Some(&under_a_file), "a");
        assert!(!lock.lock().is_held && lock.lock().id.is_empty());
        let why = hold(&under_a_file, &under_a_file.join("a.lock")).map(drop).expect_err("no directory");
        let words = cannot(&under_a_file.join("a.lock"), &why);
        for word in ["a.lock", "runs without it", "lease_ttl", "STATE_DIRECTORY"] {
            assert!(words.contains(word), "{words}");
        }
    }
}
