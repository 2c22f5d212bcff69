//! `loadtest faults`: one fault after the other on real processes under load, and what each of them cost.
//!
//! Promises that each scenario starts from fresh servers, that events are published with the broker's confirmation and
//! in order, and that lost, repeated and out of order are counted by identity over what gateways got and what the inbox
//! holds. Refuses to call a scenario good by its time: only by what it lost, repeated or reordered beyond what a cut or a
//! crash explains.

mod act;
mod confirm;
mod course;
mod namespace;
mod owners;
mod scenario;
mod stage;
mod table;
mod way;

use std::path::PathBuf;

use harness::error::{Error, Result};

pub use self::owners::{OwnersResult, Server, TakeoverArgs, run_takeovers};
use self::scenario::{Act, Scenario};
pub use self::table::FaultResult;
use self::way::Way;
use crate::trial::Assignment;

const MARK: &str = "<!-- faults -->";

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultArgs {
    /// Engines beside each other that own the partitions together (three or more): the faults are those of owners then, on each
    /// nats-server, with another list of scenarios.
    #[arg(long, value_parser = clap::value_parser!(u16).range(3..=8))]
    pub instances: Option<u16>,
    /// With --instances: only on this nats-server; on both when left out.
    #[arg(long, value_enum, requires = "instances")]
    pub nats: Vec<Server>,
    /// Only these scenarios (see --list); all when left out.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Only this assignment; each of both when left out.
    #[arg(long, value_enum)]
    pub assignment: Option<Assignment>,
    /// Events per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,
    /// How gateways are pushed to; what is not the default stands in the row's name.
    #[command(flatten)]
    pub way: Way,
    /// Shards of each engine: 2 when left out, with --instances 1.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cores: Option<u16>,
    /// How long a hang, an outage or a partition lasts.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=60))]
    pub lasts: u32,
    /// Writes the table into this file, between its two marks `<!-- faults -->`, with --instances `<!-- owners -->`: rows that were
    /// not run stay.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/loadtest/faults.json")]
    pub out: PathBuf,
    /// Only lists the scenarios.
    #[arg(long)]
    pub list: bool,
}

/// Runs them; true when each kept its promise.
///
/// # Errors
/// When a part does not start, or a scenario's name is unknown.
pub fn run(args: &FaultArgs) -> Result<bool> {
    if args.instances.is_some() {
        return owners::run(args);
    }
    if args.list {
        Scenario::ALL.iter().for_each(|scenario| println!("{:<18} {}", scenario.name, scenario.about));
        return Ok(true);
    }
    let chosen = chosen(&args.only, Scenario::ALL, |scenario| scenario.name)?;
    if chosen.iter().any(|scenario| matches!(scenario.act, Act::Partition)) {
        namespace::check_filter()?;
    }
    if chosen.iter().any(|scenario| matches!(scenario.act, Act::Partition | Act::FullDisk)) {
        namespace::enter_namespaces()?;
    }
    let assignments = args.assignment.map_or(vec![Assignment::Queue, Assignment::Partitioned], |one| vec![one]);
    let total = chosen.len() * assignments.len();
    let mut results = Vec::new();
    for scenario in chosen {
        for assignment in &assignments {
            eprintln!(
                "[{}/{total}] {} ({})",
                results.len() + 1,
                args.way.name(scenario.name),
                crate::trial::word(assignment)
            );
            let result = course::run(scenario, *assignment, args)?;
            eprintln!("    {}", table::line(&result));
            results.push(result);
        }
    }
    println!("{}", table::text(&results));
    table::write_json(&args.out, &results)?;
    if let Some(file) = &args.write {
        let names: Vec<_> = Scenario::ALL.iter().map(|scenario| scenario.name).collect();
        table::write_between_marks(file, MARK, |old| table::over(old, &table::text(&results), &names))?;
    }
    let good = results.iter().filter(|result| result.is_good).count();
    println!("faults: {good} of {} scenarios kept the promise", results.len());
    Ok(good == results.len())
}

fn chosen<T>(only: &[String], all: &'static [T], name: impl Fn(&T) -> &'static str) -> Result<Vec<&'static T>> {
    if only.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |wanted: &String| {
        let known = || all.iter().map(&name).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|one| name(one) == wanted);
        found.ok_or_else(|| Error::new(format!("there is no scenario `{wanted}`; there are: {}", known())))
    };
    only.iter().map(find).collect()
}
