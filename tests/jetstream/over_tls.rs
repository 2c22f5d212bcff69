//! JetStream over TLS: setup makes what is missing, events are read and acknowledged.
#![allow(deprecated)]

use harness::servers::{Authority, Nats, NatsOptions};
use task_engine::config::Assignment;
use task_engine::ports::Disposition;

use crate::jetstream_support::{
    NatsVersion, client, consumer, numbers, on_both_servers, publish, set_up, settings, started, until,
};

on_both_servers! {
    all_of_it_goes_over_tls
}

fn all_of_it_goes_over_tls(version: NatsVersion) {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(&["127.0.0.1"]).expect("a certificate");
    // The test's own client stays plain; the engine, which asks for TLS, does not.
    let config = authority.nats_block(&files, "") + "allow_non_tls: true\n";
    let server = Nats::start(&NatsOptions { version, jetstream: true, config, ..NatsOptions::default() });
    let server = server.expect("nats-server starts");
    let mut settings = settings(&server, Assignment::Partitioned);
    let other = Authority::new().expect("a CA");
    settings.nats.tls.ca = other.ca();
    let why = set_up(&settings, false).expect_err("another CA");
    assert!(why.contains(&server.addr()) && why.contains("signed by no CA that is trusted here"), "{why}");
    settings.nats.tls.ca = authority.ca();
    assert!(set_up(&settings, false).expect("setup").1);
    let taking = started(&settings, 2);
    taking.until_ready();
    let client = client(&server);
    publish(&client, "events.1", "s", 0..500);
    let mut all = Vec::new();
    while all.len() < 500 {
        let events = taking.take_many(1);
        taking.settle(&events, Disposition::Ack);
        all.extend(numbers(&events));
    }
    assert_eq!(all, (0..500).collect::<Vec<_>>());
    until("all is acknowledged", || consumer(&client, "engine-1")["ack_floor"]["stream_seq"] == 500);
    server.restart().expect("it comes back");
    until("it is noticed", || taking.intake.health() != task_engine::ports::Health::Ready);
    taking.until_ready();
    taking.stop();
}
