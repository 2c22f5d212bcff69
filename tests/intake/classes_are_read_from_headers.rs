//! Promise: what a publisher says of an event's class in the header that the configuration names comes with the event, and a
//! value that names no class as that; without a header in the configuration nothing is read.
#![allow(deprecated)]

use task_engine::config::Config;
use task_engine::model::priority::{Priority, Said};

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
