//! Promise: what is answered as stored can be read back byte for byte; whose name the table's collation holds for another's
//! is told as a conflict.

use loadtest::servers::Maria;

use crate::support::{root, rows, stored};
use crate::{do_all, names, writer};

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
