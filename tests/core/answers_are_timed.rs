//! Promise: how long a push takes is recorded for each recipient whose gateway took it, from the publication of its event until the
//! answer, by the best of the clocks that speak of it; what no clock speaks of is counted and not guessed.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use task_engine::model::priority::{ClassLatency, Priority};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::model::publication::Published;
use task_engine::model::stage::BUCKETS;
use task_engine::ports::Protocols;
use task_engine::push::TraceRules;
use testkit::table::Table;

/// When the time of the engine began.
const ZERO_MILLIS: u64 = 1_700_000_000_000;
const NONE: TraceRules = TraceRules { slow_after: Duration::ZERO, spans_per_second: 1 };

fn table() -> Table {
    let mut table = Table::with_traces(&["ann", "bob"], &[("ann", "A"), ("bob", "A")], NONE);
    table.push.set_unix_zero(ZERO_MILLIS * 1_000_000);
    table.list("A", Protocols::STREAM);
    table
}

fn event(msg_id: i64, timestamp: i64) -> Bytes {
    let event = PushEvent { msg_id, session_id: "s".into(), timestamp, ..PushEvent::default() };
    Bytes::from(event.encode_to_vec())
}

fn answer(table: &mut Table, msg_id: i64, errors: &[&str]) {
    for error in errors {
        table.answer("A", &PushMessageResponse { msg_id, seq_id: 0, error: (*error).into() });
    }
}

/// The bounds of the buckets that have values, with how many; and those of which nothing is known.
fn recorded(table: &Table) -> (Vec<(f64, u64)>, u64) {
    let latency = table.push.push_latency().expect("it is wanted");
    let ClassLatency { buckets, .. } = latency.by_class[Priority::Normal as usize];
    let filled = BUCKETS.iter().copied().zip(buckets).filter(|(_, count)| *count > 0).collect();
    (filled, latency.unknown)
}

#[test]
fn the_best_clock_that_speaks_of_an_event_counts() {
    let millis = |millis: u64| Published::at_nanos((ZERO_MILLIS + millis) * 1_000_000);
    let seconds = (ZERO_MILLIS / 1_000) as i64;
    // The answer comes after 100 ms.
    for (said, timestamp, bound) in [
        (millis(90), 0, Some(0.01)),
        (millis(90), ZERO_MILLIS as i64, Some(0.01)),
        (Published::UNKNOWN, ZERO_MILLIS as i64 + 60, Some(0.05)),
        (Published::UNKNOWN, ZERO_MILLIS as i64 - 600, Some(1.0)),
        (Published::UNKNOWN, seconds, None),
        (Published::UNKNOWN, ZERO_MILLIS as i64 * 1_000, None),
        (Published::UNKNOWN, 0, None),
        // Another host's clock is ahead a little, or wrong.
        (millis(30_000), 0, Some(0.000_01)),
        (millis(90_000), 0, None),
    ] {
        let mut table = table();
        table.push.set_published(said);
        table.payload(event(1, timestamp));
        table.pass(100);
        answer(&mut table, 1, &["", ""]);
        let expected = bound.map_or((Vec::new(), 2), |bound| (vec![(bound, 2)], 0));
        assert_eq!(recorded(&table), expected, "{said:?} {timestamp}");
    }
}

#[test]
fn only_whom_a_gateway_took_it_for_counts() {
    let mut table = table();
    table.payload(event(1, ZERO_MILLIS as i64));
    table.pass(20);
    answer(&mut table, 1, &["broken pipe", ""]);
    assert_eq!(recorded(&table), (vec![(0.025, 1)], 0));
    // One that the gateway never answers for counts nowhere.
    table.payload(event(2, ZERO_MILLIS as i64));
    table.pass(3_000);
    assert_eq!(recorded(&table), (vec![(0.025, 1)], 0));
    table.check();
}
