//! `loadtest run`: one workload against one engine, and what it leaves: a table, a JSON document, histograms and a report.

use std::path::PathBuf;
use std::time::SystemTime;

use harness::error::{Error, Result};
use harness::workload::{Load, Workload};

use crate::live::Live;
use crate::machine;
use crate::overrides::Overrides;
use crate::report;
use crate::result::{ClassFigures, Figures, GroupFigures, Histograms, LatencyFigures, RunResult, SCHEMA};
use crate::search::{self, Search};
use crate::trial::{Drive, Phase, Setup, Trial, word};

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// A named workload (`loadtest workloads` lists them), or a .toml file.
    #[arg(long, default_value = "mixed")]
    pub workload: String,
    /// The engine's command line, with {config}, {admin} and {cores} where they go; implies --servers. By name:
    /// `task-engine`, `task-engine-jetstream` (the same with --jetstream), `reference` (the plain Tokio engine of this
    /// program), `bare` (the bare program, the yardstick).
    #[arg(long, value_name = "CMD")]
    pub engine: Option<String>,
    /// What is driven, and on what.
    #[command(flatten)]
    pub setup: Setup,
    /// Numbers of the workload that are set anew.
    #[command(flatten)]
    pub overrides: Overrides,
    /// How a rate is searched for.
    #[command(flatten)]
    pub search: Search,
    /// Where the files go.
    #[arg(long, default_value = "target/loadtest")]
    pub out: PathBuf,
    /// What the files are called; by workload and protocol when left out.
    #[arg(long)]
    pub name: Option<String>,
}

/// A run's document and the histograms behind it.
pub struct Run {
    /// The document.
    pub result: RunResult,
    /// The histograms.
    pub histograms: Histograms,
    /// What the engine said last.
    pub last_words: String,
}

/// Runs it and writes its files; true when the verdict is clean.
///
/// # Errors
/// When a part does not start, dies, or cannot be written.
pub fn run(args: &RunArgs) -> Result<bool> {
    let workload = args.overrides.apply(Workload::find(&args.workload)?)?;
    workload.check()?;
    if args.setup.several.during.is_some() && args.overrides.rate_is_max() {
        return Err(Error::new(
            "no rate can be searched while instances come and go: leave --rate max or --during out",
        ));
    }
    if workload.cold && args.overrides.rate_is_max() {
        return Err(Error::new(
            "a cold workload visits each session once, so no rate can be searched: leave --rate max out",
        ));
    }
    let stem = args.name.clone().unwrap_or_else(|| format!("{}-{}", workload.name, word(&args.setup.protocol)));
    report::prepare(&args.out, &stem)?;
    let search = args.overrides.rate_is_max().then_some(&args.search);
    let run = measure(&args.setup, args.engine.as_deref(), &workload, search)?;
    report::print_text(&run.result, &run.histograms.all);
    println!("engine: {}", run.last_words);
    for file in report::write_files(&args.out, &stem, &run.result, &run.histograms)? {
        println!("wrote {}", file.display());
    }
    Ok(run.result.verdict.is_clean)
}

/// One whole trial: warm-up, load, drain, stop, judgement. With `search` the rate is found first.
///
/// # Errors
/// As [`run`].
pub fn measure(setup: &Setup, engine: Option<&str>, workload: &Workload, search: Option<&Search>) -> Result<Run> {
    let (mut workload, setup) = (workload.clone(), &setup.of_engine(engine));
    let steps = setup.steps(&workload)?;
    let (machine, started) = (machine::machine(), SystemTime::now());
    let live = Live::new(f64::from(workload.warm_up_seconds + workload.seconds));
    let mut trial = Trial::start(setup, engine, &workload, &live)?;
    let touch = Drive { phase: "warm-up", load: None, seconds: 0.0, give_up_above_ms: None };
    if !workload.cold {
        trial.drive(touch, &live)?;
    }
    let warm_up = Drive { load: Some(workload.load), seconds: f64::from(workload.warm_up_seconds), ..touch };
    if workload.warm_up_seconds > 0 {
        trial.drive(warm_up, &live)?;
    }
    if let Some(search) = search {
        workload.load = Load::EventsPerSecond(search::highest_rate(&mut trial, search, workload.load, &live)?);
    }
    let measured =
        Drive { phase: "measured", load: Some(workload.load), seconds: f64::from(workload.seconds), ..touch };
    trial.begin(&steps);
    let phase = trial.drive(measured, &live)?;
    let figures = figures(&phase, trial.peak_rss_mib()?);
    let queries = trial.query_figures()?;
    trial.judge_classes();
    live.note("stopping the engine");
    let stopped = trial.stop()?;
    trial.judge_inbox()?;
    live.finish();
    let mut verdict = trial.verdict().findings();
    if !stopped.is_clean {
        verdict.is_clean = false;
        verdict.cases.push(format!("the engine did not end as it should: {}", stopped.last_words));
    }
    let with_servers = setup.servers || engine.is_some();
    let result = RunResult {
        schema: SCHEMA,
        command: machine::command(),
        commit: machine::commit(),
        started: machine::rfc3339(started),
        machine,
        versions: machine::versions(with_servers, engine),
        engine: engine.unwrap_or(if with_servers { "task-engine" } else { "embedded" }).to_owned(),
        stores: if with_servers { "servers" } else { "embedded" }.to_owned(),
        source: setup.source(with_servers).to_owned(),
        protocol: word(&setup.protocol),
        assignment: word(&setup.assignment),
        cores: setup.cores,
        groups: GroupFigures::of(&workload, &phase.by_group),
        classes: ClassFigures::of(&phase.by_class),
        workload,
        figures,
        verdict,
        instances: phase.instances,
        steps: phase.steps,
        stages: phase.stages,
        queries,
        counters: phase.counters,
        seconds: phase.figures_by_second,
    };
    let histograms = Histograms { all: phase.all, seconds: phase.by_second };
    Ok(Run { result, histograms, last_words: stopped.last_words })
}

fn figures(phase: &Phase, peak_rss_mib: f64) -> Figures {
    let (events, pushes) = (phase.published.events, phase.all.len());
    let (seconds, cpu) = (phase.seconds.max(1e-6), phase.cpu.total().max(0.01));
    Figures {
        events,
        pushes,
        seconds: phase.seconds,
        events_per_second: events as f64 / seconds,
        pushes_per_second: pushes as f64 / seconds,
        latency: LatencyFigures::of(&phase.all),
        publisher_lag_max_ms: phase.published.lag_max_nanos as f64 / 1e6,
        engine_cpu_user_seconds: phase.cpu.user,
        engine_cpu_system_seconds: phase.cpu.system,
        pushes_per_cpu_second: pushes as f64 / cpu,
        events_per_cpu_second: events as f64 / cpu,
        peak_rss_mib,
        allocations_per_push: phase.allocations.filter(|_| pushes > 0).map(|count| count as f64 / pushes as f64),
        moves: phase.moves,
    }
}
