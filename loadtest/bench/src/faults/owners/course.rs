//! One row: load, calm, the fault, the end, the judgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::verdict::Verdict;
use hdrhistogram::Histogram;

use super::Server;
use super::act::{self, Wrongs};
use super::scenario::{Act, Repeats, Scenario};
use super::stage::{STREAM, Stage, load_of};
use super::table::OwnersResult;
use crate::faults::FaultArgs;
use crate::faults::confirm::Unsettled;
use crate::faults::course;

/// Load before the fault, whose p99 the fault's is compared with.
const CALM: Duration = Duration::from_secs(4);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// It is over once no push was later than this for [`STEADY`], and is watched no longer than [`WATCHED`].
const SLOW: Duration = Duration::from_millis(500);
const STEADY: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(30);
/// How long a single p99 may be twice the calm one without meaning anything: what a scheduler does to one thread.
const P99_FLOOR_MS: f64 = 5.0;

/// What was seen of the pushes.
struct Seen {
    wrongs: Wrongs,
    calm_p99_ms: f64,
    p99_ms: f64,
    longest: Duration,
}

/// Runs one.
///
/// # Errors
/// When a part does not start, or the broker confirms nothing for a minute.
pub(super) fn run(scenario: &Scenario, server: Server, args: &FaultArgs) -> Result<OwnersResult> {
    let instances = usize::from(args.instances.unwrap_or(3));
    let is_gateway_hurt = scenario.act == Act::PauseBesideGateway;
    let mut stage = Stage::start(server, instances, args.cores.unwrap_or(1), is_gateway_hurt)?;
    let begin: Vec<usize> = if scenario.act == Act::Scale { vec![0] } else { (0..instances).collect() };
    stage.fleet.start(&begin)?;
    stage.fleet.wait_shared(&begin)?;
    let (publisher, world, verdict) = (stage.publisher.clone(), stage.world.clone(), stage.verdict.clone());
    let watch = || watch(&mut stage, scenario, &verdict);
    let (published, seen) = course::publish_while(&load_of(args.rate), (&publisher, &world, &verdict), watch)?;
    let left = course::wait_until_settled(&publisher, STREAM);
    let resent = course::RESENT.iter().map(|name| stage.fleet.counter(name)).sum::<u64>();
    let mut wrongs = seen.wrongs;
    if left != Unsettled::default() {
        wrongs.push(format!("{} events were never settled ({} never delivered)", left.unacked, left.pending));
    }
    let stopped = stage.fleet.end()?;
    if !stopped.is_clean {
        wrongs.push(format!("not all ended as they should: {}", stopped.last_words));
    }
    let judged = course::judge(&stage.maria, &world, &verdict, &published)?;
    let mut result = OwnersResult {
        name: scenario.name.to_owned(),
        server: server.word(),
        events: judged.events,
        lost: judged.lost + judged.offline_not_stored + judged.misdelivered_or_corrupt,
        repeated: judged.repeated,
        may_repeat: if scenario.repeats == Repeats::None { 0 } else { resent + stage.unsettled_recipients },
        out_of_order: judged.out_of_order,
        may_reorder: if scenario.may_reorder { stage.unsettled_recipients } else { 0 },
        longest_wait_seconds: seen.longest.as_secs_f64(),
        may_wait_seconds: scenario.longest.map(|longest| longest.as_secs_f64()),
        calm_p99_ms: seen.calm_p99_ms,
        p99_ms: seen.p99_ms,
        is_good: false,
        wrongs,
        cases: judged.cases,
    };
    result.judge(scenario.keeps_p99.then_some(P99_FLOOR_MS));
    Ok(result)
}

/// Does the fault in the middle of the load.
fn watch(stage: &mut Stage, scenario: &Scenario, verdict: &Arc<Verdict>) -> Result<Seen> {
    // What the first events of each session cost is not of the calm.
    std::thread::sleep(CALM / 2);
    verdict.take_recent();
    std::thread::sleep(CALM);
    let calm = verdict.take_recent();
    let wrongs = act::act(stage, scenario.act)?;
    let mut all = verdict.take_recent();
    let (over, mut late_until) = (Instant::now(), Duration::ZERO);
    while over.elapsed() < (late_until + STEADY).min(WATCHED) {
        std::thread::sleep(SAMPLE_EVERY);
        let recent = verdict.take_recent();
        if recent.max() > SLOW.as_nanos() as u64 {
            late_until = over.elapsed();
        }
        all.add(&recent).map_err(|cause| Error::of("histograms of one run differ", cause))?;
    }
    let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e6;
    Ok(Seen { wrongs, calm_p99_ms: p99(&calm), p99_ms: p99(&all), longest: Duration::from_nanos(all.max()) })
}
