//! `loadtest faults --instances N`: faults of engines that own partitions together, on real processes under load.
//!
//! Promises what [`faults`](super) promises, on each nats-server that is asked for, and that a row is good only when nothing was
//! lost or out of order, no more was repeated than was unsettled where a repeat is allowed at all, no push waited longer than the
//! row allows, and all else came that the row says.

mod act;
mod course;
mod etcd;
mod links;
mod scenario;
mod stage;
mod table;
mod takeovers;

use harness::error::{Error, Result};
use harness::servers::NatsVersion;

use self::scenario::Scenario;
pub use self::table::OwnersResult;
pub use self::takeovers::{TakeoverArgs, run as run_takeovers};
use super::{FaultArgs, namespace, table as files};

const MARK: &str = "<!-- owners -->";

/// Which nats-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    /// The installed one (Debian's is 2.9).
    Installed,
    /// The current one, in `.servers/`.
    Current,
}

impl Server {
    const BOTH: [Self; 2] = [Self::Installed, Self::Current];

    fn version(self) -> NatsVersion {
        match self {
            Self::Installed => NatsVersion::Installed,
            Self::Current => NatsVersion::Current,
        }
    }

    /// As a table names it.
    fn word(self) -> String {
        crate::trial::word(&self)
    }

    /// These, or both when none is named.
    fn chosen(named: &[Self]) -> Vec<Self> {
        if named.is_empty() { Self::BOTH.to_vec() } else { named.to_vec() }
    }
}

/// Runs them; true when each kept its promise.
///
/// # Errors
/// When a part does not start, or an option names what is not there.
pub(super) fn run(args: &FaultArgs) -> Result<bool> {
    if args.assignment.is_some() {
        return Err(Error::new("--instances needs partitions that have owners: leave --assignment out"));
    }
    if args.list {
        Scenario::ALL.iter().for_each(|scenario| println!("{:<20} {}", scenario.name, scenario.about));
        return Ok(true);
    }
    let chosen = super::chosen(&args.only, Scenario::ALL, |scenario| scenario.name)?;
    namespace::check_filter()?;
    namespace::enter_namespaces()?;
    let servers = Server::chosen(&args.nats);
    let total = chosen.len() * servers.len();
    let mut results = Vec::new();
    for scenario in chosen {
        for server in &servers {
            let number = results.len() + 1;
            eprintln!("[{number}/{total}] {} ({server:?} nats-server)", scenario.name);
            let result = course::run(scenario, *server, args);
            let result = result.unwrap_or_else(|error| OwnersResult::not_run(scenario.name, server.word(), &error));
            eprintln!("    {}", table::line(&result));
            results.push(result);
            // Row by row: what was measured stays when a later one ends all.
            files::write_json(&args.out, &results)?;
            if let Some(file) = &args.write {
                files::write_between_marks(file, MARK, |old| table::text_over(old, &results))?;
            }
        }
    }
    println!("{}", table::text(&results));
    let good = results.iter().filter(|result| result.is_good).count();
    println!("faults: {good} of {total} rows kept the promise");
    Ok(good == total)
}
