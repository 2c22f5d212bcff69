//! etcd and NATS, away, cut from one instance, emptied.

use std::fs;
use std::time::Duration;

use harness::error::Result;

use super::comings::{start, wait_for_all};
use super::{HURT, Wrongs};
use crate::faults::owners::etcd;
use crate::faults::owners::links::Link;
use crate::faults::owners::stage::Stage;

/// Instances are fenced within this once etcd answers. Who takes their partitions pulls later than that (`Timings::fence`), so what is
/// unsettled until then was theirs.
const FENCED: Duration = Duration::from_secs(1);
/// Longer than `consumer.lease_ttl`.
const AWAY: Duration = Duration::from_secs(8);
const CUT: Duration = Duration::from_secs(20);
/// An instance that had no NATS gets partitions again after ten seconds with it.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) fn etcd_kill(stage: &mut Stage) -> Result<Wrongs> {
    stage.etcd.kill9();
    std::thread::sleep(AWAY);
    stage.etcd.restart()?;
    std::thread::sleep(SETTLED);
    wait_for_all(stage)
}

pub(super) fn etcd_hang(stage: &mut Stage) -> Result<Wrongs> {
    stage.etcd.stop()?;
    std::thread::sleep(AWAY);
    let all = all_owned(stage);
    // Awake, it may revoke leases before it hears the keepalives that wait for it.
    stage.etcd.cont()?;
    supervise(stage, &all)
}

pub(super) fn etcd_emptied(stage: &mut Stage) -> Result<Wrongs> {
    let all = all_owned(stage);
    etcd::with_data(&stage.etcd, |data| fs::remove_dir_all(data))?;
    stage.register()?;
    supervise(stage, &all)
}

pub(super) fn etcd_restored(stage: &mut Stage) -> Result<Wrongs> {
    let kept = stage.etcd.folder().join("kept");
    etcd::with_data(&stage.etcd, |data| etcd::copy(data, &kept))?;
    std::thread::sleep(SETTLED);
    stage.fleet.stop(HURT)?;
    wait_for_all(stage)?;
    start(stage, HURT)?;
    let all = all_owned(stage);
    etcd::with_data(&stage.etcd, |data| {
        fs::remove_dir_all(data)?;
        fs::rename(&kept, data)
    })?;
    supervise(stage, &all)
}

/// Starts those again, as a supervisor would, that were fenced; then all partitions must have an owner. When one is fenced is
/// not known before: what these partitions have unsettled then may come again.
fn supervise(stage: &mut Stage, of: &[u32]) -> Result<Wrongs> {
    stage.note_most_unsettled(of, (FENCED, AWAY), start_fenced_again)?;
    wait_for_all(stage)
}

fn start_fenced_again(stage: &mut Stage) -> Result<()> {
    for at in stage.fleet.running() {
        let ended = stage.fleet.process(at)?.ended()?;
        if ended.is_some_and(|stopped| stopped.code == Some(3)) {
            stage.fleet.kill(at);
            stage.fleet.spawn(at)?;
        }
    }
    Ok(())
}

fn all_owned(stage: &Stage) -> Vec<u32> {
    stage.all().into_iter().flat_map(|at| stage.fleet.owns(at)).collect()
}

pub(super) fn revoke(stage: &mut Stage) -> Result<Wrongs> {
    let owned = stage.fleet.owns(HURT);
    etcd::revoke(&stage.etcd, stage.fleet.name(HURT))?;
    // It takes its partitions back, unless others were faster: then it ends. What it settles between their look at how far it is and its
    // hearing of them comes again as well.
    supervise(stage, &owned)
}

pub(super) fn stop_without_etcd(stage: &mut Stage) -> Result<Wrongs> {
    stage.etcd.kill9();
    // Its exit code is not judged: etcd could not be told.
    stage.fleet.stop_any(HURT)?;
    stage.etcd.restart()?;
    wait_for_all(stage)
}

pub(super) fn nats_kill(stage: &mut Stage) -> Result<Wrongs> {
    stage.nats.kill9();
    std::thread::sleep(Duration::from_secs(3));
    stage.nats.restart()?;
    std::thread::sleep(SETTLED);
    wait_for_all(stage)
}

/// Whether it `ends`, since others have its partitions by then.
pub(super) fn cut(stage: &mut Stage, links: &[Link], ends: bool) -> Result<Wrongs> {
    let owned = stage.fleet.owns(HURT);
    let others = stage.others(HURT);
    stage.links.cut(HURT, links)?;
    stage.note_most_unsettled(&owned, (CUT, CUT), |_| Ok(()))?;
    let mut wrongs = Wrongs::new();
    if ends && !stage.fleet.is_shared_by(&others) {
        wrongs.push("the others did not take its partitions while it was cut off".to_owned());
    }
    stage.links.heal()?;
    if ends {
        wrongs.extend(stage.must_end(HURT, 3, "fenced by")?);
    }
    wait_for_all(stage)?;
    Ok(wrongs)
}
