//! Promise: a server that ends no slow statement by itself (MySQL has no limit for an INSERT) keeps no other row from being stored
//! either, and nothing of ours goes on in it.

use std::slice;
use std::time::{Duration, Instant};

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig};
use task_engine::edge::mysql::{MysqlInbox, MysqlMembers};
use task_engine::model::ids::SessionId;
use task_engine::ports::{Inbox, InboxRows, InboxWriter, Members};

use super::{do_all, names, quick, relay};
use crate::inbox_support::{eventually, root, rows, stored};

const SLOW_FOR_ONE: &str = "CREATE DEFINER = 'resonance'@'127.0.0.1' TRIGGER way BEFORE INSERT ON t_inbox FOR EACH ROW BEGIN \
                            IF NEW.owner_username = 'user-37' THEN DO SLEEP(60); END IF; END";
const OURS_AT_WORK: &str =
    "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'resonance' AND command <> 'Sleep'";

fn unlimited(server: &Maria) -> MysqlConfig {
    let port = relay::to(server.port(), relay::without_limits);
    MysqlConfig { at: HostPort { host: "127.0.0.1".into(), port }, ..quick(server) }
}

fn writer(server: &Maria) -> Box<dyn InboxWriter> {
    MysqlInbox::new(unlimited(server)).open()
}

fn at_work(server: &Maria) -> u64 {
    root(server).query_first(OURS_AT_WORK).expect("a number").expect("a row")
}

fn batch(numbers: std::ops::Range<i64>) -> Vec<InboxRows> {
    numbers.map(|message| rows("s", message, message, [format!("user-{message}"), "ann".to_owned()])).collect()
}

#[test]
fn one_slow_row_stops_no_other_where_nobody_ends_it() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    do_all(&mut root, [SLOW_FOR_ONE]);
    let mut writer = writer(&server);
    let started = Instant::now();
    let answers = writer.store(&batch(0..100));
    println!("one slow row without limits: {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(22), "{:?}", started.elapsed());
    let bad: Vec<usize> = (0..100).filter(|message| answers[*message].is_err()).collect();
    assert_eq!(bad, [37]);
    assert_eq!(stored(&server).len(), 199, "ann has hers of the slow one, too");
    // Asked again with others, it holds them up for a moment only.
    for round in 1..4 {
        let mut again = batch(37..38);
        again.extend(batch(100 * round..100 * round + 20));
        let started = Instant::now();
        let answers = writer.store(&again);
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert!(answers[0].is_err() && answers[1..].iter().all(|answer| *answer == names([])), "{answers:?}");
    }
    eventually("nothing of ours goes on in the server", || at_work(&server) == 0);
    do_all(&mut root, ["DROP TRIGGER way"]);
    assert_eq!(writer.store(&batch(37..38)), [names([])]);
}

#[test]
fn one_slow_row_of_an_event_keeps_no_other_row_of_it_where_nobody_ends_it() {
    let server = Maria::start().expect("MariaDB");
    do_all(&mut root(&server), [SLOW_FOR_ONE]);
    let users: Vec<String> = (0..64).map(|user| format!("user-{user}")).collect();
    let answer = writer(&server).store(&[rows("s", 1, 1, &users)]).remove(0);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(stored(&server).len(), 63, "{answer:?}");
}

/// Where the trigger's definer is somebody else, the server does not let us end it: whom it meets is not asked with newcomers.
#[test]
fn a_slow_row_that_may_not_be_ended_keeps_no_newcomer_from_being_stored() {
    let server = Maria::start().expect("MariaDB");
    do_all(&mut root(&server), [&SLOW_FOR_ONE.replace("DEFINER = 'resonance'@'127.0.0.1' ", "")]);
    let mut writer = writer(&server);
    let started = Instant::now();
    let answers = writer.store(&batch(30..40));
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    for answer in answers {
        let why = answer.expect_err("it goes on, with locks on the others").to_string();
        assert!(why.contains("was given up"), "{why}");
    }
    let mut again = batch(30..40);
    again.extend(batch(100..120));
    let answers = writer.store(&again);
    println!("newcomers beside a slow row that may not be ended: {:?}", started.elapsed());
    assert!(answers[10..].iter().all(|answer| *answer == names([])), "{answers:?}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

/// A statement that hangs whatever is done to it (a disk, a table that is being altered) is not joined by more of ours.
#[test]
fn what_hangs_for_all_is_told_in_a_bounded_time_and_does_not_pile_up() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    do_all(
        &mut root,
        [
            "CREATE DEFINER = 'resonance'@'127.0.0.1' TRIGGER way BEFORE INSERT ON t_inbox FOR EACH ROW BEGIN DO SLEEP(60); END",
        ],
    );
    let mut writer = writer(&server);
    let started = Instant::now();
    let answers = writer.store(&batch(0..64));
    println!("all slow without limits: {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert!(answers.iter().all(Result::is_err));
    eventually("nothing of ours goes on in the server", || at_work(&server) == 0);
    do_all(&mut root, ["DROP TRIGGER way"]);
    eventually("all are stored", || writer.store(&batch(0..64)).iter().all(|answer| *answer == names([])));
}

#[test]
fn a_lookup_that_was_given_up_is_ended_in_the_server() {
    let server = Maria::start().expect("MariaDB");
    do_all(
        &mut root(&server),
        [
            "INSERT INTO t_session_member (session_id, username) VALUES ('small', 'ann'), ('huge', 'bob')",
            "RENAME TABLE t_session_member TO theirs",
            "CREATE DEFINER = 'resonance'@'127.0.0.1' FUNCTION slow(id VARCHAR(64)) RETURNS INT NOT DETERMINISTIC READS SQL DATA \
             BEGIN IF id = 'huge' THEN DO SLEEP(60); END IF; RETURN 1; END",
            "CREATE DEFINER = 'resonance'@'127.0.0.1' VIEW t_session_member AS SELECT * FROM theirs WHERE slow(session_id) = 1",
        ],
    );
    let limit = Duration::from_secs(2);
    let settings = MysqlConfig { timeout: limit, ..unlimited(&server) };
    let mut reader = MysqlMembers::new(settings).open();
    let (small, huge): (SessionId, SessionId) = ("small".into(), "huge".into());
    assert_eq!(reader.members(slice::from_ref(&small)).expect("an answer")[0].get(0), "ann");
    for _ in 0..3 {
        let why = reader.members(slice::from_ref(&huge)).expect_err("it is slow").to_string();
        assert!(why.contains("silent"), "{why}");
        let given_up = Instant::now();
        eventually("nothing of ours goes on in the server", || at_work(&server) == 0);
        assert!(given_up.elapsed() < Duration::from_secs(2), "{:?}", given_up.elapsed());
        assert_eq!(reader.members(slice::from_ref(&small)).expect("an answer")[0].get(0), "ann");
    }
}
