//! What a partition's reader left comes to its successor in stream order, also when the server delivers it again in another order,
//! or some of it much later; and a partition does not stand for ever for what is at another reader.
#![allow(deprecated)]

use std::time::Instant;

use crate::jetstream_support::{
    ACK_WAIT, NatsVersion, client, consumer, numbers, on_both_servers, publish, ready, started, until,
};
use task_engine::config::Assignment;
use task_engine::ports::Disposition;

on_both_servers! {
    what_the_server_has_in_another_order_comes_in_that_of_the_stream
    what_comes_late_is_waited_for
    what_is_kept_by_another_reader_is_waited_for_no_longer_than_it_may_take
}

const EVENTS: u64 = 20;

/// Takes all of a partition as an engine that is gone did; gives what each is acknowledged with.
fn taken_by_another(client: &nats::Connection) -> Vec<String> {
    publish(client, "events.1", "s", 0..EVENTS);
    let inbox = client.new_inbox();
    let pulled = client.subscribe(&inbox).expect("a subscription");
    let ask = format!(r#"{{"batch":{EVENTS}}}"#);
    client.publish_request("$JS.API.CONSUMER.MSG.NEXT.STREAM.engine-1", &inbox, ask).expect("asked");
    let taken = (0..EVENTS).map(|_| pulled.next_timeout(ACK_WAIT).expect("an event").reply.expect("an ack subject"));
    taken.collect()
}

fn what_the_server_has_in_another_order_comes_in_that_of_the_stream(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    // As what a server could not deliver to a connection that was gone: it is due at once, in this order.
    for reply in taken_by_another(&client).iter().rev() {
        client.publish(reply, "-NAK").expect("said");
    }
    publish(&client, "events.1", "s", EVENTS..EVENTS + 10);
    let second = started(&settings, 2);
    let events = second.take_many(EVENTS as usize + 10);
    assert_eq!(numbers(&events), (0..EVENTS + 10).collect::<Vec<_>>());
    assert_eq!(second.origin(events[0].1).deliveries, 2, "it was delivered again");
    second.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine-1")["num_ack_pending"] == 0);
    second.stop();
}

fn what_comes_late_is_waited_for(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let replies = taken_by_another(&client);
    let second = started(&settings, 2);
    // The first two are reported as in work, so that they are due after the others.
    let reported_until = Instant::now() + ACK_WAIT + ACK_WAIT / 2;
    until("an ack_wait and a half pass", || {
        replies[..2].iter().for_each(|reply| client.publish(reply, "+WPI").expect("said"));
        Instant::now() > reported_until
    });
    assert!(second.take().is_empty(), "nothing may come before the first");
    let events = second.take_many(EVENTS as usize);
    assert_eq!(numbers(&events), (0..EVENTS).collect::<Vec<_>>());
    publish(&client, "events.1", "s", EVENTS..EVENTS + 1);
    assert_eq!(numbers(&second.take_many(1)), [EVENTS], "nothing is held any more");
    second.stop();
}

fn what_is_kept_by_another_reader_is_waited_for_no_longer_than_it_may_take(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    let client = client(&server);
    let replies = taken_by_another(&client);
    let second = started(&settings, 2);
    let mut events = Vec::new();
    let began = Instant::now();
    until("the others come", || {
        client.publish(&replies[0], "+WPI").expect("said");
        events.extend(second.take());
        events.len() as u64 == EVENTS - 1
    });
    assert!(began.elapsed() > ACK_WAIT * 2, "{:?}", began.elapsed());
    assert_eq!(numbers(&events), (1..EVENTS).collect::<Vec<_>>());
    client.publish(&replies[0], "-NAK").expect("said");
    assert_eq!(numbers(&second.take_many(1)), [0], "it comes when it is given back");
    second.stop();
}
