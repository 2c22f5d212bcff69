//! `loadtest compare`: the same workload against two or more engines, trial by trial in turn, so that what else happens on
//! the machine happens to all of them.

use std::path::PathBuf;

use harness::error::{Error, Result};
use harness::workload::Workload;

use crate::overrides::Overrides;
use crate::report::{self, Compared};
use crate::run::measure;
use crate::trial::Setup;

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// An engine, given twice or more: NAME=CMD or CMD with {config}, {admin} and {cores} where they go, or one of this
    /// build's own: `task-engine`, `task-engine-jetstream` (its events come through JetStream), `reference`, `bare`.
    /// Ratios are to the first.
    #[arg(long, value_name = "CMD", required = true)]
    pub engine: Vec<String>,
    /// Trials of each engine.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub trials: u32,
    /// A named workload, or a .toml file.
    #[arg(long, default_value = "group-100")]
    pub workload: String,
    /// What is driven, and on what.
    #[command(flatten)]
    pub setup: Setup,
    /// Numbers of the workload that are set anew.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Where the files go.
    #[arg(long, default_value = "target/loadtest")]
    pub out: PathBuf,
    /// What the files are called.
    #[arg(long, default_value = "compare")]
    pub name: String,
}

/// Runs all trials; true when each verdict is clean.
///
/// # Errors
/// When a part does not start, dies, or cannot be written.
pub fn run(args: &CompareArgs) -> Result<bool> {
    if args.engine.len() < 2 {
        return Err(Error::new("compare needs two engines: give --engine twice"));
    }
    if args.overrides.rate_is_max() {
        return Err(Error::new("compare needs the same load for all: give --rate NUMBER or --window PUSHES"));
    }
    let workload = args.overrides.apply(Workload::find(&args.workload)?)?;
    workload.check()?;
    report::prepare(&args.out, &args.name)?;
    let named = args.engine.iter().map(|engine| name_of(engine));
    let mut compared: Vec<_> = named.map(|(name, command)| (Compared { name, runs: Vec::new() }, command)).collect();
    for trial in 1..=args.trials {
        for place in order_in(trial, compared.len()) {
            let (engine, command) = &mut compared[place];
            eprintln!("trial {trial} of {}: {}", args.trials, engine.name);
            let run = measure(&args.setup, Some(command), &workload, None)?;
            engine.runs.push(run.result);
        }
    }
    let compared: Vec<_> = compared.into_iter().map(|(compared, _)| compared).collect();
    report::print_compared(&compared);
    for file in report::write_compared(&args.out, &args.name, &compared)? {
        println!("wrote {}", file.display());
    }
    Ok(compared.iter().flat_map(|engine| &engine.runs).all(|run| run.verdict.is_clean))
}

/// Who runs when in a trial, by their places: each is the first in turn, for the first of a trial finds a machine that has rested and is
/// some hundredths faster for it.
fn order_in(trial: u32, engines: usize) -> impl Iterator<Item = usize> {
    (0..engines).map(move |turn| (trial as usize - 1 + turn) % engines)
}

/// `NAME=CMD`; a command without a name is its own.
fn name_of(engine: &str) -> (String, String) {
    match engine.split_once('=') {
        Some((name, command)) if !name.contains([' ', '/', '{', '\'', '"']) => (name.to_owned(), command.to_owned()),
        _ => (engine.to_owned(), engine.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_runs_once_a_trial_and_first_as_often_as_the_others() {
        let orders = [1, 2, 3, 4].map(|trial| order_in(trial, 3).collect::<Vec<_>>());
        assert_eq!(orders, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]);
    }

    #[test]
    fn engines_have_names_when_they_are_given_one() {
        for (given, name, command) in [
            ("old=/bin/engine {config}", "old", "/bin/engine {config}"),
            ("task-engine", "task-engine", "task-engine"),
            ("/bin/engine --config={config}", "/bin/engine --config={config}", "/bin/engine --config={config}"),
        ] {
            assert_eq!(name_of(given), (name.to_owned(), command.to_owned()));
        }
    }
}
