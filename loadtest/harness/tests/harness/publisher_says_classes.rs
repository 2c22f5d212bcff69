//! A publisher says the class of an event in a header, to whoever reads the subject and to a stream; without one it says nothing.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_lite::StreamExt as _;
use harness::publisher::NatsPublisher;
use harness::servers::{Nats, NatsOptions};
use task_engine::model::priority::Priority;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn each_event_comes_with_its_class() {
    let nats = Nats::start(&NatsOptions { jetstream: true, ..NatsOptions::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let config =
            stream::Config { name: "KEPT".to_owned(), subjects: vec!["kept".to_owned()], ..stream::Config::default() };
        let stream = jetstream::new(client.clone()).create_stream(config).await.unwrap();
        for subject in ["kept", "plain"] {
            let mut subscriber = client.subscribe(subject).await.unwrap();
            client.flush().await.unwrap();
            let publisher = if subject == "kept" { NatsPublisher::connect_to_stream } else { NatsPublisher::connect };
            let mut publisher = publisher(&nats.addr()).unwrap();
            for (number, class) in (0..).zip([None, Some(Priority::Urgent), Some(Priority::Fleeting)]) {
                publisher.publish_known(subject, (7, number), class, b"an event").unwrap();
                publisher.sync().unwrap();
                let message = timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap();
                let said = message.headers.as_ref().and_then(|headers| headers.get("Resonance-Priority"));
                assert_eq!(said.map(|word| word.as_str()), class.map(Priority::label), "{subject}");
                assert_eq!(message.payload, "an event");
            }
            assert!(publisher.not_taken().is_empty());
        }
        assert_eq!(stream.get_info().await.unwrap().state.messages, 3);
    });
}
