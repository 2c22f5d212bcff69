//! An urgent event passes what waits: in the lookups, and in an outbox all bundles of other sessions that are not begun, of which more go
//! ahead as more are passed. It takes those of its own session along; behind many of them it waits, and passes at most
//! [`URGENT_PASSES_MAX`] that came later and are not old. It never passes one of its own session, or another urgent one. With a target
//! for streams only what is not urgent waits until more of it may be unanswered.

use std::collections::VecDeque;
use std::time::Duration;

use task_engine::model::limits::{
    GROUP_USERS_MAX, MEMBER_QUERY_SESSIONS, MGET_KEYS, MGETS_IN_FLIGHT, PARTS_UNANSWERED_MAX, TURN_PARTS,
    URGENT_BRINGS_MAX, URGENT_PASS_FREELY, URGENT_PASSES_MAX, URGENT_PASSES_WITHIN,
};
use task_engine::model::names::Route;
use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;
use task_engine::push::facts::{Input, Output};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

const URGENT: Said = Said::Class(Priority::Urgent);

/// All users are on the gateway A, which nobody has listed yet: what is for it waits in its outbox.
fn world() -> Table {
    world_with(Duration::ZERO)
}

fn world_with(stream_target: Duration) -> Table {
    let rules = PriorityRules { header: "Priority".into(), stream_target, ..PriorityRules::default() };
    let mut table = Table::with_priorities(rules, usize::MAX, InboxStore::Off, 16 * 1024);
    table.members = vec!["ann".to_owned()];
    table.routes.insert("ann".into(), "A".into());
    table
}

fn come(table: &mut Table, session: &str, msg_ids: std::ops::RangeInclusive<i64>, said: Said) {
    msg_ids.for_each(|msg_id| table.arrive_as(session, msg_id, said));
    table.run();
}

fn written(table: &mut Table) -> Vec<i64> {
    table.list("A", Protocols::STREAM);
    table.pushed_ids("A")
}

#[test]
fn it_passes_other_sessions_in_the_outbox_and_urgent_ones_keep_their_order() {
    let mut table = world();
    come(&mut table, "normal", 1..=3, Said::Nothing);
    come(&mut table, "one", 10..=11, URGENT);
    come(&mut table, "two", 20..=20, URGENT);
    assert_eq!(written(&mut table), [10, 11, 20, 1, 2, 3]);
}

#[test]
fn it_passes_all_that_others_have_waiting() {
    let mut table = world();
    come(&mut table, "normal", 1..=3_000, Said::Nothing);
    table.pass(2 * URGENT_PASSES_WITHIN.as_millis() as u64);
    come(&mut table, "one", 4_000..=4_000, URGENT);
    assert_eq!(written(&mut table)[..2], [4_000, 1]);
}

#[test]
fn others_have_their_part_of_what_is_written_while_they_are_passed() {
    let mut table = world();
    come(&mut table, "normal", 1..=1_000, Said::Nothing);
    (0..800).for_each(|number| come(&mut table, &format!("u{number}"), 2_000 + number..=2_000 + number, URGENT));
    let written = written(&mut table);
    let (urgent, others) = (TURN_PARTS[0], TURN_PARTS[1] + TURN_PARTS[2]);
    let (free, shared) = written.split_at(URGENT_PASS_FREELY);
    assert!(free.iter().all(|msg_id| *msg_id > 1_000), "a few pass freely");
    for rows in shared[..1_170].chunks(urgent + others) {
        let of_others = rows.iter().filter(|msg_id| **msg_id <= 1_000).count();
        assert!(of_others.abs_diff(others) <= 1, "{rows:?}");
    }
    assert!(written.iter().filter(|msg_id| **msg_id <= 1_000).is_sorted());
    assert!(written.iter().filter(|msg_id| **msg_id > 1_000).is_sorted());
}

#[test]
fn a_part_of_a_large_group_that_they_let_go_first_does_not_hold_them() {
    let mut table = world();
    table.list("A", Protocols::STREAM);
    let large: Vec<_> = (0..5 * GROUP_USERS_MAX).map(|user| format!("u{user}")).collect();
    table.routes.extend(large.iter().map(|user| (user.clone(), "A".to_owned())));
    table.members_of.insert("large".to_owned(), large);
    come(&mut table, "small", 1..=1, Said::Nothing);
    come(&mut table, "large", 2..=2, Said::Nothing);
    assert_eq!(table.pushed_ids("A").iter().filter(|id| **id == 2).count(), PARTS_UNANSWERED_MAX * GROUP_USERS_MAX);
    for msg_id in 10..1_000 {
        come(&mut table, "calls", msg_id..=msg_id, URGENT);
        assert!(table.pushed_ids("A").contains(&msg_id), "{msg_id} waits");
    }
}

#[test]
fn it_takes_what_its_own_session_has_waiting_along() {
    let mut table = world();
    come(&mut table, "normal", 2..=3, Said::Nothing);
    come(&mut table, "one", 4..=4, Said::Nothing);
    come(&mut table, "normal", 5..=6, Said::Nothing);
    come(&mut table, "one", 7..=7, Said::Nothing);
    come(&mut table, "one", 8..=8, URGENT);
    assert_eq!(written(&mut table), [4, 7, 8, 2, 3, 5, 6]);
}

/// More of its own session waits than it takes along.
fn come_to_a_busy_session(table: &mut Table) -> i64 {
    let busy = URGENT_BRINGS_MAX as i64 + 1;
    come(table, "one", 1..=busy, Said::Nothing);
    busy
}

#[test]
fn behind_much_of_its_own_session_it_passes_so_many_at_the_most() {
    let mut table = world();
    let busy = come_to_a_busy_session(&mut table);
    let others = URGENT_PASSES_MAX as i64 + 10;
    come(&mut table, "normal", 101..=100 + others, Said::Nothing);
    come(&mut table, "one", 1_000..=1_001, URGENT);
    let written = written(&mut table);
    assert_eq!(written[busy as usize + 9..][..4], [110, 1_000, 1_001, 111], "{written:?}");
}

#[test]
fn behind_much_of_its_own_session_it_passes_nothing_that_is_old() {
    let mut table = world();
    let busy = come_to_a_busy_session(&mut table);
    come(&mut table, "normal", 101..=102, Said::Nothing);
    table.pass(URGENT_PASSES_WITHIN.as_millis() as u64);
    come(&mut table, "normal", 103..=103, Said::Nothing);
    come(&mut table, "one", 104..=104, URGENT);
    assert_eq!(written(&mut table)[busy as usize..], [101, 102, 104, 103]);
}

fn answer(table: &mut Table, msg_id: i64) {
    table.answer("A", &PushMessageResponse { msg_id, ..PushMessageResponse::default() });
}

#[test]
fn only_what_is_not_urgent_waits_for_answers() {
    let mut table = world_with(Duration::from_millis(1));
    table.list("A", Protocols::STREAM);
    come(&mut table, "normal", 1..=1_000, Said::Nothing);
    assert_eq!(table.pushed_ids("A"), [1], "the first goes alone: how long its answer takes is not known");
    come(&mut table, "one", 2_001..=2_001, URGENT);
    come(&mut table, "two", 2_002..=2_002, URGENT);
    assert_eq!(table.pushed_ids("A"), [2_001, 2_002], "it does not wait for room");
    let mut unanswered = VecDeque::from([1, 2_001, 2_002]);
    let (mut pushed, mut most) = (vec![1], 0);
    while let Some(msg_id) = unanswered.pop_front() {
        table.pass(1);
        answer(&mut table, msg_id);
        let more = table.pushed_ids("A");
        pushed.extend(&more);
        unanswered.extend(more);
        most = most.max(unanswered.len());
    }
    assert_eq!(pushed, (1..=1_000).collect::<Vec<_>>(), "each in its order");
    assert!((2..=256).contains(&most), "{most} were unanswered");
    assert_eq!(table.ended(RecipientOutcome::Delivered), 1_002);
}

#[test]
fn what_is_late_is_found_behind_what_passed_it() {
    let mut table = world();
    come(&mut table, "normal", 1..=1, Said::Nothing);
    table.pass(5_000);
    come(&mut table, "one", 2..=2, URGENT);
    table.pass(5_100);
    assert_eq!((table.ended(RecipientOutcome::TimedOut), table.settled.len()), (1, 1), "the older one alone");
    table.pass(5_000);
    assert_eq!(table.ended(RecipientOutcome::TimedOut), 2);
}

#[test]
fn it_passes_nothing_that_is_begun() {
    let mut table = world();
    table.list("A", Protocols::STREAM);
    come(&mut table, "normal", 1..=2, Said::Nothing);
    come(&mut table, "one", 3..=3, URGENT);
    assert_eq!(table.pushed_ids("A"), [1, 2, 3]);
}

#[test]
fn its_members_are_asked_for_first() {
    let mut table = world();
    let sessions = 5 * MEMBER_QUERY_SESSIONS;
    (0..sessions).for_each(|number| table.arrive(&format!("s{number}"), 1));
    table.arrive_as("urgent", 1, URGENT);
    // An urgent event of a session that is to be asked for as one of the last.
    table.arrive_as(&format!("s{}", sessions - 1), 2, URGENT);
    let mut outputs = Vec::new();
    table.push.set_now(table.now.after(Duration::from_millis(1)));
    table.push.flush(&mut outputs);
    let asked = outputs.iter().find_map(|output| match output {
        Output::AskMembers { sessions, .. } => Some(sessions),
        _ => None,
    });
    let first: Vec<_> = asked.into_iter().flatten().take(3).map(|id| id.to_string()).collect();
    assert_eq!(first, ["urgent", &format!("s{}", sessions - 1), "s0"]);
}

/// Turns in which no route and no content is answered; the users of each ask for routes.
fn turns_without_routes(table: &mut Table) -> Vec<(u64, Vec<String>)> {
    let mut asked = Vec::new();
    loop {
        let mut outputs = Vec::new();
        table.push.set_now(table.now);
        table.push.flush(&mut outputs);
        if outputs.is_empty() {
            return asked;
        }
        for output in outputs {
            match output {
                Output::AskMembers { ask, sessions, .. } => {
                    let lists = sessions.iter().map(|id| table.members_of[&**id].iter().collect());
                    table.push.take(Input::Members { ask, answer: Ok(lists.collect()) });
                }
                Output::AskRoutes { ask, users } => asked.push((ask, users.iter().map(str::to_owned).collect())),
                _ => {}
            }
        }
    }
}

#[test]
fn the_routes_that_its_session_waits_for_are_asked_for_first() {
    let mut table = world();
    for number in 0..2 * MGETS_IN_FLIGHT {
        let (session, users) = (format!("s{number}"), (0..MGET_KEYS).map(|user| format!("u{number}-{user}")));
        table.members_of.insert(session.clone(), users.collect());
        table.arrive(&session, 1);
    }
    table.members_of.insert("calls".to_owned(), vec!["ann".to_owned()]);
    let mut asked = turns_without_routes(&mut table);
    table.arrive("calls", 2);
    asked.extend(turns_without_routes(&mut table));
    assert!(asked.iter().all(|(_, users)| !users.contains(&"ann".to_owned())), "many are before it");
    table.arrive_as("calls", 3, URGENT);
    let (ask, users) = asked.swap_remove(0);
    let routes = users.iter().map(|_| Route::Offline).collect();
    table.push.take(Input::Routes { ask, answer: Ok(routes) });
    let next = turns_without_routes(&mut table);
    assert!(next.iter().any(|(_, users)| users.contains(&"ann".to_owned())), "{} users are next", next.len());
}
