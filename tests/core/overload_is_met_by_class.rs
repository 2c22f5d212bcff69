//! At a bound each class has its own answer: urgent events have a sixteenth that nobody else may use, and are never dropped; bulk ones
//! yield at half of the bound, to the inbox; fleeting ones are dropped there, and when they are late: acknowledged, counted by
//! reason, with no row and no further try.

use std::time::Duration;

use prost::Message;
use task_engine::model::limits::{
    EVENTS_IN_FLIGHT_MAX, PAYLOAD_BYTES_IN_FLIGHT_MAX, RECIPIENTS_IN_FLIGHT_MAX, SILENT_GATEWAYS_PART,
    URGENT_RESERVE_PART,
};
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::priority::{Priority, PriorityRules, Said, ShedReason};
use task_engine::model::proto::event::PushEvent;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::{DeliveryTag, Disposition, Protocols};
use task_engine::push::facts::{Input, StreamFact};
use task_engine::push::inbox::InboxStore;
use testkit::table::{Table, frame};

const URGENT: Said = Said::Class(Priority::Urgent);
const BULK: Said = Said::Class(Priority::Bulk);
const FLEETING: Said = Said::Class(Priority::Fleeting);

/// Each event's only recipient is ann, on the gateway A, which answers nothing.
fn world(window: usize, inbox: InboxStore) -> Table {
    world_of_turns(window, inbox, 16 * 1024)
}

/// The same with turns of so many recipients.
fn world_of_turns(window: usize, inbox: InboxStore, turn_recipients: usize) -> Table {
    let fleeting_ttl = Duration::from_secs(5);
    let rules = PriorityRules { header: "Priority".into(), fleeting_ttl, ..PriorityRules::default() };
    let mut table = Table::with_priorities(rules, window, inbox, turn_recipients);
    table.members = vec!["ann".to_owned()];
    table.routes.insert("ann".into(), "A".into());
    table.list("A", Protocols::STREAM);
    table
}

fn come(table: &mut Table, msg_ids: std::ops::RangeInclusive<i64>, said: Said) {
    for msg_id in msg_ids {
        table.arrive_as("s", msg_id, said);
        table.run();
    }
}

/// An event of a session comes in that has so many bytes of content, and no turn follows yet.
fn come_large(table: &mut Table, session: &str, msg_id: i64, said: Said, content: usize) {
    let (session_id, from_username, content) = (session.to_owned(), "system".to_owned(), "x".repeat(content));
    let event = PushEvent { msg_id, session_id, from_username, content, ..PushEvent::default() };
    let tag = DeliveryTag { reader: 1, number: msg_id as u64 };
    table.push.take(Input::Event { payload: event.encode_to_vec().into(), tag, said });
}

fn delivered(msg_id: i64) -> PushMessageResponse {
    PushMessageResponse { msg_id, ..PushMessageResponse::default() }
}

fn shed(table: &Table, why: ShedReason) -> (u64, u64) {
    let by_class = table.push.by_class();
    (by_class.events_shed[why as usize], by_class.recipients_shed[why as usize])
}

#[test]
fn bulk_yields_at_half_of_the_bound_and_the_others_go_on() {
    let mut table = world(8, InboxStore::Offline);
    come(&mut table, 1..=6, BULK);
    assert_eq!(table.pushed_ids("A"), [1, 2, 3, 4], "half of eight");
    assert_eq!(table.stores.iter().map(|(_, rows)| rows.msg_id).collect::<Vec<_>>(), [5, 6], "the others have rows");
    come(&mut table, 7..=7, Said::Nothing);
    come(&mut table, 8..=8, URGENT);
    assert_eq!(table.pushed_ids("A"), [7, 8]);
    assert_eq!((table.store(Ok(&[])).msg_id, table.ended(RecipientOutcome::Stored)), (5, 1));
    assert_eq!(table.push.counts().unreached_by[RecipientOutcome::Yielded as usize], 1);
}

#[test]
fn rows_that_wait_for_the_store_make_no_more_yield() {
    let mut table = world(8, InboxStore::Offline);
    come(&mut table, 1..=8, BULK);
    assert_eq!((table.pushed_ids("A"), table.stores.len()), (vec![1, 2, 3, 4], 4), "the gateway lags");
    (1..=4).for_each(|msg_id| table.answer("A", &delivered(msg_id)));
    come(&mut table, 9..=12, BULK);
    assert_eq!(
        (table.pushed_ids("A"), table.stores.len()),
        (vec![9, 10, 11, 12], 4),
        "it has answered, the store has not"
    );
    come(&mut table, 13..=13, BULK);
    assert_eq!((table.pushed_ids("A"), table.stores.len()), (vec![], 5), "it lags again");
    table.check();
}

#[test]
fn bulk_that_waits_for_its_turn_makes_none_yield() {
    let mut table = world_of_turns(8, InboxStore::Offline, 1);
    (1..=8).for_each(|msg_id| table.arrive_as(&format!("s{msg_id}"), msg_id, BULK));
    let mut pushed = Vec::new();
    while pushed.len() < 8 {
        // Each is answered before the next turn.
        table.turn();
        for msg_id in table.pushed_ids("A") {
            pushed.push(msg_id);
            let (gateway, stream) = (table.links["A"].ix, table.links["A"].stream);
            let fact = StreamFact::Answers(frame(&delivered(msg_id)).into());
            table.push.take(Input::Stream { gateway, stream, fact });
        }
        assert!(table.stores.is_empty(), "{} yielded after {pushed:?}", table.stores.len());
    }
    table.check();
}

/// Sessions of 20,000 at eight gateways that answer nothing.
fn large(window: usize) -> Table {
    let mut table = world(window, InboxStore::Offline);
    let gateways = ["A", "B", "C", "D", "E", "F", "G", "H"];
    gateways[1..].iter().for_each(|gateway| table.list(gateway, Protocols::STREAM));
    table.members = (0..20_000).map(|user| format!("u{user:05}")).collect();
    let gateway_of = gateways.iter().cycle().map(|gateway| (*gateway).to_owned());
    table.routes = table.members.iter().cloned().zip(gateway_of).collect();
    table
}

/// A bulk event in each of these sessions; how many were bundled so far.
fn bundled_after(table: &mut Table, msg_ids: std::ops::RangeInclusive<i64>) -> usize {
    for msg_id in msg_ids {
        table.arrive_as(&format!("s{msg_id}"), msg_id, BULK);
        table.run();
        while table.push.has_more() {
            table.run();
        }
    }
    table.push.recipients_in_flight() / 20_000
}

#[test]
fn what_finds_no_room_takes_nothing_of_its_turn() {
    let mut table = large(64);
    table.members_of.insert("away".to_owned(), vec!["bob".to_owned()]);
    table.arrive("away", 50);
    assert_eq!((bundled_after(&mut table, 1..=8), table.stores.len()), (7, 1));
    table.arrive_as("s1", 100, BULK);
    table.arrive("away", 101);
    table.turn();
    assert_eq!(table.stores.len(), 2, "in the same turn");
    table.check();
}

/// Half of the recipients in flight are those of 7 events in 8 sessions.
#[test]
fn large_bulk_waits_for_its_gateways_until_it_is_too_many_events_and_yields_no_more_than_the_store_is_to_hold() {
    let mut table = large(16);
    assert_eq!(bundled_after(&mut table, 1..=8), 7, "the eighth waits: eight are no more than half of the events");
    assert_eq!(table.stores.len(), 0);
    let why = "the rows of four events are more than a quarter of the recipients: the others wait";
    assert_eq!(bundled_after(&mut table, 9..=16), 11, "{why}");
    assert!(!table.stores.is_empty() && table.stores.iter().all(|(_, rows)| rows.msg_id > 7));
    table.check();
}

#[test]
fn bulk_that_yields_without_an_inbox_is_counted_as_that() {
    let mut table = world(8, InboxStore::Off);
    come(&mut table, 1..=6, BULK);
    assert_eq!(table.ended(RecipientOutcome::Yielded), 2);
    assert_eq!(table.settled, [4, 5], "each is done");
    table.check();
}

#[test]
fn fleeting_is_dropped_at_half_of_the_bound() {
    let mut table = world(8, InboxStore::All);
    come(&mut table, 1..=5, FLEETING);
    assert_eq!(table.pushed_ids("A"), [1, 2, 3, 4], "the fifth finds the half taken by those before it");
    come(&mut table, 6..=7, FLEETING);
    assert_eq!(table.events_ended(EventOutcome::Shed), 3, "as they came: the first four hold the half");
    table.check();
    assert!(table.stores.is_empty(), "no row");
    assert!(table.settled_as.iter().all(|(_, how)| *how == Disposition::Ack), "{:?}", table.settled_as);
}

#[test]
fn fleeting_that_is_late_is_dropped_before_it_is_pushed() {
    let mut table = world(usize::MAX, InboxStore::All);
    table.arrive_as("s", 1, FLEETING);
    table.arrive_as("t", 2, Said::Nothing);
    table.now = table.now.after(Duration::from_millis(5_001));
    table.run();
    assert_eq!(table.pushed_ids("A"), [2]);
    assert_eq!((shed(&table, ShedReason::Late), table.settled_as.clone()), ((1, 1), vec![(0, Disposition::Ack)]));
    assert_eq!(table.ended(RecipientOutcome::Shed), 1);
}

#[test]
fn the_sender_of_what_is_late_is_not_counted_as_dropped() {
    let mut table = world(usize::MAX, InboxStore::All);
    table.members.push("system".to_owned());
    table.arrive_as("s", 1, FLEETING);
    table.now = table.now.after(Duration::from_millis(5_001));
    table.run();
    assert_eq!(shed(&table, ShedReason::Late), (1, 1));
    assert_eq!((table.ended(RecipientOutcome::Shed), table.ended(RecipientOutcome::SkippedSender)), (1, 1));
    table.check();
}

#[test]
fn the_wait_for_the_shard_counts_too() {
    let mut table = world(usize::MAX, InboxStore::All);
    table.push.set_waited(Duration::from_millis(5_001));
    come(&mut table, 1..=1, FLEETING);
    come(&mut table, 2..=2, Said::Nothing);
    table.push.set_waited(Duration::from_millis(4_000));
    come(&mut table, 3..=3, FLEETING);
    assert_eq!((table.pushed_ids("A"), shed(&table, ShedReason::Late)), (vec![2, 3], (1, 1)));
    table.check();
}

#[test]
fn fleeting_has_no_row_when_its_recipient_is_away() {
    let mut table = world(usize::MAX, InboxStore::Offline);
    table.moves("ann", "B");
    table.routes.clear();
    table.moves("bob", "B");
    table.members = vec!["cat".to_owned()];
    come(&mut table, 1..=1, FLEETING);
    assert_eq!((table.ended(RecipientOutcome::Offline), table.stores.len(), table.settled.len()), (1, 0, 1));
}

#[test]
fn a_sixteenth_of_the_shard_is_for_urgent_events_alone() {
    let others = EVENTS_IN_FLIGHT_MAX - EVENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART;
    let mut table = world(usize::MAX, InboxStore::Off);
    (1..=others as i64).for_each(|msg_id| table.arrive("s", msg_id));
    assert_eq!(table.push.room(), 0);
    assert!(table.push.room_for_urgent() > 0);
    let mut plain = Table::new(&["ann"], &[]);
    (1..=others as i64).for_each(|msg_id| plain.arrive("s", msg_id));
    assert!(plain.push.room() > 0, "without classes all of it is for all");
}

#[test]
fn urgent_is_sent_to_a_gateway_that_has_what_it_may_hold() {
    let mut table = world(64, InboxStore::Off);
    come(&mut table, 1..=8, Said::Nothing);
    table.pass(1_100);
    table.pushed_ids("A");
    come(&mut table, 9..=9, Said::Nothing);
    assert_eq!(table.ended(RecipientOutcome::OutboxFull), 1, "the gateway is silent, and has an eighth");
    come(&mut table, 10..=11, URGENT);
    assert_eq!((table.pushed_ids("A"), table.ended(RecipientOutcome::OutboxFull)), (vec![10, 11], 1));
}

/// So many urgent events of the session `hung`, with so many members at each of two gateways that hang and so much content, and of carl
/// and dora, who are at one that answers: those of dora are normal.
fn urgent_for_gateways_that_hang(members: usize, content: usize, events: i64) {
    let mut table = world(usize::MAX, InboxStore::Off);
    let users = (0..2 * members).map(|user| format!("u{user:03}")).collect::<Vec<_>>();
    table.routes = users.iter().cloned().zip(["A", "B"].into_iter().cycle().map(str::to_owned)).collect();
    table.members_of.insert("hung".into(), users);
    table.list("B", Protocols::STREAM);
    table.list("C", Protocols::STREAM);
    for user in ["carl", "dora"] {
        table.members_of.insert(user.into(), vec![user.into()]);
        table.routes.insert(user.into(), "C".into());
    }
    // What the first round held has ended when the second begins.
    for first in [1, 10 * events + 10] {
        table.arrive_as("hung", first, URGENT);
        table.pass(1_100);
        drop((table.pushed_ids("A"), table.pushed_ids("B")));
        for msg_id in (1..events).map(|event| first + event * 10) {
            assert!(table.push.room() > 0 && table.push.room_for_urgent() > 0, "at event {msg_id}");
            come_large(&mut table, "hung", msg_id, URGENT, content);
            table.arrive_as("carl", msg_id + 1, URGENT);
            table.arrive("dora", msg_id + 2);
            table.run();
            assert_eq!(table.pushed_ids("C"), [msg_id + 1, msg_id + 2]);
            [1, 2].iter().for_each(|of| table.answer("C", &delivered(msg_id + of)));
            drop((table.pushed_ids("A"), table.pushed_ids("B")));
        }
        let held = [table.push.recipients_in_flight(), table.push.payload_bytes_in_flight()];
        let part = |all: usize| all / SILENT_GATEWAYS_PART + all / URGENT_RESERVE_PART;
        let bounds = [part(RECIPIENTS_IN_FLIGHT_MAX), part(PAYLOAD_BYTES_IN_FLIGHT_MAX)];
        assert!(held[0] < bounds[0] + 2 * members && held[1] < bounds[1] + 2 * content, "{held:?} of {bounds:?}");
        // An event for two gateways is counted at each.
        assert!(held[0] >= bounds[0] || 2 * held[1] >= bounds[1], "they have all of it: {held:?} of {bounds:?}");
        assert!(table.ended(RecipientOutcome::OutboxFull) > 0 && table.ended(RecipientOutcome::Shed) == 0);
        table.pass(30_000);
        assert_eq!(table.push.events_in_flight(), 0);
        table.check();
    }
}

#[test]
fn urgent_for_many_at_gateways_that_hang_stops_nobody_else() {
    urgent_for_gateways_that_hang(64, 0, 2_300);
}

#[test]
fn large_urgent_for_gateways_that_hang_stops_nobody_else() {
    urgent_for_gateways_that_hang(1, 32 * 1024, 2_300);
}

/// Urgent events for as many as the shard may push to fill it, each user being at two gateways; dora is at a third one.
#[test]
fn pushes_to_two_gateways_of_a_user_are_not_counted_as_those_of_others() {
    let mut table = world(usize::MAX, InboxStore::Off);
    table.members = (0..64).map(|user| format!("u{user:02}")).collect();
    table.routes = table.members.iter().map(|user| (user.clone(), "A+B".to_owned())).collect();
    ["B", "C"].iter().for_each(|gateway| table.list(gateway, Protocols::STREAM));
    table.members_of.insert("dora".into(), vec!["dora".into()]);
    table.routes.insert("dora".into(), "C".into());
    come(&mut table, 1..=RECIPIENTS_IN_FLIGHT_MAX as i64 / 128, URGENT);
    assert_eq!(table.push.pushes_in_flight(), RECIPIENTS_IN_FLIGHT_MAX);
    table.arrive("dora", 5_000);
    table.run();
    assert_eq!(table.pushed_ids("C"), [5_000]);
}

/// Each has 64 KiB, and waits for its members.
#[test]
fn a_sixteenth_of_the_bytes_stays_for_others_however_many_are_urgent() {
    let mut table = world(usize::MAX, InboxStore::Off);
    let come_until_full = |table: &mut Table, said: Said, room: fn(&Table) -> usize| {
        let before = table.push.payload_bytes_in_flight();
        while room(table) > 0 {
            let msg_id = table.push.counts().events_arrived as i64 + 1;
            come_large(table, "s", msg_id, said, 64 * 1024);
        }
        (table.push.payload_bytes_in_flight() - before) / (64 * 1024)
    };
    let sixteenth = PAYLOAD_BYTES_IN_FLIGHT_MAX / URGENT_RESERVE_PART / (64 * 1024);
    let urgent = come_until_full(&mut table, URGENT, |table| table.push.room_for_urgent());
    assert_eq!(urgent, 17 * sixteenth, "all, and what is for them alone");
    let others = come_until_full(&mut table, Said::Nothing, |table| table.push.room());
    assert_eq!(others, sixteenth);
    table.pass(40);
    table.pass(11_000);
    assert_eq!((table.push.payload_bytes_in_flight(), table.push.events_in_flight()), (0, 0));
    let urgent = come_until_full(&mut table, URGENT, |table| table.push.room_for_urgent());
    assert_eq!(urgent, 17 * sixteenth, "what has ended is counted no more");
}

#[test]
fn a_sixteenth_of_the_shard_stays_for_others_however_many_are_urgent() {
    let part = EVENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART;
    let mut table = world(usize::MAX, InboxStore::Off);
    for msg_id in 1..=EVENTS_IN_FLIGHT_MAX as i64 {
        table.arrive_as("s", msg_id, URGENT);
    }
    assert_eq!(table.push.room_for_urgent(), 0);
    assert!(table.push.room() > 0);
    for msg_id in 1..=part as i64 {
        table.arrive("t", EVENTS_IN_FLIGHT_MAX as i64 + msg_id);
    }
    assert_eq!((table.push.room(), table.push.room_for_urgent()), (0, 0));
}

#[test]
fn what_finds_no_room_when_its_turn_comes_waits_for_no_fact() {
    let mut table = world_of_turns(64, InboxStore::Off, 1);
    come(&mut table, 1..=8, Said::Nothing);
    table.pass(1_100);
    come(&mut table, 9..=9, Said::Nothing);
    let ended = |table: &Table| (table.ended(RecipientOutcome::OutboxFull), table.push.has_more());
    assert_eq!(ended(&table), (1, false));
    (10..=11).for_each(|msg_id| table.arrive("s", msg_id));
    table.push.flush(&mut Vec::new());
    assert_eq!(ended(&table), (2, true), "the other one's turn came at the end of this one");
    table.run();
    assert_eq!(ended(&table), (3, false));
    table.check();
}
