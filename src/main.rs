//! Flags -> configuration -> engine -> exit code.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use task_engine::Engine;
use task_engine::cli::hangup::Hangup;
use task_engine::cli::{
    Cli, Command, RunArgs, check_config, dlq, doctor, exit, note_lines, partitions, probe, setup, tap, top, why,
    written,
};
use task_engine::config::Config;
use task_engine::engine::{StartError, StopReport};
use task_engine::telemetry::logging;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Some(Command::CheckConfig(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            check_config::run(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Dlq(args)) => dlq::run(args, &mut std::io::stdout().lock(), &mut std::io::stderr()),
        Some(Command::Partitions(args)) => {
            let standings = Some(&partitions::ask_jetstream as &partitions::AskStandings);
            partitions::run(args, standings, &mut std::io::stdout().lock(), &mut std::io::stderr())
        }
        Some(Command::Doctor(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            doctor::run(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Why(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            why::run(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Tap(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            tap::run(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Top(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            top::run(&args, &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Probe(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            probe::run(&args, &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        Some(Command::Completions { shell }) => said(written::completions(shell, &mut std::io::stdout())),
        Some(Command::Man { command }) => said(written::man(command.as_deref(), &mut std::io::stdout())),
        Some(Command::Setup(args)) => {
            let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
            setup(&args, std::env::vars_os(), &mut out, &mut err).unwrap_or(exit::FAILED)
        }
        None => run(&cli.run),
    };
    ExitCode::from(code)
}

/// The exit code of what only writes.
fn said(result: std::io::Result<()>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(error) => {
            eprintln!("{error}");
            exit::FAILED
        }
    }
}

/// What a running engine catches; each of them would end it at once.
const CAUGHT: [i32; 6] = [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];

/// Runs until a signal or a failure; gives the exit code.
fn run(args: &RunArgs) -> u8 {
    huge_pages(false);
    // First of all, so that nothing of what comes before the engine runs (a configuration from a pipe, a log that cannot be
    // opened) keeps a stop from being heard.
    let watcher = match Watcher::start() {
        Ok(watcher) => watcher,
        Err(error) => {
            eprintln!("signals cannot be caught: {error}");
            return exit::FAILED;
        }
    };
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
    for line in note_lines(&checked, &args.file_name()) {
        tracing::info!("{line}");
    }
    name_shard_on_panic();
    let hangup = Hangup::start(log.file(), args.clone());
    let hangup =
        hangup.inspect_err(|error| tracing::warn!("SIGHUP does nothing: its thread cannot be started: {error}"));
    let code = run_logged(checked.config, watcher, hangup.ok());
    // The log has a thread of its own; the last line must not be lost with it.
    drop(log);
    code
}

/// Whether the kernel may give huge pages to memory that is touched from now on. While the engine starts, each of its threads would touch a
/// few bytes of some, and zeroing them costs half of the CPU of a start, beside others at work. What needs them is touched later. A kernel
/// without them refuses, which changes nothing.
fn huge_pages(allowed: bool) {
    let _ = rustix::thread::disable_transparent_huge_pages(!allowed);
}

/// Why the engine is to stop.
enum Cause {
    Signal(i32),
    /// A shard is gone.
    Failed,
    /// Nothing may be pushed or given back any more.
    MustEnd,
}

/// What ends the wait for a stop.
enum End {
    Stopped(StopReport),
    SecondSignal,
    /// With this exit code, for this reason.
    AtOnce(u8, String),
}

/// How far the process is, for the thread that hears signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Configuration and log are read and opened: nothing is lost when it ends here.
    Before,
    /// The engine starts, which takes until its deadlines when a server hangs.
    Starting,
    /// It runs, or stops.
    Running,
}

/// The thread that does what signals ask for, until the process ends.
struct Watcher {
    phase: Arc<AtomicU8>,
    hangup: mpsc::Sender<Hangup>,
    causes: (mpsc::Sender<Cause>, mpsc::Receiver<Cause>),
    ends: (mpsc::Sender<End>, mpsc::Receiver<End>),
}

impl Watcher {
    fn start() -> std::io::Result<Self> {
        let signals = Signals::new(CAUGHT)?;
        let phase = Arc::new(AtomicU8::new(Phase::Before as u8));
        let (hangup, started) = mpsc::channel();
        let (causes, ends) = (mpsc::channel(), mpsc::channel());
        let (tell, second) = (causes.0.clone(), ends.0.clone());
        let ears = Ears { phase: phase.clone(), started, hangup: None, tell, second };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || ears.listen(signals))?;
        Ok(Self { phase, hangup, causes, ends })
    }

    fn is(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// What the thread of [`Watcher`] has.
struct Ears {
    phase: Arc<AtomicU8>,
    /// Tells who serves SIGHUP, once.
    started: mpsc::Receiver<Hangup>,
    hangup: Option<Hangup>,
    tell: mpsc::Sender<Cause>,
    second: mpsc::Sender<End>,
}

impl Ears {
    fn listen(mut self, mut signals: Signals) {
        let mut is_stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => self.hang_up(),
                SIGUSR1 | SIGUSR2 => tracing::info!("signal {signal}: means nothing here"),
                _ => {
                    self.stop(signal, is_stopping);
                    is_stopping = true;
                }
            }
        }
    }

    /// Before anybody serves it, the log and the configuration are about to be read.
    fn hang_up(&mut self) {
        if let Ok(hangup) = self.started.try_recv() {
            self.hangup = Some(hangup);
        }
        if let Some(hangup) = &self.hangup {
            hangup.tell();
        }
    }

    /// Nobody listens when the engine has just ended by itself.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing was taken yet, and the start may wait for others without an end"
    )]
    fn stop(&self, signal: i32, is_second: bool) {
        let phase = self.phase.load(Ordering::Acquire);
        if phase == Phase::Before as u8 {
            eprintln!("signal {signal}: stopped before the engine was started");
            std::process::exit(exit::OK.into());
        }
        if is_second && phase == Phase::Starting as u8 {
            eprintln!("second signal: stopped at once, while the engine was being started");
            std::process::exit(exit::FAILED.into());
        }
        if is_second {
            return drop(self.second.send(End::SecondSignal));
        }
        drop(self.tell.send(Cause::Signal(signal)));
    }
}

fn run_logged(config: Config, watcher: Watcher, hangup: Option<Hangup>) -> u8 {
    // The thread of signals lives as long as the process.
    hangup.iter().for_each(|hangup| drop(watcher.hangup.send(hangup.clone())));
    watcher.is(Phase::Starting);
    let failed = watcher.causes.0.clone();
    // The engine has logged why.
    let on_failure = move |_| drop(failed.send(Cause::Failed));
    let (must_end, at_once) = (watcher.causes.0.clone(), watcher.ends.0.clone());
    let on_must_end = move |code, sentence| {
        drop(at_once.send(End::AtOnce(code, sentence)));
        drop(must_end.send(Cause::MustEnd));
    };
    let engine = match Engine::builder(config).on_failure(on_failure).on_must_end(on_must_end).start() {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!("{error}");
            return if matches!(error, StartError::Config(_)) { exit::CONFIG } else { exit::FAILED };
        }
    };
    hangup.iter().for_each(|hangup| hangup.runs(engine.reloader()));
    watcher.is(Phase::Running);
    huge_pages(true);
    let Watcher { causes: (_, told), ends: (stopped, end), .. } = watcher;
    tracing::info!("task-engine {} runs; admin pages on {}", env!("CARGO_PKG_VERSION"), engine.admin_url());
    let cause = told.recv();
    match cause {
        Ok(Cause::MustEnd) => {}
        Ok(Cause::Signal(signal)) => tracing::info!("signal {signal}: stopping; a second one stops at once"),
        Ok(Cause::Failed) | Err(_) => tracing::error!("a shard is gone: stopping"),
    }
    if let Ok(Cause::MustEnd) = cause {
        // Its threads may not tidy up: they go with the process.
        std::mem::forget(engine);
    } else {
        std::thread::spawn(move || drop(stopped.send(End::Stopped(engine.stop()))));
    }
    match end.recv() {
        Ok(End::Stopped(report)) if report.is_clean() => {
            tracing::info!("{report}");
            exit::OK
        }
        Ok(End::Stopped(report)) if report.shards_failed > 0 => {
            tracing::error!("{report}; exit code 1, as a shard failed");
            exit::FAILED
        }
        Ok(End::Stopped(report)) if report.acks_refused > 0 => {
            tracing::error!("{report}; exit code 1, as the broker does not know all that is settled");
            exit::FAILED
        }
        Ok(End::Stopped(report)) => {
            tracing::error!("{report}; exit code 1, as not all that was read had its end");
            exit::FAILED
        }
        Ok(End::AtOnce(code, sentence)) => {
            tracing::error!("{sentence}; exit code {code}");
            code
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
