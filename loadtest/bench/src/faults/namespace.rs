//! Network and mount namespaces of our own: where packets are dropped and a small disk is mounted.
//!
//! Refuses both outside of them, so that nothing of the machine is touched.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use harness::error::{Error, Result};
use harness::servers;
use tempfile::TempDir;

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "LOADTEST_FAULTS_INSIDE";

/// Whether packets can be dropped here: told before the first scenario, not at the thirtieth.
///
/// # Errors
/// What is to be installed.
pub(super) fn check_filter() -> Result<()> {
    let said = Command::new("nft").arg("--version").output();
    said.map(drop).map_err(no_nft)
}

fn no_nft(cause: std::io::Error) -> Error {
    Error::of("cannot start nft; install the Debian package nftables (apt-get install nftables)", cause)
}

/// Gives these rules to nft.
///
/// # Errors
/// When this is not a namespace of our own, or nft refuses them.
pub(super) fn filter(rules: &str) -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        return Err(Error::new("packets are only dropped inside a network namespace of our own: run as root"));
    }
    let mut nft = Command::new("nft");
    let child = nft.args(["-f", "-"]).stdin(std::process::Stdio::piped()).spawn();
    let mut child = child.map_err(no_nft)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(|cause| Error::of("nft takes no rules", cause))?;
    }
    let status = child.wait().map_err(|cause| Error::of("nft is gone", cause))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("nft ended with {status}"))) }
}

/// Starts this program again inside network and mount namespaces of its own, when it may; goes on when it is inside.
///
/// # Errors
/// When it may not.
pub(super) fn enter_namespaces() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|cause| Error::of("cannot find this program", cause))?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    // Returns only when it fails.
    let cause = command.exec();
    Err(Error::of("cannot start unshare; install the Debian package util-linux, and run as root", cause))
}

/// A small disk for the broker's store.
pub(super) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Mounts one of 32 MiB.
    ///
    /// # Errors
    /// When this process may not mount.
    pub fn mount() -> Result<Self> {
        if std::env::var_os(INSIDE).is_none() {
            return Err(Error::new("a disk is only mounted inside a namespace of our own: run as root"));
        }
        let folder = servers::folder("disk")?;
        let mount = ["-t", "tmpfs", "-o", "size=32m", "faults"];
        run(Command::new("mount").args(mount).arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill(&self) -> Result<()> {
        let ballast = fs::File::create(self.folder.path().join("ballast"));
        let mut ballast = ballast.map_err(|cause| Error::of("cannot fill the disk", cause))?;
        let block = vec![0u8; 1 << 16];
        // Ends with "no space left on device", which is what is wanted.
        while ballast.write_all(&block).is_ok() {}
        let rest = [0u8; 512];
        while ballast.write_all(&rest).is_ok() {}
        Ok(())
    }

    /// Undoes that.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_room(&self) -> Result<()> {
        let removed = fs::remove_file(self.folder.path().join("ballast"));
        removed.map_err(|cause| Error::of("cannot make room on the disk", cause))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace ends with this process, and the mount with it.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.folder.path()));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let words = format!("{command:?}");
    let status = command.status().map_err(|cause| Error::of(&words, cause))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("{words} ended with {status}: run as root"))) }
}
