//! MySQL asked by a command: one connection, opened as the engine opens its own.

use mysql::prelude::Queryable;
use mysql::{Conn, Params, Row};

use super::fault::place_of;
use super::link::MysqlLink;
use crate::config::MysqlConfig;
use crate::edge::sql::asked::Refusal;
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::live::opening;

/// One connection.
pub struct Once {
    conn: Conn,
    place: Place,
}

impl Once {
    /// Connects and logs in.
    ///
    /// # Errors
    /// At what that failed.
    pub fn open(settings: &MysqlConfig) -> Result<Self, Refusal> {
        let place = place_of(settings);
        match opening::once(&MysqlLink::for_reads(&settings.clone().into())) {
            Ok(conn) => Ok(Self { conn, place }),
            Err(fault) => Err(Refusal::of(fault, &place)),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// At what that failed.
    pub fn rows(&mut self, statement: &str, values: impl Into<Params>) -> Result<Vec<Row>, Refusal> {
        let done = self.conn.exec(statement, values);
        done.map_err(|error| Refusal::of(error.into(), &self.place))
    }

    /// Does `work` over the connection.
    pub(super) fn run<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T, Fault>) -> Result<T, Refusal> {
        work(&mut self.conn).map_err(|fault| Refusal::of(fault, &self.place))
    }
}
