//! A shard takes no more once it is at a bound, whatever it waits for: events, payload bytes, recipients; events that waited
//! for a lookup together are not all on their way at once; and one gateway never holds more recipients than its outbox may.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::model::limits::{
    EVENTS_IN_FLIGHT_MAX, OUTBOX_RECIPIENTS_MAX, PAYLOAD_BYTES_IN_FLIGHT_MAX, RECIPIENTS_IN_FLIGHT_MAX, TURN_EVENTS_MAX,
};
use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::model::priority::Said;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::DeliveryTag;
use task_engine::push::facts::{Input, Output};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, Settings};

const MEMBERS: usize = 1000;

fn shard() -> Push {
    shard_with(Duration::from_secs(3600), InboxStore::Offline)
}

fn shard_with(delivery_timeout: Duration, inbox: InboxStore) -> Push {
    let long = Duration::from_secs(3600);
    let mut push = Push::new(Settings {
        shard: ShardId(0),
        shards: 1,
        events_window: usize::MAX,
        group_users_max: task_engine::model::limits::GROUP_USERS_MAX,
        members_ttl: long,
        empty_wait: Duration::from_secs(5),
        caches_routes: true,
        delivery_timeout,
        registry_forget_after: Duration::from_secs(300),
        gateway_table: task_engine::push::TableBounds::default(),
        max_retry: 0,
        retry_interval: long,
        inbox,
    });
    push.take(Input::RoutesTracked(true));
    push.set_now(Nanos(1));
    push
}

fn event(msg_id: i64, content: usize) -> Bytes {
    let content = "x".repeat(content);
    let event =
        PushEvent { msg_id, session_id: "s".into(), from_username: "system".into(), content, ..PushEvent::default() };
    Bytes::from(event.encode_to_vec())
}

/// Hands events in, turn by turn, until there is no room; gives how many.
fn fill(push: &mut Push, content: usize, mut turn: impl FnMut(&mut Push)) -> usize {
    let mut taken = 0;
    while push.room() > 0 {
        assert!(push.room() <= TURN_EVENTS_MAX);
        for _ in 0..push.room().min(16) {
            let tag = DeliveryTag { reader: 0, number: taken as u64 };
            push.take(Input::Event { payload: event(taken as i64, content), tag, said: Said::Nothing });
            taken += 1;
        }
        turn(push);
        assert!(taken < 1 << 20, "no bound");
    }
    taken
}

/// Members and routes are answered: every second user is at each of two gateways that nobody lists, or all at one.
fn answer(push: &mut Push, gateways: &[&str]) {
    let mut outputs = Vec::new();
    push.flush(&mut outputs);
    while !outputs.is_empty() {
        for output in std::mem::take(&mut outputs) {
            match output {
                Output::AskMembers { ask, .. } => {
                    let names: NameList = (0..MEMBERS).map(|user| format!("u{user:04}")).collect();
                    push.take(Input::Members { ask, answer: Ok(vec![names]) });
                }
                Output::AskRoutes { ask, users } => {
                    let number = |name: &str| name[1..].parse::<usize>().expect("a user of this test");
                    let routes = users.iter().map(|name| Route::Gateway(gateways[number(name) % gateways.len()]));
                    push.take(Input::Routes { ask, answer: Ok(routes.collect::<RouteList>()) });
                }
                _ => {}
            }
        }
        push.flush(&mut outputs);
        outputs.retain(|output| matches!(output, Output::AskMembers { .. } | Output::AskRoutes { .. }));
    }
}

#[test]
fn events_that_wait_for_their_members_are_bounded() {
    let mut push = shard();
    assert_eq!(fill(&mut push, 0, |push| push.flush(&mut Vec::new())), EVENTS_IN_FLIGHT_MAX);
    assert_eq!(push.events_in_flight(), EVENTS_IN_FLIGHT_MAX);
}

#[test]
fn large_events_are_bounded_by_their_bytes() {
    let mut push = shard();
    fill(&mut push, 70_000, |push| push.flush(&mut Vec::new()));
    let bytes = push.payload_bytes_in_flight();
    assert!((PAYLOAD_BYTES_IN_FLIGHT_MAX..PAYLOAD_BYTES_IN_FLIGHT_MAX + 16 * 71_000).contains(&bytes), "{bytes}");
}

#[test]
fn recipients_are_bounded() {
    let mut push = shard();
    fill(&mut push, 0, |push| answer(push, &["A", "B"]));
    let recipients = push.recipients_in_flight();
    assert!((RECIPIENTS_IN_FLIGHT_MAX..RECIPIENTS_IN_FLIGHT_MAX + 16 * MEMBERS).contains(&recipients), "{recipients}");
}

#[test]
fn recipients_are_bounded_also_when_many_events_waited_for_one_lookup() {
    const EVENTS: usize = 1000;
    let mut push = shard_with(Duration::from_secs(1), InboxStore::Off);
    for number in 0..EVENTS {
        let tag = DeliveryTag { reader: 0, number: number as u64 };
        push.take(Input::Event { payload: event(number as i64, 0), tag, said: Said::Nothing });
    }
    let mut most = 0;
    for second in 1.. {
        // One turn takes a share of them.
        let mut has_more = true;
        while has_more {
            answer(&mut push, &["A", "B"]);
            let recipients = push.recipients_in_flight();
            assert!(recipients < RECIPIENTS_IN_FLIGHT_MAX + MEMBERS, "{recipients}");
            most = most.max(recipients);
            has_more = push.has_more() && recipients < RECIPIENTS_IN_FLIGHT_MAX;
        }
        if push.events_in_flight() == 0 {
            break;
        }
        assert!(second < 100, "it goes on when there is room");
        push.set_now(Nanos(second * 1_100_000_000));
    }
    assert!(most >= RECIPIENTS_IN_FLIGHT_MAX);
    let ended = push.counts().recipients_ended.iter().sum::<u64>();
    assert_eq!(ended, (EVENTS * MEMBERS) as u64);
}

#[test]
fn one_gateway_never_holds_more_than_its_outbox_may() {
    let mut push = shard();
    fill(&mut push, 0, |push| {
        answer(push, &["A"]);
        let backlog = push.outboxes().map(|outbox| outbox.backlog()).sum::<usize>();
        assert!(backlog <= OUTBOX_RECIPIENTS_MAX, "{backlog}");
    });
    let backlog = push.outboxes().map(|outbox| outbox.backlog()).sum::<usize>();
    assert!(backlog > OUTBOX_RECIPIENTS_MAX - MEMBERS, "{backlog}");
}
