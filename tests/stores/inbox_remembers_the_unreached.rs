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
