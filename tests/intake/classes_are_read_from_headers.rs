//! Promise: what a publisher says of an event's class in the header that the configuration names comes with the event, and a
//! value that names no class as that; without a header in the configuration nothing is read. So does what it says of when it
//! published the event.
#![allow(deprecated)]

use task_engine::config::Config;
use task_engine::model::priority::{Priority, Said};
use task_engine::model::publication::Published;

use crate::intake_support::{Server, Taking, event, until};

fn all_said(settings: &Config, server: &Server) -> Vec<(u64, Said)> {
    let taking = Taking::with_permit(settings, settings.consumer.partitions, 1, std::sync::Arc::default());
    taking.until_ready();
    let client = server.client();
    for (number, value) in ["urgent", " BULK ", "", "whenever"].into_iter().enumerate() {
        let mut headers = nats::HeaderMap::new();
        headers.insert("class", value.to_owned());
        let headers = (!value.is_empty()).then_some(&headers);
        client.publish_with_reply_or_headers("events", None, headers, event("s", number as u64)).expect("published");
    }
    client.flush().expect("flushed");
    let mut all = Vec::new();
    until("all are taken", || {
        all.extend(taking.take_said());
        all.len() >= 4
    });
    taking.source.stop();
    all
}

#[test]
fn what_publishers_say_comes_with_their_events() {
    let server = Server::start(&[]);
    let mut settings = server.settings();
    settings.priority.header = "Class".into();
    let want = [Said::Class(Priority::Urgent), Said::Class(Priority::Bulk), Said::Nothing, Said::Unknown];
    assert_eq!(all_said(&settings, &server), (0..).zip(want).collect::<Vec<_>>());
}

#[test]
fn without_a_header_in_the_configuration_none_is_read() {
    let server = Server::start(&[]);
    let all = all_said(&server.settings(), &server);
    assert!(all.iter().all(|(_, said)| *said == Said::Nothing), "{all:?}");
}

#[test]
fn when_events_were_published_comes_with_them_where_that_is_wanted() {
    let server = Server::start(&[]);
    let mut settings = server.settings();
    for is_wanted in [true, false] {
        settings.admin.push_latency = is_wanted;
        let taking = Taking::with_permit(&settings, settings.consumer.partitions, 1, std::sync::Arc::default());
        taking.until_ready();
        let mut headers = nats::HeaderMap::new();
        headers.insert("Resonance-Published", "1700000000123".to_owned());
        for (number, headers) in [(0, Some(&headers)), (1, None)] {
            server
                .client()
                .publish_with_reply_or_headers("events", None, headers, event("s", number))
                .expect("published");
        }
        let mut all = Vec::new();
        until("both are taken", || {
            all.extend(taking.take_published());
            all.len() >= 2
        });
        taking.source.stop();
        all.sort_by_key(|(number, _)| *number);
        let said = if is_wanted { Published::at_nanos(1_700_000_000_123_000_000) } else { Published::UNKNOWN };
        assert_eq!(all, [(0, said), (1, Published::UNKNOWN)]);
    }
}
