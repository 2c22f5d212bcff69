//! A shard that takes nothing makes the reader wait: what the client can hold is not lost, what it cannot is counted.
#![allow(deprecated)]

use crate::intake_support::{Seen, Server, event, started_with_lanes, until};
use task_engine::model::limits::NATS_PENDING_MESSAGES;
use task_engine::ports::intake::DropReason;

#[test]
fn below_the_clients_limit_nothing_is_lost() {
    let server = Server::start(&[]);
    let taking = started_with_lanes(&server.settings(), 1, 64);
    taking.until_ready();
    let client = server.client();
    let published = 50_000;
    (0..published).for_each(|number| client.publish("events", event("s", number)).expect("published"));
    client.flush().expect("flushed");
    until("the lane is full", || taking.lanes[0].len() == 64);
    let mut seen = Seen::default();
    until("all are taken", || {
        seen.take(&taking);
        seen.events == published
    });
    taking.source.stop();
    assert_eq!(taking.intake.counts().dropped(DropReason::ClientLimit), 0);
}

#[test]
fn beyond_it_each_event_is_taken_or_counted_with_headers_and_without() {
    let server = Server::start(&[]);
    let taking = started_with_lanes(&server.settings(), 1, 8192);
    taking.until_ready();
    let client = server.client();
    let published = NATS_PENDING_MESSAGES as u64 + 20_000;
    let headers: nats::HeaderMap = [("a", "b")].into_iter().collect();
    for number in 0..published {
        // Some of both kinds at the end, where they are dropped.
        let some = (number % 1000 == 0).then_some(&headers);
        client.publish_with_reply_or_headers("events", None, some, event("s", number)).expect("published");
    }
    client.flush().expect("flushed");
    let counts = taking.intake.counts();
    until("the client is over its limit", || counts.dropped(DropReason::ClientLimit) > 10_000);
    let mut seen = Seen::default();
    until("each is taken or counted", || {
        seen.take(&taking);
        seen.events + counts.dropped(DropReason::ClientLimit) >= published
    });
    taking.source.stop();
    seen.take(&taking);
    assert_eq!(seen.events + counts.dropped(DropReason::ClientLimit), published);
    assert_eq!(counts.read(), seen.events);
}
