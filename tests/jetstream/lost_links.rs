//! A link to NATS that is away for longer than ack_wait: the server delivers again what is still in hand.

use harness::servers::NatsVersion;
use task_engine::config::Assignment;
use task_engine::ports::Disposition;
use testkit::nats::server_at;

use crate::door::{Door, Way};
use crate::jetstream_support::{ACK_WAIT, client, consumer, numbers, on_both_servers, publish, ready, started, until};

on_both_servers! {
    what_is_in_hand_is_not_handed_in_again
}

fn what_is_in_hand_is_not_handed_in_again(version: NatsVersion) {
    for (assignment, subject, durable) in
        [(Assignment::Queue, "events", "engine"), (Assignment::Partitioned, "events.1", "engine-1")]
    {
        let (server, mut settings) = ready(version, assignment);
        let port = server.addr().rsplit_once(':').expect("host:port").1.parse().expect("a port");
        let door = Door::to(port, Way::Open);
        settings.nats.servers = server_at(&format!("127.0.0.1:{}", door.port()));
        let client = client(&server);
        let taking = started(&settings, 1);
        publish(&client, subject, "s", 0..50);
        let mut events = taking.take_many(50);
        for round in 1..=2 {
            door.set(Way::Closed);
            let until_then = std::time::Instant::now() + ACK_WAIT * 2;
            until("two ack_wait pass", || std::time::Instant::now() > until_then);
            door.set(Way::Open);
            // Somebody's work is reported again, and what is new comes.
            let number = 100 + round;
            publish(&client, subject, "s", number..number + 1);
            let mut taken = Vec::new();
            until("the new one comes, and all that is in hand was delivered again", || {
                taken.extend(taking.take());
                let is_again = consumer(&client, durable)["num_redelivered"] == 50 + round - 1;
                is_again && numbers(&taken).contains(&number)
            });
            assert_eq!(numbers(&taken), [number], "{version:?}, {assignment:?}: handed in again");
            events.extend(taken);
        }
        taking.settle(&events, Disposition::Ack);
        until("all is acknowledged", || consumer(&client, durable)["num_ack_pending"] == 0);
        assert!(taking.take().is_empty());
        taking.stop();
    }
}
