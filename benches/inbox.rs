//! How many rows per second the inbox threads commit into a real MariaDB and a real PostgreSQL, with one durable commit
//! per batch (innodb_flush_log_at_trx_commit = 1; fsync and synchronous_commit on). Run it with `cargo bench --bench inbox [-- SECONDS]`.
//!
//! Two loads: messages for single offline users, and messages for a hundred each; then all of the last again, as a
//! redelivery does. The server shares the machine with the writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use task_engine::model::limits::INBOX_THREADS;
use task_engine::ports::InboxRows;
use task_engine::ports::mailbox::{Wake, mailbox};
use task_engine::push::facts::Input;
use task_engine::shard::workers::writers::InboxThreads;
use testkit::databases::{Database, Kind, Login};

/// Asks under way at once.
const OUTSTANDING: u64 = 8 * 1024;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    [Kind::Maria, Kind::Postgres].into_iter().for_each(|kind| measure(&Database::start(kind), seconds));
}

fn measure(server: &Database, seconds: u64) {
    let in_mariadb = "SET GLOBAL innodb_flush_log_at_trx_commit = 1";
    let in_postgres =
        ["ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET wal_sync_method = fdatasync", "SELECT pg_reload_conf()"];
    let mut root = server.root();
    root.run(server.either(&[in_mariadb][..], &in_postgres[..]));
    println!("{}, durable commits, {INBOX_THREADS} threads", server.section());
    let threads = InboxThreads::start(server.inbox(&Login::default()), INBOX_THREADS).expect("threads");
    let time = Duration::from_secs(seconds);
    let singles = run("1 user a message", &threads, 1, 0, End::After(time));
    let groups = run("100 users a message", &threads, 100, singles, End::After(time));
    run("the same again", &threads, 100, singles, End::At(groups));
    let rows = root.number("SELECT COUNT(*) FROM t_inbox");
    assert_eq!(rows as u64, singles + groups * 100, "each row is there once");
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
