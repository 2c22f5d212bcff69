//! A route whose time in the store has passed is not believed for ever, though the store tells of that late or never: a
//! push that timed out, or a gateway that left the registry, makes the next event of its users ask.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::ports::Protocols;
use testkit::table::Table;

#[test]
fn a_push_that_timed_out_makes_the_next_event_ask() {
    let mut table = Table::new(&["ann"], &[("ann", "dead")]);
    table.list("dead", Protocols::STREAM);
    table.event(1);
    table.routes.remove("ann");
    table.pass(1_020);
    assert_eq!(
        (table.ended(RecipientOutcome::TimedOut), table.route_asks["ann"]),
        (1, 1),
        "the first one costs its time"
    );
    table.event(2);
    assert_eq!(
        (table.ended(RecipientOutcome::Offline), table.route_asks["ann"]),
        (1, 2),
        "the second one costs nothing"
    );
    table.check();
}

#[test]
fn who_is_still_routed_there_is_asked_for_once_an_event_that_timed_out() {
    let mut table = Table::new(&["ann"], &[("ann", "dead")]);
    table.list("dead", Protocols::STREAM);
    for msg_id in 1..=3 {
        table.event(msg_id);
        table.pass(1_020);
        assert_eq!(
            (table.ended(RecipientOutcome::TimedOut), table.route_asks["ann"]),
            (msg_id as u64, msg_id as usize)
        );
    }
}

#[test]
fn a_gateway_that_left_the_registry_makes_the_next_event_ask() {
    let mut table = Table::new(&["ann", "bob"], &[("ann", "dead"), ("bob", "alive")]);
    table.list("dead", Protocols::STREAM);
    table.list("alive", Protocols::STREAM);
    table.event(1);
    table.routes.remove("ann");
    table.unlist("dead");
    table.event(2);
    assert_eq!((table.route_asks["ann"], table.route_asks["bob"]), (2, 1), "of that gateway's users only");
    assert_eq!(table.pushed_ids("dead"), [1]);
    table.pass(1_020);
    table.event(3);
    assert_eq!(table.ended(RecipientOutcome::Offline), 2, "2 waited behind 1");
    assert_eq!(table.ended(RecipientOutcome::TimedOut), 3, "1 to ann; nobody answered bob");
}
