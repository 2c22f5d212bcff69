//! Promise: what is answered as stored can be read back byte for byte; whose name the table's collation holds for another's
//! is told as a conflict.

use harness::servers::Maria;
use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig};
use task_engine::edge::mysql::MysqlInbox;
use task_engine::ports::Inbox;

use super::{do_all, names, quick, relay, writer};
use crate::inbox_support::{root, rows, stored};

#[test]
fn names_that_the_table_holds_for_one_are_conflicts() {
    let server = Maria::start().expect("MariaDB");
    let mut writer = writer(&server);
    // In one element: one of them is there, the others are told.
    let three = [rows("s", 1, 1, ["cafe", "CAFE", "caf\u{e9}", "dora"])];
    for _ in 0..2 {
        let answer = writer.store(&three).remove(0).expect("an answer");
        let mut told: Vec<&str> = answer.iter().collect();
        let there: Vec<String> = stored(&server).into_iter().map(|row| row.0).collect();
        assert_eq!((told.len(), there.len()), (2, 2), "{told:?} {there:?}");
        told.extend(there.iter().map(String::as_str));
        told.sort_unstable();
        assert_eq!(told, ["CAFE", "cafe", "caf\u{e9}", "dora"], "each is stored or told");
    }
    // In elements of one batch, and in a later batch.
    assert_eq!(writer.store(&[rows("t", 2, 1, ["bob"]), rows("t", 2, 1, ["Bob", "eve"])]), [names(["bob"]), names([])]);
    assert_eq!(writer.store(&[rows("t", 2, 1, ["b\u{f6}b"])]), [names(["b\u{f6}b"])]);
    // Trailing blanks, of owners and of sessions; the case of a session.
    assert_eq!(writer.store(&[rows("u", 3, 1, ["bob"])]), [names([])]);
    assert_eq!(writer.store(&[rows("u", 3, 1, ["bob "])]), [names(["bob "])]);
    assert_eq!(writer.store(&[rows("u ", 3, 1, ["bob"])]), [names(["bob"])]);
    assert_eq!(writer.store(&[rows("U", 3, 1, ["bob", "finn"])]), [names(["bob"])]);
    // Another message in the place, for good measure; and what is there stays good.
    assert_eq!(writer.store(&[rows("u", 4, 1, ["bob", "gus"])]), [names(["bob"])]);
    assert_eq!(writer.store(&[rows("u", 3, 1, ["bob"])]), [names([])]);
}

/// A column of fixed width gives names back without their blanks; another unique key takes a place that nobody asked for.
#[test]
fn a_table_of_another_make_takes_nothing_unseen() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    do_all(&mut root, ["ALTER TABLE t_inbox ADD UNIQUE KEY one_a_message (msg_id)"]);
    let mut writer = writer(&server);
    assert_eq!(writer.store(&[rows("s", 1, 1, ["ann", "bob"])]), [names(["bob"])]);
    assert_eq!(stored(&server).len(), 1);
    do_all(
        &mut root,
        ["DELETE FROM t_inbox", "ALTER TABLE t_inbox DROP KEY one_a_message, MODIFY owner_username CHAR(64) NOT NULL"],
    );
    assert_eq!(writer.store(&[rows("s", 1, 1, ["ann"])]), [names([])]);
    assert_eq!(writer.store(&[rows("s", 1, 1, ["ann "])]), [names(["ann "])]);
}

/// What a column cuts or pads without an error is somebody else's name, or nobody's: it is told, and no row of it stays.
#[test]
fn names_that_a_column_cuts_or_pads_are_conflicts_and_leave_no_row() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    for (column, long) in [
        ("owner_username VARCHAR(16)", "abcdefghijklmnop "),
        ("owner_username VARCHAR(16)", "abcdefghijklmnop\t\n"),
        ("owner_username CHAR(16)", "abcdefghijklmnop   "),
        ("owner_username CHAR(20)", "abcdefghijklmnop "),
        ("owner_username VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", "abcdefghijklmnop "),
    ] {
        do_all(&mut root, ["DELETE FROM t_inbox", &format!("ALTER TABLE t_inbox MODIFY {column} NOT NULL")]);
        let short = long[..16].to_owned();
        // Notes are not counted on some servers.
        for notes in ["SET GLOBAL sql_notes = 1", "SET GLOBAL sql_notes = 0"] {
            do_all(&mut root, [notes, "DELETE FROM t_inbox"]);
            let mut writer = writer(&server);
            let told = [Ok([long].into_iter().collect())];
            assert_eq!(writer.store(&[rows("s", 1, 1, [long])]), told, "{column} {long:?}");
            assert!(stored(&server).is_empty(), "{column} {long:?}: {:?}", stored(&server));
            // Among others, whose rows are there: also the one's whose name is left of it.
            let batch = [rows("s", 1, 1, [long, "bob"]), rows("t", 2, 2, ["eve"]), rows("s", 1, 1, [short.as_str()])];
            for _ in 0..2 {
                let answers = writer.store(&batch);
                assert_eq!(answers, [told[0].clone(), names([]), names([])], "{column} {long:?}");
                let there: Vec<String> = stored(&server).into_iter().map(|row| row.0).collect();
                assert_eq!(there, [short.as_str(), "bob", "eve"], "{column} {long:?}");
            }
        }
    }
    do_all(
        &mut root,
        [
            "SET GLOBAL sql_notes = 1",
            "DELETE FROM t_inbox",
            "ALTER TABLE t_inbox MODIFY owner_username VARCHAR(64) NOT NULL, MODIFY session_id VARCHAR(4) NOT NULL",
        ],
    );
    let mut writer = writer(&server);
    assert_eq!(writer.store(&[rows("sess ", 1, 1, ["ann"]), rows("sess", 2, 2, ["ann"])]), [names(["ann"]), names([])]);
    assert_eq!(stored(&server), [("ann".to_owned(), "sess".to_owned(), 2, 2)]);
    // A name that may end in a blank does so.
    do_all(&mut root, ["ALTER TABLE t_inbox MODIFY session_id VARCHAR(64) NOT NULL"]);
    assert_eq!(writer.store(&[rows("room ", 3, 3, ["ann ", "bob\u{a0}"])]), [names([])]);
    assert_eq!(stored(&server).len(), 3);
}

/// Neither triggers nor the way in which rows are counted make a row of nothing.
#[test]
fn the_number_of_affected_rows_is_no_proof() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    // One is new (1), one is changed (2), one is not (0): together as many as were asked.
    do_all(&mut root, ["CREATE TRIGGER touch BEFORE UPDATE ON t_inbox FOR EACH ROW SET NEW.is_read = 1"]);
    let answer = writer(&server).store(&[rows("s", 1, 1, ["cafe", "CAFE", "caf\u{e9}"])]).remove(0).expect("an answer");
    assert_eq!((answer.len(), stored(&server).len()), (2, 1), "{:?}", answer.iter().collect::<Vec<_>>());
    do_all(&mut root, ["DROP TRIGGER touch", "DELETE FROM t_inbox"]);
    // Behind a proxy that logs in with CLIENT_FOUND_ROWS, a row that is there counts as a new one.
    let port = relay::to(server.port(), relay::counting_found_rows);
    let mut writer =
        MysqlInbox::new(MysqlConfig { at: HostPort { host: "127.0.0.1".into(), port }, ..quick(&server) }).open();
    assert_eq!(writer.store(&[rows("s", 3, 1, ["bob"])]), [names([])]);
    assert_eq!(writer.store(&[rows("s", 4, 1, ["bob"])]), [names(["bob"])], "another message has the place");
    assert_eq!(writer.store(&[rows("s", 4, 1, ["BOB", "bob", "eve"])]), [names(["BOB", "bob"])]);
    assert_eq!(writer.store(&[rows("s", 3, 1, ["bob"])]), [names([])]);
    assert_eq!(stored(&server).len(), 2);
}

/// A table that gives back other names than it was given gives none back as stored: a column of fixed bytes, a trigger.
#[test]
fn a_table_that_renames_owners_stores_nobody() {
    let server = Maria::start().expect("MariaDB");
    let mut root = root(&server);
    do_all(
        &mut root,
        ["CREATE TRIGGER low BEFORE INSERT ON t_inbox FOR EACH ROW SET NEW.owner_username = LOWER(NEW.owner_username)"],
    );
    let mut one = writer(&server);
    for _ in 0..2 {
        assert_eq!(one.store(&[rows("s", 1, 1, ["CAFE"]), rows("s", 2, 2, ["bob"])]), [names(["CAFE"]), names([])]);
        assert_eq!(stored(&server), [("bob".to_owned(), "s".to_owned(), 2, 2)]);
    }
    do_all(
        &mut root,
        ["DROP TRIGGER low", "DELETE FROM t_inbox", "ALTER TABLE t_inbox MODIFY owner_username BINARY(16) NOT NULL"],
    );
    for _ in 0..2 {
        assert_eq!(writer(&server).store(&[rows("s", 1, 1, ["ann", "bob"])]), [names(["ann", "bob"])]);
        assert!(root.query_first::<u8, _>("SELECT 1 FROM t_inbox").expect("rows").is_none());
    }
}
