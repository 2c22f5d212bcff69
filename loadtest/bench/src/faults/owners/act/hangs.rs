//! What stands still in part: one shard of an instance, an instance together with a gateway.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use harness::error::{Error, Result};
use harness::servers::freeze;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use super::comings::wait_for_all;
use super::{HURT, Wrongs};
use crate::faults::owners::stage::Stage;

/// The thread that hangs: glommio writes a number of its own behind the name.
const SHARD: &str = "shard-0-";
/// How long the gateway stands still before the owner does: less than `gateway.delivery_timeout`, so that what its buffers hold then is
/// unsettled.
const GATEWAY_FIRST: Duration = Duration::from_secs(1);

/// Its process ends while the shard still stands: what the shard holds for gateways must not leave once others have the partitions.
pub(super) fn shard(stage: &mut Stage) -> Result<Wrongs> {
    let owned = stage.fleet.owns(HURT);
    stop_thread(stage.fleet.process(HURT)?.id(), SHARD)?;
    stage.note_unsettled(&owned)?;
    let wrongs = stage.must_end(HURT, 3, "fenced by")?;
    wait_for_all(stage)?;
    Ok(wrongs)
}

/// The gateway goes on last, and reads what the paused owner and its successors wrote in any order.
pub(super) fn owner_beside_gateway(stage: &mut Stage) -> Result<Wrongs> {
    let (owned, others) = (stage.fleet.owns(HURT), stage.others(HURT));
    stage.gateway_process()?.stop()?;
    std::thread::sleep(GATEWAY_FIRST);
    freeze(stage.fleet.process(HURT)?.id())?;
    stage.note_unsettled(&owned)?;
    stage.fleet.wait_shared(&others)?;
    stage.fleet.process(HURT)?.send(Signal::CONT)?;
    let wrongs = stage.must_end(HURT, 3, "fenced by")?;
    stage.gateway_process()?.cont()?;
    wait_for_all(stage)?;
    Ok(wrongs)
}

/// Stops one thread of a process for ever; returns when it stands still. Only ptrace does that: SIGSTOP stops all threads, and so does the
/// freezer. The kernel keeps a process that has ended until whoever traces a thread of it has waited for that one: a thread of ours does.
fn stop_thread(process: u32, name: &str) -> Result<()> {
    let stopped = Pid::from_raw(thread_named(process, name)?);
    let (tell, told) = mpsc::channel();
    let trace = move || {
        let wait = || waitpid(stopped, Some(WaitPidFlag::__WALL));
        let seized = ptrace::seize(stopped, ptrace::Options::empty());
        let _ = tell.send(seized.and_then(|()| ptrace::interrupt(stopped)).and_then(|()| wait()));
        // Nobody lets it go on: what is waited for is its end.
        while wait().is_ok_and(|status| !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {}
    };
    let failed = |cause: &dyn std::fmt::Display| Error::of(&format!("cannot stop {name} of process {process}"), cause);
    std::thread::Builder::new().name("tracer".to_owned()).spawn(trace).map_err(|cause| failed(&cause))?;
    match told.recv().map_err(|cause| failed(&cause))?.map_err(|cause| failed(&cause))? {
        WaitStatus::Exited(..) | WaitStatus::Signaled(..) => Err(failed(&"it has ended")),
        _ => Ok(()),
    }
}

fn thread_named(process: u32, name: &str) -> Result<i32> {
    let failed = |cause| Error::of(&format!("cannot list the threads of process {process}"), cause);
    for task in fs::read_dir(format!("/proc/{process}/task")).map_err(failed)? {
        let task = task.map_err(failed)?;
        // A thread that has ended meanwhile has no name.
        if fs::read_to_string(task.path().join("comm")).unwrap_or_default().starts_with(name) {
            return task.file_name().to_string_lossy().parse().map_err(|cause| Error::of("no thread id", cause));
        }
    }
    Err(Error::new(format!("process {process} has no thread {name}*")))
}
