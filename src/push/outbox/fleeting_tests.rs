//! What is fleeting is not begun to be written after its time, and what a gateway may have read does not end as dropped.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::model::ids::{GatewayIx, SessionIx, StreamNo};
use crate::model::priority::Priority;
use crate::push::facts::{StreamEnd, StreamFact};
use crate::push::outbox::answers_tests::{bundle, record};

const AT: GatewayIx = GatewayIx(0);
const TTL: Duration = Duration::from_secs(1);
/// A message that fills what a stream may hold unsent.
const FULL: usize = crate::model::limits::STREAM_UNSENT_BYTES_MAX;

struct Waiting {
    outbox: Outbox,
    now: Nanos,
    stream: StreamNo,
}

impl Waiting {
    /// A gateway whose stream takes nothing more.
    fn new() -> Self {
        let stream_target = Some(Duration::ZERO);
        let settings = OutboxSettings { stream_target, fleeting_ttl: TTL, ..OutboxSettings::patient() };
        let mut waiting = Self { outbox: Outbox::new("gateway".into(), settings), now: Nanos(1), stream: StreamNo(1) };
        waiting.outbox.list(record(Protocol::Stream), waiting.now);
        waiting
    }

    /// A bundle of a session of its own.
    fn put(&mut self, number: u32, class: Priority, age_millis: u16, bytes: usize) {
        let message = vec![0; bytes].into();
        let of = bundle(i64::from(number));
        let bundle = Bundle { class, age_millis, session: SessionIx(number), message, made_at: self.now, ..of };
        assert!(self.outbox.put(bundle, self.now).is_ok());
    }

    /// A turn so much later: whose bundles ended as dropped.
    fn turn(&mut self, later: Duration) -> Vec<i64> {
        self.now = self.now.after(later);
        let mut effects = Effects::default();
        self.outbox.tick(self.now, &mut effects);
        self.outbox.flush(AT, self.now, &mut effects);
        assert!(self.outbox.has_order_in_its_books());
        let is_shed = |result: &&BundleResult| {
            matches!(
                &result.end,
                BundleEnd::Unanswered { from: 0, end: RecipientOutcome::Shed, is_on_stream: false, .. }
            )
        };
        effects.results.iter().filter(is_shed).map(|result| result.bundle.msg_id).collect()
    }

    fn take(&mut self, fact: StreamFact) {
        self.outbox.take(self.stream, fact, self.now, &mut Effects::default());
    }
}

#[test]
fn what_waits_is_dropped_at_its_age_whatever_stands_around_it() {
    let mut waiting = Waiting::new();
    waiting.put(1, Priority::Normal, 0, FULL);
    waiting.turn(Duration::ZERO);
    waiting.take(StreamFact::Opened);
    waiting.turn(Duration::ZERO);
    waiting.put(2, Priority::Fleeting, 0, 9);
    waiting.put(3, Priority::Bulk, 0, 9);
    waiting.put(4, Priority::Fleeting, 700, 9);
    assert!(waiting.turn(Duration::from_millis(299)).is_empty());
    assert_eq!(waiting.turn(Duration::from_millis(2)), [4], "it was 700 ms old as it came");
    waiting.put(5, Priority::Fleeting, 0, 9);
    assert!(waiting.turn(Duration::from_millis(699)).is_empty());
    assert_eq!(waiting.turn(Duration::from_millis(2)), [2]);
    let backlog = waiting.outbox.backlog();
    assert_eq!(waiting.turn(TTL), [5]);
    assert_eq!((backlog, waiting.outbox.backlog()), (9, 6), "of three recipients each");
    assert!(waiting.turn(TTL).is_empty());
}

#[test]
fn what_was_written_is_not_dropped_and_is_written_again_after_a_break() {
    let mut waiting = Waiting::new();
    waiting.put(1, Priority::Fleeting, 0, 9);
    waiting.turn(Duration::ZERO);
    waiting.take(StreamFact::Opened);
    waiting.turn(Duration::ZERO);
    waiting.put(2, Priority::Fleeting, 0, FULL);
    waiting.put(3, Priority::Fleeting, 0, 9);
    waiting.turn(Duration::ZERO);
    waiting.take(StreamFact::Closed(StreamEnd::Broken("reset".to_owned())));
    assert_eq!(waiting.turn(TTL + Duration::from_millis(1)), [3], "of the others the gateway may have had some");
    assert_eq!(
        (waiting.outbox.backlog(), waiting.outbox.row(waiting.now).timed_out),
        (6, 0),
        "the gateway is not to blame"
    );
}

#[test]
fn one_that_its_session_s_urgent_one_took_along_is_dropped_too() {
    let mut waiting = Waiting::new();
    waiting.put(1, Priority::Fleeting, 0, 9);
    waiting.put(1, Priority::Urgent, 0, 9);
    assert_eq!(waiting.turn(TTL + Duration::from_millis(1)), [1]);
    assert_eq!(waiting.outbox.backlog(), 3);
}

#[test]
fn one_that_calls_of_other_sessions_passed_is_dropped_too() {
    let mut waiting = Waiting::new();
    waiting.outbox.list(record(Protocol::Unary), waiting.now);
    for _ in 0..3 {
        waiting.put(1, Priority::Fleeting, 0, 9);
        waiting.turn(Duration::from_micros(1));
    }
    waiting.put(2, Priority::Normal, 0, 9);
    waiting.turn(Duration::ZERO);
    waiting.take(StreamFact::Opened);
    waiting.turn(Duration::ZERO);
    assert_eq!(waiting.turn(TTL + Duration::from_millis(1)), [1, 1], "the first was called");
    let answer = |call| StreamFact::CallAnswered { call, answer: Ok(Bytes::from_static(b"\x08\x01")) };
    waiting.take(answer(0));
    assert_eq!(
        (waiting.outbox.backlog(), waiting.turn(Duration::ZERO)),
        (3, vec![]),
        "the other call still has its number"
    );
    let two = Bytes::from_static(b"\x08\x02");
    waiting.take(StreamFact::CallAnswered { call: 3, answer: Ok(two) });
    assert_eq!(waiting.outbox.backlog(), 0);
}

#[test]
fn a_long_queue_is_looked_through_seldom_and_moved_once() {
    let mut waiting = Waiting::new();
    for number in 0..2_000 {
        waiting.put(number, if number % 2 == 0 { Priority::Fleeting } else { Priority::Normal }, 999, 9);
        waiting.now = waiting.now.after(Duration::from_micros(20));
    }
    let shed: Vec<usize> = (0..80).map(|_| waiting.turn(Duration::from_millis(1)).len()).collect();
    assert_eq!(shed.iter().sum::<usize>(), 1_000);
    assert!(shed.iter().filter(|some| **some > 0).count() <= 8, "{shed:?}");
    assert_eq!(waiting.outbox.backlog(), 3_000);
}
