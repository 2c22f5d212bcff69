//! Promise: whatever the server says to one event's rows, the others' are stored; when it says it to all, each is answered
//! with an error in a bounded time.

use std::time::{Duration, Instant};

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::ports::InboxRows;

use super::{do_all, names, writer};
use crate::inbox_support::{root, rows, stored};

fn batch() -> Vec<InboxRows> {
    (0..100).map(|message| rows("s", message, message, [format!("user-{message}"), "ann".to_owned()])).collect()
}

fn trigger(server: &Maria, when: &str, does: &str) {
    let sql =
        format!("CREATE TRIGGER way BEFORE INSERT ON t_inbox FOR EACH ROW BEGIN IF {when} THEN {does}; END IF; END");
    root(server).query_drop(sql).expect("a trigger");
}

/// Words of a proxy, of a full disk, of a schema, of a deadlock, of a shutdown: none decides.
#[test]
fn what_one_event_meets_no_other_meets() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    for code in [9001, 1114, 1146, 1213, 1053, 1290, 1644] {
        let says = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'not this one'");
        trigger(&server, "NEW.owner_username = 'user-37'", &says);
        let answers = writer(&server).store(&batch());
        for (message, answer) in answers.iter().enumerate() {
            match answer {
                Err(why) if message == 37 => assert!(why.to_string().contains("not this one"), "{code}: {why}"),
                other => assert_eq!((other, message == 37), (&names([]), false), "{code}: {message}"),
            }
        }
        // What looks like a lock is looked for down to the row.
        assert_eq!(stored(&server).len(), if code == 1213 { 199 } else { 198 }, "{code}");
        do_all(&mut root, ["DROP TRIGGER way", "DELETE FROM t_inbox"]);
    }
}

#[test]
fn what_all_meet_is_told_to_each_in_a_bounded_time() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    trigger(&server, "TRUE", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 9001, MESSAGE_TEXT = 'no writer'");
    let mut writer = writer(&server);
    let asked = || -> u64 {
        let count: Option<(String, u64)> = root_count(&server);
        count.expect("a counter").1
    };
    let before = asked();
    let started = Instant::now();
    let all: Vec<_> = (0..2000).map(|message| rows("s", message, message, ["ann"])).collect();
    let answers = writer.store(&all);
    println!("all refused: {:?}", started.elapsed());
    assert_eq!(answers.len(), all.len());
    for answer in answers {
        let why = answer.expect_err("all are refused").to_string();
        assert!(why.contains("no writer"), "{why}");
    }
    let rollbacks = asked() - before;
    assert!(rollbacks < 40, "{rollbacks} tries");
    do_all(&mut root, ["DROP TRIGGER way"]);
    assert!(writer.store(&all).iter().all(|answer| *answer == names([])));
}

fn root_count(server: &Maria) -> Option<(String, u64)> {
    root(server).query_first("SHOW GLOBAL STATUS LIKE 'Com_rollback'").expect("status")
}

/// So many bad ones at the front that the search gives up on them are not all that is asked.
#[test]
fn many_bad_ones_in_front_do_not_hide_the_good_ones() {
    let server = Maria::start().expect("MariaDB");
    trigger(&server, "NEW.seq_id < 30", "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 9001, MESSAGE_TEXT = 'not these'");
    let answers = writer(&server).store(&batch());
    let good: Vec<usize> = (0..100).filter(|message| answers[*message].is_ok()).collect();
    assert!(good.iter().copied().eq(30..100), "{good:?}");
    assert_eq!(stored(&server).len(), 140);
}

/// A trigger that sleeps for one user: the server ends it, and the others are stored.
#[test]
fn one_slow_row_stops_no_other() {
    let server = Maria::start().expect("MariaDB");
    trigger(&server, "NEW.owner_username = 'user-37'", "DO SLEEP(60)");
    let mut writer = writer(&server);
    let started = Instant::now();
    let answers = writer.store(&batch());
    let took = started.elapsed();
    println!("one slow row: {took:?}");
    assert!(took < Duration::from_secs(16), "{took:?}");
    let bad: Vec<usize> = (0..100).filter(|message| answers[*message].is_err()).collect();
    assert_eq!(bad, [37]);
    assert_eq!(stored(&server).len(), 199, "ann has hers of the slow one, too");
}
