//! What a publisher says of an event's class in the header that the configuration names comes with the event, from a queue and
//! from a partition; a value that names no class comes as that. When an event was published comes with it, where that is wanted: as its
//! publisher says, or else as the server says when it stored the event.
#![allow(deprecated)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::servers::Nats;
use task_engine::config::{Assignment, Config};
use task_engine::model::priority::{Priority, Said};
use task_engine::model::publication::Published;

use crate::jetstream_support::{NatsVersion, Taking, client, event, on_both_servers, ready, until};

on_both_servers! {
    what_publishers_say_comes_with_their_events
    when_events_were_published_comes_with_them
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

/// The second one says nothing, the third nothing that is a time.
const PUBLISHED: [&str; 3] = ["1700000000123", "", "just now"];

fn when_events_were_published_comes_with_them(version: NatsVersion) {
    for (assignment, subject) in [(Assignment::Queue, "events"), (Assignment::Partitioned, "events.1")] {
        let (server, mut settings) = ready(version, assignment);
        let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let client = client(&server);
        for (number, value) in PUBLISHED.into_iter().enumerate() {
            let mut headers = nats::HeaderMap::new();
            headers.insert("resonance-published", value.to_owned());
            let headers = (!value.is_empty()).then_some(&headers);
            client.publish_with_reply_or_headers(subject, None, headers, event("s", number as u64)).expect("published");
        }
        client.flush().expect("flushed");
        settings.admin.push_latency = true;
        let all = all_published(&settings);
        assert_eq!(all[0], (0, Published::at_nanos(1_700_000_000_123_000_000)), "{assignment:?}");
        let after = before + Duration::from_secs(60);
        for (_, stored) in &all[1..] {
            let age = stored.age_at(after.as_nanos() as u64).expect("the server says when it stored it");
            assert!(age <= after - before + Duration::from_millis(1), "{assignment:?}: {age:?}");
        }
        // Where nobody wants to know, nobody looks.
        settings.admin.push_latency = false;
        settings.consumer.durable = "another".into();
        assert!(all_published(&settings).iter().all(|(_, published)| *published == Published::UNKNOWN));
    }
}

fn all_published(settings: &Config) -> Vec<(u64, Published)> {
    let taking = Taking::with_permit(settings, settings.consumer.partitions, 1, Arc::default());
    let mut all = Vec::new();
    until("all are taken", || {
        all.extend(taking.take_published());
        all.len() >= PUBLISHED.len()
    });
    taking.stop();
    all
}
