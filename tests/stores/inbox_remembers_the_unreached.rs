//! Promise: whoever cannot be reached finds the message in t_inbox, once, however often it is published; whoever got it
//! has no row; and an event that can never be pushed is a dead letter.

use harness::gateways::Protocols;
use mysql::prelude::Queryable;
use testkit::engine::{World, eventually};

#[test]
fn inbox_remembers_the_unreached() {
    let world = World::start();
    let _gateway = world.gateway("gw", Protocols::STREAM);
    world.members("group:1", &["ann", "bob", "cleo"]);
    world.route("bob", "gw");
    let engine = world.engine(2, "");
    let publisher = world.publisher();
    for _ in 0..2 {
        publisher.publish("group:1", "ann", 1..=20);
    }
    publisher.send(b"\xff\xff not an event");
    publisher.flush();
    let sql = "SELECT owner_username, msg_id FROM t_inbox WHERE session_id = 'group:1' ORDER BY msg_id";
    let stored = || -> Vec<(String, i64)> { world.maria.connect().expect("MariaDB").query(sql).expect("rows") };
    let expected: Vec<(String, i64)> = (1..=20).map(|message| ("cleo".to_owned(), message)).collect();
    eventually("each message is in cleo's inbox", || stored().len() >= 20);
    assert_eq!(stored(), expected);
    eventually("the dead letter is in the file", || {
        std::fs::read_to_string(world.letters())
            .is_ok_and(|text| text.contains("\"reason\":\"undecodable\"") && text.ends_with('\n'))
    });
    drop(engine);
}

/// Seven of eight are away: rows only for the message whose content is not kept, and for the small group.
#[test]
fn large_groups_are_read_by_content() {
    let world = World::start();
    let _gateway = world.gateway("gw", Protocols::STREAM);
    world.members("large", &["ann", "bob", "cleo", "dora", "emil", "frida", "gwen", "hans"]);
    world.members("small", &["ann", "bob"]);
    world.route("ann", "gw");
    let content = "INSERT INTO t_message_content (msg_id, session_id, sender_username, seq_id, content) VALUES (?, 'large', 'x', ?, 'x')";
    let kept = (1..=20).filter(|message| message % 10 != 0).map(|message| (message, message));
    world.maria.connect().expect("MariaDB").exec_batch(content, kept).expect("contents");
    let engine = world.engine(2, "inbox: {rows_up_to: 4}\n");
    let publisher = world.publisher();
    publisher.publish("large", "system", 1..=20);
    publisher.publish("small", "system", 101..=105);
    let metrics = engine.wait_ended(25);
    let ends = ["readable", "stored", "delivered"].map(|end| metrics.recipients(end));
    assert_eq!(ends, [18 * 7, 2 * 7 + 5, 25], "{}", engine.output());
    let sql = "SELECT session_id, msg_id, COUNT(*) FROM t_inbox GROUP BY 1, 2 ORDER BY 1, 2";
    let stored: Vec<(String, i64, u64)> = world.maria.connect().expect("MariaDB").query(sql).expect("rows");
    let of_large = [("large".to_owned(), 10, 7), ("large".to_owned(), 20, 7)];
    let of_small = (101..=105).map(|message| ("small".to_owned(), message, 1));
    assert_eq!(stored, of_large.into_iter().chain(of_small).collect::<Vec<_>>());
    engine.stop_clean();
}
