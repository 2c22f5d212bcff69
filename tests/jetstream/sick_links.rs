//! A way to the broker that lets each connection stand for a moment only.

use std::time::{Duration, Instant};

use task_engine::config::Assignment;
use task_engine::ports::Disposition;
use testkit::nats::server_at;

use crate::door::{Door, Way};
use crate::jetstream_support::{NatsVersion, client, consumer, on_both_servers, publish, ready, started, until};

on_both_servers! {
    a_connection_that_is_dropped_each_time_is_not_dialled_without_a_break
}

/// How long each connection stands, and how long they are counted.
const LIFE: Duration = Duration::from_millis(100);
const COUNTED: Duration = Duration::from_secs(4);
/// A try has a look at the server before it connects.
const CONNECTIONS_A_TRY: usize = 2;

fn a_connection_that_is_dropped_each_time_is_not_dialled_without_a_break(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    let port = server.addr().rsplit_once(':').expect("host:port").1.parse().expect("a port");
    let door = Door::to(port, Way::Open);
    settings.nats.servers = server_at(&format!("127.0.0.1:{}", door.port()));
    settings.nats.reconnect_delay = Duration::from_millis(500);
    let client = client(&server);
    let taking = started(&settings, 1);
    taking.until_ready();
    publish(&client, "events", "s", 0..5);
    let events = taking.take_many(5);
    taking.intake.shut("a test".to_owned());
    until("nothing is read any more", || taking.source.may_give_back());
    door.set(Way::Brief(LIFE));
    let (began, before) = (Instant::now(), door.came());
    until("it was counted for a while", || began.elapsed() > COUNTED);
    let tries = (door.came() - before) / CONNECTIONS_A_TRY;
    // Half of `nats.reconnect_delay` at the least lies between two.
    assert!((2..=14).contains(&tries), "{tries} tries in {COUNTED:?}");
    let came = door.came();
    door.set(Way::Open);
    // What is acknowledged over one that is dropped is lost with it, and comes again only once events are read.
    until("a connection came that is not dropped", || door.came() > came);
    taking.settle(&events, Disposition::Ack);
    until("all is acknowledged", || consumer(&client, "engine")["num_ack_pending"] == 0);
    taking.intake.open();
    taking.until_ready();
    publish(&client, "events", "s", 5..8);
    assert_eq!(taking.take_many(3).len(), 3, "and it reads again");
    taking.stop();
}
