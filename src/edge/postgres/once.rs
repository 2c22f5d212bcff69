//! PostgreSQL asked by a command: one connection, opened as the engine opens its own.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::conn::Conn;
use super::fault::place_of;
use super::inbox::PROBE_WRITE;
use super::link::PostgresLink;
use crate::config::{Current, PostgresConfig};
use crate::edge::sql::asked::Refusal;
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::live::opening;

/// A value of a statement, and the type that it is written as.
pub type Asked<'a> = (Type, &'a (dyn ToSql + Sync));

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
    pub fn open(settings: &PostgresConfig) -> Result<Self, Refusal> {
        let place = place_of(settings);
        let current: Current<PostgresConfig> = settings.clone().into();
        match opening::once(&PostgresLink::new(current.hold(), false)) {
            Ok(conn) => Ok(Self { conn, place }),
            Err(fault) => Err(Refusal::of(fault, &place)),
        }
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// At what that failed.
    pub fn rows(&mut self, statement: &str, asked: &[Asked<'_>]) -> Result<Vec<Row>, Refusal> {
        let types: Vec<Type> = asked.iter().map(|(of, _)| of.clone()).collect();
        let values: Vec<&(dyn ToSql + Sync)> = asked.iter().map(|(_, value)| *value).collect();
        let done = self.conn.query(statement, &types, &values);
        done.map_err(|fault| self.refusal(fault))
    }

    /// What the engine's own probe says of writing a row, which it does not write.
    pub(super) fn probe(&mut self) -> Result<(), Refusal> {
        let done = self.conn.execute(PROBE_WRITE, &[], &[]);
        done.map(drop).map_err(|fault| self.refusal(fault))
    }

    fn refusal(&self, fault: Fault) -> Refusal {
        Refusal::of(fault, &self.place)
    }
}

/// What a column of a row holds; none when it is of another type, or empty and the type has no place for that.
pub fn cell<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Option<T> {
    row.try_get(at).ok()
}
