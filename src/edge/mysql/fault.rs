//! What went wrong with MySQL, in words, and whether the connection is still good.
//!
//! Promises to name the address and, where the server's code says it, what to check; and that a connection is kept only
//! after an error that is known to leave it good. Whose fault an error is, the core decides by what happens to other asks:
//! an unknown code (a proxy's, a trigger's own) says no more than that the server answered with an error. Refuses to name
//! the password.

use std::io;
use std::time::Duration;

use mysql::{DriverError, Error, MySqlError};

use crate::config::MysqlConfig;
use crate::ports::LookupError;

/// Where it is, in words.
pub(super) fn place_of(settings: &MysqlConfig) -> String {
    format!("MySQL at {}:{}", settings.at.host, settings.at.port)
}

/// Why a query has no result.
#[derive(Debug)]
pub(super) enum Fault {
    /// The host name has no address now.
    Unresolved(io::Error),
    /// No address of the host takes a connection.
    NotConnected(DriverError),
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
    /// The connection broke, or what came over it is no MySQL.
    Broken(String),
    /// The server's own word.
    Server(MySqlError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::MySqlError(error) => Self::Server(error),
            Error::DriverError(error @ (DriverError::ConnectTimeout | DriverError::CouldNotConnect(_))) => {
                Self::NotConnected(error)
            }
            Error::IoError(error) => Self::Broken(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// What a server error number means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Restarting, full, failing over, busy.
    Busy,
    /// This one connection is over; a new one may do.
    Gone,
    /// Rights, database or schema: an operator's work.
    Setup(&'static str),
    /// The tables are not as expected: an operator's work, too.
    Schema,
    /// Any other: it answered with an error.
    Other,
}

/// MySQL's and MariaDB's own codes are below this; proxies have theirs above.
const CODES_OF_SERVERS_END: u16 = 5000;

const CREDENTIALS: &str =
    "check mysql.username and mysql.password, and mysql.tls (with mysql.tls.cert) if the user may log in over TLS only";
const TLS_WANTED: &str = "set mysql.tls: this server takes no connection without TLS";
const HOST_RIGHTS: &str = "check from which hosts MySQL lets this user in (or FLUSH HOSTS)";
const DATABASE: &str = "check mysql.database and the user's rights to it";

fn class(code: u16) -> Class {
    match code {
        // Too many connections (of all, of the user), resource limits, no memory, disk or threads.
        1040 | 1203 | 1226 | 1021 | 1028 | 1037 | 1038 | 1041 | 1135 | 1461 => Class::Busy,
        // Lock wait, deadlock, statement timeout (MariaDB, MySQL), interrupted, Galera or a replica not ready.
        1205 | 1213 | 1969 | 3024 | 1317 | 1047 | 1192 => Class::Busy,
        // Row changed under the snapshot, table redefined, rolled back by the group: another try may do.
        1020 | 1180 | 1206 | 1412 | 1637 | 3098 | 3100 | 3101 => Class::Busy,
        // Read-only, offline mode.
        1036 | 1290 | 1792 | 1836 | 3032 => Class::Busy,
        // The disk or the table is full, files cannot be read or written, the table is crashed or locked.
        3 | 5 | 1003 | 1005 | 1016 | 1023 | 1024 | 1026 | 1030 | 1034 | 1099 | 1114 | 1194 | 1195 | 1223 | 1932 => {
            Class::Busy
        }
        // Shutdown, aborted, killed, closed for idleness; a statement to be prepared again.
        1053 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 | 1243 | 1615 => Class::Gone,
        1045 | 1698 | 1820 | 1862 | 3118 | 4151 => Class::Setup(CREDENTIALS),
        1129 | 1130 => Class::Setup(HOST_RIGHTS),
        3159 => Class::Setup(TLS_WANTED),
        1044 | 1046 | 1049 => Class::Setup(DATABASE),
        1048 | 1054 | 1136 | 1142 | 1143 | 1146 | 1364 => Class::Schema,
        _ => Class::Other,
    }
}

impl Fault {
    /// Says that this happened before anything was asked. What goes on of an ask that was given up is that ask's doing.
    pub(super) fn before_asking(self) -> Self {
        match self {
            Self::GoesOn(_) | Self::NotReached(_) => self,
            other => Self::NotReached(Box::new(other)),
        }
    }

    /// Says that a broken connection was in truth a timeout, by the time it took.
    pub(super) fn after(self, took: Duration, settings: &MysqlConfig) -> Self {
        match self {
            Self::Broken(_) if took >= settings.timeout => Self::Silent(took),
            other => other,
        }
    }

    /// Whether a kept connection died unseen, so that a new one is worth one more try at once.
    pub(super) fn is_dead_connection(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Server(error) => class(error.code) == Class::Gone,
            _ => false,
        }
    }

    /// Whether a query for other rows may do better: the server is there, and answered this one with an error or too late.
    pub(super) fn may_be_the_rows(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Silent(_) | Self::TooSlow)
    }

    /// Whether another transaction was in the way, so that the same one may do when it is tried again at once.
    pub(super) fn is_lock_conflict(&self) -> bool {
        matches!(self, Self::Server(error) if matches!(error.code, 1020 | 1205 | 1213))
    }

    /// Whether the server answered with an error that says nothing of itself, so that a part of what it was asked may still
    /// do.
    pub(super) fn is_rejection(&self) -> bool {
        matches!(self, Self::Server(error) if class(error.code) == Class::Other)
    }

    /// Whether the next query may use the same connection. A busy or read-only server is left: after a failover the
    /// host name leads to another. So is whoever says what no server says: a proxy without its server.
    pub(super) fn leaves_connection_good(&self) -> bool {
        let is_word_of_a_server = matches!(self, Self::Server(error) if error.code < CODES_OF_SERVERS_END);
        (self.is_rejection() && is_word_of_a_server) || self.is_lock_conflict() || self.is_time_limit()
    }

    /// Whether the server ended the statement because it took too long (as MariaDB and MySQL say it).
    pub(super) fn is_time_limit(&self) -> bool {
        matches!(self, Self::Server(error) if matches!(error.code, 1969 | 3024))
    }

    /// In words; `schema` says what to check when a table is not as expected.
    pub(super) fn explain(self, settings: &MysqlConfig, schema: &str) -> LookupError {
        let (MysqlConfig { username, database, .. }, place) = (settings, place_of(settings));
        let away = |what: String, check: &str| LookupError::Unavailable(format!("{place} {what}; {check}"));
        match self {
            Self::NotReached(fault) => {
                let (LookupError::NotReached(why) | LookupError::Unavailable(why) | LookupError::Rejected(why)) =
                    fault.explain(settings, schema);
                LookupError::NotReached(why)
            }
            Self::Unresolved(why) => away(format!("cannot be found by name ({why})"), "check mysql.host and DNS"),
            Self::NotConnected(why) => {
                let why = match &why {
                    DriverError::ConnectTimeout => format!("no answer within {:?}", settings.connect_timeout),
                    DriverError::CouldNotConnect(Some((address, why, _))) => format!("{address}: {why}"),
                    other => other.to_string(),
                };
                away(format!("takes no connection ({why})"), "check that it runs, mysql.host and mysql.port")
            }
            Self::NotOpened(why) => {
                away(format!("takes no connection ({why})"), "check that it runs, mysql.host, mysql.port and DNS")
            }
            Self::Insecure(why) => LookupError::Unavailable(format!("{place}: no TLS with it: {why}")),
            Self::GoesOn(session) => away(
                format!("goes on with a statement of session {session} that was given up"),
                "see SHOW PROCESSLIST, its load, its disk, and whether the user may end it",
            ),
            Self::Silent(took) => away(format!("was silent for {took:.1?}"), "check its load and the network"),
            Self::TooSlow => away("sends too slowly".to_owned(), "check its load and the network"),
            Self::Broken(why) => away(format!("broke the connection ({why})"), "check that it runs and speaks MySQL"),
            Self::Server(error) => match class(error.code) {
                Class::Setup(check) => away(format!("refuses {username:?} on {database:?}: {error}"), check),
                Class::Schema => away(format!("refuses {username:?} on {database:?}: {error}"), schema),
                Class::Busy | Class::Gone => away(format!("cannot answer now: {error}"), "check its state and limits"),
                Class::Other => {
                    let check = "if all queries fail, check the server, and the proxy or view before it";
                    LookupError::Rejected(format!("{place} answers with an error: {error}; {check}"))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostPort, Secret};

    fn settings() -> MysqlConfig {
        MysqlConfig {
            at: HostPort { host: "db.example".into(), port: 3307 },
            username: "engine".into(),
            password: Secret::new("hunter2"),
            ..MysqlConfig::default()
        }
    }

    fn server(code: u16) -> Fault {
        Fault::from(Error::MySqlError(MySqlError { state: "HY000".into(), message: "words".into(), code }))
    }

    #[test]
    fn what_an_operator_can_mend_is_unavailable_and_names_the_place() {
        for (code, says) in [
            (1040, "limits"),
            (1053, "state"),
            (1045, "mysql.password"),
            (3159, "set mysql.tls"),
            (1049, "mysql.database"),
            (1146, "t_session_member"),
            (1130, "hosts"),
            (1205, "state"),
            (1290, "state"),
            (1114, "limits"),
            (1030, "limits"),
            (1020, "state"),
            (1364, "t_session_member"),
        ] {
            match server(code).explain(&settings(), "check t_session_member") {
                LookupError::Unavailable(why) => {
                    assert!(why.contains("db.example:3307") && why.contains(says), "{code}: {why}");
                    assert!(!why.contains("hunter2"), "{why}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_ask_that_the_server_refuses_is_rejected_and_keeps_the_connection() {
        for code in [1064, 1105, 1366, 1406, 1452, 4025] {
            assert!(server(code).leaves_connection_good());
            assert!(!server(9001).leaves_connection_good(), "no server's own code");
            assert!(
                matches!(server(code).explain(&settings(), "check t_session_member"), LookupError::Rejected(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn what_is_said_before_anything_was_asked_is_about_nothing_that_was_to_be_asked() {
        for code in [1040, 1203, 1226, 1045, 1049, 1105, 9001] {
            let fault = server(code).before_asking();
            assert!(!fault.may_be_the_rows() && !fault.is_rejection() && !fault.is_dead_connection(), "{code}");
            match fault.explain(&settings(), "") {
                LookupError::NotReached(why) => assert!(why.contains(&format!("ERROR {code}")), "{why}"),
                other => panic!("{code}: {other:?}"),
            }
        }
        let fault = Fault::GoesOn(7).before_asking();
        assert!(matches!(fault.explain(&settings(), ""), LookupError::Unavailable(_)), "an ask's own doing");
    }

    #[test]
    fn only_a_connection_that_died_unseen_is_tried_again() {
        let broken = || Fault::from(Error::IoError(io::Error::from(io::ErrorKind::BrokenPipe)));
        let refused = || DriverError::CouldNotConnect(Some(("a".into(), "b".into(), io::ErrorKind::ConnectionRefused)));
        let settings = settings();
        for (fault, again) in [
            (broken().after(Duration::from_millis(1), &settings), true),
            (broken().after(Duration::from_secs(5), &settings), false),
            (Fault::from(Error::DriverError(refused())), false),
            (server(1927), true),
            (server(4031), true),
            (server(1040), false),
            (server(1064), false),
        ] {
            assert_eq!(fault.is_dead_connection(), again, "{fault:?}");
        }
    }
}
