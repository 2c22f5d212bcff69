//! A connection that is being opened, on a thread of its own: names, greetings and logins have no limit of the client's that is
//! for the whole of them, and whoever waits must not wait for longer than one.
//!
//! Promises that an opening is waited for no longer than its asker likes, that one which was given up ends by itself and leaves
//! nothing open, and that there are never more than [`OPENINGS_MAX`] of one connection. Before a new connection is handed out, the
//! session whose statement was given up is ended in the server, where it would hold its locks on and on.
//!
//! Refuses to end what may be somebody else's: a session is known by its server's name for itself and by its number there, and by
//! how long it is at work.

#![expect(clippy::disallowed_methods, reason = "a thread of its own, which looks for the end of an opening")]

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use mysql::prelude::Queryable;
use mysql::{Conn, Error, OptsBuilder};

use super::tunnel::Tunnel;
use crate::config::MysqlConfig;
use crate::edge::mysql::fault::Fault;
use crate::telemetry::logging::warn_limited;

/// Openings of one connection at once: one that is waited for, and one that was given up and is not over yet.
const OPENINGS_MAX: usize = 2;
/// The least time that an address gets.
const ADDRESS_MIN: Duration = Duration::from_millis(100);
/// How long a statement that was given up, and was then ended, may go on before a writer's next one.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at it.
const ENDS_LOOK: Duration = Duration::from_millis(20);
/// Statements a connection keeps prepared: lists come in powers of two, so this is plenty for all lengths.
const STATEMENTS_MAX: usize = 32;

/// What each session begins with.
const SESSION: [&str; 2] =
    ["SET NAMES utf8mb4", "SET autocommit = 1, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"];

/// Which session a connection is, as its server calls it: a proxy may number connections in its own way.
const WHO: &str = "SELECT CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir), CONNECTION_ID()";
/// For how long it is at work.
const AT_WORK: &str = "SELECT CAST(time AS SIGNED) FROM information_schema.processlist WHERE id = ?";
/// There is no such session.
const ER_NO_SUCH_THREAD: u16 = 1094;

/// A session of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    server: String,
    number: u64,
}

/// An open connection, and which session it is, if its server says that.
pub(super) type Opened = (Conn, Option<Session>);

/// Opens a connection, in whatever time it takes; ends the session in which a statement was given up.
type Open = dyn Fn(&Progress, Option<&Session>) -> Result<Opened, Fault> + Send + Sync;

/// Opens the connections of one thread.
pub(super) struct Opener {
    open: Arc<Open>,
    /// One count for each opening that is under way, and one.
    running: Arc<()>,
    /// With which address to begin: an address that keeps an opening for ever must not be the first again.
    first: Arc<AtomicUsize>,
}

/// One connection that is being opened.
pub(super) struct Opening {
    progress: Arc<Progress>,
    /// What comes of it.
    pub result: Receiver<Result<Opened, Fault>>,
}

/// What an opening is at, and since when.
pub(super) struct Progress(Mutex<(Instant, Step)>);

#[derive(Clone, Copy)]
enum Step {
    Name,
    Address(SocketAddr),
    Ending(u64),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("the name server does not answer"),
            Self::Address(address) => write!(f, "{address} refuses every login"),
            Self::Ending(session) => write!(f, "the statement of session {session} is being ended"),
        }
    }
}

impl Progress {
    fn new() -> Self {
        Self(Mutex::new((Instant::now(), Step::Name)))
    }

    fn is_at(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), step);
    }

    fn get(&self) -> (Instant, Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opener {
    /// `init` is what the sessions of a writer begin with, besides what all begin with.
    pub(super) fn new(settings: MysqlConfig, init: Option<String>) -> Self {
        let first = Arc::new(AtomicUsize::new(0));
        let begin = first.clone();
        let open = move |progress: &Progress, given_up: Option<&Session>| {
            let started = Instant::now();
            let opened = connect(&settings, init.as_deref(), progress, begin.load(Ordering::Relaxed));
            let opened = opened.and_then(|mut conn| {
                let session = who(&mut conn)?;
                if let Some(given_up) =
                    given_up.filter(|given_up| session.as_ref().is_some_and(|s| s.server == given_up.server))
                {
                    progress.is_at(Step::Ending(given_up.number));
                    let is_over = end(&mut conn, given_up.number, &settings)?;
                    // A writer's would only come to stand beside it.
                    if !is_over && init.is_some() {
                        return Err(Fault::GoesOn(given_up.number));
                    }
                }
                Ok((conn, session))
            });
            opened.map_err(|fault| fault.after(started.elapsed(), &settings))
        };
        Self { open: Arc::new(open), running: Arc::default(), first }
    }

    /// Begins to open a connection; `given_up` is where a statement was given up.
    pub(super) fn start(&self, given_up: Option<Session>) -> Result<Opening, Fault> {
        if Arc::strong_count(&self.running) > OPENINGS_MAX {
            return Err(Fault::NotOpened(format!("{OPENINGS_MAX} earlier tries are not over yet")));
        }
        let (sender, result) = bounded(1);
        let progress = Arc::new(Progress::new());
        let (open, running, at) = (self.open.clone(), self.running.clone(), progress.clone());
        let work = move || {
            // Where nobody waits any more, the connection is closed.
            drop(sender.send(open(&at, given_up.as_ref())));
            drop(running);
        };
        let thread = thread::Builder::new().name("mysql-connect".to_owned()).spawn(work);
        thread.map_err(|why| Fault::NotOpened(format!("the machine refuses a thread: {why}")))?;
        Ok(Opening { progress, result })
    }

    /// An opening that is not waited for any more.
    pub(super) fn give_up(&self, opening: Opening) {
        self.first.fetch_add(1, Ordering::Relaxed);
        drop(opening);
    }
}

impl Opening {
    /// For how long it has not come any further.
    pub(super) fn stands_for(&self) -> Duration {
        self.progress.get().0.elapsed()
    }

    /// That it took too long.
    pub(super) fn late(&self, waited: Duration) -> Fault {
        Fault::NotOpened(format!("nothing within {waited:.1?}: {}", self.progress.get().1))
    }
}

/// Opens one connection and waits for it, as long as that takes.
pub(in crate::edge::mysql) fn once(settings: &MysqlConfig) -> Result<Conn, Fault> {
    let started = Instant::now();
    connect(settings, None, &Progress::new(), 0).map_err(|fault| fault.after(started.elapsed(), settings))
}

/// Tries each address of the host: the client by itself stops at the first that fails. Together they get the time there is for
/// a connect, so that one which is silent leaves the others theirs.
fn connect(settings: &MysqlConfig, init: Option<&str>, progress: &Progress, first: usize) -> Result<Conn, Fault> {
    let until = Instant::now() + settings.connect_timeout;
    let names = (settings.at.host.as_str(), settings.at.port).to_socket_addrs().map_err(Fault::Unresolved)?;
    let mut addresses: Vec<SocketAddr> = names.collect();
    let count = addresses.len();
    addresses.rotate_left(first % count.max(1));
    let mut last = Fault::Unresolved(std::io::Error::other("the name has no address"));
    for (tried, address) in addresses.into_iter().enumerate() {
        progress.is_at(Step::Address(address));
        let share = until.saturating_duration_since(Instant::now()) / (count - tried) as u32;
        match connect_at(address, settings, init, share.max(ADDRESS_MIN)) {
            Ok(conn) => return Ok(conn),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// Connects to this address, over TLS where that is wanted, and logs in.
fn connect_at(address: SocketAddr, settings: &MysqlConfig, init: Option<&str>, limit: Duration) -> Result<Conn, Fault> {
    let tunnel = settings.tls.is_written().then(|| Tunnel::open(address, settings, limit)).transpose()?;
    let socket = tunnel.as_ref().map(|tunnel| tunnel.socket.display().to_string());
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        .socket(socket)
        .prefer_socket(false)
        .user(Some(&settings.username))
        .pass(Some(settings.password.reveal()))
        .db_name(Some(&settings.database).filter(|name| !name.is_empty()))
        .tcp_nodelay(true)
        .tcp_connect_timeout(Some(limit))
        .read_timeout(Some(settings.timeout))
        .write_timeout(Some(settings.timeout))
        .stmt_cache_size(STATEMENTS_MAX)
        // A server that starts sessions without autocommit would show us the members of the first query for ever;
        // one whose mode is not strict would cut a name that is too long and store the rest.
        .init(SESSION.into_iter().chain(init).collect::<Vec<_>>());
    Conn::new(options).map_err(|error| tunnel.and_then(|tunnel| tunnel.fault()).unwrap_or_else(|| error.into()))
}

/// Which session this is; nothing where a proxy does not let the question through.
fn who(conn: &mut Conn) -> Result<Option<Session>, Fault> {
    match conn.query_first::<(String, u64), _>(WHO) {
        Ok(row) => Ok(row.map(|(server, number)| Session { server, number })),
        Err(Error::MySqlError(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Ends a session of ours in which a statement was given up; whether it is over.
fn end(conn: &mut Conn, number: u64, settings: &MysqlConfig) -> Result<bool, Fault> {
    let waited = settings.timeout.as_secs() as i64;
    // One that is so young is another's, after a restart. Of sessions in a trigger of another user's not all may see this.
    if conn.exec_first::<i64, _, _>(AT_WORK, (number,))?.is_some_and(|time| time + 1 < waited) {
        return Ok(true);
    }
    let until = Instant::now() + ENDS_WITHIN;
    while Instant::now() < until {
        match conn.query_drop(format!("KILL CONNECTION {number}")) {
            Err(Error::MySqlError(error)) if error.code == ER_NO_SUCH_THREAD => return Ok(true),
            Err(Error::MySqlError(error)) => {
                let why = format_args!(
                    "MySQL goes on with a statement of session {number} that was given up, and does not let user {:?} end \
                     it ({error}); let that user be the definer of triggers and views, or grant it CONNECTION_ADMIN \
                     (MariaDB: CONNECTION ADMIN)",
                    settings.username
                );
                warn_limited("mysql_not_ended", why);
                return Ok(false);
            }
            done => done?,
        }
        thread::sleep(ENDS_LOOK);
    }
    Ok(false)
}

#[cfg(test)]
impl Opener {
    /// Opens in another way.
    pub(super) fn with(open: impl Fn() -> Result<Opened, Fault> + Send + Sync + 'static) -> Self {
        let open = move |_: &Progress, _: Option<&Session>| open();
        Self { open: Arc::new(open), running: Arc::default(), first: Arc::default() }
    }
}
