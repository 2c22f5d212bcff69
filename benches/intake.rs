//! Intake, per event: `scan` finds the session's id (which shard?), `decode` reads and checks the whole event and cuts
//! out the message, `lane` takes an event from a reader's burst through its shard's lane.
//!
//! The same events come again and again, so the CPU has learnt them: these are floors, and the same steps cost more in
//! the middle of `core`. Not in it: the broker's client and its socket, and what two cores cost a reader and its shard.

mod support;

use std::hint::black_box;
use std::sync::Arc;

use support::facts::event;
use task_engine::ports::intake::{Intake, session_id};
use task_engine::ports::{DeliveryTag, Offer};
use task_engine::push::ingest;

/// Events of one iteration.
const EVENTS: u64 = 256;

fn main() {
    support::run("intake (per event)", |cases| {
        let payloads: Vec<_> = (0..EVENTS as i64).map(|id| event(id as usize, "user-00000001", id << 40)).collect();
        cases.case("scan", EVENTS, |clock| {
            let found =
                clock.time(|| payloads.iter().filter(|payload| session_id(black_box(payload)).is_some()).count());
            assert_eq!(found, payloads.len());
        });
        cases.case("decode", EVENTS, |clock| {
            let mut read = Vec::with_capacity(payloads.len());
            let fresh = payloads.clone();
            clock.time(|| read.extend(fresh.into_iter().map(ingest::read)));
            assert!(read.iter().all(Result::is_ok));
        });
        let (intake, lanes) = Intake::new(vec![Arc::default()], 64, Arc::default());
        cases.case("lane", EVENTS, |clock| {
            let fresh = payloads.clone();
            let mut taken = Vec::with_capacity(payloads.len());
            clock.time(|| {
                let mut burst = intake.burst();
                for (number, payload) in (0..).zip(fresh) {
                    assert_eq!(burst.put(payload, DeliveryTag { reader: 0, number }), Offer::Taken);
                }
                drop(burst);
                while let Some(event) = lanes[0].try_take_timed() {
                    taken.push(event);
                }
            });
            assert_eq!(taken.len(), payloads.len());
        });
    });
}
