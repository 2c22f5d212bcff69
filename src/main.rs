//! Flags -> configuration -> engine -> exit code.

use std::process::ExitCode;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use task_engine::cli::{Cli, Command, RunArgs, check_config, exit, note_lines};
use task_engine::engine::StartError;
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
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("signals cannot be caught: {error}");
            return exit::FAILED;
        }
    };
    let engine = match Engine::builder(checked.config).start() {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!("{error}");
            return if matches!(error, StartError::Config(_)) { exit::CONFIG } else { exit::FAILED };
        }
    };
    tracing::info!("task-engine {} runs; admin pages on http://{}", env!("CARGO_PKG_VERSION"), engine.admin_address());
    let signal = signals.forever().next();
    tracing::info!("signal {}: stopping; a second one stops at once", signal.unwrap_or_default());
    let (ended, end) = std::sync::mpsc::channel();
    let (second, engine_ended) = (ended.clone(), ended);
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody listens when the engine has just ended by itself.
            let _ = second.send(None);
        }
    });
    std::thread::spawn(move || {
        let _ = engine_ended.send(Some(engine.stop()));
    });
    let code = match end.recv() {
        Ok(Some(report)) => {
            tracing::info!("{report}");
            exit::OK
        }
        Ok(None) => {
            tracing::error!("second signal: stopped at once, what was in flight is cut off");
            exit::FAILED
        }
        Err(_) => exit::FAILED,
    };
    // The log has a thread of its own; the last line must not be lost with it.
    drop(log);
    code
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
