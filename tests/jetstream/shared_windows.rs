//! One instance holds at most its share of a window that several read through; one that is alone has all of it.

use std::time::Instant;

use task_engine::config::Assignment;
use task_engine::ports::Disposition;

use crate::jetstream_support::{
    NatsVersion, PATIENCE, Taking, client, consumer, on_both_servers, publish, ready, started, until,
};

on_both_servers! {
    two_instances_hold_half_each_and_one_holds_all
}

const WINDOW: usize = 256;

/// Publishes two windows, takes what comes until the window is full or `is_enough`, and gives how many each took.
fn fill(client: &nats::Connection, instances: &[&Taking], numbers: std::ops::Range<u64>) -> Vec<usize> {
    publish(client, "events", "s", numbers);
    let mut taken: Vec<Vec<_>> = instances.iter().map(|_| Vec::new()).collect();
    until("the window is full", || {
        for (instance, taken) in instances.iter().zip(&mut taken) {
            taken.extend(instance.take());
        }
        taken.iter().map(Vec::len).sum::<usize>() >= WINDOW - 2
    });
    let counts = taken.iter().map(Vec::len).collect();
    // All of both windows is settled, so that the next look begins anew.
    until("all is settled", || {
        for (instance, taken) in instances.iter().zip(&mut taken) {
            taken.extend(instance.take());
            instance.settle(&std::mem::take(taken), Disposition::Ack);
        }
        let info = consumer(client, "shared");
        info["num_ack_pending"] == 0 && info["num_pending"] == 0
    });
    counts
}

fn two_instances_hold_half_each_and_one_holds_all(version: NatsVersion) {
    let (server, mut settings) = ready(version, Assignment::Queue);
    let config = &mut settings.consumer;
    (config.durable, config.max_ack_pending) = ("shared".to_owned(), WINDOW as u32);
    let client = client(&server);
    let first = started(&settings, 1);
    first.until_ready();
    assert_eq!(fill(&client, &[&first], 0..512), [WINDOW], "alone");
    let second = started(&settings, 1);
    second.until_ready();
    let (began, mut from) = (Instant::now(), 1_000);
    loop {
        let counts = fill(&client, &[&first, &second], from..from + 512);
        if counts.iter().all(|count| *count <= WINDOW / 2 + 1) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still not half each: {counts:?}");
        from += 1_000;
    }
    second.stop();
    drop(second);
    let began = Instant::now();
    loop {
        from += 1_000;
        publish(&client, "events", "s", from..from + 512);
        let mut taken = Vec::new();
        let filled = Instant::now();
        while taken.len() < WINDOW && filled.elapsed().as_secs() < 2 {
            taken.extend(first.take());
        }
        let count = taken.len();
        until("all is settled", || {
            first.settle(&std::mem::take(&mut taken), Disposition::Ack);
            taken.extend(first.take());
            let info = consumer(&client, "shared");
            info["num_ack_pending"] == 0 && info["num_pending"] == 0
        });
        if count == WINDOW {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "alone again, and it takes only {count}");
    }
    first.stop();
}
