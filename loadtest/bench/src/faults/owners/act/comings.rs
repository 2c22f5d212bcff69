//! Instances that come, go, crash and stand still.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::error::{Error, Result};
use harness::servers::freeze;
use rustix::process::Signal;

use super::{HURT, Wrongs};
use crate::engine::own;
use crate::faults::owners::stage::Stage;

/// Who dies as it takes over.
const TAKER: usize = 2;
/// After a kill: the lease is over, and its partitions are fenced and opened by others (takeovers take 5.8 to 7 s).
const TAKEN_OVER: Duration = Duration::from_millis(5_700);

pub(super) fn stop(stage: &mut Stage) -> Result<Wrongs> {
    stage.fleet.stop(HURT)?;
    wait_for_all(stage)
}

/// Until those that run own all partitions.
pub(super) fn wait_for_all(stage: &mut Stage) -> Result<Wrongs> {
    let running = stage.fleet.running();
    stage.fleet.wait_shared(&running)?;
    Ok(Vec::new())
}

pub(super) fn start(stage: &mut Stage, at: usize) -> Result<Wrongs> {
    stage.fleet.start(&[at])?;
    wait_for_all(stage)
}

pub(super) fn rolling(stage: &mut Stage) -> Result<Wrongs> {
    for at in stage.all() {
        stage.fleet.stop(at)?;
        wait_for_all(stage)?;
        start(stage, at)?;
    }
    Ok(Vec::new())
}

/// The row begins with one instance.
pub(super) fn scale(stage: &mut Stage) -> Result<Wrongs> {
    start(stage, 1)?;
    start(stage, 2)?;
    stage.fleet.stop(0)?;
    wait_for_all(stage)
}

pub(super) fn drain(stage: &mut Stage) -> Result<Wrongs> {
    let others = stage.others(HURT);
    partitions(stage, "drain")?;
    stage.fleet.wait_shared(&others)?;
    partitions(stage, "undrain")?;
    wait_for_all(stage)
}

fn partitions(stage: &Stage, word: &str) -> Result<()> {
    let (config, name): (&Path, &str) = (stage.fleet.config(0), stage.fleet.name(HURT));
    let mut command = Command::new(own::program_path("task-engine")?);
    let said = command.arg("partitions").args([word, name]).arg("--config").arg(config).output();
    let said = said.map_err(|cause| Error::of("cannot start task-engine partitions", cause))?;
    let words = || String::from_utf8_lossy(&said.stderr).into_owned();
    if said.status.success() { Ok(()) } else { Err(Error::of("task-engine partitions failed", words())) }
}

pub(super) fn kill(stage: &mut Stage, at: usize) -> Result<Wrongs> {
    let owned = stage.fleet.owns(at);
    stage.fleet.kill(at);
    stage.note_unsettled(&owned)?;
    wait_for_all(stage)
}

/// One of those who take over dies while they do.
pub(super) fn kill_taker(stage: &mut Stage) -> Result<Wrongs> {
    let owned = stage.fleet.owns(HURT);
    stage.fleet.kill(HURT);
    stage.note_unsettled(&owned)?;
    std::thread::sleep(TAKEN_OVER);
    let of_both = [stage.fleet.owns(TAKER), owned].concat();
    stage.fleet.kill(TAKER);
    stage.note_unsettled(&of_both)?;
    wait_for_all(stage)
}

pub(super) fn kill_and_start(stage: &mut Stage) -> Result<Wrongs> {
    let owned = stage.fleet.owns(HURT);
    stage.fleet.kill(HURT);
    stage.note_unsettled(&owned)?;
    start(stage, HURT)
}

pub(super) fn pause(stage: &mut Stage, lasts: Duration) -> Result<Wrongs> {
    freeze(stage.fleet.process(HURT)?.id())?;
    std::thread::sleep(lasts);
    stage.fleet.process(HURT)?.send(Signal::CONT)?;
    wait_for_all(stage)
}

pub(super) fn pause_until_taken(stage: &mut Stage) -> Result<Wrongs> {
    let (owned, others) = (stage.fleet.owns(HURT), stage.others(HURT));
    freeze(stage.fleet.process(HURT)?.id())?;
    stage.note_unsettled(&owned)?;
    stage.fleet.wait_shared(&others)?;
    // What the successors repeat has come by now.
    std::thread::sleep(Duration::from_secs(2));
    let before = stage.verdict.findings().repeated;
    stage.fleet.process(HURT)?.send(Signal::CONT)?;
    let mut wrongs = stage.must_end(HURT, 3, "fenced by")?;
    std::thread::sleep(Duration::from_secs(1));
    let pushed = stage.verdict.findings().repeated - before;
    if pushed > 0 {
        wrongs.push(format!("{pushed} pushes came again after the paused one woke"));
    }
    Ok(wrongs)
}
