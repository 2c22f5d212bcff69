//! What others do beside the instances: namesakes, other configurations, records and consumers by hand.

use std::time::Duration;

use harness::error::{Error, Result};

use super::comings::{kill, wait_for_all};
use super::{HURT, Wrongs};
use crate::faults::owners::etcd;
use crate::faults::owners::stage::{DURABLE, STREAM, Stage, TOPIC, partition_of};

const UNKNOWN: &str = r#"{"v":7}"#;
/// How long something must not happen.
const WATCH: Duration = Duration::from_secs(5);
const SAID_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn namesake(stage: &mut Stage) -> Result<Wrongs> {
    let (spare, name) = (stage.spare(), stage.fleet.name(HURT).to_owned());
    stage.fleet.configure(spare, &[("engine", "instance", &name)])?;
    stage.fleet.spawn(spare)?;
    let mut wrongs = stage.must_say(spare, &format!("another process has the name {name}"), SAID_WITHIN)?;
    std::thread::sleep(WATCH);
    if stage.fleet.owned(spare).unwrap_or(0) > 0 || !stage.fleet.is_shared_by(&stage.all()) {
        wrongs.push("the namesake took partitions".to_owned());
    }
    stage.fleet.kill(spare);
    Ok(wrongs)
}

pub(super) fn layout(stage: &mut Stage) -> Result<Wrongs> {
    let spare = stage.spare();
    stage.fleet.configure(spare, &[("consumer", "partitions", "32")])?;
    stage.fleet.spawn(spare)?;
    stage.must_end(spare, 2, "the instances are not configured alike")
}

pub(super) fn unknown_plan(stage: &mut Stage) -> Result<Wrongs> {
    etcd::put(&stage.etcd, "plan", UNKNOWN)?;
    let wrongs = stage.must_say(0, "version 7", SAID_WITHIN)?;
    std::thread::sleep(WATCH);
    wait_for_all(stage)?;
    etcd::delete(&stage.etcd, "plan")?;
    std::thread::sleep(WATCH);
    wait_for_all(stage)?;
    Ok(wrongs)
}

pub(super) fn unknown_record(stage: &mut Stage) -> Result<Wrongs> {
    let all = stage.all();
    for at in &all {
        stage.fleet.stop(*at)?;
    }
    let kept = etcd::get(&stage.etcd, "epochs/5")?.ok_or_else(|| Error::new("partition 5 has no record"))?;
    etcd::put(&stage.etcd, "epochs/5", UNKNOWN)?;
    stage.fleet.start(&all)?;
    let said = all.iter().map(|at| stage.must_say(*at, "the record of partition 5 is not understood", SAID_WITHIN));
    let said = said.collect::<Result<Vec<_>>>()?;
    // One of them is to have it, and says so.
    let mut wrongs = if said.iter().any(Vec::is_empty) { Wrongs::new() } else { said.concat() };
    if all.iter().any(|at| stage.fleet.owns(*at).contains(&5)) {
        wrongs.push("partition 5 was claimed although its record is not understood".to_owned());
    }
    etcd::put(&stage.etcd, "epochs/5", &kept)?;
    wait_for_all(stage)?;
    Ok(wrongs)
}

/// The consumers of an instance's partitions.
fn consumers_of(stage: &Stage, at: usize) -> Result<Vec<(u32, String)>> {
    let owned = stage.fleet.owns(at);
    let all = stage.publisher.consumers(STREAM)?;
    let of = |name: String| Some((partition_of(&name).filter(|partition| owned.contains(partition))?, name));
    Ok(all.into_iter().filter_map(of).collect())
}

pub(super) fn consumers_deleted(stage: &mut Stage) -> Result<Wrongs> {
    let consumers = consumers_of(stage, HURT)?;
    consumers.iter().try_for_each(|(_, name)| stage.publisher.delete_consumer(STREAM, name))?;
    std::thread::sleep(WATCH);
    wait_for_all(stage)
}

pub(super) fn consumers_made(stage: &mut Stage) -> Result<Wrongs> {
    for (partition, _) in consumers_of(stage, HURT)? {
        let (name, filter) = (format!("{DURABLE}-{partition}-g9"), format!("{TOPIC}.{partition}"));
        stage.publisher.make_consumer(STREAM, &name, filter)?;
    }
    std::thread::sleep(WATCH);
    wait_for_all(stage)?;
    kill(stage, HURT)
}

pub(super) fn none_beside(stage: &mut Stage) -> Result<Wrongs> {
    let spare = stage.spare();
    stage.fleet.configure(spare, &[("consumer", "ownership", "none")])?;
    stage.fleet.spawn(spare)?;
    let mut wrongs = stage.must_say(spare, "consumer.ownership etcd", SAID_WITHIN)?;
    std::thread::sleep(WATCH);
    stage.fleet.stop_any(spare)?;
    wrongs.extend(wait_for_all(stage)?);
    Ok(wrongs)
}
