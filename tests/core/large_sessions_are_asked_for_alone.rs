//! Promise: a session that is known to be large is asked for alone, where it holds up no other's lookup, also after it failed.

use task_engine::model::limits::MEMBER_LARGE;
use task_engine::model::outcome::EventOutcome;
use task_engine::ports::LookupError;
use testkit::table::Table;

fn table() -> Table {
    let mut table = Table::new(&["ann", "bob"], &[]);
    let large = (0..MEMBER_LARGE + 1).map(|number| format!("user-{number}")).collect();
    table.members_of.insert("large".into(), large);
    table
}

fn both(table: &mut Table, msg_id: i64) {
    table.arrive("large", msg_id);
    table.arrive("small", msg_id);
    table.run();
}

#[test]
fn a_large_session_holds_up_no_other() {
    let mut table = table();
    both(&mut table, 1);
    assert_eq!((table.member_asks.len(), &table.slow_asks[..]), (1, &[][..]), "nobody knows yet");
    for msg_id in 2..5 {
        table.pass(200);
        both(&mut table, msg_id);
    }
    assert_eq!((table.member_asks.len(), &table.slow_asks[..]), (7, &[1, 1, 1][..]), "alone from then on");
    assert_eq!(table.settled.len(), 8);
    table.check();
}

#[test]
fn one_that_fails_is_asked_again() {
    for error in [LookupError::Unavailable("late".into()), LookupError::NotReached("away".into())] {
        let mut table = table();
        both(&mut table, 1);
        table.pass(200);
        table.member_errors.push_back(error);
        table.arrive("large", 2);
        table.run();
        assert_eq!(table.settled.len(), 2);
        table.pass(3_000);
        assert_eq!((table.settled.len(), table.events_ended(EventOutcome::Settled)), (3, 3));
        table.check();
    }
}
