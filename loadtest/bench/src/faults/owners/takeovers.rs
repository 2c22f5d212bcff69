//! `loadtest takeovers`: how long partitions are without an owner.
//!
//! Promises figures of real processes under load, on each nats-server: what a push waited when an owner was killed, how long calm
//! moves paused a partition, and how soon a starting instance owns all partitions.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::error::Result;
use serde::Serialize;

use super::stage::{STREAM, Stage, load_of};
use super::{Server, files, namespace};
use crate::faults::course;

const MARK: &str = "<!-- takeovers -->";
/// Longer than an owner's successors take to push what waited.
const AFTER: Duration = Duration::from_secs(1);
/// What the issue of this page asks for.
const TAKEOVER_GOAL: f64 = 7.5;

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct TakeoverArgs {
    /// How many owners are killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub kills: u32,
    /// Engines beside each other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=8))]
    pub instances: u16,
    /// Only on this nats-server; on both when left out.
    #[arg(long, value_enum)]
    pub nats: Vec<Server>,
    /// Events per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,
    /// Shards of each engine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cores: u16,
    /// Writes the tables into this file, between its two marks `<!-- takeovers -->`.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/loadtest/takeovers.json")]
    pub out: PathBuf,
}

/// What came of one nats-server.
#[derive(Clone, Debug, Default, Serialize)]
struct Takeovers {
    server: String,
    /// Of each kill the longest that a push waited.
    takeover_seconds: Vec<f64>,
    /// Of calm moves the pauses, by the engines' histogram: each bound with how many were not above it.
    pauses: Vec<(f64, u64)>,
    /// From the start of the first process after `setup`, and of one after all were stopped, until it owned all.
    first_start_seconds: f64,
    start_seconds: f64,
    lost: u64,
    out_of_order: u64,
}

/// Runs it; true when each takeover was within the goal, and nothing was lost or out of order.
///
/// # Errors
/// When a part does not start.
pub fn run(args: &TakeoverArgs) -> Result<bool> {
    namespace::check_filter()?;
    namespace::enter_namespaces()?;
    let mut all = Vec::new();
    for server in Server::chosen(&args.nats) {
        eprintln!("{server:?} nats-server: {} kills", args.kills);
        all.push(measure(server, args)?);
    }
    let text = text(&all);
    println!("{text}");
    files::write_json(&args.out, &all)?;
    if let Some(file) = &args.write {
        files::write_between_marks(file, MARK, |_| text.clone())?;
    }
    let is_good = |one: &Takeovers| {
        one.lost + one.out_of_order == 0 && one.takeover_seconds.iter().all(|seconds| *seconds <= TAKEOVER_GOAL)
    };
    Ok(all.iter().all(is_good))
}

fn measure(server: Server, args: &TakeoverArgs) -> Result<Takeovers> {
    let instances = usize::from(args.instances);
    let mut stage = Stage::start(server, instances, args.cores, false)?;
    let first_start_seconds = start_alone(&mut stage)?;
    stage.fleet.stop(0)?;
    let start_seconds = start_alone(&mut stage)?;
    let rest: Vec<usize> = (1..instances).collect();
    stage.fleet.start(&rest)?;
    let all: Vec<usize> = (0..instances).collect();
    stage.fleet.wait_shared(&all)?;
    let (publisher, world, verdict) = (stage.publisher.clone(), stage.world.clone(), stage.verdict.clone());
    let kill_all = || (0..args.kills).map(|number| kill(&mut stage, number as usize % instances)).collect();
    let (published, seen): (_, Vec<f64>) =
        course::publish_while(&load_of(args.rate), (&publisher, &world, &verdict), kill_all)?;
    course::wait_until_settled(&publisher, STREAM);
    let pauses = stage.fleet.clean_pauses();
    stage.fleet.end()?;
    let judged = course::judge(&stage.maria, &world, &verdict, &published)?;
    Ok(Takeovers {
        server: server.word(),
        takeover_seconds: seen,
        pauses,
        first_start_seconds,
        start_seconds,
        lost: judged.lost + judged.offline_not_stored + judged.misdelivered_or_corrupt,
        out_of_order: judged.out_of_order,
    })
}

/// Starts the first one, which is alone; gives when it owned all.
fn start_alone(stage: &mut Stage) -> Result<f64> {
    let began = Instant::now();
    stage.fleet.spawn(0)?;
    stage.fleet.wait_shared(&[0])?;
    Ok(began.elapsed().as_secs_f64())
}

/// Kills one, waits until the others push what it owned, and starts it again; gives the longest that a push waited.
fn kill(stage: &mut Stage, at: usize) -> Result<f64> {
    stage.verdict.take_recent();
    stage.fleet.kill(at);
    let running = stage.fleet.running();
    stage.fleet.wait_shared(&running)?;
    std::thread::sleep(AFTER);
    let longest = stage.verdict.take_recent().max() as f64 / 1e9;
    eprintln!("    {} killed: {longest:.2} s", stage.fleet.name(at));
    stage.fleet.start(&[at])?;
    let running = stage.fleet.running();
    stage.fleet.wait_shared(&running)?;
    Ok(longest)
}

fn text(all: &[Takeovers]) -> String {
    let mut text = "| nats-server | kills | min, s | p50, s | p90, s | max, s | lost | out of order |\n\
                    |---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for Takeovers { server, takeover_seconds, lost, out_of_order, .. } in all {
        let mut sorted = takeover_seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| format!("{:.2}", quantile(&sorted, share));
        let kills = sorted.len();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {server} | {kills} | {} | {} | {} | {} | {lost} | {out_of_order} |",
            at(0.0),
            at(0.5),
            at(0.9),
            at(1.0)
        );
    }
    text += "\n| nats-server | calm moves | pause p50, ms | p90, ms | max, ms | first start, s | start, s |\n\
             |---|---:|---:|---:|---:|---:|---:|\n";
    for Takeovers { server, pauses, first_start_seconds, start_seconds, .. } in all {
        let moves = pauses.last().map_or(0, |(_, count)| *count);
        let at = |share| bound(pauses, share);
        let _ = writeln!(
            text,
            "| {server} | {moves} | {} | {} | {} | {first_start_seconds:.2} | {start_seconds:.2} |",
            at(0.5),
            at(0.9),
            at(1.0)
        );
    }
    text
}

/// The value below which this share of sorted ones is; the nearest one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The bound of a histogram that this share is not above.
fn bound(buckets: &[(f64, u64)], share: f64) -> String {
    let all = buckets.last().map_or(0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, count)| all > 0 && *count as f64 >= share * all as f64);
    found.map_or_else(|| "-".to_owned(), |(bound, _)| format!("<= {:.1}", bound * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_bounds_are_of_what_was_seen() {
        let sorted = [1.0, 2.0, 3.0, 4.0, 9.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&sorted, share)), [1.0, 3.0, 9.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
        let buckets = [(0.01, 3), (0.02, 9), (0.05, 10)];
        assert_eq!([0.3, 0.5, 1.0].map(|share| bound(&buckets, share)), ["<= 10.0", "<= 20.0", "<= 50.0"]);
        assert_eq!(bound(&[], 0.5), "-");
    }
}
