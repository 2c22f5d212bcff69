//! How many rows per second the inbox threads commit into a real MariaDB, with one durable commit per batch
//! (innodb_flush_log_at_trx_commit = 1). Run it with `cargo bench --bench inbox [-- SECONDS]`.
//!
//! Two loads: messages for single offline users, and messages for a hundred each; then all of the last again, as a
//! redelivery does. The server shares the machine with the writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::edge::mysql::MysqlInbox;
use task_engine::model::limits::INBOX_THREADS;
use task_engine::ports::InboxRows;
use task_engine::ports::mailbox::{Wake, mailbox};
use task_engine::push::facts::Input;
use task_engine::shard::workers::writers::InboxThreads;

/// Asks under way at once.
const OUTSTANDING: u64 = 8 * 1024;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let server = Maria::start().expect("MariaDB");
    let mut root = testkit::inbox::root(&server);
    root.query_drop("SET GLOBAL innodb_flush_log_at_trx_commit = 1").expect("durable commits");
    let durable: Option<u8> = root.query_first("SELECT @@innodb_flush_log_at_trx_commit").expect("a number");
    println!("innodb_flush_log_at_trx_commit = {}, {INBOX_THREADS} threads", durable.expect("a row"));
    let settings = testkit::inbox::settings(&server);
    let threads = InboxThreads::start(Arc::new(MysqlInbox::new(settings)), INBOX_THREADS).expect("threads");
    let time = Duration::from_secs(seconds);
    let singles = run("1 user a message", &threads, 1, 0, End::After(time));
    let groups = run("100 users a message", &threads, 100, singles, End::After(time));
    run("the same again", &threads, 100, singles, End::At(groups));
    let rows: Option<u64> = root.query_first("SELECT COUNT(*) FROM resonance.t_inbox").expect("a count");
    assert_eq!(rows, Some(singles + groups * 100), "each row is there once");
}

/// When a load is over.
enum End {
    After(Duration),
    At(u64),
}

/// Keeps the threads busy; gives how many messages were stored.
fn run(name: &str, threads: &InboxThreads, users: u64, first: u64, end: End) -> u64 {
    let (sender, facts) = mailbox(OUTSTANDING as usize, Arc::new(Wake::default()));
    let (mut asked, mut stored) = (0, 0);
    let (batches, began) = (threads.batches(), Instant::now());
    let goes_on = |asked: u64| match end {
        End::After(time) => began.elapsed() < time,
        End::At(count) => asked < count,
    };
    while goes_on(asked) || stored < asked {
        while goes_on(asked)
            && asked - stored < OUTSTANDING
            && threads.store(asked, rows(first + asked, users), sender.clone()).is_ok()
        {
            asked += 1;
        }
        while let Some(fact) = facts.try_next() {
            let Input::Stored { answer, .. } = fact else { panic!("not an answer: {fact:?}") };
            assert!(answer.as_ref().is_ok_and(|conflicts| conflicts.is_empty()), "{answer:?}");
            stored += 1;
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    let (took, rows) = (began.elapsed().as_secs_f64(), (stored * users) as f64);
    let batches = (threads.batches() - batches) as f64;
    println!("{name}: {:.0} rows/s ({rows:.0} rows in {took:.1} s, {:.0} a commit)", rows / took, rows / batches);
    stored
}

fn rows(message: u64, users: u64) -> InboxRows {
    let users = (0..users).map(|user| format!("user-{:05}-{user:03}", message % 1000));
    testkit::inbox::rows(&format!("group:{}", message % 1000), 1_000_000 + message as i64, message as i64, users)
}
