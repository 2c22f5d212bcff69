//! The bare program on real servers: each event reaches each member's gateway once and in order, by `stream` and `batch`;
//! what it could not do is counted, and what it does not have is refused in words.

use std::process::Command;

use harness::gateways::Protocols;

use crate::engine_support::{Bed, Engine};

#[test]
fn each_member_gets_each_message_once_and_in_order_and_the_rest_is_counted() {
    let bed = Bed::start(&[Protocols::STREAM, Protocols::BATCH, Protocols::UNARY], Protocols::announcement);
    let users: Vec<String> = (0..40).map(|user| format!("user{user}")).collect();
    let mut members: Vec<&str> = users.iter().map(String::as_str).collect();
    for (number, user) in users.iter().enumerate() {
        bed.route(user, &format!("g{}", number % 2));
    }
    bed.route("sender", "g0");
    bed.route("calls", "g2");
    members.extend(["sender", "gone", "calls"]);
    bed.members("group", &members);
    bed.members("pair", &["user1", "user2"]);
    let engine = Engine::start("bare", 1, &bed);
    bed.publish("group", "sender", 1..=300);
    bed.publish("pair", "user1", 1001..=1050);
    bed.publish("pair", "system", 1051..=1060);
    bed.publish("never heard of", "sender", [1]);
    bed.publish_bytes(b"\xff\xff no event");
    for user in &users {
        bed.delivered("group", user, 1..=300);
    }
    bed.delivered("pair", "user2", 1001..=1060);
    bed.delivered("pair", "user1", 1051..=1060);
    engine.terminate();
    let words = engine.last_words();
    assert!(words.contains("362 events, 12070 pushes written, 600 unreached, 0 lost with a stream"), "{words}");
    assert!(words.contains("1 malformed, 1 of unknown sessions, 0 dropped"), "{words}");
    assert_eq!(bed.log.records().len(), 12_070);
    for user in ["user0", "user1"] {
        let of_user = |record: &harness::gateways::Record| record.recipient == user && record.session == "group";
        let message = bed.log.records().into_iter().find(of_user).and_then(|record| record.message).unwrap();
        assert_eq!((message.seq_id - message.msg_id, message.timestamp, &*message.r#type), (7, 1_732_000_000, "text"));
        assert_eq!(message.session_meta.map(|meta| (meta.name, meta.r#type)), Some(("name".into(), 2)));
    }
}

#[test]
fn what_it_does_not_have_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("task.yaml");
    for (text, cores, words) in [
        ("consumer:\n  mode: jetstream\n", "1", "set consumer.mode to core"),
        ("", "2", "the bare program has one core"),
        ("consumer:\n  mod: core\n", "1", "did you mean `consumer.mode`?"),
    ] {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        let output = command.arg("bare").arg("--config").arg(&config).args(["--cores", cores]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
    }
}
