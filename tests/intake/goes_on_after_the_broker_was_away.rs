//! A broker that is away, killed, frozen or closed to us is named with what to check; when it is back, reading goes on.
#![allow(deprecated)]

use std::time::Duration;

use crate::intake_support::{Seen, Server, Taking, event, started, until};
use testkit::nats::user;

/// Publishes from `next` on until one more arrives: what is published before the subscription stands is nobody's.
fn passes_again(server: &Server, taking: &Taking, seen: &mut Seen, next: u64) {
    let client = server.client();
    client.publish("events", event("s", next)).expect("published");
    client.flush().expect("flushed");
    let before = seen.events;
    until("the event is taken", || {
        seen.take(taking);
        seen.events > before
    });
    assert_eq!(seen.events, before + 1, "exactly once");
}

#[test]
fn a_killed_server_comes_back() {
    let mut server = Server::start(&[]);
    let taking = started(&server.settings(), 2);
    taking.until_ready();
    let mut seen = Seen::default();
    for round in 0..3 {
        passes_again(&server, &taking, &mut seen, round);
        server.kill();
        taking.until_waiting(&[&server.address(), "check"]);
        server.start_again();
        taking.until_ready();
    }
    passes_again(&server, &taking, &mut seen, 3);
    taking.source.stop();
    assert_eq!(taking.intake.counts().read(), 4);
}

#[test]
fn a_server_that_is_not_there_yet_is_named_and_waited_for() {
    let mut server = Server::start(&[]);
    server.kill();
    let taking = started(&server.logged_in(user("u", "s3cret")), 1);
    let said = taking.until_waiting(&[&server.address(), "refused", "nats.url"]);
    assert!(!said.contains("s3cret"), "{said}");
    server.start_again();
    taking.until_ready();
    passes_again(&server, &taking, &mut Seen::default(), 0);
    taking.source.stop();
}

#[test]
fn a_frozen_server_is_noticed_and_reading_goes_on_when_it_thaws() {
    let server = Server::start(&[]);
    let mut settings = server.settings();
    (settings.nats.ping_interval, settings.nats.timeout) = (Duration::from_millis(100), Duration::from_millis(200));
    let taking = started(&settings, 1);
    taking.until_ready();
    let mut seen = Seen::default();
    passes_again(&server, &taking, &mut seen, 0);
    server.freeze(true);
    taking.until_waiting(&["does not answer"]);
    server.freeze(false);
    taking.until_ready();
    for number in 1..20 {
        passes_again(&server, &taking, &mut seen, number);
    }
    taking.source.stop();
    assert_eq!(seen.events, 20);
}

#[test]
fn a_stop_while_the_server_is_away_is_quick() {
    let mut server = Server::start(&[]);
    let taking = started(&server.settings(), 1);
    taking.until_ready();
    server.kill();
    taking.until_waiting(&["check"]);
    let started = std::time::Instant::now();
    taking.source.stop();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
