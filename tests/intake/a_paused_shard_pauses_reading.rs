//! A shard that takes nothing makes the reader wait: what the client can hold is not lost, what it cannot is counted.
#![allow(deprecated)]

use crate::intake_support::{Seen, Server, event, started_with_lanes, until};
use task_engine::model::limits::NATS_PENDING_MESSAGES;

#[test]
fn what_fits_the_reader_waits_there_and_nothing_is_lost() {
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
    assert_eq!(taking.intake.counts().cut_off(), 0);
}

#[test]
fn beyond_it_nothing_is_read_and_what_the_server_holds_meanwhile_is_not_lost() {
    let server = Server::start(&[]);
    let taking = started_with_lanes(&server.settings(), 1, 8192);
    taking.until_ready();
    let client = server.client();
    let published = NATS_PENDING_MESSAGES as u64 + 200_000;
    for number in 0..published {
        client.publish("events", event("s", number)).expect("published");
    }
    client.flush().expect("flushed");
    until("the lane is full", || taking.lanes[0].len() == 8192);
    assert_eq!(taking.intake.counts().read(), 8192, "the rest waits in the reader and in the server");
    let mut seen = Seen::default();
    until("all are taken", || {
        seen.take(&taking);
        seen.events == published
    });
    taking.source.stop();
    let counts = taking.intake.counts();
    assert_eq!((counts.read(), counts.taken(), counts.cut_off()), (published, published, 0));
}
