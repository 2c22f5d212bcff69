//! What the error numbers of MySQL and MariaDB mean, and what its client's errors are.

use mysql::{DriverError, Error, MySqlError};

use crate::config::{Database, MysqlConfig};
use crate::edge::sql::fault::{Answer, Cause, Class, Fault, LIMITS, Place, Way};

/// Where it is, and the times it has.
pub(super) fn place_of(settings: &MysqlConfig) -> Place {
    Place {
        product: Database::Mysql.product(),
        section: Database::Mysql.section(),
        at: settings.at.clone(),
        username: settings.username.clone(),
        database: settings.database.clone(),
        sessions_in: "SHOW PROCESSLIST",
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        lifetime: settings.conn_max_lifetime,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::MySqlError(error) => Self::Server(answer(&error)),
            Error::DriverError(DriverError::ConnectTimeout) => Self::NotConnected(None),
            Error::DriverError(DriverError::CouldNotConnect(Some((address, why, _)))) => {
                Self::NotConnected(Some(format!("{address}: {why}")))
            }
            Error::DriverError(error @ DriverError::CouldNotConnect(None)) => {
                Self::NotConnected(Some(error.to_string()))
            }
            Error::IoError(error) => Self::Broken(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

fn answer(error: &MySqlError) -> Answer {
    let way = match error.code {
        1205 => Way::Lock,
        1020 | 1213 => Way::Deadlock,
        // As MariaDB and MySQL say it.
        1969 | 3024 => Way::TimeLimit,
        _ => Way::Other,
    };
    let is_of_server = error.code < CODES_OF_SERVERS_END;
    Answer { words: error.to_string(), cause: cause(error.code), class: class(error.code), way, is_of_server }
}

fn cause(code: u16) -> Cause {
    match code {
        3159 => Cause::Tls,
        1045 | 1698 | 1820 | 1862 | 3118 | 4151 | 1129 | 1130 => Cause::Login,
        1040 | 1203 | 1226 => Cause::Connections,
        1044 | 1046 | 1049 => Cause::Database,
        1146 => Cause::Table,
        1048 | 1054 | 1136 | 1364 => Cause::Column,
        1142 | 1143 | 1227 => Cause::Grant,
        1036 | 1290 | 1792 | 1836 => Cause::ReadOnly,
        _ => Cause::Other,
    }
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
        1040 | 1203 | 1226 | 1021 | 1028 | 1037 | 1038 | 1041 | 1135 | 1461 => Class::Busy(LIMITS),
        // Lock wait, deadlock, statement timeout (MariaDB, MySQL), interrupted, Galera or a replica not ready.
        1205 | 1213 | 1969 | 3024 | 1317 | 1047 | 1192 => Class::Busy(LIMITS),
        // Row changed under the snapshot, table redefined, rolled back by the group: another try may do.
        1020 | 1180 | 1206 | 1412 | 1637 | 3098 | 3100 | 3101 => Class::Busy(LIMITS),
        // Read-only, offline mode.
        1036 | 1290 | 1792 | 1836 | 3032 => Class::Busy(LIMITS),
        // The disk or the table is full, files cannot be read or written, the table is crashed or locked.
        3 | 5 | 1003 | 1005 | 1016 | 1023 | 1024 | 1026 | 1030 | 1034 | 1099 | 1114 | 1194 | 1195 | 1223 | 1932 => {
            Class::Busy(LIMITS)
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::config::{HostPort, Secret};
    use crate::ports::LookupError;

    fn place() -> Place {
        place_of(&MysqlConfig {
            at: HostPort { host: "db.example".into(), port: 3307 },
            username: "engine".into(),
            password: Secret::new("hunter2"),
            ..MysqlConfig::default()
        })
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
            match server(code).explain(&place(), "check t_session_member") {
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
                matches!(server(code).explain(&place(), "check t_session_member"), LookupError::Rejected(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn what_is_said_before_anything_was_asked_is_about_nothing_that_was_to_be_asked() {
        for code in [1040, 1203, 1226, 1045, 1049, 1105, 9001] {
            let fault = server(code).before_asking();
            assert!(!fault.may_be_the_rows() && !fault.is_rejection() && !fault.is_dead_connection(), "{code}");
            match fault.explain(&place(), "") {
                LookupError::NotReached(why) => assert!(why.contains(&format!("ERROR {code}")), "{why}"),
                other => panic!("{code}: {other:?}"),
            }
        }
        let fault = Fault::GoesOn(7).before_asking();
        assert!(matches!(fault.explain(&place(), ""), LookupError::Unavailable(_)), "an ask's own doing");
    }

    #[test]
    fn only_a_connection_that_died_unseen_is_tried_again() {
        let broken = || Fault::from(Error::IoError(io::Error::from(io::ErrorKind::BrokenPipe)));
        let refused = || DriverError::CouldNotConnect(Some(("a".into(), "b".into(), io::ErrorKind::ConnectionRefused)));
        let timeout = place().timeout;
        for (fault, again) in [
            (broken().after(Duration::from_millis(1), timeout), true),
            (broken().after(Duration::from_secs(5), timeout), false),
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
