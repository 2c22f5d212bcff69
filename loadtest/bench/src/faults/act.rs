//! What is done to the parts, and undone.
//!
//! Promises that a fault is over when [`act`] returns. Refuses to touch anything outside this process's children: packet
//! filters and mounts are made in namespaces of our own (see [`enter_namespaces`]).

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::scenario::{Act, Part};
use super::stage::Stage;
use harness::error::{Error, Result};
use harness::servers::{self, Server};

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "LOADTEST_FAULTS_INSIDE";
/// Between two cuts of a gateway's streams.
const CUT_EVERY: Duration = Duration::from_millis(300);

/// Does it, waits, undoes it.
///
/// # Errors
/// When a part does not come back.
pub(super) fn act(stage: &mut Stage, act: Act, lasts: Duration) -> Result<()> {
    match act {
        Act::Nothing | Act::Twice | Act::Poison | Act::Churn => std::thread::sleep(lasts),
        Act::Kill(part) => kill(stage, part, lasts)?,
        Act::Hang(part) => hang(stage, part, lasts)?,
        Act::Restart => {
            let engine = stage.engine.take().ok_or_else(|| Error::new("the engine is not there"))?;
            let stopped = engine.stop()?;
            if !stopped.is_clean {
                return Err(Error::of("the engine did not end as it should", stopped.last_words));
            }
            stage.start_engine()?;
        }
        Act::FullDisk => {
            let disk = stage.disk.as_ref().ok_or_else(|| Error::new("there is no small disk"))?;
            disk.fill()?;
            std::thread::sleep(lasts);
            disk.make_room()?;
            // JetStream switches itself off on a full disk and stays off until the server is started again.
            stage.nats.restart()?;
        }
        Act::Partition => {
            let port = stage.gateways[0].port();
            filter(&format!(
                "table inet faults {{\n chain drop_it {{\n type filter hook input priority 0;\n tcp dport {port} drop\n tcp sport {port} drop\n }}\n}}\n"
            ))?;
            std::thread::sleep(lasts);
            filter("delete table inet faults\n")?;
        }
        Act::CutStreams => {
            for _ in 0..10 {
                std::thread::sleep(CUT_EVERY);
                stage.gateways[0].cut_streams();
            }
        }
    }
    Ok(())
}

fn kill(stage: &mut Stage, part: Part, away: Duration) -> Result<()> {
    match part {
        Part::Engine => {
            // Its value kills it; the next one starts at once, as a supervisor would start it.
            drop(stage.engine.take());
            stage.note_unsettled()?;
            return stage.start_engine();
        }
        Part::Gateway => {
            let gateway = stage.gateway_process()?;
            gateway.kill9();
            std::thread::sleep(away);
            return gateway.restart();
        }
        Part::Nats | Part::Redis | Part::Mysql | Part::Etcd => {}
    }
    server(stage, part)?.kill9();
    std::thread::sleep(away);
    server(stage, part)?.restart()?;
    Ok(())
}

fn hang(stage: &mut Stage, part: Part, lasts: Duration) -> Result<()> {
    match part {
        Part::Engine => {
            let id = stage.engine()?.id();
            servers::freeze(id)?;
            std::thread::sleep(lasts);
            let pid = Pid::from_raw(id as i32).ok_or_else(|| Error::new("0 is no process id"))?;
            kill_process(pid, Signal::CONT).map_err(|cause| Error::of("cannot let the engine go on", cause))?;
        }
        Part::Gateway => {
            let gateway = stage.gateway_process()?;
            gateway.stop()?;
            std::thread::sleep(lasts);
            gateway.cont()?;
        }
        Part::Nats | Part::Redis | Part::Mysql | Part::Etcd => {
            server(stage, part)?.stop()?;
            std::thread::sleep(lasts);
            server(stage, part)?.cont()?;
        }
    }
    Ok(())
}

fn server(stage: &Stage, part: Part) -> Result<&Server> {
    match part {
        Part::Nats => Ok(&stage.nats),
        Part::Redis => Ok(&stage.redis),
        Part::Mysql => Ok(&stage.maria),
        Part::Etcd => Ok(&stage.etcd),
        Part::Gateway | Part::Engine => Err(Error::new("no server of its own")),
    }
}

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

fn filter(rules: &str) -> Result<()> {
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

    fn fill(&self) -> Result<()> {
        let ballast = fs::File::create(self.folder.path().join("ballast"));
        let mut ballast = ballast.map_err(|cause| Error::of("cannot fill the disk", cause))?;
        let block = vec![0u8; 1 << 16];
        // Ends with "no space left on device", which is what is wanted.
        while ballast.write_all(&block).is_ok() {}
        let rest = [0u8; 512];
        while ballast.write_all(&rest).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
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
