//! The load-test program: `loadtest demo` in one process, `loadtest real` on real servers.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::demo::{self, DemoArgs};
use loadtest::real::{self, RealArgs};

/// Runs task-engine under load and says whether each push came once, in order, where it should.
///
/// Exit codes: 0 all is as it must be; 1 something was lost, repeated, out of order or misdelivered; 2 it did not run.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole path in this process, on embedded stores, with real gRPC gateways over sockets.
    Demo(DemoArgs),
    /// The task-engine program on real throw-away NATS, Redis, MariaDB and etcd.
    Real(RealArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Real(args) => real::run(&args),
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
