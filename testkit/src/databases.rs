//! The databases that hold members and inbox, as tests that hold for each of them see one.

use std::sync::Arc;
use std::time::Duration;

use harness::servers::{Maria, Postgres, Store};
use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig, PostgresConfig, Secret};
use task_engine::edge::mysql::{MysqlInbox, MysqlMembers};
use task_engine::edge::postgres::{PostgresInbox, PostgresMembers};
use task_engine::ports::{Inbox, InboxWriter, Members};

/// One of them, running, with the tables of Resonance.
pub enum Database {
    Maria(Maria),
    Postgres(Postgres),
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Maria,
    Postgres,
}

/// Who logs in where, and how long it may take.
#[derive(Clone, Debug)]
pub struct Login {
    pub host: String,
    pub user: String,
    pub password: String,
    pub database: String,
    pub connect_timeout: Duration,
    pub timeout: Duration,
    pub lifetime: Duration,
}

impl Default for Login {
    fn default() -> Self {
        let text = "resonance".to_owned();
        Self {
            host: "127.0.0.1".to_owned(),
            user: text.clone(),
            password: text.clone(),
            database: text,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            lifetime: Duration::from_secs(600),
        }
    }
}

impl Login {
    /// With a read timeout of four seconds a lock is waited for a second.
    pub fn quick() -> Self {
        Self { timeout: Duration::from_secs(4), ..Self::default() }
    }
}

/// A session of somebody who may do everything.
pub enum Root {
    Maria(mysql::Conn),
    Postgres(Box<postgres::Client>),
}

impl Root {
    /// Runs statements that both take.
    pub fn run(&mut self, statements: &[&str]) {
        for sql in statements {
            match self {
                Self::Maria(conn) => conn.query_drop(sql).unwrap_or_else(|why| panic!("{sql}: {why}")),
                Self::Postgres(client) => client.batch_execute(sql).unwrap_or_else(|why| panic!("{sql}: {why}")),
            }
        }
    }

    /// A number.
    pub fn number(&mut self, sql: &str) -> i64 {
        match self {
            Self::Maria(conn) => conn.query_first(sql).expect(sql).expect("a row"),
            Self::Postgres(client) => client.query_one(sql, &[]).expect(sql).get(0),
        }
    }

    /// Texts.
    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        match self {
            Self::Maria(conn) => conn.query(sql).expect(sql),
            Self::Postgres(client) => client.query(sql, &[]).expect(sql).iter().map(|row| row.get(0)).collect(),
        }
    }
}

impl Database {
    pub fn start(kind: Kind) -> Self {
        match kind {
            Kind::Maria => Self::Maria(Maria::start().expect("MariaDB")),
            Kind::Postgres => Self::Postgres(Postgres::start().expect("PostgreSQL")),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Maria(_) => Kind::Maria,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    /// What only one of them says so.
    pub fn either<T>(&self, maria: T, postgres: T) -> T {
        match self {
            Self::Maria(_) => maria,
            Self::Postgres(_) => postgres,
        }
    }

    /// The section of the configuration.
    pub fn section(&self) -> &'static str {
        self.either("mysql", "postgres")
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Maria(server) => server.port(),
            Self::Postgres(server) => server.port(),
        }
    }

    /// As a load test and an engine's configuration see it.
    pub fn store(&self) -> &dyn Store {
        match self {
            Self::Maria(server) => server,
            Self::Postgres(server) => server,
        }
    }

    pub fn root(&self) -> Root {
        match self {
            Self::Maria(server) => Root::Maria(crate::inbox::root(server)),
            Self::Postgres(server) => Root::Postgres(Box::new(server.root().expect("root may connect"))),
        }
    }

    pub fn run(&self, statements: &[&str]) {
        self.root().run(statements);
    }

    pub fn members(&self, login: &Login) -> Arc<dyn Members> {
        match self {
            Self::Maria(_) => Arc::new(MysqlMembers::new(self.mysql(login))),
            Self::Postgres(_) => Arc::new(PostgresMembers::new(self.postgres(login))),
        }
    }

    pub fn inbox(&self, login: &Login) -> Arc<dyn Inbox> {
        match self {
            Self::Maria(_) => Arc::new(MysqlInbox::new(self.mysql(login))),
            Self::Postgres(_) => Arc::new(PostgresInbox::new(self.postgres(login))),
        }
    }

    pub fn writer(&self, login: &Login) -> Box<dyn InboxWriter> {
        self.inbox(login).open()
    }

    fn at(&self, login: &Login) -> HostPort {
        HostPort { host: login.host.clone(), port: self.port() }
    }

    fn mysql(&self, login: &Login) -> MysqlConfig {
        MysqlConfig {
            at: self.at(login),
            username: login.user.clone(),
            password: Secret::new(&login.password),
            database: login.database.clone(),
            connect_timeout: login.connect_timeout,
            timeout: login.timeout,
            conn_max_lifetime: login.lifetime,
            ..MysqlConfig::default()
        }
    }

    pub fn postgres(&self, login: &Login) -> PostgresConfig {
        PostgresConfig {
            at: self.at(login),
            username: login.user.clone(),
            password: Secret::new(&login.password),
            database: login.database.clone(),
            connect_timeout: login.connect_timeout,
            timeout: login.timeout,
            conn_max_lifetime: login.lifetime,
            ..PostgresConfig::default()
        }
    }

    /// All of t_inbox: owner, session, message, number.
    pub fn stored(&self) -> Vec<(String, String, i64, i64)> {
        let sql = "SELECT owner_username, session_id, msg_id, seq_id FROM t_inbox ORDER BY 1, 2, 4";
        match self.root() {
            Root::Maria(mut conn) => conn.query(sql).expect("rows"),
            Root::Postgres(mut client) => {
                let rows = client.query(sql, &[]).expect("rows");
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
            }
        }
    }

    /// Adds members to sessions.
    pub fn add<S: AsRef<str>>(&self, members: impl IntoIterator<Item = (S, S)>) {
        match self.root() {
            Root::Maria(mut conn) => {
                let rows =
                    members.into_iter().map(|(session, user)| (session.as_ref().to_owned(), user.as_ref().to_owned()));
                let sql = "INSERT INTO t_session_member (session_id, username) VALUES (?, ?)";
                conn.exec_batch(sql, rows).expect("rows are inserted");
            }
            Root::Postgres(mut client) => {
                let rows: (Vec<String>, Vec<String>) = members
                    .into_iter()
                    .map(|(session, user)| (session.as_ref().to_owned(), user.as_ref().to_owned()))
                    .unzip();
                let sql =
                    "INSERT INTO t_session_member (session_id, username) SELECT * FROM unnest($1::text[], $2::text[])";
                client.execute(sql, &[&rows.0, &rows.1]).expect("rows are inserted");
            }
        }
    }

    /// Kills it; its data stays.
    pub fn kill(&self) {
        match self {
            Self::Maria(server) => server.kill9(),
            Self::Postgres(server) => server.kill(),
        }
    }

    /// Starts it again on the same port and data.
    pub fn start_again(&self) {
        match self {
            Self::Maria(server) => server.restart().expect("MariaDB"),
            Self::Postgres(server) => server.restart().expect("PostgreSQL"),
        }
    }

    pub fn freeze(&self) {
        match self {
            Self::Maria(server) => server.stop().expect("it stops"),
            Self::Postgres(server) => server.stop().expect("it stops"),
        }
    }

    pub fn thaw(&self) {
        match self {
            Self::Maria(server) => server.cont().expect("it goes on"),
            Self::Postgres(server) => server.cont().expect("it goes on"),
        }
    }
}

/// A test for each database: `on_both!(name)` runs `fn name(database: &Database)` on a fresh one of each kind.
#[macro_export]
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_mariadb {
            $(#[test]
            fn $name() {
                super::$name(&$crate::databases::Database::start($crate::databases::Kind::Maria));
            })+
        }

        mod on_postgres {
            $(#[test]
            fn $name() {
                super::$name(&$crate::databases::Database::start($crate::databases::Kind::Postgres));
            })+
        }
    };
}
