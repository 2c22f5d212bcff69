//! An event is not settled while a gateway may still read a push of it that ended at its deadline: settled, its partition may be another
//! instance's, whose later pushes come over other streams. Its recipients end, and their rows are asked for, all the same.

use std::time::Duration;

use prost::Message;
use task_engine::model::ids::Partition;
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::proto::gateway::{GroupAnswer, PushBatchResponse, PushMessageResponse, PushResponse};
use task_engine::ports::{DeliveryTag, Disposition, LookupError, Protocol};
use task_engine::push::facts::Input;
use task_engine::push::inbox::InboxStore;
use testkit::table::{Table, only};

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Stream, Protocol::StreamMany, Protocol::Batch, Protocol::Group, Protocol::Unary];
const STEP_MILLIS: u64 = 20;
const SECOND: u64 = 1_000 / STEP_MILLIS;
/// Its push is sent again, after the first one's deadline, a second before its own.
const LATE: i64 = 2;

fn pass_until(table: &mut Table, what: &str, is_so: impl Fn(&Table) -> bool) {
    for _ in 0..15 * SECOND {
        if is_so(table) {
            return;
        }
        table.pass(STEP_MILLIS);
    }
    panic!("not within 15 s: {what}");
}

/// The same, while the store of rows cannot be reached.
fn pass_without_store(table: &mut Table, what: &str, is_so: impl Fn(&Table) -> bool) {
    let away = || LookupError::NotReached("away".to_owned());
    pass_until(table, what, |table| is_so(table) || !table.stores.is_empty() || !table.probes.is_empty());
    while !is_so(table) {
        while !table.stores.is_empty() {
            table.store(Err(away()));
        }
        while !table.probes.is_empty() {
            table.probe(Err(away()));
        }
        pass_until(table, what, |table| is_so(table) || !table.stores.is_empty() || !table.probes.is_empty());
    }
}

/// Of a gateway that is silent, at the moment at which the push that was sent again has ended.
fn late(protocol: Protocol) -> Table {
    let mut table = Table::with_timeout(&["ann"], &[("ann", "A")], Duration::from_secs(10));
    table.list("A", only(protocol));
    table.arrive("first", 1);
    table.run();
    (0..SECOND).for_each(|_| table.pass(STEP_MILLIS));
    table.arrive("second", LATE);
    table.run();
    pass_until(&mut table, "the stream is cut", |table| table.cut.len() == 1);
    assert_eq!(table.events_ended(EventOutcome::Settled), 1, "{protocol:?}: what is on no stream holds nothing");
    pass_until(&mut table, "both end", |table| table.ended(RecipientOutcome::TimedOut) == 2);
    assert_eq!((table.cut.len(), table.events_ended(EventOutcome::Settled)), (1, 1), "{protocol:?}");
    table.check();
    table
}

fn answer(table: &mut Table, protocol: Protocol) {
    let is_written = match protocol {
        Protocol::Unary => table.open_calls("A") == [LATE],
        _ => table.pushed_ids("A").last() == Some(&LATE),
    };
    assert!(is_written, "{protocol:?}");
    let batch = |table: &mut Table| table.take_batches("A").pop().expect("it was written");
    match protocol {
        Protocol::Stream => table.answer("A", &PushMessageResponse { msg_id: LATE, ..Default::default() }),
        Protocol::StreamMany => table.answer("A", &PushResponse { msg_id: LATE, ..Default::default() }),
        Protocol::Batch => {
            let batch_id = batch(table);
            table.answer("A", &PushBatchResponse { batch_id, ..Default::default() });
        }
        Protocol::Group => {
            let frame_id = batch(table);
            table.answer("A", &GroupAnswer { frame_id, ..Default::default() });
        }
        Protocol::Unary => {
            let answer = PushResponse { msg_id: LATE, ..Default::default() };
            table.answer_call("A", Ok(answer.encode_to_vec()));
        }
    }
}

#[test]
fn an_event_is_settled_when_its_late_push_is_answered() {
    for protocol in PROTOCOLS {
        let mut table = late(protocol);
        answer(&mut table, protocol);
        assert_eq!((table.cut.len(), table.events_ended(EventOutcome::Settled)), (1, 2), "{protocol:?}");
        assert_eq!(table.push.activity().answered_late, 1, "{protocol:?}");
        table.check();
    }
}

#[test]
fn an_event_is_settled_when_the_stream_of_its_late_push_is_cut() {
    for protocol in PROTOCOLS {
        let mut table = late(protocol);
        pass_until(&mut table, "it is settled", |table| table.events_ended(EventOutcome::Settled) == 2);
        assert_eq!(table.cut.len(), 2, "{protocol:?}: it was cut, and not before its time");
        table.check();
    }
}

#[test]
fn an_event_whose_late_push_may_be_read_is_settled_by_the_end_of_a_stop_and_does_not_come_again() {
    for protocol in PROTOCOLS {
        let mut table = late(protocol);
        table.cut_off();
        assert_eq!(table.events_ended(EventOutcome::Settled), 2, "{protocol:?}");
        assert_eq!(table.events_ended(EventOutcome::CutByStop), 0, "{protocol:?}");
        table.check();
    }
}

/// Its row cannot be kept now, so that it would be given back if nobody could read it.
#[test]
fn an_event_whose_late_push_may_be_read_stays_until_then_although_its_partition_goes() {
    let mut table = Table::with_inbox(&["ann"], &[("ann", "A")], InboxStore::Offline);
    table.list("A", only(Protocol::Stream));
    table.arrive("first", 1);
    table.run();
    table.pass(100);
    table.arrive("second", LATE);
    table.run();
    let missed = |table: &Table| table.push.gateway_rows().map(|row| row.timed_out).sum::<u64>() == 2;
    pass_without_store(&mut table, "both have missed their recipient", missed);
    let tags = [0, 1].map(|number| DeliveryTag { reader: 0, number });
    table.push.take(Input::Leave { partition: Partition(0), tags: tags.to_vec() });
    table.run();
    assert_eq!((&table.settled_as[..], table.cut.len()), (&[(0, Disposition::Nak)][..], 1));
    assert_eq!(table.push.recipients_in_flight(), 1, "nobody ends who may be reached still");
    pass_without_store(&mut table, "the second goes", |table| table.settled_as.len() == 2);
    assert_eq!((table.settled_as[1], table.cut.len()), ((1, Disposition::Nak), 2));
    table.check();
}
