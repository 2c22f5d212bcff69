//! Intake without a broker: order, waiting, stopping, waking, counting.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;

use super::*;

fn event(session: &str, number: u8) -> Bytes {
    let mut payload = vec![0x08, number, 0x1a, session.len() as u8];
    payload.extend_from_slice(session.as_bytes());
    payload.into()
}

fn tag(number: u64) -> DeliveryTag {
    DeliveryTag { reader: 0, number }
}

fn intake(shards: usize, lane_events: usize) -> (Intake, Vec<IntakeLane>) {
    let wakes = (0..shards).map(|_| Arc::default()).collect();
    Intake::with_lane_events(wakes, 64, Arc::default(), lane_events)
}

#[test]
fn a_session_has_one_shard_and_keeps_its_order() {
    let (intake, lanes) = intake(3, 1000);
    for number in 0..200_u64 {
        let session = format!("group:{}", number % 10);
        assert_eq!(intake.offer(event(&session, (number / 10) as u8), tag(number)), Offer::Taken);
    }
    let mut seen = 0;
    let mut home = BTreeMap::new();
    for (shard, lane) in lanes.iter().enumerate() {
        while let Some((payload, tag)) = lane.try_take() {
            let session = session_id(&payload).expect("an event").to_vec();
            let (its_shard, next) = home.entry(session).or_insert((shard, 0));
            assert_eq!((*its_shard, *next), (shard, u64::from(payload[1])), "tag {tag:?}");
            *next += 1;
            seen += 1;
        }
    }
    assert_eq!((seen, intake.counts().read(), intake.counts().taken()), (200, 200, 200));
}

#[test]
fn what_is_no_event_goes_to_shard_0() {
    let (intake, lanes) = intake(4, 8);
    for bytes in [&b"\xff"[..], b"\x18\x01", b"\x1a\x7fshort"] {
        assert_eq!(intake.home_of(bytes), ShardId(0));
        assert_eq!(intake.offer(Bytes::copy_from_slice(bytes), tag(0)), Offer::Taken);
    }
    assert_eq!(lanes[0].len(), 3);
}

#[test]
fn a_full_lane_makes_the_reader_wait_and_loses_nothing() {
    let (intake, lanes) = intake(1, 4);
    let reader = thread::spawn({
        let intake = intake.clone();
        move || {
            let mut burst = intake.burst();
            (0..1000).all(|number| burst.put(event("s", 0), tag(number)) == Offer::Taken)
        }
    });
    let mut expected = 0;
    while expected < 1000 {
        assert!(lanes[0].len() <= 4);
        match lanes[0].try_take() {
            Some((_, tag)) => {
                assert_eq!(tag.number, expected);
                expected += 1;
            }
            None => thread::yield_now(),
        }
    }
    assert!(reader.join().expect("the reader ends"));
    assert!(lanes[0].is_empty());
}

#[test]
fn an_event_carries_when_its_reader_had_it() {
    let (intake, lanes) = intake(1, WAKE_EVERY as usize + 2);
    let before = Instant::now();
    let mut burst = intake.burst();
    for number in 0..u64::from(WAKE_EVERY) + 1 {
        assert_eq!(burst.put(event("s", 0), tag(number)), Offer::Taken);
    }
    burst.finish();
    let between = Instant::now();
    assert_eq!(burst.put(event("s", 0), tag(1000)), Offer::Taken);
    drop(burst);
    let after = Instant::now();
    let times: Vec<_> = std::iter::from_fn(|| lanes[0].try_take_timed()).map(|(.., received)| received).collect();
    let (run, last) = times.split_at(WAKE_EVERY as usize);
    assert!(run.iter().all(|received| *received == run[0]), "one look at the clock for a run");
    assert!(before <= run[0] && run[0] <= last[0] && last[0] <= between, "a run that goes on is looked at again");
    assert!(between <= last[1] && last[1] <= after, "a finished burst begins anew");
}

#[test]
fn the_wait_for_a_full_lane_counts() {
    let (intake, lanes) = intake(1, 1);
    let reader = thread::spawn({
        let intake = intake.clone();
        move || [intake.offer(event("s", 0), tag(0)), intake.offer(event("s", 1), tag(1))]
    });
    // What was read is published before the reader naps, so the second event has its time by then.
    while intake.counts().read() < 2 {
        thread::yield_now();
    }
    let still_full = Instant::now();
    assert!(lanes[0].try_take_timed().is_some());
    assert_eq!(reader.join().expect("the reader ends"), [Offer::Taken; 2]);
    let (.., received) = lanes[0].try_take_timed().expect("the second event");
    assert!(received <= still_full, "received before there was room");
}

#[test]
fn a_stop_lets_a_waiting_reader_go_and_counts_what_it_held() {
    let (intake, lanes) = intake(1, 1);
    let reader = thread::spawn({
        let intake = intake.clone();
        move || [intake.offer(event("s", 0), tag(0)), intake.offer(event("s", 1), tag(1))]
    });
    while lanes[0].is_empty() {
        thread::yield_now();
    }
    intake.stop();
    assert_eq!(reader.join().expect("the reader ends"), [Offer::Taken, Offer::Stopping]);
    let counts = intake.counts();
    assert_eq!((counts.read(), counts.taken(), counts.dropped(DropReason::Stopping)), (2, 1, 1));
}

#[test]
fn a_sleeping_shard_is_woken_for_every_event() {
    let wakes: Vec<Arc<Wake>> = vec![Arc::default(), Arc::default()];
    let (intake, lanes) = Intake::new(wakes.clone(), 64, Arc::default());
    let shards: Vec<_> = lanes
        .into_iter()
        .zip(wakes)
        .map(|(lane, wake)| {
            thread::spawn(move || {
                let mut taken = 0;
                futures_lite::future::block_on(poll_fn(|context| {
                    loop {
                        while let Some((_, tag)) = lane.try_take() {
                            taken += 1;
                            if tag.number == u64::MAX {
                                return Poll::Ready(());
                            }
                        }
                        wake.falling_asleep(context.waker());
                        if lane.is_empty() {
                            return Poll::Pending;
                        }
                        wake.awake();
                    }
                }));
                taken
            })
        })
        .collect();
    for number in 0..20_000_u64 {
        let session = format!("s{}", number % 7);
        assert_eq!(intake.offer(event(&session, 0), tag(number)), Offer::Taken);
        if number % 3 == 0 {
            thread::yield_now();
        }
    }
    for shard in 0..2 {
        assert_eq!(intake.offer_to_own(ShardId(shard), Bytes::new(), tag(u64::MAX)), Offer::Taken);
    }
    let taken: u64 = shards.into_iter().map(|shard| shard.join().expect("a shard that was woken ends")).sum();
    assert_eq!(taken, 20_002);
}

#[test]
fn health_names_each_trouble_once() {
    let (intake, _lanes) = intake(1, 1);
    assert!(matches!(intake.health(), Health::Waiting(_)));
    intake.report(0, Health::Ready);
    assert_eq!(intake.health(), Health::Ready);
    intake.report(1, Health::Waiting("away".into()));
    intake.report(2, Health::Waiting("away".into()));
    assert_eq!(intake.health(), Health::Waiting("away".into()));
}
