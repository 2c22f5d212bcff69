//! A user who may not acknowledge, or not pull, is not ready and takes no event; setup says so as well.
#![allow(deprecated)]

use std::time::Duration;

use harness::servers::Nats;
use task_engine::config::{Assignment, Config};
use task_engine::ports::{Disposition, Health};

use crate::jetstream_support::{
    NatsVersion, consumer, on_both_servers, publish, set_up, settings, started, until, with_rights,
};

on_both_servers! {
    who_may_not_acknowledge_takes_nothing
    who_may_not_pull_is_never_ready
    narrow_rights_are_enough
    a_right_that_is_taken_away_ends_the_pulls_until_it_is_back
    acks_that_are_refused_until_the_stop_are_counted
}

fn rights_of(version: NatsVersion, publish: &str) -> (Nats, Config, nats::Connection) {
    with_rights(version, publish, |server| settings(server, Assignment::Queue))
}

/// Never ready, nothing taken, and said with these words by the engine and by setup.
fn takes_nothing(version: NatsVersion, rights: &str, words: &[&str]) {
    let (_server, engine, client) = rights_of(version, rights);
    publish(&client, "events", "s", 0..5);
    let taking = started(&engine, 1);
    let said = taking.until_waiting(words);
    assert!(!said.contains("s3cret"), "{said}");
    for _ in 0..300 {
        assert!(taking.intake.health() != Health::Ready, "ready although nothing can be settled");
        assert!(taking.take().is_empty(), "an event was taken");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let info = consumer(&client, "engine");
    assert_eq!((&info["num_ack_pending"], &info["delivered"]["consumer_seq"]), (&0.into(), &0.into()));
    taking.stop();
    let (lines, is_usable) = set_up(&engine, false).expect("a run");
    assert!(!is_usable && lines.iter().any(|line| words[1..].iter().all(|word| line.contains(word))), "{lines:?}");
}

fn who_may_not_acknowledge_takes_nothing(version: NatsVersion) {
    takes_nothing(version, r#"{ deny: "$JS.ACK.>" }"#, &["user engine", "$JS.ACK.STREAM.engine.", "must be allowed"]);
}

fn who_may_not_pull_is_never_ready(version: NatsVersion) {
    let denied = r#"{ deny: "$JS.API.CONSUMER.MSG.NEXT.>" }"#;
    takes_nothing(version, denied, &["user engine", "$JS.API.CONSUMER.MSG.NEXT.STREAM.engine", "must be allowed"]);
}

/// The look at the rights needs no more than reading does, and takes no event.
fn narrow_rights_are_enough(version: NatsVersion) {
    let rights = r#"{ allow: ["$JS.API.STREAM.INFO.STREAM", "$JS.API.CONSUMER.INFO.STREAM.engine",
        "$JS.API.CONSUMER.MSG.NEXT.STREAM.engine", "$JS.ACK.STREAM.engine.*.*.*.*.*"] }"#;
    let (_server, engine, client) = rights_of(version, rights);
    publish(&client, "events", "s", 0..3);
    let taking = started(&engine, 1);
    let events = taking.take_many(3);
    taking.until_ready();
    taking.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine")["ack_floor"]["stream_seq"] == 3);
    let info = consumer(&client, "engine");
    assert_eq!((&info["num_redelivered"], &info["delivered"]["consumer_seq"]), (&0.into(), &3.into()));
    taking.stop();
}

/// Rights that change while the server runs.
struct Changing {
    folder: tempfile::TempDir,
}

impl Changing {
    fn start(version: NatsVersion) -> (Self, (Nats, Config, nats::Connection)) {
        let changing = Self { folder: tempfile::tempdir().expect("a folder") };
        changing.write(r#"{ allow: ">" }"#);
        // Included from beside the server's own folder: absolute paths are no way to include.
        let beside = changing.folder.path().file_name().expect("a name").display();
        let rights = format!("{{ allow: \">\" }}\n include \"../{beside}/rights.conf\"");
        let world = rights_of(version, &rights);
        (changing, world)
    }

    fn write(&self, right: &str) {
        std::fs::write(self.folder.path().join("rights.conf"), format!("publish: {right}\n")).expect("written");
    }

    fn grant(&self, right: &str, server: &Nats) {
        self.write(right);
        let pid = server.pid().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().expect("kill runs").success());
    }
}

fn acks_that_are_refused_until_the_stop_are_counted(version: NatsVersion) {
    let (rights, (server, engine, client)) = Changing::start(version);
    let taking = started(&engine, 1);
    taking.until_ready();
    publish(&client, "events", "s", 0..5);
    let events = taking.take_many(5);
    taking.settle(&events[..2], Disposition::Ack);
    until("two are acknowledged", || consumer(&client, "engine")["ack_floor"]["stream_seq"] == 2);
    rights.grant(r#"{ deny: "$JS.ACK.>" }"#, &server);
    std::thread::park_timeout(Duration::from_millis(500));
    taking.settle(&events[2..], Disposition::Ack);
    taking.until_waiting(&["$JS.ACK.STREAM.engine.", "must be allowed"]);
    taking.stop();
    assert_eq!(taking.intake.counts().acks_refused(), 3);
}

fn a_right_that_is_taken_away_ends_the_pulls_until_it_is_back(version: NatsVersion) {
    let (rights, (server, engine, client)) = Changing::start(version);
    let taking = started(&engine, 1);
    taking.until_ready();
    publish(&client, "events", "s", 0..3);
    let events = taking.take_many(3);
    rights.grant(r#"{ deny: "$JS.ACK.>" }"#, &server);
    std::thread::park_timeout(Duration::from_millis(500));
    taking.settle(&events, Disposition::Ack);
    taking.until_waiting(&["user engine", "$JS.ACK.STREAM.engine.", "must be allowed"]);
    publish(&client, "events", "s", 3..6);
    for _ in 0..200 {
        assert!(taking.take().is_empty() && taking.intake.health() != Health::Ready);
        std::thread::park_timeout(Duration::from_millis(10));
    }
    rights.grant(r#"{ allow: ">" }"#, &server);
    taking.until_ready();
    until("all is settled", || {
        taking.settle(&taking.take(), Disposition::Ack);
        consumer(&client, "engine")["ack_floor"]["stream_seq"] == 6
    });
    taking.stop();
    assert_eq!(taking.intake.counts().acks_refused(), 0, "they came again and were acknowledged");
}
