//! The source in memory: order, back-pressure, and a stop that hands in all that was accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use task_engine::edge::memory::{MemoryMembers, MemorySource, SourceStopped};
use task_engine::ports::intake::{DropReason, Intake};
use task_engine::ports::{DeliveryTag, Disposition, Members, Settled, Source};

#[test]
fn what_was_accepted_is_handed_in_when_it_is_stopped() {
    let (intake, mut lanes) = Intake::with_lane_events(vec![Arc::default()], 64, Arc::default(), 16);
    let lane = lanes.remove(0);
    let (source, publisher) = MemorySource::new();
    let running = Box::new(source).start(intake.clone()).expect("a thread");
    let accepted = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..3)
        .map(|_| {
            let (publisher, accepted) = (publisher.clone(), accepted.clone());
            thread::spawn(move || {
                while publisher.publish(vec![0x1a, 1, b's']) != Err(SourceStopped) {
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let shard = thread::spawn({
        let over = over.clone();
        move || {
            let mut next = 0;
            loop {
                // Looked at first: what is in the lane by then is all.
                let last = over.load(Ordering::Acquire);
                while let Some((_, tag)) = lane.try_take() {
                    assert_eq!(tag, DeliveryTag { reader: 0, number: next });
                    next += 1;
                }
                if last {
                    return next;
                }
                thread::yield_now();
            }
        }
    });
    while intake.counts().taken() < 10_000 {
        thread::yield_now();
    }
    running.stop();
    over.store(true, Ordering::Release);
    publishers.into_iter().for_each(|publisher| publisher.join().expect("it was told to end"));
    let taken = shard.join().expect("a shard that ends");
    assert_eq!(taken, accepted.load(Ordering::Relaxed));
    running.settle(&[Settled { tag: DeliveryTag::default(), how: Disposition::Ack }; 3]);
    assert_eq!(publisher.settled(), 3);
}

#[test]
fn a_stop_with_a_paused_shard_lets_publishers_go_and_counts_the_rest() {
    let (intake, lanes) = Intake::with_lane_events(vec![Arc::default()], 64, Arc::default(), 4);
    let (source, publisher) = MemorySource::new();
    let running = Box::new(source).start(intake.clone()).expect("a thread");
    (0..20).for_each(|_| publisher.publish(vec![0x1a, 1, b's']).expect("accepted"));
    while lanes[0].len() < 4 {
        thread::yield_now();
    }
    running.stop();
    assert_eq!(publisher.publish(Vec::new()), Err(SourceStopped));
    let counts = intake.counts();
    assert_eq!(counts.taken(), 4);
    assert_eq!(counts.read(), counts.taken() + counts.dropped(DropReason::Stopping));
    assert_eq!(counts.read(), 20, "each that was accepted is counted");
}

#[test]
fn members_change_under_their_readers() {
    let members = MemoryMembers::new();
    let mut reader = members.open();
    members.set("s", ["a", "b"]);
    let mut ask = || reader.members(&["s".into(), "nobody".into()]).expect("it is always there");
    assert_eq!(ask()[0].iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(ask()[1].is_empty());
    members.remove("s");
    assert!(ask()[0].is_empty());
}
