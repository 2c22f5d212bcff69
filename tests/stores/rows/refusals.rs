//! Promise: whatever the server says to one event's rows, the others' are stored; when it says it to all, each is answered
//! with an error in a bounded time.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use task_engine::ports::InboxRows;
use testkit::databases::{Database, Login, Root};
use testkit::on_both;

use super::names;
use crate::inbox_support::rows;

on_both!(
    what_one_event_meets_no_other_meets
    what_all_meet_is_told_to_each_in_a_bounded_time
    many_bad_ones_in_front_do_not_hide_the_good_ones
    one_slow_row_stops_no_other
);

fn batch() -> Vec<InboxRows> {
    (0..100).map(|message| rows("s", message, message, [format!("user-{message}"), "ann".to_owned()])).collect()
}

/// What a trigger does to rows.
enum Does {
    /// Refuses them with this code, in these words.
    Says(String, &'static str),
    Sleeps,
}

/// A trigger for rows of which this holds.
fn trigger(server: &Database, when: &str, does: &Does) {
    let sql = match (server, does) {
        (Database::Maria(_), Does::Says(code, words)) => {
            let says = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = '{words}'");
            in_mariadb(when, &says)
        }
        (Database::Maria(_), Does::Sleeps) => in_mariadb(when, "DO SLEEP(60)"),
        (Database::Postgres(_), Does::Says(code, words)) => {
            in_postgres(when, &format!("RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'"))
        }
        (Database::Postgres(_), Does::Sleeps) => in_postgres(when, "PERFORM pg_sleep(60)"),
    };
    server.run(&[&sql]);
}

fn in_mariadb(when: &str, does: &str) -> String {
    format!("CREATE TRIGGER way BEFORE INSERT ON t_inbox FOR EACH ROW BEGIN IF {when} THEN {does}; END IF; END")
}

fn in_postgres(when: &str, does: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN {does}; END IF; \
         RETURN NEW; END $$; CREATE TRIGGER way BEFORE INSERT ON t_inbox FOR EACH ROW EXECUTE FUNCTION way()"
    )
}

fn without_trigger(server: &Database) {
    server.run(&[server.either("DROP TRIGGER way", "DROP TRIGGER way ON t_inbox")]);
}

/// Words of a proxy, of a full disk, of a schema, of a deadlock, of a shutdown: none decides.
fn what_one_event_meets_no_other_meets(server: &Database) {
    let of_mariadb = &["9001", "1114", "1146", "1213", "1053", "1290", "1644"][..];
    let of_postgres = &["P0001", "53100", "42P01", "40P01", "57P01", "25006", "23505"][..];
    for code in server.either(of_mariadb, of_postgres) {
        trigger(server, "NEW.owner_username = 'user-37'", &Does::Says((*code).to_owned(), "not this one"));
        let answers = server.writer(&Login::quick()).store(&batch());
        for (message, answer) in answers.iter().enumerate() {
            match answer {
                Err(why) if message == 37 => assert!(why.to_string().contains("not this one"), "{code}: {why}"),
                other => assert_eq!((other, message == 37), (&names([]), false), "{code}: {message}"),
            }
        }
        // What looks like a lock is looked for down to the row.
        let is_lock = ["1213", "40P01"].contains(code);
        assert_eq!(server.stored().len(), if is_lock { 199 } else { 198 }, "{code}");
        without_trigger(server);
        server.run(&["DELETE FROM t_inbox"]);
    }
}

fn what_all_meet_is_told_to_each_in_a_bounded_time(server: &Database) {
    trigger(server, "TRUE", &Does::Says(server.either("9001", "P0001").to_owned(), "no writer"));
    let mut writer = server.writer(&Login::quick());
    let before = rollbacks(server);
    let started = Instant::now();
    let all: Vec<_> = (0..2000).map(|message| rows("s", message, message, ["ann"])).collect();
    let answers = writer.store(&all);
    println!("all refused: {:?}", started.elapsed());
    assert_eq!(answers.len(), all.len());
    for answer in answers {
        let why = answer.expect_err("all are refused").to_string();
        assert!(why.contains("no writer"), "{why}");
    }
    let tries = rollbacks(server) - before;
    assert!(tries < 40, "{tries} tries");
    without_trigger(server);
    assert!(writer.store(&all).iter().all(|answer| *answer == names([])));
}

/// Transactions that were taken back, by the server's account.
fn rollbacks(server: &Database) -> i64 {
    match server.root() {
        Root::Maria(mut conn) => {
            let row: Option<(String, i64)> =
                conn.query_first("SHOW GLOBAL STATUS LIKE 'Com_rollback'").expect("status");
            row.expect("a counter").1
        }
        // A session reports what it did when it is idle.
        Root::Postgres(_) => {
            server.root().number("SELECT xact_rollback FROM pg_stat_database WHERE datname = 'resonance'")
        }
    }
}

/// So many bad ones at the front that the search gives up on them are not all that is asked.
fn many_bad_ones_in_front_do_not_hide_the_good_ones(server: &Database) {
    trigger(server, "NEW.seq_id < 30", &Does::Says(server.either("9001", "P0001").to_owned(), "not these"));
    let answers = server.writer(&Login::quick()).store(&batch());
    let good: Vec<usize> = (0..100).filter(|message| answers[*message].is_ok()).collect();
    assert!(good.iter().copied().eq(30..100), "{good:?}");
    assert_eq!(server.stored().len(), 140);
}

/// A trigger that sleeps for one user: the server ends it, and the others are stored.
fn one_slow_row_stops_no_other(server: &Database) {
    trigger(server, "NEW.owner_username = 'user-37'", &Does::Sleeps);
    let mut writer = server.writer(&Login::quick());
    let started = Instant::now();
    let answers = writer.store(&batch());
    let took = started.elapsed();
    println!("one slow row: {took:?}");
    assert!(took < Duration::from_secs(16), "{took:?}");
    let bad: Vec<usize> = (0..100).filter(|message| answers[*message].is_err()).collect();
    assert_eq!(bad, [37]);
    assert_eq!(server.stored().len(), 199, "ann has hers of the slow one, too");
}
