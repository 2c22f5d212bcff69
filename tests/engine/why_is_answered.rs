//! Promise: `task-engine why` says of each recipient in one sentence whether it got a message and, if not, why and where the message is
//! now; with an engine that remembers, with one that was stopped, and with stores that are away.

use std::process::Output;

use harness::gateways::Protocols;
use mysql::prelude::Queryable;
use prost::Message;
use testkit::databases::{Database, Kind};
use testkit::engine::{SECRETS, World, event, eventually};

use crate::resonance_today;

/// What `why` answers: the last line.
fn why(world: &World, more: &str, args: &[&str]) -> String {
    sentence(&world.command(more, &[&["why"], args].concat()))
}

fn sentence(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{all}");
    SECRETS.iter().for_each(|secret| assert!(!all.contains(secret), "{all}"));
    assert!(!text.contains("hello"), "what a message says is nobody's business:\n{all}");
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn each_recipient_has_its_sentence() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    gateway.fail(["absent"], "user not connected");
    gateway.fail(["refused"], "quota exceeded");
    let more = "engine: {recorder: on}\ngateway: {delivery_timeout: 1s}\nmembers: {empty_wait: 0s}\n";
    let users = ["absent", "lost", "odd", "offline", "refused", "sender", "served"];
    world.members("s", &users);
    for user in ["absent", "refused", "sender", "served"] {
        world.route(user, "gw-1");
    }
    world.route("lost", "gw-9");
    world.route_value("odd", "no route");
    let content = "INSERT INTO t_message_content (msg_id, session_id, sender_username, seq_id, content) VALUES (1, 's', 'sender', 1, 'hello')";
    world.maria.connect().expect("MariaDB answers").query_drop(content).expect("a row");
    let engine = world.engine(1, more);
    let publisher = world.publisher();
    publisher.publish("s", "sender", [1]);
    publisher.publish("nobody-home", "sender", [2]);
    publisher.send(&event(&"x".repeat(65), "sender", 3).encode_to_vec());
    publisher.flush();
    engine.wait_ended(3);
    let admin = engine.admin().to_string();
    let of = |session: &str, user: &str, msg: &str, admin: &str| {
        why(&world, more, &["--session", session, "--user", user, "--msg", msg, "--admin", admin])
    };
    let stored = "the message is in the inbox, not read yet.";
    for (user, says, ends) in [
        ("absent", "was not at gateway gw-1, which said so twice", stored),
        ("refused", "was refused by gateway gw-1 with an error", stored),
        ("offline", "was not connected anywhere: Redis had no route", stored),
        ("odd", "has a route in Redis that is none", stored),
        ("lost", "was not reached: gateway gw-9 stayed unknown, unreachable or silent", stored),
        ("sender", "sent it, and is not pushed what it sent", ""),
        ("served", "is connected to a registered gateway now; no engine remembers that a push of it failed", ""),
        ("stranger", "is no member of the session", ""),
    ] {
        let sentence = of("s", user, "1", &admin);
        assert!(sentence.starts_with(&format!("message 1 of session s: {user} {says}")), "{sentence}");
        assert!(sentence.ends_with(ends), "{sentence}");
    }
    let sentence = of("nobody-home", "offline", "2", &admin);
    assert!(sentence.contains("the session had no members") && sentence.contains("dlq replay"), "{sentence}");
    let latest = why(&world, more, &["--session", "s", "--user", "offline", "--admin", &admin]);
    assert!(
        latest.starts_with("session s: offline was not connected anywhere") && latest.contains("message 1"),
        "{latest}"
    );

    // The engine is down: rows, letters and tables tell what they know.
    engine.stop_clean();
    for (session, user, msg, says) in [
        ("s", "offline", "1", "could not be reached when it came, and has a row in the inbox, not read yet."),
        ("s", "sender", "1", "sent it"),
        ("nobody-home", "offline", "2", "the session had no members"),
        ("s", "served", "1", "is connected to a registered gateway now; nothing tells of the message"),
    ] {
        let sentence = of(session, user, msg, &admin);
        assert!(sentence.contains(says), "{user}: {sentence}");
    }
    world.maria.kill9();
    let sentence = of("s", "offline", "1", &admin);
    assert!(sentence.contains("is not connected anywhere now") && sentence.contains("away: MySQL"), "{sentence}");
    eventually("nothing was pushed by asking", || gateway.pushes() >= 3);
}

#[test]
fn what_postgresql_holds_is_told_as_well() {
    let (world, database) = (World::start(), Database::start(Kind::Postgres));
    let servers = resonance_today::servers(&world, &database);
    let servers = servers.each_ref().map(|(name, value)| (*name, value.as_str()));
    database.add([("s", "anna"), ("s", "bert"), ("s", "cleo"), ("S", "dora")]);
    database.run(&[
        "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read) VALUES ('anna', 's', 1, 1, 0)",
        "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read) VALUES ('anna', 's', 2, 2, 1)",
        "INSERT INTO t_message_content (msg_id, session_id, sender_username, seq_id, content) VALUES (1, 's', 'cleo', 1, 'hello')",
    ]);
    let of = |more: &str, user: &str, msg: &[&str]| {
        let args = [&["why", "--session", "s", "--user", user, "--admin", "127.0.0.1:1"], msg].concat();
        sentence(&world.command_as(&(resonance_today::FILE.to_owned() + more), &servers, &args))
    };
    let spared = "\ninbox: {store: offline}\n";
    for (more, user, msg, says) in [
        (
            "",
            "anna",
            &["--msg", "1"][..],
            "message 1 of session s: anna has a row in the inbox, not read yet, as everybody",
        ),
        ("", "anna", &[], "session s: anna has a row in the inbox (message 2), and was read, as everybody"),
        (
            spared,
            "anna",
            &["--msg", "2"],
            "could not be reached when it came, and has a row in the inbox, and was read.",
        ),
        ("", "cleo", &["--msg", "1"], "sent it, and is not pushed what it sent"),
        ("", "bert", &["--msg", "1"], "is not connected anywhere now; nothing tells of the message"),
        ("", "dora", &["--msg", "1"], "is no member of the session"),
    ] {
        let sentence = of(more, user, msg);
        assert!(sentence.contains(says), "{user}: {sentence}");
    }
    database.kill();
    let sentence = of("", "anna", &["--msg", "1"]);
    assert!(sentence.contains("PostgreSQL could not be asked") && sentence.contains("away: PostgreSQL"), "{sentence}");
}
