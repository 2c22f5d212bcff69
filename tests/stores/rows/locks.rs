//! Promise: a locked row holds up only itself, and the words name the lock, the session and the user. A locked table is told
//! as a lock, too, and costs a bounded time. Nothing of ours goes on waiting in the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use task_engine::ports::mailbox::{Wake, mailbox};
use task_engine::ports::{Health, LookupError};
use task_engine::shard::workers::writers::InboxThreads;
use testkit::databases::{Database, Kind, Login};
use testkit::on_both;

use super::names;
use crate::inbox_support::{eventually, next, rows};

on_both!(
    one_locked_row_stops_no_other
    one_locked_row_of_an_event_keeps_no_other_row_of_it
    a_locked_table_is_told_as_a_lock_in_a_bounded_time
);

const WAITING: [&str; 2] = [
    "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
];

fn insert_sql(values: &str) -> String {
    format!("INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id) VALUES {values}")
}

/// Ends the watcher, also when the test fails.
struct OnEnd<'a>(&'a AtomicBool);

impl Drop for OnEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// How many transactions waited for a lock at once.
fn watch_locks(server: &Database, is_over: &AtomicBool, most_waiting: &AtomicU64) {
    let (mut watch, [of_mariadb, of_postgres]) = (server.root(), WAITING);
    while !is_over.load(Ordering::Acquire) {
        let waiting = watch.number(server.either(of_mariadb, of_postgres)) as u64;
        most_waiting.fetch_max(waiting, Ordering::AcqRel);
        // The server refreshes this table only when it was not read for 100 ms.
        std::thread::park_timeout(Duration::from_millis(150));
    }
}

/// Both locked rows are told as locks, with the session and the user.
fn assert_told_of_locks(locked: &[(u64, String)]) {
    for number in [7, 250] {
        let (_, why) = locked.iter().find(|(locked, _)| *locked == number).expect("both are locked");
        let (user, session) = (format!("\"user-{number}\""), format!("\"s-{number}\""));
        assert!(why.contains("lock") && why.contains(&user) && why.contains(&session), "{why}");
        assert!(!why.contains("network"), "{why}");
    }
}

fn one_locked_row_stops_no_other(server: &Database) {
    let threads = InboxThreads::start(server.inbox(&Login::quick()), 2).expect("threads");
    eventually("the database is there", || threads.health() == Health::Ready);
    // A row that is not there yet is locked. One that is there is in MariaDB; PostgreSQL does not wait for it.
    let mut holder = server.root();
    let [there, new] =
        [250, 7].map(|number| insert_sql(&format!("('user-{number}', 's-{number}', {number}, {number})")));
    let update = "UPDATE t_inbox SET is_read = 1 WHERE id = LAST_INSERT_ID()";
    let in_mariadb = [&*there, "START TRANSACTION", update, &*new];
    let in_postgres = ["START TRANSACTION", &*there, &*new];
    holder.run(server.either(&in_mariadb[..], &in_postgres[..]));
    let (is_over, most_waiting) = (AtomicBool::new(false), AtomicU64::new(0));
    let (sender, facts) = mailbox(2048, Arc::new(Wake::default()));
    let ask = |number: u64| {
        let (user, session) = (format!("user-{number}"), format!("s-{number}"));
        threads.store(number, rows(&session, number as i64, number as i64, [user]), sender.clone()).expect("room");
    };
    std::thread::scope(|scope| {
        let _over = OnEnd(&is_over);
        scope.spawn(|| watch_locks(server, &is_over, &most_waiting));
        let started = Instant::now();
        (0..500).for_each(ask);
        let mut locked = Vec::new();
        for _ in 0..500 {
            match next(&facts) {
                (number, Ok(conflicts)) => assert!(conflicts.is_empty(), "{number}"),
                (number, Err(LookupError::Rejected(why))) => locked.push((number, why)),
                (number, Err(other)) => panic!("{number}: {other:?}"),
            }
        }
        // While the other writer waits for a locked row, it locks the gap before that row: who was in there is asked again.
        let first = locked.len();
        for number in locked.iter().map(|(number, _)| *number).filter(|number| ![7, 250].contains(number)) {
            eventually("a neighbour is stored when it is asked again", || {
                ask(number);
                next(&facts).1.is_ok()
            });
        }
        let took = started.elapsed();
        println!("500 asks, {first} of them met a lock: {took:?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert!((2..20).contains(&first), "{locked:?}");
        assert_told_of_locks(&locked);
        assert_eq!(threads.health(), Health::Ready, "the others were stored");
        // Asked again and again, they hold up nobody any more.
        for round in 0..5 {
            ask(7);
            ask(250);
            ask(1000 + round);
            let started = Instant::now();
            let answers: Vec<_> = (0..3).map(|_| next(&facts)).collect();
            assert_eq!(answers.iter().filter(|(_, answer)| answer.is_ok()).count(), 1, "{answers:?}");
            assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
        }
    });
    println!("most waiting transactions: {most_waiting:?}");
    assert!((1..=2).contains(&most_waiting.load(Ordering::Acquire)), "one a writer");
    holder.run(&["ROLLBACK"]);
    for number in [7, 250] {
        eventually("it is stored when the lock is gone", || {
            ask(number);
            next(&facts).1.is_ok()
        });
    }
}

/// Also within one element: its other rows are there, although it is answered with an error.
fn one_locked_row_of_an_event_keeps_no_other_row_of_it(server: &Database) {
    let mut holder = server.root();
    holder.run(&["START TRANSACTION", &insert_sql("('user-250', 's', 1, 1)")]);
    let users: Vec<String> = (0..500).map(|user| format!("user-{user}")).collect();
    let mut writer = server.writer(&Login::quick());
    let started = Instant::now();
    let answer = writer.store(&[rows("s", 1, 1, &users)]).remove(0);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(matches!(&answer, Err(LookupError::Rejected(why)) if why.contains("\"user-250\"")), "{answer:?}");
    assert_eq!(server.stored().len(), 499);
    holder.run(&["ROLLBACK"]);
    assert_eq!(writer.store(&[rows("s", 1, 1, &users)]), [names([])]);
    assert_eq!(server.stored().len(), 500);
}

/// Whoever reads by owner locks the gap up to the next owner who has rows: here, up to the end of the table.
#[test]
fn a_locked_gap_stops_only_whose_rows_are_in_it() {
    let server = Database::start(Kind::Maria);
    let mut holder = server.root();
    holder.run(&[
        &insert_sql("('user-249', 't', 1, 1), ('user-250', 't', 1, 1)"),
        "START TRANSACTION",
        "SELECT * FROM t_inbox FORCE INDEX (uk_owner_session_seq) WHERE owner_username = 'user-250' FOR UPDATE",
    ]);
    let mut users: Vec<String> = (100..500).map(|user| format!("user-{user}")).collect();
    users.reverse();
    let batch: Vec<_> = users.iter().zip(1000..).map(|(user, number)| rows("s", number, number, [user])).collect();
    let mut writer = server.writer(&Login::quick());
    let started = Instant::now();
    let answers = writer.store(&batch);
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    println!("a locked gap: {good} of 400 stored, {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!((150..=151).contains(&good), "those before the gap, {good}");
    holder.run(&["ROLLBACK"]);
    assert!(writer.store(&batch).iter().all(Result::is_ok));
}

fn a_locked_table_is_told_as_a_lock_in_a_bounded_time(server: &Database) {
    let mut writer = server.writer(&Login::quick());
    writer.ping().expect("the table is there");
    let mut holder = server.root();
    let in_postgres = &["START TRANSACTION", "LOCK TABLE t_inbox"][..];
    holder.run(server.either(&["LOCK TABLES t_inbox WRITE"][..], in_postgres));
    let batch: Vec<_> = (0..1000).map(|message| rows("s", message, message, ["ann", "bob"])).collect();
    let started = Instant::now();
    let answers = writer.store(&batch);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    for answer in answers {
        let why = answer.expect_err("the table is locked").to_string();
        assert!(why.contains("a lock that another transaction holds"), "{why}");
    }
    let why = writer.ping().expect_err("no probe either").to_string();
    assert!(why.contains("a lock that another transaction holds"), "{why}");
    holder.run(server.either(&["UNLOCK TABLES"][..], &["ROLLBACK"][..]));
    assert!(writer.store(&batch).iter().all(|answer| *answer == names([])));
    assert_eq!(server.stored().len(), 2000);
}
