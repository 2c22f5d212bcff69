//! Promise: while MySQL is away, each ask is answered as unavailable and /readyz knows; when it is back, what is asked
//! again is stored, and nothing that was answered with Ok is missing after a kill -9 of the server.

use std::sync::Arc;
use std::time::Duration;

use crate::inbox_support::{eventually, next, root, rows, settings, stored};
use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::config::MysqlConfig;
use task_engine::edge::mysql::MysqlInbox;
use task_engine::ports::mailbox::{Wake, mailbox};
use task_engine::ports::{Health, LookupError};
use task_engine::shard::workers::writers::InboxThreads;

#[test]
fn inbox_waits_out_a_mysql_outage() {
    let server = Maria::start().expect("MariaDB");
    let short = Duration::from_secs(1);
    let settings = MysqlConfig { timeout: short, ..settings(&server) };
    let threads = InboxThreads::start(Arc::new(MysqlInbox::new(settings)), 2).expect("threads");
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    let store = |ask: u64| threads.store(ask, rows("s", ask as i64, ask as i64, ["ann", "bob"]), sender.clone());
    eventually("MySQL is there", || threads.health() == Health::Ready);
    root(&server).query_drop("SET GLOBAL innodb_flush_log_at_trx_commit = 1").expect("durable commits");

    store(1).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());

    server.kill9();
    store(2).expect("room");
    let (_, answer) = next(&facts);
    assert!(
        matches!(&answer, Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) if why.contains(&server.addr())),
        "{answer:?}"
    );
    assert!(matches!(threads.health(), Health::Waiting(_)));

    server.restart().expect("MariaDB again");
    eventually("it is seen without traffic", || threads.health() == Health::Ready);
    store(2).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());

    // It hangs: the answer comes within the timeout, and a repeat stores what is not there.
    server.stop().expect("it hangs");
    store(3).expect("room");
    assert!(matches!(next(&facts).1, Err(LookupError::NotReached(_) | LookupError::Unavailable(_))));
    server.cont().expect("it goes on");
    eventually("MySQL answers", || threads.health() == Health::Ready);
    store(3).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());
    let messages: Vec<i64> = stored(&server).into_iter().map(|row| row.2).collect();
    assert_eq!(messages, [1, 2, 3, 1, 2, 3], "ann's and bob's");
    assert_eq!(threads.rows_stored(), 6);
}
