//! A real MariaDB with the inbox table, and what the inbox tests ask of it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::{Duration, Instant};

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::model::names::NameList;
use task_engine::ports::LookupError;
use task_engine::ports::mailbox::Mailbox;
use task_engine::push::facts::{AskNo, Input};

pub use testkit::inbox::{root, rows, settings};
pub use testkit::wait::{PATIENCE, eventually};

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
