//! One connection to PostgreSQL, for a thread that may wait: each answer has its deadline.
//!
//! The client is an asynchronous one, driven here while its thread waits and at no other time. Its own blocking face has no
//! deadline for an answer: a server that is frozen would keep the thread for ever.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::edge::sql::fault::Fault;

/// How long the server may take for our farewell.
const GOODBYE: Duration = Duration::from_millis(200);
/// Statements that are kept prepared: there are fewer.
const STATEMENTS_MAX: usize = 64;

/// One connection.
pub struct Conn {
    runtime: Runtime,
    /// None: it said goodbye.
    client: Option<Client>,
    /// Carries its bytes.
    carrier: JoinHandle<()>,
    prepared: HashMap<String, Statement>,
    timeout: Duration,
}

/// A text as its bytes: a database need not be in UTF-8.
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Conn {
    /// One that is logged in; `carrier` carries its bytes on this runtime.
    pub fn new(runtime: Runtime, client: Client, carrier: JoinHandle<()>, timeout: Duration) -> Self {
        Self { runtime, client: Some(client), carrier, prepared: HashMap::new(), timeout }
    }

    /// The rows of a statement, which stays prepared.
    pub fn query(&mut self, sql: &str, types: &[Type], values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.query_within(self.timeout, sql, types, values)
    }

    /// The same within `limit`.
    pub fn query_within(
        &mut self,
        limit: Duration,
        sql: &str,
        types: &[Type],
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(limit, sql, types)?;
        self.wait(limit, async |client| client.query(&statement, values).await)
    }

    /// How many rows a statement changed, which stays prepared.
    pub fn execute(&mut self, sql: &str, types: &[Type], values: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        let statement = self.prepared(self.timeout, sql, types)?;
        self.wait(self.timeout, async |client| client.execute(&statement, values).await)
    }

    /// Runs statements that are not prepared.
    pub fn run(&mut self, sql: &str) -> Result<(), Fault> {
        self.wait(self.timeout, async |client| client.batch_execute(sql).await)
    }

    fn prepared(&mut self, limit: Duration, sql: &str, types: &[Type]) -> Result<Statement, Fault> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(limit, async |client| client.prepare_typed(sql, types).await)?;
        if self.prepared.len() >= STATEMENTS_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(&self, limit: Duration, work: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Fault> {
        let Some(client) = &self.client else { return Err(Fault::Broken("it is closed".to_owned())) };
        within(&self.runtime, limit, work(client)).ok_or(Fault::Silent(limit))?.map_err(Fault::from)
    }
}

/// What comes of it in this time.
pub fn within<T>(runtime: &Runtime, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { timeout(limit, work).await.ok() })
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The carrier says goodbye when the client is gone.
        self.client = None;
        self.prepared.clear();
        let carrier = &mut self.carrier;
        let _ = within(&self.runtime, GOODBYE, carrier);
    }
}
