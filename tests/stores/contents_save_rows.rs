//! Promise: a content counts only when `t_message_content` holds it under the message's own session and sequence; a table that is
//! not there is the operator's work; and no look-up waits for a lock.

use task_engine::ports::{ContentReader, LookupError, MessageKey};
use testkit::databases::{Database, Login};
use testkit::on_both;

fn key(session: &str, msg_id: i64, seq_id: i64) -> MessageKey {
    MessageKey { session: session.into(), msg_id, seq_id }
}

fn write(server: &Database, rows: &str) {
    let columns = "(msg_id, session_id, sender_username, seq_id, content)";
    server.run(&[&format!("INSERT INTO t_message_content {columns} VALUES {rows}")]);
}

on_both!(contents_save_rows);

fn contents_save_rows(server: &Database) {
    let mut reader = server.inbox(&Login::default()).open_contents().expect("a reader");
    reader.ping().expect("the table is there");
    what_is_there_is_told(server, &mut *reader);
    a_lock_is_not_waited_for(server, &mut *reader);
    a_missing_table_is_the_operators_work(server, &mut *reader);
    server.kill();
    let away = reader.are_kept(&[key("s", 1, 1)]);
    assert!(matches!(away[..], [Err(LookupError::NotReached(_) | LookupError::Unavailable(_))]), "{away:?}");
}

fn what_is_there_is_told(server: &Database, reader: &mut dyn ContentReader) {
    write(server, "(1, 's', 'ann', 10, 'x'), (2, 'S', 'ann', 20, 'x'), (-3, 'é', 'ann', 30, 'x')");
    let asked = [
        (key("s", 1, 10), true),
        (key("s", 1, 11), false),
        (key("t", 1, 10), false),
        (key("s", 2, 20), false),
        (key("S", 2, 20), true),
        (key("é", -3, 30), true),
        (key("s", 4, 40), false),
    ];
    for some in 0..=asked.len() {
        let messages: Vec<_> = asked[..some].iter().map(|(message, _)| message.clone()).collect();
        let expected: Vec<_> = asked[..some].iter().map(|(_, kept)| Ok(*kept)).collect();
        assert_eq!(reader.are_kept(&messages), expected);
    }
}

fn a_lock_is_not_waited_for(server: &Database, reader: &mut dyn ContentReader) {
    let mut other = server.root();
    other.run(&["START TRANSACTION", "UPDATE t_message_content SET content = 'y' WHERE msg_id = 1"]);
    assert_eq!(reader.are_kept(&[key("s", 1, 10)]), [Ok(true)]);
    other.run(&["ROLLBACK"]);
}

fn a_missing_table_is_the_operators_work(server: &Database, reader: &mut dyn ContentReader) {
    server.run(&["ALTER TABLE t_message_content RENAME TO elsewhere"]);
    let mut answers = reader.are_kept(&[key("s", 1, 10), key("S", 2, 20)]);
    answers.push(reader.ping().map(|()| true));
    for answer in answers {
        match answer {
            Err(LookupError::Unavailable(why)) => assert!(why.contains("t_message_content(msg_id"), "{why}"),
            other => panic!("not unavailable: {other:?}"),
        }
    }
    server.run(&["ALTER TABLE elsewhere RENAME TO t_message_content"]);
    assert_eq!(reader.are_kept(&[key("s", 1, 10)]), [Ok(true)]);
}
