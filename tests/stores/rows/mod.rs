//! Promises of the inbox against real databases in which something is in the way: a lock, a trigger, a collation.

mod locks;
mod neighbours;
mod no_limits;
mod probes;
mod refusals;
mod relay;

use std::time::Duration;

use harness::servers::Maria;
use mysql::Conn;
use mysql::prelude::Queryable;
use task_engine::config::MysqlConfig;
use task_engine::edge::mysql::MysqlInbox;
use task_engine::model::names::NameList;
use task_engine::ports::{Inbox, InboxWriter, LookupError};

/// A lock is waited for a second at first.
fn quick(server: &Maria) -> MysqlConfig {
    let limit = Duration::from_secs(4);
    MysqlConfig { timeout: limit, ..crate::inbox_support::settings(server) }
}

fn writer(server: &Maria) -> Box<dyn InboxWriter> {
    MysqlInbox::new(quick(server)).open()
}

fn do_all<const N: usize>(conn: &mut Conn, statements: [&str; N]) {
    for sql in statements {
        conn.query_drop(sql).expect(sql);
    }
}

fn names<const N: usize>(names: [&str; N]) -> Result<NameList, LookupError> {
    Ok(NameList::from_iter(names))
}
