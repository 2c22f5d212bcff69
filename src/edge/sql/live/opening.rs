//! A connection that is being opened, on a thread of its own: names, greetings and logins have no limit of the client's that is
//! for the whole of them, and whoever waits must not wait for longer than one.
//!
//! Promises that an opening is waited for no longer than its asker likes, that one which was given up ends by itself and leaves
//! nothing open, and that there are never more than [`OPENINGS_MAX`] of one connection. Before a new connection is handed out, the
//! session whose statement was given up is ended in the server, where it would hold its locks on and on.
//!
//! Refuses to end what may be somebody else's: a session is known by its server's name for itself and by its number there, and by
//! how long it is at work.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::{Link, Session};
use crate::edge::sql::fault::{Fault, Place};

/// Openings of one connection at once: one that is waited for, and one that was given up and is not over yet.
const OPENINGS_MAX: usize = 2;
/// The least time that an address gets.
const ADDRESS_MIN: Duration = Duration::from_millis(100);
/// An open connection, and which session it is, if its server says that.
pub(super) type Opened<C> = (C, Option<Session>);

/// Opens a connection, in whatever time it takes; ends the session in which a statement was given up.
type Open<C> = dyn Fn(&Progress, Option<&Session>) -> Result<Opened<C>, Fault> + Send + Sync;

/// Opens the connections of one thread.
pub(super) struct Opener<C> {
    open: Arc<Open<C>>,
    /// One count for each opening that is under way, and one.
    running: Arc<()>,
    /// What its threads are called.
    thread: &'static str,
    /// With which address to begin: an address that keeps an opening for ever must not be the first again.
    first: Arc<AtomicUsize>,
}

/// One connection that is being opened.
pub(super) struct Opening<C> {
    progress: Arc<Progress>,
    /// What comes of it.
    pub result: Receiver<Result<Opened<C>, Fault>>,
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

impl<C: Send + 'static> Opener<C> {
    /// By this link.
    pub(super) fn new<L: Link<Conn = C>>(link: Arc<L>) -> Self {
        Self::counted(link, Arc::default())
    }

    /// The same by another link: what is under way counts on.
    pub(super) fn by<L: Link<Conn = C>>(&self, link: Arc<L>) -> Self {
        Self::counted(link, self.running.clone())
    }

    fn counted<L: Link<Conn = C>>(link: Arc<L>, running: Arc<()>) -> Self {
        let (first, thread) = (Arc::new(AtomicUsize::new(0)), link.thread());
        let begin = first.clone();
        let open = move |progress: &Progress, given_up: Option<&Session>| {
            let started = Instant::now();
            let opened = connect(&*link, progress, begin.load(Ordering::Relaxed));
            let opened = opened.and_then(|mut conn| {
                let session = link.who(&mut conn)?;
                if let Some(given_up) =
                    given_up.filter(|given_up| session.as_ref().is_some_and(|s| s.server == given_up.server))
                {
                    progress.is_at(Step::Ending(given_up.number));
                    let is_over = link.end(&mut conn, given_up.number)?;
                    // A writer's would only come to stand beside it.
                    if !is_over && link.writes() {
                        return Err(Fault::GoesOn(given_up.number));
                    }
                }
                Ok((conn, session))
            });
            opened.map_err(|fault| fault.after(started.elapsed(), link.place().timeout))
        };
        Self { open: Arc::new(open), running, thread, first }
    }

    /// Begins to open a connection; `given_up` is where a statement was given up.
    pub(super) fn start(&self, given_up: Option<Session>) -> Result<Opening<C>, Fault> {
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
        let thread = thread::Builder::new().name(self.thread.to_owned()).spawn(work);
        thread.map_err(|why| Fault::NotOpened(format!("the machine refuses a thread: {why}")))?;
        Ok(Opening { progress, result })
    }

    /// An opening that is not waited for any more.
    pub(super) fn give_up(&self, opening: Opening<C>) {
        self.first.fetch_add(1, Ordering::Relaxed);
        drop(opening);
    }
}

impl<C> Opening<C> {
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
pub fn once<L: Link>(link: &L) -> Result<L::Conn, Fault> {
    let started = Instant::now();
    connect(link, &Progress::new(), 0).map_err(|fault| fault.after(started.elapsed(), link.place().timeout))
}

/// Tries each address of the host: a client by itself may stop at the first that fails. Together they get the time there is for
/// a connect, so that one which is silent leaves the others theirs.
fn connect<L: Link>(link: &L, progress: &Progress, first: usize) -> Result<L::Conn, Fault> {
    let Place { at, connect_timeout, .. } = link.place();
    let until = Instant::now() + *connect_timeout;
    let names = (at.host.as_str(), at.port).to_socket_addrs().map_err(Fault::Unresolved)?;
    let mut addresses: Vec<SocketAddr> = names.collect();
    let count = addresses.len();
    addresses.rotate_left(first % count.max(1));
    let mut last = Fault::Unresolved(std::io::Error::other("the name has no address"));
    for (tried, address) in addresses.into_iter().enumerate() {
        progress.is_at(Step::Address(address));
        let share = until.saturating_duration_since(Instant::now()) / (count - tried) as u32;
        match link.connect(address, share.max(ADDRESS_MIN)) {
            Ok(conn) => return Ok(conn),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

#[cfg(test)]
impl<C: Send + 'static> Opener<C> {
    /// Opens in another way.
    pub(super) fn with(open: impl Fn() -> Result<Opened<C>, Fault> + Send + Sync + 'static) -> Self {
        let open = move |_: &Progress, _: Option<&Session>| open();
        Self { open: Arc::new(open), running: Arc::default(), thread: "connect", first: Arc::default() }
    }
}
