//! What is fleeting is not begun to be written after its time, and what a gateway may have read does not end as dropped.

use std::time::Duration;

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
    assert_eq!(waiting.outbox.backlog(), 6);
}
