//! A publisher that waits for no confirmation still knows, once it has synced, which events a stream did not take.

use async_nats::jetstream::{self, stream};
use harness::publisher::NatsPublisher;
use harness::servers::{Nats, NatsOptions};

#[test]
fn what_a_full_stream_refuses_is_told_by_its_identity() {
    let nats = Nats::start(&NatsOptions { jetstream: true, ..NatsOptions::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let config = stream::Config {
            name: "FEW".to_owned(),
            subjects: vec!["few".to_owned()],
            max_messages: 1_000,
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        };
        jetstream::new(client).create_stream(config).await.unwrap();
    });
    let mut publisher = NatsPublisher::connect_to_stream(&nats.addr()).unwrap();
    for number in 0..1_100 {
        publisher.publish_known("few", (7, number), None, b"an event").unwrap();
    }
    publisher.sync().unwrap();
    let mut refused = publisher.not_taken();
    refused.sort_unstable();
    assert_eq!(refused, (1_000..1_100).map(|number| (7, number)).collect::<Vec<_>>());
    assert!(publisher.not_taken().is_empty(), "each is told once");
}
