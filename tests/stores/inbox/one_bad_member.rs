//! Promise: one member whose row the table cannot take costs nobody else's; he has a letter with his name, and its replay
//! concerns only him.

use harness::gateways::Protocols;

use super::{Field, JETSTREAM};
use testkit::engine::{eventually, got};

const BAD: &str = "a-name-of-more-than-16-characters";

#[test]
fn one_bad_member_of_500_has_a_letter_and_the_others_their_rows() {
    let field = Field::start();
    let world = &field.world;
    let _gateway = world.gateway("gw", Protocols::STREAM);
    let mut members = (0..499).map(|user| format!("u{user:03}")).collect::<Vec<_>>();
    members.extend(["on1", "on2", BAD].map(str::to_owned));
    world.members("group:1", &members);
    ["on1", "on2"].iter().for_each(|user| world.route(user, "gw"));
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(16) NOT NULL");
    let engine = world.engine(2, JETSTREAM);
    let publisher = world.publisher();
    publisher.publish("group:1", "system", [1]);

    let metrics = engine.wait_ended(1);
    let ends = ["stored", "inbox_rejected", "delivered"].map(|end| metrics.recipients(end));
    assert_eq!((ends, metrics.events("settled")), ([499, 1, 2], 1), "{}", engine.output());
    assert_eq!(field.owners(), members[..499]);
    let letters = field.letters();
    let of = |letter: &serde_json::Value| (letter["reason"].to_string(), letter["recipient"].to_string());
    let his = [("\"inbox_rejected\"".to_owned(), format!("\"{BAD}\""))];
    assert_eq!(letters.iter().map(of).collect::<Vec<_>>(), his);
    let detail = letters[0]["detail"].as_str().expect("a text");
    assert!(detail.contains("Data too long") && detail.contains("owner_username"), "the store's words: {detail}");

    // Nothing is mended: the replay gives the same letter again, and nobody else hears of it.
    let (is_good, said) = field.command(&["dlq", "replay", "--reason", "inbox_rejected"]);
    assert!(is_good && said.contains("1 letter replayed, 1 of them for one recipient"), "{said}");
    let metrics = engine.wait_ended(2);
    let ends = ["stored", "inbox_rejected", "delivered"].map(|end| metrics.recipients(end));
    assert_eq!((ends, metrics.of("recipients_arrived_total", "")), ([499, 2, 2], 503), "only he is a recipient of it");
    assert_eq!(field.letters().iter().map(of).collect::<Vec<_>>(), his);

    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(64) NOT NULL");
    let (is_good, said) = field.command(&["dlq", "replay"]);
    assert!(is_good, "{said}");
    engine.wait_ended(3);
    eventually("he has his row", || field.owners().contains(&BAD.to_owned()));
    assert_eq!((field.owners().len(), field.letters().len()), (500, 0));
    // A copy of the original is a repeat as before, and nobody who was online was pushed to twice.
    publisher.publish("group:1", "system", [1]);
    let metrics = engine.wait_ended(4);
    assert_eq!(metrics.events("repeat"), 1);
    for user in ["on1", "on2"] {
        assert_eq!(got(&world.log.records(), "group:1", user), [1], "{user}");
    }
    engine.stop_clean();
}

#[test]
fn an_online_member_without_a_row_is_pushed_to_once_more_and_nobody_else() {
    let field = Field::start();
    let world = &field.world;
    let _gateway = world.gateway("gw", Protocols::STREAM);
    world.members("group:1", &["on1", "off1", BAD]);
    ["on1", BAD].iter().for_each(|user| world.route(user, "gw"));
    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(16) NOT NULL");
    let engine = world.engine(1, &format!("{JETSTREAM}inbox:\n  store: all\n"));
    world.publisher().publish("group:1", "system", [1]);
    let metrics = engine.wait_ended(1);
    assert_eq!(["stored", "inbox_rejected", "delivered"].map(|end| metrics.recipients(end)), [1, 0, 2]);
    assert_eq!(field.owners(), ["off1", "on1"]);
    let letters = field.letters();
    assert_eq!((letters.len(), letters[0]["recipient"].as_str()), (1, Some(BAD)), "{letters:?}");

    field.sql("ALTER TABLE t_inbox MODIFY owner_username VARCHAR(64) NOT NULL");
    let (is_good, said) = field.command(&["dlq", "replay"]);
    assert!(is_good, "{said}");
    engine.wait_ended(2);
    assert_eq!(field.owners(), [BAD, "off1", "on1"]);
    let records = world.log.records();
    assert_eq!((got(&records, "group:1", "on1"), got(&records, "group:1", BAD)), (vec![1], vec![1, 1]));
    engine.stop_clean();
}
