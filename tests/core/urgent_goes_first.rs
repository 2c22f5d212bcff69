//! An urgent event passes what waits: in the lookups, and in an outbox at most [`URGENT_PASSES_MAX`] bundles of other sessions that are
//! not begun and not old. It never passes one of its own session, or another urgent one.

use std::time::Duration;

use task_engine::model::limits::{MEMBER_QUERY_SESSIONS, URGENT_PASSES_MAX, URGENT_PASSES_WITHIN};
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::ports::Protocols;
use task_engine::push::facts::Output;
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

const URGENT: Said = Said::Class(Priority::Urgent);

/// All users are on the gateway A, which nobody has listed yet: what is for it waits in its outbox.
fn world() -> Table {
    let rules = PriorityRules { header: "Priority".into(), ..PriorityRules::default() };
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
fn it_passes_so_many_at_the_most() {
    let mut table = world();
    let others = URGENT_PASSES_MAX as i64 + 10;
    come(&mut table, "normal", 1..=others, Said::Nothing);
    come(&mut table, "one", 1_000..=1_001, URGENT);
    let written = written(&mut table);
    assert_eq!(written[9..13], [10, 1_000, 1_001, 11], "{written:?}");
}

#[test]
fn it_never_passes_its_own_session() {
    let mut table = world();
    come(&mut table, "one", 1..=1, Said::Nothing);
    come(&mut table, "normal", 2..=3, Said::Nothing);
    come(&mut table, "one", 4..=4, URGENT);
    assert_eq!(written(&mut table), [1, 4, 2, 3]);
}

#[test]
fn it_passes_nothing_that_is_old() {
    let mut table = world();
    come(&mut table, "normal", 1..=2, Said::Nothing);
    table.pass(URGENT_PASSES_WITHIN.as_millis() as u64);
    come(&mut table, "normal", 3..=3, Said::Nothing);
    come(&mut table, "one", 4..=4, URGENT);
    assert_eq!(written(&mut table), [1, 2, 4, 3]);
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
