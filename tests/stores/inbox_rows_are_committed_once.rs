//! Promise: rows that the inbox answers for are in the database, each once however often they are stored; a place that another
//! message holds is told by its user; and a row that the server refuses keeps no other from being stored.

use crate::inbox_support::rows;
use task_engine::model::names::NameList;
use task_engine::ports::{InboxWriter, LookupError};
use testkit::databases::{Database, Kind, Login};
use testkit::on_both;

fn names<const N: usize>(names: [&str; N]) -> Result<NameList, LookupError> {
    Ok(NameList::from_iter(names))
}

on_both!(inbox_rows_are_committed_once);

fn inbox_rows_are_committed_once(server: &Database) {
    let mut writer = server.writer(&Login::default());
    writer.ping().expect("the table is there");
    a_repeat_changes_nothing(server, &mut *writer);
    another_message_in_the_place_is_told(server, &mut *writer);
    only_the_guilty_one_is_rejected(server, &mut *writer);
    large_batches_are_whole(server, &mut *writer);
    two_writers_on_the_same_rows_agree(server);
    a_missing_table_is_the_operators_work(server, &mut *writer);
    if server.kind() == Kind::Maria {
        nothing_is_cut_when_the_server_is_not_strict(server);
        names_that_a_collation_holds_for_one_are_told(server, &mut *writer);
        a_full_table_is_waited_for(server, &mut *writer);
    }
}

fn clear(server: &Database) {
    server.run(&["DELETE FROM t_inbox"]);
}

fn a_repeat_changes_nothing(server: &Database, writer: &mut dyn InboxWriter) {
    let batch = [rows("group:1", 7, 1, ["ann", "bob"]), rows("s'\\\"%", 8, 1, ["\u{e9}l\u{1f600}"])];
    let expected = [
        ("ann".to_owned(), "group:1".to_owned(), 7, 1),
        ("bob".to_owned(), "group:1".to_owned(), 7, 1),
        ("\u{e9}l\u{1f600}".to_owned(), "s'\\\"%".to_owned(), 8, 1),
    ];
    for _ in 0..3 {
        assert_eq!(writer.store(&batch), [names([]), names([])]);
        assert_eq!(server.stored(), expected);
    }
    // Some are there, some are not, and one message twice in a batch.
    let again = [rows("group:1", 7, 1, ["ann", "cleo", "bob"]), rows("group:1", 7, 1, ["cleo"])];
    assert_eq!(writer.store(&again), [names([]), names([])]);
    assert_eq!(server.stored().len(), 4);
    let fresh = "SELECT COUNT(*) FROM t_inbox WHERE is_read = 0 AND created_at > NOW() - INTERVAL '1' HOUR";
    assert_eq!(server.root().number(fresh), 4);
    assert!(writer.store(&[]).is_empty());
    assert_eq!(writer.store(&[rows::<&str>("nobody", 1, 1, [])]), [names([])]);
    clear(server);
}

fn another_message_in_the_place_is_told(server: &Database, writer: &mut dyn InboxWriter) {
    writer.store(&[rows("s", 1, 5, ["ann", "bob"])]);
    let batch = [rows("s", 2, 5, ["bob", "cleo"]), rows("s", 2, 6, ["bob"]), rows("s", 1, 5, ["ann"])];
    assert_eq!(writer.store(&batch), [names(["bob"]), names([]), names([])]);
    // Two new messages want one place in the same batch: the first gets it.
    let two = [rows("t", 10, 1, ["dora"]), rows("t", 11, 1, ["dora", "emil"])];
    assert_eq!(writer.store(&two), [names([]), names(["dora"])]);
    let mut held: Vec<(String, i64, i64)> =
        server.stored().into_iter().map(|(user, _, msg, seq)| (user, msg, seq)).collect();
    held.sort();
    let expected = [("ann", 1, 5), ("bob", 1, 5), ("bob", 2, 6), ("cleo", 2, 5), ("dora", 10, 1), ("emil", 11, 1)];
    assert_eq!(held, expected.map(|(user, msg, seq)| (user.to_owned(), msg, seq)));
    clear(server);
}

/// The table's collation holds these for one owner: their rows are not there, so they are told.
fn names_that_a_collation_holds_for_one_are_told(server: &Database, writer: &mut dyn InboxWriter) {
    writer.store(&[rows("t", 10, 1, ["dora", "emil"])]);
    let neighbour = [rows("t", 10, 1, ["DORA"]), rows("t", 12, 1, ["Emil", "frida"])];
    assert_eq!(writer.store(&neighbour), [names(["DORA"]), names(["Emil"])]);
    clear(server);
}

fn only_the_guilty_one_is_rejected(server: &Database, writer: &mut dyn InboxWriter) {
    let long = "x".repeat(65);
    let mut batch: Vec<_> = (0..100).map(|message| rows("s", message, message, ["ann", "bob"])).collect();
    batch[37] = rows("s", 37, 37, ["ann", &long]);
    let answers = writer.store(&batch);
    for (message, answer) in answers.iter().enumerate() {
        match answer {
            Err(LookupError::Rejected(why)) if message == 37 => assert!(why.contains("too long"), "{why}"),
            other => assert_eq!((other, message == 37), (&names([]), false), "{message}"),
        }
    }
    assert_eq!(server.stored().len(), 198, "all rows of the others, and none of the guilty one");
    clear(server);
}

fn nothing_is_cut_when_the_server_is_not_strict(server: &Database) {
    let mut root = server.root();
    let mode = root.texts("SELECT @@GLOBAL.sql_mode").remove(0);
    root.run(&["SET GLOBAL sql_mode = ''"]);
    let mut writer = server.writer(&Login::default());
    let answer = writer.store(&[rows("s", 1, 1, ["y".repeat(65)])]).pop();
    assert!(matches!(answer, Some(Err(LookupError::Rejected(_)))), "{answer:?}");
    assert!(server.stored().is_empty());
    root.run(&[&format!("SET GLOBAL sql_mode = '{mode}'")]);
}

fn large_batches_are_whole(server: &Database, writer: &mut dyn InboxWriter) {
    let users: Vec<String> = (0..3001).map(|user| format!("user-{user}")).collect();
    let batch: Vec<_> = (0..3).map(|message| rows("large", message, message, &users)).collect();
    assert_eq!(writer.store(&batch), [names([]), names([]), names([])]);
    assert_eq!(server.stored().len(), 3 * 3001);
    // All of another message's places are held.
    let conflicts = writer.store(&[rows("large", 99, 1, &users)]).pop().and_then(Result::ok).expect("an answer");
    assert!(conflicts.iter().eq(users.iter().map(String::as_str)));
    clear(server);
}

fn a_missing_table_is_the_operators_work(server: &Database, writer: &mut dyn InboxWriter) {
    server.run(&["ALTER TABLE t_inbox RENAME TO elsewhere"]);
    for answer in [writer.store(&[rows("s", 1, 1, ["u"])]).remove(0).map(drop), writer.ping()] {
        match answer {
            Err(LookupError::Unavailable(why)) => assert!(why.contains("t_inbox(owner_username"), "{why}"),
            other => panic!("not unavailable: {other:?}"),
        }
    }
    server.run(&["ALTER TABLE elsewhere RENAME TO t_inbox"]);
    assert_eq!(writer.store(&[rows("s", 1, 1, ["u"])]), [names([])]);
    clear(server);
}

/// As InnoDB says it when the disk is full.
fn a_full_table_is_waited_for(server: &Database, writer: &mut dyn InboxWriter) {
    let mut root = server.root();
    root.run(&[
        "SET SESSION max_heap_table_size = 16384",
        "RENAME TABLE t_inbox TO elsewhere",
        "CREATE TABLE t_inbox LIKE elsewhere",
        "ALTER TABLE t_inbox ENGINE = MEMORY",
    ]);
    let users: Vec<String> = (0..3001).map(|user| format!("user-{user}")).collect();
    for answer in writer.store(&[rows("s", 1, 1, &users), rows("s", 2, 2, &users)]) {
        match answer {
            Err(LookupError::Unavailable(why)) => assert!(why.contains("full") && why.contains("limits"), "{why}"),
            other => panic!("not unavailable: {other:?}"),
        }
    }
    root.run(&["DROP TABLE t_inbox", "RENAME TABLE elsewhere TO t_inbox"]);
    assert_eq!(writer.store(&[rows("s", 1, 1, &users)]), [names([])]);
    clear(server);
}

/// The locks of one may break the other's transaction; what is then asked again is there once.
fn two_writers_on_the_same_rows_agree(server: &Database) {
    let users: Vec<String> = (0..50).map(|user| format!("user-{user}")).collect();
    let inbox = server.inbox(&Login::default());
    let start = std::sync::Barrier::new(2);
    let run = |backwards: bool| {
        let mut writer = inbox.open();
        for round in 0..20 {
            let mut batch: Vec<_> = (0..8).map(|part| rows(&format!("session-{part}"), round, round, &users)).collect();
            if backwards {
                batch.reverse();
            }
            start.wait();
            while let Some(error) = writer.store(&batch).into_iter().find_map(Result::err) {
                assert!(error.to_string().contains("lock"), "{error}");
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(true));
        run(false);
    });
    assert_eq!(server.stored().len(), 20 * 8 * 50);
    clear(server);
}
