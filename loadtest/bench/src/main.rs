//! The load-test program: `loadtest run` drives one engine, `loadtest compare` several in turn.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::error::Result;
use harness::gateways;
use harness::workload::Workload;
use loadtest::compare::{self, CompareArgs};
use loadtest::cost::Counting;
use loadtest::record::{self, RecordArgs};
use loadtest::run::{self, RunArgs};

#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// Runs task-engine under load and says whether each push came once, in order, where it should, and what it cost.
///
/// Exit codes: 0 all is as it must be; 1 something was lost, repeated, out of order, misdelivered or corrupt; 2 it did
/// not run.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One workload against one engine: the embedded one, or with --servers the task-engine program on real servers.
    ///
    /// Leaves a JSON document, the latency histogram as .hgrm and as V2 log, and a report in HTML. Needs nats-server,
    /// redis-server, mariadb-server and etcd-server only with --servers.
    Run(Box<RunArgs>),
    /// The same workload against two or more engines, trial by trial in turn, on real servers.
    Compare(Box<CompareArgs>),
    #[cfg(feature = "faults")]
    /// Kills, hangs and cuts off each part in turn under load, with JetStream, and counts what that cost.
    Faults(Box<loadtest::faults::FaultArgs>),
    #[cfg(feature = "faults")]
    /// Kills owners of partitions under load again and again, and tells how long their partitions were without one.
    Takeovers(Box<loadtest::faults::TakeoverArgs>),
    /// Keeps a campaign's documents as lines of loadtest/runs/summary.jsonl and as one page.
    Record(RecordArgs),
    /// Lists the named workloads.
    Workloads,
    /// A gateway as a process of its own, which tells each push on standard output: for `faults`.
    #[command(hide = true)]
    Gateway {
        /// Its id.
        #[arg(long)]
        id: String,
        /// Its port on 127.0.0.1.
        #[arg(long)]
        port: u16,
        /// Which rpcs it knows, as it announces them.
        #[arg(long)]
        protocols: String,
    },
    #[cfg(feature = "yardsticks")]
    /// The reference engine: the plain Tokio way, on the same wire; what task-engine must beat.
    Reference(EngineArgs),
    #[cfg(feature = "yardsticks")]
    /// The bare program: one core, everything read at the start, nothing promised; the yardstick of task-engine.
    ///
    /// No retry, no ledger, no lookup, no repeat is known, no inbox, and answers are not read. It speaks `batch` and
    /// `stream`, has one core, and reads core NATS.
    Bare(EngineArgs),
}

#[cfg(feature = "yardsticks")]
/// How an engine of this program is started.
#[derive(Debug, clap::Args)]
struct EngineArgs {
    /// The configuration file, as task-engine takes it.
    #[arg(long)]
    config: std::path::PathBuf,
    /// Where /readyz is.
    #[arg(long)]
    admin: Option<std::net::SocketAddr>,
    /// Worker threads, or shards.
    #[arg(long)]
    cores: Option<u16>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
        #[cfg(feature = "faults")]
        Command::Faults(args) => loadtest::faults::run(&args),
        #[cfg(feature = "faults")]
        Command::Takeovers(args) => loadtest::faults::run_takeovers(&args),
        Command::Record(args) => record::run(&args),
        Command::Workloads => list_workloads().map(|()| true),
        Command::Gateway { id, port, protocols } => gateways::serve_as_process(&id, port, &protocols),
        #[cfg(feature = "yardsticks")]
        Command::Reference(EngineArgs { config, admin, cores }) => {
            yardsticks::reference::run(&config, admin, cores).map(|()| true)
        }
        #[cfg(feature = "yardsticks")]
        Command::Bare(EngineArgs { config, admin, cores }) => {
            yardsticks::bare::run(&config, admin, cores).map(|()| true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

fn list_workloads() -> Result<()> {
    for name in Workload::names() {
        println!("{name:<16} {}", Workload::find(name)?.about);
    }
    Ok(())
}
