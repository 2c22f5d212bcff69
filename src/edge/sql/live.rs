//! One connection to a database that is there when it is needed.
//!
//! Promises that a connection which died unused is replaced without the caller noticing, that a connect takes no longer than
//! `connect_timeout` from whoever waits for it (the name, all addresses and the login together), and that none is used
//! for longer than `conn_max_lifetime` while a new one can be had: a server that moved is found although the old one lives
//! on. The new one is opened beside the old one ([`opening`]), which serves meanwhile, and taken between two statements. A
//! statement that was given up is ended in the server. Refuses to keep a connection whose state is not known.

#[cfg(test)]
mod follow_tests;
pub mod opening;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use self::opening::{Opened, Opener, Opening};
use super::fault::{Fault, Place};
use crate::edge::random::random;
use crate::ports::LookupError;
use crate::telemetry::logging::warn_limited;

/// A connection that is to be replaced, and for which no new one can be had, is used on for a tenth of its life, and no
/// longer than this, before the next try.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How long a statement that was given up, and was then ended, may go on before a writer's next one.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at it.
const ENDS_LOOK: Duration = Duration::from_millis(20);

/// A session of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the server calls itself, as long as it runs.
    pub server: String,
    /// Which of its sessions.
    pub number: u64,
}

/// How the connections of one kind are opened. All of it may block, on a thread that nobody waits for longer than he likes.
pub trait Link: Send + Sync + 'static {
    /// A connection; it belongs to one thread at a time.
    type Conn: Send + 'static;

    /// Where it goes, and the times it has.
    fn place(&self) -> &Place;
    /// The link in place of this one, when the configuration says something else meanwhile.
    fn reloaded(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
    /// What threads that open connections are called.
    fn thread(&self) -> &'static str;
    /// Whether it is for writes: none begins before what was given up in the last one is over.
    fn writes(&self) -> bool;
    /// Connects to this address within `limit`, and logs in.
    ///
    /// # Errors
    /// Why there is none.
    fn connect(&self, address: SocketAddr, limit: Duration) -> Result<Self::Conn, Fault>;
    /// Which session this is; nothing where a proxy does not let the question through.
    ///
    /// # Errors
    /// When the connection is none any more.
    fn who(&self, conn: &mut Self::Conn) -> Result<Option<Session>, Fault>;
    /// Ends a session of ours in which a statement was given up; whether it is over.
    ///
    /// # Errors
    /// When the connection is none any more.
    fn end(&self, conn: &mut Self::Conn, number: u64) -> Result<bool, Fault>;
}

/// One thread's connection.
pub struct Live<L: Link> {
    link: Arc<L>,
    place: Place,
    /// What to check when a table is not as expected.
    schema: &'static str,
    conn: Option<L::Conn>,
    /// Which one it is.
    session: Option<Session>,
    /// How many there were.
    number: u64,
    /// When it is to be replaced, if ever.
    due: Option<Instant>,
    opener: Opener<L::Conn>,
    /// The next one: beside the one that serves, or because there is none.
    opening: Option<Opening<L::Conn>>,
    /// The session in which a statement was given up that is not known to be over.
    given_up: Option<Session>,
}

impl<L: Link> Live<L> {
    /// Connects when first used.
    pub fn new(link: L, schema: &'static str) -> Self {
        let place = link.place().clone();
        let link = Arc::new(link);
        let opener = Opener::new(link.clone());
        let (conn, session, opening, given_up) = (None, None, None, None);
        Self { link, place, schema, conn, session, number: 0, due: None, opener, opening, given_up }
    }

    /// Which server it is, and the times it has.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Goes by what the configuration says now: the connection that is open serves until one is that was opened by it. So a
    /// password that is wrong takes away no database that answers.
    fn follow(&mut self) {
        let Some(link) = self.link.reloaded() else { return };
        self.link = Arc::new(link);
        self.place = self.link.place().clone();
        self.opener = self.opener.by(self.link.clone());
        // It was begun by what held before; where nobody waits for it, it ends by itself.
        self.opening = None;
        self.due = Some(Instant::now());
    }

    /// A fault in words.
    pub fn explain(&self, fault: Fault) -> LookupError {
        fault.explain(&self.place, self.schema)
    }

    /// Runs `work`, which is told the connection's number; once more on a new connection when the old one turns out to be dead
    /// (the server restarted, or closed it because it was idle). A timeout is not tried again: it cost its wait already.
    pub fn attempt<T>(&mut self, mut work: impl FnMut(&mut L::Conn, u64) -> Result<T, Fault>) -> Result<T, Fault> {
        let (conn, is_new) = self.take()?;
        let outcome = self.with(conn, &mut work);
        if !is_new && outcome.as_ref().is_err_and(Fault::is_dead_connection) {
            let (conn, _) = self.take()?;
            return self.with(conn, &mut work);
        }
        outcome
    }

    /// Waits until there is a connection, and until what was given up on the last one is over.
    pub fn ready(&mut self) -> Result<(), Fault> {
        self.follow();
        if self.conn.is_none() {
            self.conn = Some(self.connect().map_err(Fault::before_asking)?.0);
        }
        Ok(())
    }

    fn with<T>(
        &mut self,
        mut conn: L::Conn,
        work: &mut impl FnMut(&mut L::Conn, u64) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let started = Instant::now();
        let outcome = work(&mut conn, self.number).map_err(|fault| fault.after(started.elapsed(), self.place.timeout));
        if outcome.as_ref().err().is_none_or(Fault::leaves_connection_good) {
            self.conn = Some(conn);
        } else if matches!(outcome, Err(Fault::Silent(_) | Fault::TooSlow)) {
            // The server may go on with it, and with its locks: it does not look whether anybody still listens.
            self.given_up = self.session.take();
            drop(conn);
            self.opening = self.opener.start(self.given_up.clone()).ok();
        }
        outcome
    }

    /// A connection, and whether it was opened just now.
    fn take(&mut self) -> Result<(L::Conn, bool), Fault> {
        self.follow();
        match self.conn.take() {
            Some(conn) => Ok((self.renewed(conn), false)),
            None => self.connect().map_err(Fault::before_asking),
        }
    }

    /// The connection that is there, or the one that is to replace it as soon as that is open. While none can be had the old one is
    /// better than nothing: a name server that is away must not take away a database that answers.
    fn renewed(&mut self, old: L::Conn) -> L::Conn {
        let opening = match self.opening.take() {
            None if self.due.is_none_or(|due| Instant::now() < due) => return old,
            None => self.opener.start(None),
            Some(opening) => match opening.result.try_recv() {
                Ok(Ok(new)) => return self.begin(new),
                Ok(Err(fault)) => Err(fault),
                Err(TryRecvError::Empty) if opening.stands_for() < self.patience() => Ok(opening),
                Err(_) => Err(self.give_up(opening)),
            },
        };
        match opening {
            Ok(opening) => self.opening = Some(opening),
            Err(fault) => {
                self.due = Some(Instant::now() + again_after(self.place.lifetime));
                let why = self.explain(fault);
                warn_limited("database_not_replaced", format_args!("{why}; the connection that is open is used on"));
            }
        }
        old
    }

    /// A connection where there is none, and whether it was opened just now. One that is being opened is waited for, again and again:
    /// a server that is slow to let in lets in at last.
    fn connect(&mut self) -> Result<(L::Conn, bool), Fault> {
        let mut opening = None;
        if let Some(earlier) = self.opening.take() {
            match earlier.result.try_recv() {
                Ok(Ok(conn)) => return Ok((self.begin(conn), false)),
                // What it said is old.
                Ok(Err(fault)) => self.note(&fault),
                Err(TryRecvError::Empty) if earlier.stands_for() < self.patience() => opening = Some(earlier),
                Err(_) => drop(self.give_up(earlier)),
            }
        }
        let opening = match opening {
            Some(opening) => opening,
            None => self.opener.start(self.given_up.clone())?,
        };
        match opening.result.recv_timeout(self.place.connect_timeout) {
            Ok(Ok(conn)) => Ok((self.begin(conn), true)),
            Ok(Err(fault)) => {
                self.note(&fault);
                Err(fault)
            }
            Err(_) => {
                let late = opening.late(self.place.connect_timeout);
                self.opening = Some(opening);
                Err(late)
            }
        }
    }

    fn begin(&mut self, (conn, session): Opened<L::Conn>) -> L::Conn {
        self.session = session;
        self.number += 1;
        self.given_up = None;
        self.due = due(self.place.lifetime, Instant::now());
        conn
    }

    /// What cannot be ended keeps from one connect, not from all.
    fn note(&mut self, fault: &Fault) {
        if matches!(fault, Fault::GoesOn(_)) {
            self.given_up = None;
        }
    }

    /// How long one step of an opening may take before another opening is begun in its stead.
    fn patience(&self) -> Duration {
        self.place.connect_timeout + self.place.timeout
    }

    fn give_up(&self, opening: Opening<L::Conn>) -> Fault {
        let late = opening.late(self.patience());
        self.opener.give_up(opening);
        late
    }
}

/// Whether a session that is to end has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is over.
    Yes,
    /// It was told to.
    NotYet,
    /// The server does not let us end it.
    Never,
}

/// Tells a session to end until it has; whether it has in the time there is for it.
///
/// # Errors
/// What `end` says.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own, which looks for the end of a session")]
pub fn until_ended(mut end: impl FnMut() -> Result<Ended, Fault>) -> Result<bool, Fault> {
    let until = Instant::now() + ENDS_WITHIN;
    while Instant::now() < until {
        match end()? {
            Ended::Yes => return Ok(true),
            Ended::Never => return Ok(false),
            Ended::NotYet => std::thread::sleep(ENDS_LOOK),
        }
    }
    Ok(false)
}

/// A socket that a client of a database is given: it waits for nothing, and a server that takes nothing any more is noticed.
///
/// # Errors
/// What the system says.
pub fn prepare(server: &TcpStream, timeout: Duration) -> io::Result<()> {
    server.set_nodelay(true)?;
    server.set_nonblocking(true)?;
    socket2::SockRef::from(server).set_tcp_user_timeout(Some(timeout * 2))
}

/// How long a connection that could not be replaced is used on before the next try; one without a limit, as of one with a long one.
fn again_after(lifetime: Duration) -> Duration {
    let life = if lifetime.is_zero() { Duration::MAX } else { lifetime };
    (life / 10).clamp(Duration::from_millis(100), REPLACE_AGAIN_AFTER)
}

/// When a connection made now is to be replaced: up to a fifth earlier than it might, so that those of all threads and
/// instances are not replaced at once.
fn due(lifetime: Duration, now: Instant) -> Option<Instant> {
    let part = random() % 1000;
    (!lifetime.is_zero()).then(|| now + lifetime - lifetime / 5 * part as u32 / 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::bounded;

    use super::*;
    use crate::config::HostPort;

    #[test]
    fn a_connection_is_due_after_four_fifths_to_all_of_its_life_and_never_without_one() {
        let (now, lifetime) = (Instant::now(), Duration::from_secs(3600));
        let dues: Vec<_> = (0..200).map(|_| due(lifetime, now).expect("a life that ends") - now).collect();
        assert!(dues.iter().all(|due| *due > lifetime * 4 / 5 && *due <= lifetime), "{dues:?}");
        let spread = *dues.iter().max().expect("some") - *dues.iter().min().expect("some");
        assert!(spread > lifetime / 10, "{spread:?}");
        assert_eq!(due(Duration::ZERO, now), None);
    }

    /// To nowhere: the test opens in its own way.
    struct Nowhere(Place);

    impl Link for Nowhere {
        type Conn = ();

        fn place(&self) -> &Place {
            &self.0
        }

        fn thread(&self) -> &'static str {
            "nowhere"
        }

        fn writes(&self) -> bool {
            false
        }

        fn connect(&self, _: SocketAddr, _: Duration) -> Result<(), Fault> {
            Err(Fault::NotConnected(None))
        }

        fn who(&self, (): &mut ()) -> Result<Option<Session>, Fault> {
            Ok(None)
        }

        fn end(&self, (): &mut (), _: u64) -> Result<bool, Fault> {
            Ok(true)
        }
    }

    fn nowhere(connect_timeout: Duration) -> Nowhere {
        Nowhere(Place {
            product: "a database",
            section: "nowhere",
            at: HostPort { host: "nowhere.invalid".into(), port: 1 },
            username: String::new(),
            database: String::new(),
            sessions_in: "nothing",
            connect_timeout,
            timeout: Duration::from_millis(300),
            lifetime: Duration::from_secs(600),
        })
    }

    /// What a silent name server, or a login that never ends, is to whoever waits.
    #[test]
    fn a_connect_is_waited_for_so_long_and_never_more_than_two_are_under_way() {
        let started = Arc::new(AtomicUsize::new(0));
        let (count, (hold, held)) = (started.clone(), bounded::<()>(0));
        let limit = Duration::from_millis(50);
        let mut live = Live::new(nowhere(limit), "");
        live.opener = Opener::with(move || {
            count.fetch_add(1, Ordering::AcqRel);
            let _ = held.recv();
            Err(Fault::NotOpened("over".into()))
        });
        let mut ask = || {
            let asked = Instant::now();
            let fault = live.attempt(|_, _| Ok(())).expect_err("no connection");
            (asked.elapsed(), format!("{fault:?}"))
        };
        for _ in 0..3 {
            let (took, why) = ask();
            assert!(took >= limit && took < limit * 20, "{took:?}");
            assert!(why.contains("nothing within 50.0ms: the name server"), "{why}");
            assert_eq!(started.load(Ordering::Acquire), 1, "the same one is waited for");
        }
        let until = Instant::now() + Duration::from_secs(20);
        while !ask().1.contains("2 earlier tries") {
            assert!(Instant::now() < until, "each step has an end, too");
        }
        assert_eq!(started.load(Ordering::Acquire), 2);
        drop(hold);
        while !ask().1.contains("over") {
            assert!(Instant::now() < until, "those that were given up end by themselves");
        }
    }
}
