//! Refused logins and subscriptions are said in words that name the keys to look at, never a secret; right ones work.
#![allow(deprecated)]

use crate::intake_support::{Server, started};
use task_engine::config::{self, Flags};
use testkit::nats::{token, user};

#[test]
fn a_wrong_password_is_said_without_it() {
    let server = Server::start(&["--user", "engine", "--pass", "r1ght@pass"]);
    let wrong = started(&server.logged_in(user("engine", "wr0ng-s3cret")), 1);
    let said = wrong.until_waiting(&[&server.address(), "login was refused", "nats.password"]);
    assert!(!said.contains("s3cret") && !said.contains("r1ght"), "{said}");
    let none = started(&server.settings(), 1);
    none.until_waiting(&["login was refused", "set nats.username"]);
    let right = started(&server.logged_in(user("engine", "r1ght@pass")), 1);
    right.until_ready();
    let in_url = format!("nats:\n  url: engine:r1ght%40pass@{}\n", server.address());
    let in_url = config::parse("a file", &in_url, [], &Flags::default()).expect("a configuration").config.nats.auth;
    let in_url = started(&server.logged_in(in_url), 1);
    in_url.until_ready();
    for taking in [wrong, none, right, in_url] {
        taking.source.stop();
    }
}

#[test]
fn a_wrong_token_is_said_without_it() {
    let server = Server::start(&["--auth", "r1ght-token"]);
    let wrong = started(&server.logged_in(token("wr0ng-token")), 1);
    let said = wrong.until_waiting(&["login was refused", "nats.token"]);
    assert!(!said.contains("wr0ng"), "{said}");
    let right = started(&server.logged_in(token("r1ght-token")), 1);
    right.until_ready();
    wrong.source.stop();
    right.source.stop();
}

#[test]
fn a_forbidden_topic_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nats.conf");
    let who = r#"{user: engine, password: pw, permissions: {subscribe: ["other.>"], publish: []}}"#;
    std::fs::write(&file, format!("authorization {{ users: [{who}] }}")).expect("written");
    let server = Server::start(&["-c", file.to_str().expect("a path")]);
    let login = |topic: &str| {
        let mut settings = server.logged_in(user("engine", "pw"));
        settings.consumer.topic = topic.to_owned();
        settings
    };
    let forbidden = started(&login("events"), 1);
    forbidden.until_waiting(&["Permissions Violation", "events", "check the user's permissions"]);
    // Leaving publishes to nobody: a user that may not do that leaves all the same.
    let allowed = started(&login("other.events"), 1);
    allowed.until_ready();
    let started = std::time::Instant::now();
    allowed.source.stop();
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    forbidden.source.stop();
}
