//! What went wrong with a database, in words, and whether the connection is still good.
//!
//! Promises to name the address and, where the server's code says it, what to check; and that a connection is kept only
//! after an error that is known to leave it good. Whose fault an error is, the core decides by what happens to other asks:
//! an unknown code (a proxy's, a trigger's own) says no more than that the server answered with an error. Refuses to name
//! the password.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::HostPort;
use crate::ports::LookupError;

/// Which server it is, as words about it name it, and the times that it has.
#[derive(Clone, Debug)]
pub struct Place {
    /// What it is: `MySQL`.
    pub product: &'static str,
    /// Where its keys stand in the configuration.
    pub section: &'static str,
    /// Where it listens.
    pub at: HostPort,
    /// Who we are to it.
    pub username: String,
    /// The database.
    pub database: String,
    /// Where an operator sees what its sessions do.
    pub sessions_in: &'static str,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a connection is used; zero: for ever.
    pub lifetime: Duration,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { product, at, .. } = self;
        write!(f, "{product} at {}:{}", at.host, at.port)
    }
}

/// Why a query has no result.
#[derive(Debug)]
pub enum Fault {
    /// The host name has no address now.
    Unresolved(io::Error),
    /// No address of the host takes a connection: why not. Nothing: none answered in the time for a connect.
    NotConnected(Option<String>),
    /// No connection was opened in the time there is for it; why, in words.
    NotOpened(String),
    /// There is no TLS with the server; why, and what to check.
    Insecure(String),
    /// There was no connection to ask over: what was to be asked has not left. Why not.
    NotReached(Box<Fault>),
    /// What was given up in this session goes on, though we tried to end it.
    GoesOn(u64),
    /// The server took longer than its timeout with one read or write.
    Silent(Duration),
    /// The server sends, but too slowly for the whole result's deadline.
    TooSlow,
    /// The connection broke, or what came over it is not the server's protocol.
    Broken(String),
    /// The server's own word.
    Server(Answer),
}

/// An error that the server answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As the server says it, with its code.
    pub words: String,
    /// At what it failed.
    pub cause: Cause,
    /// What it means to us.
    pub class: Class,
    /// What was in the way.
    pub way: Way,
    /// Whether a server says so: a code of none is the word of a proxy that may be without its server.
    pub is_of_server: bool,
}

/// At what a connect, or a query, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name has no address.
    Name,
    /// No connection is taken.
    Tcp,
    /// There is no TLS with it, or it wants some.
    Tls,
    /// The user is not let in, or the peer is no such server.
    Login,
    /// It has as many connections as it takes.
    Connections,
    /// The database is not there, or not the user's to use.
    Database,
    /// The table is not there.
    Table,
    /// A column is not there, is of another type, or needs a value that is not written.
    Column,
    /// There is no such unique key.
    Key,
    /// The user may not do this.
    Grant,
    /// The server takes no rows.
    ReadOnly,
    /// Any other.
    Other,
}

/// What was in the way of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Whatever else.
    Other,
    /// Another's lock.
    Lock,
    /// Another transaction, for whose sake this one was broken: the same may do at once.
    Deadlock,
    /// The server's limit of time for a statement.
    TimeLimit,
}

/// What a server's error means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Restarting, full, failing over, busy; what to check.
    Busy(&'static str),
    /// This one connection is over; a new one may do.
    Gone,
    /// Rights, database or schema: an operator's work.
    Setup(&'static str),
    /// The tables are not as expected: an operator's work, too.
    Schema,
    /// Any other: it answered with an error.
    Other,
}

/// What to check where a server cannot answer now and says no more.
pub const LIMITS: &str = "check its state and limits";

impl Fault {
    /// That an address takes no connection.
    pub fn not_connected(address: SocketAddr, error: &io::Error) -> Self {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        Self::NotConnected((!is_late).then(|| format!("{address}: {error}")))
    }

    /// Says that this happened before anything was asked. What goes on of an ask that was given up is that ask's doing.
    pub fn before_asking(self) -> Self {
        match self {
            Self::GoesOn(_) | Self::NotReached(_) => self,
            other => Self::NotReached(Box::new(other)),
        }
    }

    /// Says that a broken connection was in truth a timeout, by the time it took.
    pub fn after(self, took: Duration, timeout: Duration) -> Self {
        match self {
            Self::Broken(_) if took >= timeout => Self::Silent(took),
            other => other,
        }
    }

    /// Whether a kept connection died unseen, so that a new one is worth one more try at once.
    pub fn is_dead_connection(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Server(answer) => answer.class == Class::Gone,
            _ => false,
        }
    }

    /// Whether a query for other rows may do better: the server is there, and answered this one with an error or too late.
    pub fn may_be_the_rows(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Silent(_) | Self::TooSlow)
    }

    /// Whether another transaction was in the way, so that the same one may do when it is tried again at once.
    pub fn is_lock_conflict(&self) -> bool {
        matches!(self, Self::Server(answer) if matches!(answer.way, Way::Lock | Way::Deadlock))
    }

    /// Whether the transaction was broken for the sake of another's.
    pub fn is_deadlock(&self) -> bool {
        matches!(self, Self::Server(answer) if answer.way == Way::Deadlock)
    }

    /// Whether the server answered with an error that says nothing of itself, so that a part of what it was asked may still
    /// do.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Server(answer) if answer.class == Class::Other)
    }

    /// Whether the next query may use the same connection. A busy or read-only server is left: after a failover the
    /// host name leads to another. So is whoever says what no server says: a proxy without its server.
    pub fn leaves_connection_good(&self) -> bool {
        let is_word_of_a_server = matches!(self, Self::Server(answer) if answer.is_of_server);
        (self.is_rejection() && is_word_of_a_server) || self.is_lock_conflict() || self.is_time_limit()
    }

    /// Whether the server ended the statement because it took too long.
    pub fn is_time_limit(&self) -> bool {
        matches!(self, Self::Server(answer) if answer.way == Way::TimeLimit)
    }

    /// In words; `schema` says what to check when a table is not as expected.
    pub fn explain(self, place: &Place, schema: &str) -> LookupError {
        let Place { product, section, username, database, sessions_in, .. } = place;
        let away = |what: String, check: &str| LookupError::Unavailable(format!("{place} {what}; {check}"));
        match self {
            Self::NotReached(fault) => {
                let (LookupError::NotReached(why) | LookupError::Unavailable(why) | LookupError::Rejected(why)) =
                    fault.explain(place, schema);
                LookupError::NotReached(why)
            }
            Self::Unresolved(why) => {
                away(format!("cannot be found by name ({why})"), &format!("check {section}.host and DNS"))
            }
            Self::NotConnected(why) => {
                let why = why.unwrap_or_else(|| format!("no answer within {:?}", place.connect_timeout));
                let check = format!("check that it runs, {section}.host and {section}.port");
                away(format!("takes no connection ({why})"), &check)
            }
            Self::NotOpened(why) => {
                let check = format!("check that it runs, {section}.host, {section}.port and DNS");
                away(format!("takes no connection ({why})"), &check)
            }
            Self::Insecure(why) => LookupError::Unavailable(format!("{place}: no TLS with it: {why}")),
            Self::GoesOn(session) => away(
                format!("goes on with a statement of session {session} that was given up"),
                &format!("see {sessions_in}, its load, its disk, and whether the user may end it"),
            ),
            Self::Silent(took) => away(format!("was silent for {took:.1?}"), "check its load and the network"),
            Self::TooSlow => away("sends too slowly".to_owned(), "check its load and the network"),
            Self::Broken(why) => {
                away(format!("broke the connection ({why})"), &format!("check that it runs and speaks {product}"))
            }
            Self::Server(Answer { words, class, .. }) => match class {
                Class::Setup(check) => away(format!("refuses {username:?} on {database:?}: {words}"), check),
                Class::Schema => away(format!("refuses {username:?} on {database:?}: {words}"), schema),
                Class::Busy(check) => away(format!("cannot answer now: {words}"), check),
                Class::Gone => away(format!("cannot answer now: {words}"), LIMITS),
                Class::Other => {
                    let check = "if all queries fail, check the server, and the proxy or view before it";
                    LookupError::Rejected(format!("{place} answers with an error: {words}; {check}"))
                }
            },
        }
    }
}
