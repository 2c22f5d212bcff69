//! Flags -> configuration -> engine -> exit code.

use std::process::ExitCode;
use std::sync::mpsc;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use task_engine::cli::{Cli, Command, RunArgs, check_config, dlq, exit, note_lines, setup};
use task_engine::config::Config;
use task_engine::engine::{StartError, StopReport};
use task_engine::{Engine, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Some(Command::CheckConfig { file }) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            check_config(&file, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Dlq(args)) => dlq::run(args, &mut std::io::stdout().lock(), &mut std::io::stderr()),
        Some(Command::Setup(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            setup(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        None => run(&cli.run),
    };
    ExitCode::from(code)
}

/// Runs until a signal or a failure; gives the exit code.
fn run(args: &RunArgs) -> u8 {
    let checked = match args.load() {
        Ok(checked) => checked,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return exit::CONFIG;
        }
    };
    let log = match logging::init(&checked.config.log) {
        Ok(guard) => guard,
        Err(what) => {
            eprintln!("{what}");
            return exit::CONFIG;
        }
    };
    for line in note_lines(&checked.notes, &args.file_name()) {
        tracing::info!("{line}");
    }
    name_shard_on_panic();
    let code = run_logged(checked.config);
    // The log has a thread of its own; the last line must not be lost with it.
    drop(log);
    code
}

/// Why the engine is to stop.
enum Cause {
    Signal(i32),
    /// A shard is gone.
    Failed,
}

/// What ends the wait for a stop.
enum End {
    Stopped(StopReport),
    SecondSignal,
}

fn run_logged(config: Config) -> u8 {
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("signals cannot be caught: {error}");
            return exit::FAILED;
        }
    };
    let (tell, told) = mpsc::channel();
    let failed = tell.clone();
    // The engine has logged why.
    let on_failure = move |_| drop(failed.send(Cause::Failed));
    let engine = match Engine::builder(config).on_failure(on_failure).start() {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!("{error}");
            return if matches!(error, StartError::Config(_)) { exit::CONFIG } else { exit::FAILED };
        }
    };
    tracing::info!("task-engine {} runs; admin pages on http://{}", env!("CARGO_PKG_VERSION"), engine.admin_address());
    let (second, end) = mpsc::channel();
    let stopped = second.clone();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if let Some(first) = signals.next() {
            // Nobody listens when the engine stops already, or has just ended by itself.
            let _ = tell.send(Cause::Signal(first));
        }
        if signals.next().is_some() {
            let _ = second.send(End::SecondSignal);
        }
    });
    match told.recv() {
        Ok(Cause::Signal(signal)) => tracing::info!("signal {signal}: stopping; a second one stops at once"),
        Ok(Cause::Failed) | Err(_) => tracing::error!("a shard is gone: stopping"),
    }
    std::thread::spawn(move || drop(stopped.send(End::Stopped(engine.stop()))));
    match end.recv() {
        Ok(End::Stopped(report)) if report.is_clean() => {
            tracing::info!("{report}");
            exit::OK
        }
        Ok(End::Stopped(report)) if report.shards_failed > 0 => {
            tracing::error!("{report}; exit code 1, as a shard failed");
            exit::FAILED
        }
        Ok(End::Stopped(report)) => {
            tracing::error!("{report}; exit code 1, as not all that was read had its end");
            exit::FAILED
        }
        Ok(End::SecondSignal) => {
            tracing::error!("second signal: stopped at once, what was in flight is cut off");
            exit::FAILED
        }
        Err(_) => exit::FAILED,
    }
}

/// A panic ends the process (panic = "abort"); the log says on which thread, which for a shard is its name.
fn name_shard_on_panic() {
    let inherited = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        tracing::error!("thread {} panicked, the process ends: {info}", thread.name().unwrap_or("unnamed"));
        inherited(info);
    }));
}
