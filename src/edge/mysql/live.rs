//! One connection to MySQL that is there when it is needed.
//!
//! Promises that a connection which died unused is replaced without the caller noticing, that a connect takes no longer than
//! `mysql.connect_timeout` from whoever waits for it (the name, all addresses and the login together), and that none is used
//! for longer than `mysql.conn_max_lifetime` while a new one can be had: a server that moved is found although the old one lives
//! on. The new one is opened beside the old one ([`opening`]), which serves meanwhile, and taken between two statements. A
//! statement that was given up is ended in the server. Refuses to keep a connection whose state is not known.

pub(super) mod opening;
pub(super) mod tunnel;

use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use mysql::Conn;

use self::opening::{Opened, Opener, Opening, Session};
use super::fault::Fault;
use crate::config::MysqlConfig;
use crate::edge::random::random;
use crate::ports::LookupError;
use crate::telemetry::logging::warn_limited;

/// A connection that is to be replaced, and for which no new one can be had, is used on for a tenth of its life, and no
/// longer than this, before the next try.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// One thread's connection.
pub(super) struct Live {
    settings: MysqlConfig,
    /// What to check when a table is not as expected.
    schema: &'static str,
    conn: Option<Conn>,
    /// Which one it is.
    session: Option<Session>,
    /// How many there were.
    number: u64,
    /// When it is to be replaced, if ever.
    due: Option<Instant>,
    opener: Opener,
    /// The next one: beside the one that serves, or because there is none.
    opening: Option<Opening>,
    /// The session in which a statement was given up that is not known to be over.
    given_up: Option<Session>,
}

impl Live {
    /// Connects when first used.
    pub(super) fn new(settings: MysqlConfig, schema: &'static str) -> Self {
        let opener = Opener::new(settings.clone(), None);
        Self {
            settings,
            schema,
            conn: None,
            session: None,
            number: 0,
            due: None,
            opener,
            opening: None,
            given_up: None,
        }
    }

    /// For one that writes: each session begins with this statement, too, and none begins before what was given up in the
    /// last one is over.
    pub(super) fn for_writes(mut self, statement: String) -> Self {
        self.opener = Opener::new(self.settings.clone(), Some(statement));
        self
    }

    /// [`attempt`](Self::attempt), in words.
    pub(super) fn run<T>(&mut self, mut work: impl FnMut(&mut Conn) -> Result<T, Fault>) -> Result<T, LookupError> {
        self.attempt(|conn, _| work(conn)).map_err(|fault| self.explain(fault))
    }

    /// A fault in words.
    pub(super) fn explain(&self, fault: Fault) -> LookupError {
        fault.explain(&self.settings, self.schema)
    }

    /// Runs `work`, which is told the connection's number; once more on a new connection when the old one turns out to be dead
    /// (the server restarted, or closed it because it was idle). A timeout is not tried again: it cost its wait already.
    pub(super) fn attempt<T>(&mut self, mut work: impl FnMut(&mut Conn, u64) -> Result<T, Fault>) -> Result<T, Fault> {
        let (conn, is_new) = self.take()?;
        let outcome = self.with(conn, &mut work);
        if !is_new && outcome.as_ref().is_err_and(Fault::is_dead_connection) {
            let (conn, _) = self.take()?;
            return self.with(conn, &mut work);
        }
        outcome
    }

    /// Waits until there is a connection, and until what was given up on the last one is over.
    pub(super) fn ready(&mut self) -> Result<(), Fault> {
        if self.conn.is_none() {
            self.conn = Some(self.connect().map_err(Fault::before_asking)?.0);
        }
        Ok(())
    }

    fn with<T>(
        &mut self,
        mut conn: Conn,
        work: &mut impl FnMut(&mut Conn, u64) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let started = Instant::now();
        let outcome = work(&mut conn, self.number).map_err(|fault| fault.after(started.elapsed(), &self.settings));
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
    fn take(&mut self) -> Result<(Conn, bool), Fault> {
        match self.conn.take() {
            Some(conn) => Ok((self.renewed(conn), false)),
            None => self.connect().map_err(Fault::before_asking),
        }
    }

    /// The connection that is there, or the one that is to replace it as soon as that is open. While none can be had the old one is
    /// better than nothing: a name server that is away must not take away a database that answers.
    fn renewed(&mut self, old: Conn) -> Conn {
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
                let again =
                    (self.settings.conn_max_lifetime / 10).clamp(Duration::from_millis(100), REPLACE_AGAIN_AFTER);
                self.due = Some(Instant::now() + again);
                let why = self.explain(fault);
                warn_limited("mysql_not_replaced", format_args!("{why}; the connection that is open is used on"));
            }
        }
        old
    }

    /// A connection where there is none, and whether it was opened just now. One that is being opened is waited for, again and again:
    /// a server that is slow to let in lets in at last.
    fn connect(&mut self) -> Result<(Conn, bool), Fault> {
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
        match opening.result.recv_timeout(self.settings.connect_timeout) {
            Ok(Ok(conn)) => Ok((self.begin(conn), true)),
            Ok(Err(fault)) => {
                self.note(&fault);
                Err(fault)
            }
            Err(_) => {
                let late = opening.late(self.settings.connect_timeout);
                self.opening = Some(opening);
                Err(late)
            }
        }
    }

    fn begin(&mut self, (conn, session): Opened) -> Conn {
        self.session = session;
        self.number += 1;
        self.given_up = None;
        self.due = due(self.settings.conn_max_lifetime, Instant::now());
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
        self.settings.connect_timeout + self.settings.timeout
    }

    fn give_up(&self, opening: Opening) -> Fault {
        let late = opening.late(self.patience());
        self.opener.give_up(opening);
        late
    }
}

/// When a connection made now is to be replaced: up to a fifth earlier than it might, so that those of all threads and
/// instances are not replaced at once.
fn due(lifetime: Duration, now: Instant) -> Option<Instant> {
    let part = random() % 1000;
    (!lifetime.is_zero()).then(|| now + lifetime - lifetime / 5 * part as u32 / 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_connection_is_due_after_four_fifths_to_all_of_its_life_and_never_without_one() {
        let (now, lifetime) = (Instant::now(), Duration::from_secs(3600));
        let dues: Vec<_> = (0..200).map(|_| due(lifetime, now).expect("a life that ends") - now).collect();
        assert!(dues.iter().all(|due| *due > lifetime * 4 / 5 && *due <= lifetime), "{dues:?}");
        let spread = *dues.iter().max().expect("some") - *dues.iter().min().expect("some");
        assert!(spread > lifetime / 10, "{spread:?}");
        assert_eq!(due(Duration::ZERO, now), None);
    }

    fn settings(connect_timeout: Duration) -> MysqlConfig {
        MysqlConfig { connect_timeout, timeout: Duration::from_millis(300), ..MysqlConfig::default() }
    }

    /// What a silent name server, or a login that never ends, is to whoever waits.
    #[test]
    fn a_connect_is_waited_for_so_long_and_never_more_than_two_are_under_way() {
        let started = Arc::new(AtomicUsize::new(0));
        let (count, (hold, held)) = (started.clone(), bounded::<()>(0));
        let limit = Duration::from_millis(50);
        let mut live = Live::new(settings(limit), "");
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
