//! What a publisher says of an event's class in the header that the configuration names comes with the event, from a queue and
//! from a partition; a value that names no class comes as that.
#![allow(deprecated)]

use std::sync::Arc;

use harness::servers::Nats;
use task_engine::config::{Assignment, Config};
use task_engine::model::priority::{Priority, Said};

use crate::jetstream_support::{NatsVersion, Taking, client, event, on_both_servers, ready, until};

on_both_servers! {
    what_publishers_say_comes_with_their_events
}

fn what_publishers_say_comes_with_their_events(version: NatsVersion) {
    for (assignment, subject) in [(Assignment::Queue, "events"), (Assignment::Partitioned, "events.1")] {
        let (server, mut settings) = ready(version, assignment);
        settings.priority.header = "Class".into();
        let want = [Said::Class(Priority::Urgent), Said::Class(Priority::Fleeting), Said::Nothing, Said::Unknown];
        assert_eq!(all_said(&server, &settings, subject), (0..).zip(want).collect::<Vec<_>>(), "{assignment:?}");
    }
}

fn all_said(server: &Nats, settings: &Config, subject: &str) -> Vec<(u64, Said)> {
    let client = client(server);
    for (number, value) in ["urgent", " Fleeting ", "", "soon"].into_iter().enumerate() {
        let mut headers = nats::HeaderMap::new();
        headers.insert("CLASS", value.to_owned());
        let headers = (!value.is_empty()).then_some(&headers);
        client.publish_with_reply_or_headers(subject, None, headers, event("s", number as u64)).expect("published");
    }
    client.flush().expect("flushed");
    let taking = Taking::with_permit(settings, settings.consumer.partitions, 1, Arc::default());
    let mut all = Vec::new();
    until("all are taken", || {
        all.extend(taking.take_said());
        all.len() >= 4
    });
    taking.stop();
    all
}
