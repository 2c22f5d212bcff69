//! What PostgreSQL's SQLSTATEs mean, and what its client's errors are.
//!
//! Refuses to repeat a server's details: they hold values of rows.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

use crate::config::{Database, PostgresConfig};
use crate::edge::sql::fault::{Answer, Cause, Class, Fault, LIMITS, Place, Way};
use crate::edge::tls;

/// Where the keys of TLS to PostgreSQL stand in the configuration.
pub(super) const TLS_SECTION: &str = "postgres.tls";

/// Where it is, and the times it has.
pub(super) fn place_of(settings: &PostgresConfig) -> Place {
    Place {
        product: Database::Postgres.product(),
        section: Database::Postgres.section(),
        at: settings.at.clone(),
        username: settings.username.clone(),
        database: settings.database.clone(),
        sessions_in: "pg_stat_activity",
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        lifetime: settings.conn_max_lifetime,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return Self::Server(answer(error));
        }
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(error) = inner.downcast_ref::<io::Error>()
                && tls::of(error).is_some()
            {
                return Self::Insecure(tls::words(error, TLS_SECTION));
            }
            source = inner.source();
        }
        Self::Broken(error.to_string())
    }
}

fn answer(error: &DbError) -> Answer {
    let code = error.code().code();
    let way = match code {
        "55P03" => Way::Lock,
        "40P01" | "40001" => Way::Deadlock,
        "57014" => Way::TimeLimit,
        _ => Way::Other,
    };
    let is_over = matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    let class = match class(code) {
        Class::Other if is_over => Class::Gone,
        class => class,
    };
    Answer { words: format!("ERROR {code}: {}", error.message()), cause: cause(code), class, way, is_of_server: true }
}

fn cause(code: &str) -> Cause {
    match code {
        "28000" | "28P01" => Cause::Login,
        "53300" => Cause::Connections,
        "3D000" => Cause::Database,
        "42P01" | "3F000" => Cause::Table,
        "42703" | "42883" | "42804" | "42846" | "23502" => Cause::Column,
        "42P10" => Cause::Key,
        "42501" => Cause::Grant,
        "25006" => Cause::ReadOnly,
        _ => Cause::Other,
    }
}

const CREDENTIALS: &str = "check postgres.username and postgres.password, pg_hba.conf, and postgres.tls (with postgres.tls.cert) if \
                           it lets this user in over TLS only";
const DATABASE: &str = "check postgres.database";
const READ_ONLY: &str = "it takes no rows: is it a standby, or is default_transaction_read_only on? postgres.host must lead to the \
                         primary";
const CONNECTIONS: &str = "check max_connections there, and the limits of the user and the database";
const STARTING: &str = "it starts, stops or recovers; see its log";
const STATEMENT: &str = "the statement took longer than the server lets it (three quarters of postgres.timeout); check its load \
                         and its locks";
const DISK: &str = "check its disk, its memory and its log";

fn class(code: &str) -> Class {
    match code {
        "53300" => Class::Busy(CONNECTIONS),
        "57P03" => Class::Busy(STARTING),
        "57014" => Class::Busy(STATEMENT),
        "25006" => Class::Busy(READ_ONLY),
        "55P03" | "40P01" | "40001" => Class::Busy(LIMITS),
        // Shut down, crashed, dropped, idle for too long; a plan or a statement that is to be prepared again.
        "57P01" | "57P02" | "57P04" | "57P05" | "25P03" | "0A000" | "26000" => Class::Gone,
        "28000" | "28P01" => Class::Setup(CREDENTIALS),
        "3D000" => Class::Setup(DATABASE),
        // Of rights, tables, columns and their types, of the unique key, of a column that must have a value.
        "42501" | "42P01" | "42703" | "42883" | "42804" | "42P10" | "42846" | "23502" | "3F000" => Class::Schema,
        _ => match code.get(..2) {
            Some("53" | "58" | "XX") => Class::Busy(DISK),
            Some("08") => Class::Gone,
            _ => Class::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_by_who_has_to_act() {
        for (code, expected) in [
            ("53300", Class::Busy(CONNECTIONS)),
            ("53100", Class::Busy(DISK)),
            ("25006", Class::Busy(READ_ONLY)),
            ("57P01", Class::Gone),
            ("28P01", Class::Setup(CREDENTIALS)),
            ("3D000", Class::Setup(DATABASE)),
            ("42P01", Class::Schema),
            ("42P10", Class::Schema),
            ("22001", Class::Other),
            ("23505", Class::Other),
            ("P0001", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(class(code), expected, "{code}");
        }
    }
}
