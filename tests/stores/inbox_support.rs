//! A real MariaDB with the inbox table, and what the inbox tests ask of it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::{Duration, Instant};

use harness::servers::Maria;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use task_engine::edge::mysql::MysqlSettings;
use task_engine::model::names::NameList;
use task_engine::ports::mailbox::Mailbox;
use task_engine::ports::{InboxRows, LookupError};
use task_engine::push::facts::{AskNo, Input};

pub use testkit::wait::{PATIENCE, eventually};

pub fn settings(server: &Maria) -> MysqlSettings {
    MysqlSettings {
        host: "127.0.0.1".into(),
        port: server.port(),
        username: Maria::USER.into(),
        password: Maria::PASSWORD.into(),
        database: Maria::DATABASE.into(),
        charset: "utf8mb4".into(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(20),
        write_timeout: Duration::from_secs(20),
        max_lifetime: Duration::from_secs(600),
    }
}

/// A connection that may do everything.
pub fn root(server: &Maria) -> Conn {
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(server.port()).user(Some("root"));
    Conn::new(root.prefer_socket(false).db_name(Some(Maria::DATABASE))).expect("root may connect")
}

pub fn rows<S: AsRef<str>>(session: &str, msg_id: i64, seq_id: i64, users: impl IntoIterator<Item = S>) -> InboxRows {
    InboxRows { session: session.into(), msg_id, seq_id, users: users.into_iter().collect() }
}

/// All of t_inbox: owner, session, message, number.
pub fn stored(server: &Maria) -> Vec<(String, String, i64, i64)> {
    let sql = "SELECT owner_username, session_id, msg_id, seq_id FROM t_inbox ORDER BY 1, 2, 4";
    server.connect().expect("MariaDB answers").query(sql).expect("rows")
}

/// The next answer of the threads.
pub fn next(mailbox: &Mailbox) -> (AskNo, Result<NameList, LookupError>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match mailbox.try_next() {
            Some(Input::Stored { ask, answer }) => return (ask, answer),
            Some(other) => panic!("not an answer: {other:?}"),
            None => assert!(Instant::now() < deadline, "no answer came"),
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
