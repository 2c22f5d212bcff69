//! Promise: while the database is away, each ask is answered as unavailable and /readyz knows; when it is back, what is asked
//! again is stored, and nothing that was answered with Ok is missing after a kill -9 of the server.

use std::sync::Arc;
use std::time::Duration;

use crate::inbox_support::{eventually, next, rows};
use task_engine::ports::mailbox::{Wake, mailbox};
use task_engine::ports::{Health, LookupError};
use task_engine::shard::workers::writers::InboxThreads;
use testkit::databases::{Database, Login};
use testkit::on_both;

on_both!(inbox_waits_out_an_outage);

fn inbox_waits_out_an_outage(server: &Database) {
    let login = Login { timeout: Duration::from_secs(1), ..Login::default() };
    let threads = InboxThreads::start(server.inbox(&login), 2).expect("threads");
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    let store = |ask: u64| threads.store(ask, rows("s", ask as i64, ask as i64, ["ann", "bob"]), sender.clone());
    eventually("the database is there", || threads.health() == Health::Ready);
    let durable = "SET GLOBAL innodb_flush_log_at_trx_commit = 1";
    server.run(server.either(&[durable][..], &["ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()"]));

    store(1).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());

    server.kill();
    store(2).expect("room");
    let (_, answer) = next(&facts);
    assert!(
        matches!(&answer, Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) if why.contains(&format!("127.0.0.1:{}", server.port()))),
        "{answer:?}"
    );
    assert!(matches!(threads.health(), Health::Waiting(_)));

    server.start_again();
    eventually("it is seen without traffic", || threads.health() == Health::Ready);
    store(2).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());

    // It hangs: the answer comes within the timeout, and a repeat stores what is not there.
    server.freeze();
    store(3).expect("room");
    assert!(matches!(next(&facts).1, Err(LookupError::NotReached(_) | LookupError::Unavailable(_))));
    server.thaw();
    eventually("it answers", || threads.health() == Health::Ready);
    store(3).expect("room");
    assert!(next(&facts).1.expect("stored").is_empty());
    let messages: Vec<i64> = server.stored().into_iter().map(|row| row.2).collect();
    assert_eq!(messages, [1, 2, 3, 1, 2, 3], "ann's and bob's");
    assert_eq!(threads.rows_stored(), 6);
}
