//! Throw-away real servers: each on a free port of 127.0.0.1, in a temporary folder, gone when its value is dropped.
//!
//! Promises that a started server answers its own protocol, that `restart` finds the same port and the same data, and
//! that no server outlives the process that started it (also when that one is killed). A start that fails says the
//! server's last log lines, or which Debian package brings the missing program. Refuses to touch a server that it did
//! not start: signals go to its own child only.

mod certificates;
mod door;
mod engine_config;
mod etcd;
mod maria;
mod nats;
mod over_tls;
mod ports;
mod postgres;
mod prepared;
mod query_times;
mod redis;
mod store;

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;

pub use self::certificates::{Authority, CertificateFiles};
pub use self::door::TlsDoor;
pub use self::engine_config::EngineConfig;
pub use self::etcd::{Etcd, EtcdOptions, want_login};
pub use self::maria::Maria;
pub use self::nats::{Nats, NatsAuth, NatsOptions, NatsVersion};
pub use self::over_tls::OverTls;
pub use self::ports::{free_port, free_ports, listen_on};
pub use self::postgres::Postgres;
pub use self::query_times::{QueryTimes, TimesOfKind};
pub use self::redis::{Redis, RedisOptions};
pub use self::store::{InboxRow, Store, Tables};
use crate::error::{Error, Result};

/// How long a server may take until it answers.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How often it is asked.
pub const READY_EVERY: Duration = Duration::from_millis(20);
/// How often a start is tried with other ports when the server ends at once (a process that does not ask here took the port first).
const START_TRIES: usize = 3;

/// How one kind of server is started.
pub(crate) struct Recipe {
    /// The program, looked for in PATH, /usr/sbin and /usr/local/sbin unless it is a whole path.
    pub binary: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// How many ports it needs; the first is the one that `addr` gives.
    pub ports: usize,
    /// Its arguments, from its folder and its ports.
    pub args: fn(&Path, &[u16]) -> Vec<String>,
    /// Whether the server on this port answers; else why not.
    pub ready: fn(u16) -> std::result::Result<(), String>,
}

/// A running server, whatever its kind: what [`Nats`], [`Redis`], [`Maria`], [`Postgres`] and [`Etcd`] have in common.
pub struct Server {
    recipe: Recipe,
    folder: TempDir,
    ports: Vec<u16>,
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(crate) fn start(recipe: Recipe, folder: TempDir) -> Result<Self> {
        let mut server = Self { recipe, folder, ports: Vec::new(), child: Mutex::new(None) };
        let mut tries = 0;
        loop {
            tries += 1;
            server.ports = free_ports(server.recipe.ports)?;
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(Failed::Ended(_)) if tries < START_TRIES => {}
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// `127.0.0.1:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Its port on 127.0.0.1, the same over all restarts.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Its folder: data, configuration, log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id, when it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Kills it (SIGKILL) and waits until it is gone; its data stays. Does nothing when it does not run.
    pub fn kill9(&self) {
        if let Some(mut child) = self.child().take() {
            // A killed child is always reaped; the only error would be that it already was.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes it (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> Result<()> {
        freeze(self.pid().ok_or_else(|| Error::new(format!("{} does not run", self.recipe.binary)))?)
    }

    /// Lets it go on after [`stop`](Self::stop) (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn cont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM) and waits until it has, killing it after 30 seconds.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + READY_DEADLINE;
        while Instant::now() < deadline {
            if matches!(self.child().as_mut().map(Child::try_wait), None | Some(Ok(Some(_)))) {
                break;
            }
            thread::sleep(READY_EVERY);
        }
        self.kill9();
        Ok(())
    }

    /// Starts it again on the same port with the same data, killing it first when it still runs; returns when it
    /// answers.
    ///
    /// # Errors
    /// When it ends or does not answer within 30 seconds; with its last log lines.
    pub fn restart(&self) -> std::result::Result<(), Failed> {
        self.kill9();
        *self.child() = Some(self.spawn()?);
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let not_ready = match (self.recipe.ready)(self.port()) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.kill9();
                let words = format!("{} ended with {status}", self.recipe.binary);
                return Err(Failed::Ended(Error::of(&words, self.last_log_lines())));
            }
            if Instant::now() > deadline {
                self.kill9();
                let words = format!("{} on {} does not answer ({not_ready})", self.recipe.binary, self.addr());
                return Err(Failed::Other(Error::of(&words, self.last_log_lines())));
            }
            thread::sleep(READY_EVERY);
        }
    }

    /// The last lines it wrote, for error messages.
    pub fn last_log_lines(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() { "it wrote no log".into() } else { lines[lines.len().saturating_sub(15)..].join("\n") }
    }

    fn spawn(&self) -> std::result::Result<Child, Failed> {
        let path = find_program(self.recipe.binary, self.recipe.package).map_err(Failed::Other)?;
        let log = File::options().create(true).append(true).open(self.log_path());
        let logs = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = logs.map_err(|cause| Failed::Other(Error::of("cannot write the server's log", cause)))?;
        let mut command = Command::new(path);
        command.args((self.recipe.args)(self.folder.path(), &self.ports)).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        spawn_bound(command)
            .map_err(|cause| Failed::Other(Error::of(&format!("cannot start {}", self.recipe.binary), cause)))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.ok_or_else(|| Error::new(format!("{} does not run", self.recipe.binary)))?;
        kill_process(pid, signal).map_err(|cause| Error::of("cannot send a signal", cause))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Why a start failed.
#[derive(Debug)]
pub enum Failed {
    /// The server ended by itself, perhaps because its port was taken.
    Ended(Error),
    /// Anything else.
    Other(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Ended(error) | Failed::Other(error) => error,
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(error) | Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

/// Freezes a process of ours (SIGSTOP) and returns once all its threads stand still: the signal alone returns earlier,
/// and what is asked right after it may still be answered.
///
/// # Errors
/// When there is no such process, or it does not stand still within 30 seconds.
pub fn freeze(pid: u32) -> Result<()> {
    let id = Pid::from_raw(pid as i32).ok_or_else(|| Error::new("0 is no process id"))?;
    kill_process(id, Signal::STOP).map_err(|cause| Error::of("cannot send a signal", cause))?;
    let deadline = Instant::now() + READY_DEADLINE;
    while !stands_still(pid).map_err(|cause| Error::of("the process is gone", cause))? {
        if Instant::now() > deadline {
            return Err(Error::new(format!("process {pid} does not stop")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn stands_still(pid: u32) -> io::Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has ended meanwhile has no file, and stands still.
        let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses and may hold some.
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if !matches!(state, None | Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A new folder for a server, removed with it.
pub fn folder(kind: &str) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(&format!("task-engine-{kind}-")).tempdir();
    made.map_err(|cause| Error::of("cannot make a temporary folder", cause))
}

/// Where Debian keeps PostgreSQL's programs, by version.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// Where a program is; Debian keeps servers in /usr/sbin, which is not in everybody's PATH, and PostgreSQL's in folders of their versions.
pub fn find_program(binary: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let newest = versions.max().map(|version| version.join("bin"));
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")].into_iter().chain(newest);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(binary)).find(|file| file.is_file()).ok_or_else(
        || {
            Error::new(format!(
                "{binary} is not installed: run `make servers`, or install the Debian package {package} \
                 (apt-get install {package})"
            ))
        },
    )
}

/// Starts a child that the kernel kills when this process ends, however it ends. The kernel ties that to the thread
/// that made the child, so one thread, which lasts as long as the process, makes them all.
#[allow(unsafe_code, reason = "std has no safe way to ask for the kernel's signal at a parent's death")]
pub fn spawn_bound(mut command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, asked) = mpsc::channel::<Job>();
        let started = thread::Builder::new().name("servers".to_owned()).spawn(move || {
            for (mut command, answer) in asked {
                // Nobody waits any longer: the child, if any, is dropped there and ends with the process.
                let _ = answer.send(command.spawn());
            }
        });
        // Without the thread its queue is closed, and each start says so.
        drop(started);
        Mutex::new(jobs)
    });
    // SAFETY: between fork and exec only the prctl system call is made, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let (answer, child) = mpsc::sync_channel(1);
    let sent = spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer));
    sent.map_err(|_| io::Error::other("the thread that starts servers is gone"))?;
    child.recv().map_err(|_| io::Error::other("the thread that starts servers is gone"))?
}

/// Whether anybody listens on this port: what readiness is made of where more is said over TLS only.
pub(crate) fn listens(port: u16) -> std::result::Result<(), String> {
    TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|cause| cause.to_string())
}

/// Connects, says `hello`, and gives the first bytes of the answer; what readiness is made of.
pub(crate) fn ask(port: u16, hello: &[u8]) -> std::result::Result<Vec<u8>, String> {
    use std::io::{Read, Write};
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let wait = Duration::from_secs(1);
    let ask = || -> io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&address, wait)?;
        socket.set_read_timeout(Some(wait))?;
        socket.write_all(hello)?;
        let mut answer = vec![0; 4096];
        let length = socket.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    ask().map_err(|cause| cause.to_string())
}
