//! A route store that comes back empty: whoever had a route before is pushed where it was, until the store or that gateway
//! says otherwise; whoever had none is offline at once.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::{LookupError, Protocols};
use task_engine::push::facts::Input;
use testkit::table::Table;

fn said(msg_id: i64, error: &str) -> PushMessageResponse {
    PushMessageResponse { msg_id, seq_id: 0, error: error.to_owned() }
}

fn offline(table: &Table) -> u64 {
    table.ended(RecipientOutcome::Offline)
}

/// Ann is at A, Bob is offline, and that was used; then the store is empty and says so in one of these ways.
fn emptied(is_reconnected: bool) -> Table {
    let mut table = Table::new(&["ann", "bob"], &[("ann", "A")]);
    table.list("A", Protocols::STREAM);
    table.event(1);
    table.answer("A", &said(1, ""));
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![1], 1));
    table.routes.clear();
    match is_reconnected {
        true => [false, true].into_iter().for_each(|is_tracked| table.push.take(Input::RoutesTracked(is_tracked))),
        false => table.push.take(Input::RoutesUnknown),
    }
    table.run();
    table
}

#[test]
fn who_had_a_route_is_pushed_where_it_was_and_who_had_none_waits_for_nothing() {
    for is_reconnected in [true, false] {
        let mut table = emptied(is_reconnected);
        for msg_id in 2..=4 {
            table.event(msg_id);
            assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![msg_id], msg_id as u64));
            table.answer("A", &said(msg_id, ""));
        }
        assert_eq!(table.ended(RecipientOutcome::Delivered), 4);
        assert_eq!(table.route_asks["ann"], 2, "the store tells when there is one");
        assert_eq!(table.push.activity().routes_kept, 1);
        table.check();
    }
}

#[test]
fn what_the_store_tells_counts_at_once() {
    let mut table = emptied(true);
    table.list("B", Protocols::STREAM);
    table.event(2);
    table.answer("A", &said(2, ""));
    table.moves("ann", "B");
    table.event(3);
    assert_eq!((table.pushed_ids("A"), table.pushed_ids("B")), (vec![2], vec![3]));
    table.answer("B", &said(3, ""));
    table.routes.clear();
    table.push.take(Input::RouteChanged("ann".into()));
    table.event(4);
    assert_eq!(offline(&table), 5, "it was told to be deleted: Bob four times, Ann once");
    table.check();
}

#[test]
fn who_is_not_at_its_last_gateway_any_more_is_offline() {
    let mut table = emptied(true);
    table.event(2);
    table.answer("A", &said(2, "user not connected"));
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![2], 3), "asked for again, and then believed");
    table.event(3);
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![], 5));
    table.check();
}

#[test]
fn a_last_gateway_that_does_not_answer_costs_its_time_once() {
    let mut table = emptied(true);
    table.event(2);
    table.pass(1_020);
    assert_eq!(table.ended(RecipientOutcome::TimedOut), 1);
    table.event(3);
    assert_eq!((table.ended(RecipientOutcome::TimedOut), offline(&table)), (1, 4));
    table.check();
}

#[test]
fn a_last_gateway_that_leaves_the_registry_is_not_used() {
    let mut table = emptied(true);
    table.unlist("A");
    table.event(2);
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![], 3));
    table.check();
}

#[test]
fn after_five_minutes_the_store_is_believed() {
    let mut table = emptied(false);
    table.event(2);
    table.answer("A", &said(2, ""));
    table.pass(301_000);
    table.event(3);
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![2], 4));
    table.check();
}

#[test]
fn without_tracking_each_event_asks_and_the_answer_counts() {
    let mut table = emptied(true);
    table.push.take(Input::RoutesTracked(false));
    for msg_id in 2..=3 {
        table.event(msg_id);
        assert_eq!(table.pushed_ids("A"), [msg_id]);
        table.answer("A", &said(msg_id, ""));
    }
    table.routes.insert("ann".into(), "A".into());
    table.event(4);
    table.answer("A", &said(4, ""));
    assert_eq!((table.pushed_ids("A"), table.route_asks["ann"]), (vec![4], 4));
}

#[test]
fn a_store_that_is_away_for_a_while_in_between_forgets_nothing() {
    let mut table = emptied(false);
    let away = || LookupError::Unavailable("away".into());
    table.route_errors.extend([away(), away(), away()]);
    table.event(2);
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![], 1), "it waits");
    table.push.take(Input::RoutesUnknown);
    table.pass(800);
    assert_eq!((table.pushed_ids("A"), offline(&table)), (vec![2], 2));
}
