//! MySQL asked by a command: one connection, opened as the engine opens its own.

use mysql::prelude::Queryable;
use mysql::{Conn, Params, Row};

use super::fault::place_of;
use super::link::MysqlLink;
use crate::config::MysqlConfig;
use crate::edge::sql::fault::Fault;
use crate::edge::sql::live::opening;
use crate::ports::LookupError;

/// At what a connect, or a query, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name has no address.
    Name,
    /// No connection is taken.
    Tcp,
    /// There is no TLS with it, or it wants some.
    Tls,
    /// The user is not let in, or the peer is no MySQL.
    Login,
    /// The database is not there, or not the user's to use.
    Database,
    /// The table is not there.
    Table,
    /// A column is not there, or needs a value that is not written.
    Column,
    /// The user may not do this.
    Grant,
    /// The server takes no rows.
    ReadOnly,
    /// Any other.
    Other,
}

/// Why it failed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// At what.
    pub cause: Cause,
    /// In words, with the place and what to check.
    pub words: String,
}

/// One connection.
pub struct Once {
    conn: Conn,
    settings: MysqlConfig,
}

impl Once {
    /// Connects and logs in.
    ///
    /// # Errors
    /// At what that failed.
    pub fn open(settings: &MysqlConfig) -> Result<Self, Refusal> {
        match opening::once(&MysqlLink::for_reads(&settings.clone().into())) {
            Ok(conn) => Ok(Self { conn, settings: settings.clone() }),
            Err(fault) => Err(refusal(fault, settings)),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// At what that failed.
    pub fn rows(&mut self, statement: &str, values: impl Into<Params>) -> Result<Vec<Row>, Refusal> {
        let done = self.conn.exec(statement, values);
        done.map_err(|error| refusal(error.into(), &self.settings))
    }

    /// Does `work` over the connection.
    pub(super) fn run<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T, Fault>) -> Result<T, Refusal> {
        work(&mut self.conn).map_err(|fault| refusal(fault, &self.settings))
    }
}

fn refusal(fault: Fault, settings: &MysqlConfig) -> Refusal {
    let cause = match &fault {
        Fault::Unresolved(_) => Cause::Name,
        Fault::NotConnected(_) | Fault::NotOpened(_) => Cause::Tcp,
        Fault::Insecure(_) => Cause::Tls,
        Fault::Silent(_) | Fault::Broken(_) => Cause::Login,
        Fault::Server(answer) => match answer.code {
            3159 => Cause::Tls,
            1045 | 1698 | 1820 | 1862 | 3118 | 4151 | 1129 | 1130 => Cause::Login,
            1044 | 1046 | 1049 => Cause::Database,
            1146 => Cause::Table,
            1048 | 1054 | 1136 | 1364 => Cause::Column,
            1142 | 1143 | 1227 => Cause::Grant,
            1036 | 1290 | 1792 | 1836 => Cause::ReadOnly,
            _ => Cause::Other,
        },
        Fault::NotReached(_) | Fault::GoesOn(_) | Fault::TooSlow => Cause::Other,
    };
    let schema = "check the table, its columns and the user's rights to it";
    let (LookupError::NotReached(words) | LookupError::Unavailable(words) | LookupError::Rejected(words)) =
        fault.explain(&place_of(settings), schema);
    Refusal { cause, words }
}
