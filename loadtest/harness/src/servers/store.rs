//! The database of a load test: either of those in which the engine finds members and keeps the inbox, with the tables of Resonance.
//!
//! Promises that the same is written into both and read from both. Refuses to escape: names are digits, letters and `-` only.

use ::mysql::prelude::Queryable;
use ::mysql::{Conn, OptsBuilder};
use ::postgres::Client;

use super::{Maria, Postgres, QueryTimes};
use crate::error::{Error, Result};

/// A row of the inbox: whose it is, its session, its message.
pub type InboxRow = (String, String, i64);

/// A running database.
pub trait Store: Send + Sync {
    /// The section of the configuration that says where it is.
    fn section(&self) -> &'static str;

    /// Its port on 127.0.0.1.
    fn port(&self) -> u16;

    /// A connection.
    ///
    /// # Errors
    /// When it does not answer.
    fn connect(&self) -> Result<Tables>;

    /// Kills it; its data stays.
    fn kill(&self);

    /// Starts it again on the same port and data.
    ///
    /// # Errors
    /// When it does not start.
    fn start_again(&self) -> Result<()>;

    /// Freezes it: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    fn freeze(&self) -> Result<()>;

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    fn thaw(&self) -> Result<()>;

    /// From now on logs how long it takes for each statement of whoever connects; none where it cannot.
    ///
    /// # Errors
    /// When it does not answer.
    fn query_times(&self) -> Result<Option<QueryTimes>>;

    /// From now on takes no writes of the engine, or takes them again; who is logged in stays so.
    ///
    /// # Errors
    /// When it does not answer.
    fn refuse_writes(&self, refuses: bool) -> Result<()>;
}

impl Store for Maria {
    fn section(&self) -> &'static str {
        "mysql"
    }

    fn port(&self) -> u16 {
        (**self).port()
    }

    fn connect(&self) -> Result<Tables> {
        Maria::connect(self).map(Tables::Maria)
    }

    fn kill(&self) {
        self.kill9();
    }

    fn start_again(&self) -> Result<()> {
        Ok((**self).restart()?)
    }

    fn freeze(&self) -> Result<()> {
        (**self).stop()
    }

    fn thaw(&self) -> Result<()> {
        (**self).cont()
    }

    fn query_times(&self) -> Result<Option<QueryTimes>> {
        QueryTimes::start(self).map(Some)
    }

    fn refuse_writes(&self, refuses: bool) -> Result<()> {
        let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(Store::port(self)).user(Some("root"));
        let set = format!("SET GLOBAL read_only = {}", u8::from(refuses));
        let done = Conn::new(root.prefer_socket(false)).and_then(|mut conn| conn.query_drop(set));
        done.map_err(|cause| Error::of("cannot make MariaDB read-only", cause))
    }
}

impl Store for Postgres {
    fn section(&self) -> &'static str {
        "postgres"
    }

    fn port(&self) -> u16 {
        (**self).port()
    }

    fn connect(&self) -> Result<Tables> {
        // It is let in without TLS, whoever else must speak it.
        self.root().map(|client| Tables::Postgres(Box::new(client)))
    }

    fn kill(&self) {
        Postgres::kill(self);
    }

    fn start_again(&self) -> Result<()> {
        Postgres::restart(self)
    }

    fn freeze(&self) -> Result<()> {
        Postgres::stop(self)
    }

    fn thaw(&self) -> Result<()> {
        Postgres::cont(self)
    }

    fn query_times(&self) -> Result<Option<QueryTimes>> {
        Ok(None)
    }

    fn refuse_writes(&self, refuses: bool) -> Result<()> {
        let failed = |cause| Error::of("cannot make PostgreSQL read-only", cause);
        let mut root = self.root()?;
        // Neither may stand in a transaction, nor both in one message.
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {}", if refuses { "on" } else { "off" });
        root.batch_execute("SET default_transaction_read_only = off").map_err(failed)?;
        root.batch_execute(&set).map_err(failed)?;
        root.batch_execute("SELECT pg_reload_conf()").map_err(failed)
    }
}

/// A connection to one of them.
pub enum Tables {
    /// To MariaDB.
    Maria(Conn),
    /// To PostgreSQL.
    Postgres(Box<Client>),
}

impl Tables {
    /// Runs a statement.
    ///
    /// # Errors
    /// What the server says.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Maria(conn) => conn.query_drop(sql).map_err(|cause| Error::of("MariaDB refuses a statement", cause)),
            Self::Postgres(client) => {
                client.batch_execute(sql).map_err(|cause| Error::of("PostgreSQL refuses a statement", cause))
            }
        }
    }

    /// Writes rows of a table, over those that are there; `key` is what makes two the same.
    fn put(&mut self, table: &str, columns: &str, key: &str, rows: &str) -> Result<()> {
        let sql = match self {
            Self::Maria(_) => format!("REPLACE INTO {table} ({columns}) VALUES {rows}"),
            Self::Postgres(_) => {
                let set: Vec<_> = columns.split(", ").map(|column| format!("{column} = EXCLUDED.{column}")).collect();
                format!(
                    "INSERT INTO {table} ({columns}) VALUES {rows} ON CONFLICT ({key}) DO UPDATE SET {}",
                    set.join(", ")
                )
            }
        };
        self.run(&sql)
    }

    /// Writes sessions, each `('name', type)`.
    ///
    /// # Errors
    /// What the server says.
    pub fn put_sessions(&mut self, rows: &[String]) -> Result<()> {
        self.put("t_session", "session_id, type", "session_id", &rows.join(","))
    }

    /// Writes members, each `('session', 'user')`.
    ///
    /// # Errors
    /// What the server says.
    pub fn put_members(&mut self, rows: &[String]) -> Result<()> {
        self.put("t_session_member", "session_id, username", "session_id, username", &rows.join(","))
    }

    /// Takes a member out of a session.
    ///
    /// # Errors
    /// What the server says.
    pub fn take_member(&mut self, session: &str, user: &str) -> Result<()> {
        self.run(&format!("DELETE FROM t_session_member WHERE session_id = '{session}' AND username = '{user}'"))
    }

    /// Keeps the content of a message.
    ///
    /// # Errors
    /// What the server says.
    pub fn put_content(&mut self, (msg_id, seq_id): (i64, i64), session: &str, sender: &str) -> Result<()> {
        let row = format!("({msg_id}, '{session}', '{sender}', {seq_id}, 'kept')");
        self.put("t_message_content", "msg_id, session_id, sender_username, seq_id, content", "msg_id", &row)
    }

    /// All rows of the inbox.
    ///
    /// # Errors
    /// What the server says.
    pub fn inbox(&mut self) -> Result<Vec<InboxRow>> {
        let sql = "SELECT owner_username, session_id, msg_id FROM t_inbox";
        match self {
            Self::Maria(conn) => conn.query(sql).map_err(|cause| Error::of("cannot read the inbox", cause)),
            Self::Postgres(client) => {
                let rows = client.query(sql, &[]).map_err(|cause| Error::of("cannot read the inbox", cause))?;
                Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
            }
        }
    }

    /// A number that a query gives.
    ///
    /// # Errors
    /// What the server says, also when it gives none.
    pub fn number(&mut self, sql: &str) -> Result<i64> {
        match self {
            Self::Maria(conn) => {
                let number = conn.query_first(sql).map_err(|cause| Error::of("MariaDB refuses a query", cause))?;
                number.ok_or_else(|| Error::new(format!("no row: {sql}")))
            }
            Self::Postgres(client) => {
                let row = client.query_one(sql, &[]);
                Ok(row.map_err(|cause| Error::of("PostgreSQL refuses a query", cause))?.get(0))
            }
        }
    }
}
