//! What SIGHUP asks for: the log file is opened again, and the configuration is read again.
//!
//! Promises that both are done on a thread of their own, as a file system that hangs must not keep a stop from being heard; that
//! what was asked for while the engine started is done once it runs; and that however many signals come while one
//! is served, one more is served after it. Refuses to end with the engine: a log is rotated while it drains, too.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::SIGHUP;

use crate::cli::RunArgs;
use crate::engine::reload::Reloader;
use crate::telemetry::logging::LogFile;

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Hangup {
    told: SyncSender<()>,
    engine: Arc<Mutex<Engine>>,
}

/// The engine whose configuration is read again.
#[derive(Debug)]
enum Engine {
    /// It starts; and whether a signal came meanwhile.
    Starts(bool),
    Runs(Reloader),
}

impl Hangup {
    /// Starts the thread. `log` is the file that lines go to, if they go to one; `args` say where the configuration is.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub fn start(log: Option<LogFile>, args: RunArgs) -> io::Result<Self> {
        // One that waits asks for all that a later one would.
        let (told, tells) = sync_channel(1);
        let engine = Arc::new(Mutex::new(Engine::Starts(false)));
        let of = engine.clone();
        thread::Builder::new().name("reload".to_owned()).spawn(move || serve(&tells, log.as_ref(), &args, &of))?;
        Ok(Self { told, engine })
    }

    /// SIGHUP came. Never waits.
    pub fn tell(&self) {
        // When one waits already, that is enough.
        let _ = self.told.try_send(());
    }

    /// The engine runs.
    pub fn runs(&self, reloader: Reloader) {
        let before = std::mem::replace(&mut *lock(&self.engine), Engine::Runs(reloader));
        if matches!(before, Engine::Starts(true)) {
            self.tell();
        }
    }
}

fn lock(engine: &Mutex<Engine>) -> std::sync::MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(tells: &Receiver<()>, log: Option<&LogFile>, args: &RunArgs, engine: &Mutex<Engine>) {
    for () in tells {
        if let Some(log) = log {
            open_again(log);
        }
        let reloader = match &mut *lock(engine) {
            Engine::Runs(reloader) => reloader.clone(),
            Engine::Starts(is_owed) => {
                *is_owed = true;
                continue;
            }
        };
        reloader.reload(args.load());
    }
}

fn open_again(log: &LogFile) {
    let path = log.path().display();
    match log.open_again() {
        Ok(()) => tracing::info!("signal {SIGHUP}: log file {path} is opened again"),
        Err(error) => tracing::warn!(
            "signal {SIGHUP}: log.output: {path} cannot be opened again: {error}; lines go on into the old file"
        ),
    }
}
