//! Promise: a letter about one recipient whose replay fails for another reason is still about him alone: the letter of the
//! replay is replayed for him and for nobody else, and is never taken for a repeat of its event.

use harness::gateways::Protocols;

use super::{Field, JETSTREAM};
use testkit::engine::{eventually, got};

const BAD: &str = "a-name-of-more-than-16-characters";
/// The members' table as a view that refuses to be read for one session, while others are read.
const NO_MEMBERS_OF_GROUP: [&str; 3] = [
    "RENAME TABLE t_session_member TO t_rows",
    "CREATE FUNCTION f_may(s VARCHAR(64)) RETURNS INT DETERMINISTIC BEGIN \
     IF s LIKE 'group:%' THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1105, MESSAGE_TEXT = 'as told'; END IF; RETURN 1; END",
    "CREATE VIEW t_session_member AS SELECT session_id, username FROM t_rows WHERE f_may(session_id) = 1",
];
const MEMBERS_AGAIN: [&str; 3] =
    ["DROP VIEW t_session_member", "DROP FUNCTION f_may", "RENAME TABLE t_rows TO t_session_member"];

/// The letters: reason, whom they are about, whom their event is for.
fn letters(field: &Field) -> Vec<(String, Option<String>, Vec<String>)> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let of = |letter: serde_json::Value| {
        let id = letter["id"].as_str().expect("an id").to_owned();
        let (is_good, shown) = field.command(&["dlq", "show", &id, "--json"]);
        assert!(is_good, "{shown}");
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let names = shown["event"]["only_usernames"].as_array().expect("a list");
        (
            text(&letter["reason"]).unwrap_or_default(),
            text(&letter["recipient"]),
            names.iter().filter_map(text).collect(),
        )
    };
    field.letters().into_iter().map(of).collect()
}

fn letter(reason: &str, recipient: Option<&str>, is_for: &[&str]) -> (String, Option<String>, Vec<String>) {
    (reason.to_owned(), recipient.map(str::to_owned), is_for.iter().map(|name| (*name).to_owned()).collect())
}

fn replay(field: &Field) {
    let (is_good, said) = field.command(&["dlq", "replay"]);
    assert!(is_good && said.contains("1 letter replayed, 1 of them for one recipient each"), "{said}");
}

#[test]
fn a_replay_for_one_that_fails_otherwise_stays_for_one() {
    let field = Field::start();
    let world = &field.world;
    let _gateway = world.gateway("gw", Protocols::STREAM);
    // One that can always be read, first in the table: the members are not away.
    world.members("a", &["other"]);
    world.members("group:1", &["on1", "on2", BAD]);
    ["on1", "on2"].iter().for_each(|user| world.route(user, "gw"));
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(16) NOT NULL");
    let engine = world.engine(2, &format!("{JETSTREAM}members:\n  cache_ttl: 0s\n  empty_wait: 300ms\n"));
    world.publisher().publish("group:1", "system", [1]);
    engine.wait_ended(1);
    assert_eq!(letters(&field), [letter("inbox_rejected", Some(BAD), &[])]);

    // The second failure: his members cannot be looked up.
    NO_MEMBERS_OF_GROUP.iter().for_each(|statement| field.sql(statement));
    replay(&field);
    engine.wait_ended(2);
    assert_eq!(letters(&field), [letter("lookup_failed", None, &[BAD])]);
    let table = field.command(&["dlq", "list"]).1;
    assert!(table.contains(BAD), "whom it is for is told: {table}");
    MEMBERS_AGAIN.iter().for_each(|statement| field.sql(statement));

    // The third: his session has no members for a while.
    field.sql("DELETE FROM t_session_member WHERE session_id = 'group:1'");
    replay(&field);
    engine.wait_ended(3);
    assert_eq!(letters(&field), [letter("no_members", None, &[BAD])]);
    world.members("group:1", &["on1", "on2", BAD]);

    // The fourth is the first again: about him, in an event for him.
    replay(&field);
    engine.wait_ended(4);
    assert_eq!(letters(&field), [letter("inbox_rejected", Some(BAD), &[BAD])]);

    // Everyone would be a repeat now, and the letter gone: it waits.
    let (is_good, said) = field.command(&["dlq", "replay", "--everyone"]);
    assert!(!is_good && said.contains("would take it for a repeat; run this again in 5m"), "{said}");
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(64) NOT NULL");
    replay(&field);
    let metrics = engine.wait_ended(5);
    eventually("he has his row", || field.owners() == [BAD]);
    assert_eq!((metrics.events("repeat"), metrics.recipients("delivered"), field.letters().len()), (0, 2, 0));
    for user in ["on1", "on2"] {
        assert_eq!(got(&world.log.records(), "group:1", user), [1], "{user}");
    }
    engine.stop_clean();
}

#[test]
fn everyone_waits_for_a_replay_that_failed_as_well() {
    let field = Field::start();
    let world = &field.world;
    world.members("a", &["other"]);
    world.members("group:1", &["off", BAD]);
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(16) NOT NULL");
    let engine = world.engine(1, &format!("{JETSTREAM}members:\n  cache_ttl: 0s\n"));
    world.publisher().publish("group:1", "system", [1]);
    engine.wait_ended(1);
    NO_MEMBERS_OF_GROUP.iter().for_each(|statement| field.sql(statement));
    replay(&field);
    engine.wait_ended(2);
    let failed = [letter("lookup_failed", None, &[BAD])];
    assert_eq!(letters(&field), failed);
    MEMBERS_AGAIN.iter().for_each(|statement| field.sql(statement));
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(64) NOT NULL");
    let (is_good, said) = field.command(&["dlq", "replay", "--everyone"]);
    assert!(!is_good && said.contains("would take it for a repeat; run this again in 5m"), "{said}");
    assert_eq!(letters(&field), failed, "it stays");
    replay(&field);
    engine.wait_ended(3);
    eventually("he has his row", || field.owners() == [BAD, "off"]);
    assert!(field.letters().is_empty());
    engine.stop_clean();
}
