//! Promise: while the inbox refuses every row, whatever it says, events wait; no row is given up.

use super::{Field, JETSTREAM};
use testkit::engine::eventually;

#[test]
fn an_inbox_that_refuses_everything_makes_no_letters() {
    let field = Field::start();
    let world = &field.world;
    for session in 0..40 {
        world.members(&format!("group:{session}"), &[format!("u{session}"), format!("v{session}")]);
    }
    field.sql(
        "CREATE TRIGGER no_writer BEFORE INSERT ON t_inbox FOR EACH ROW \
         SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 9001, MESSAGE_TEXT = 'no writer'",
    );
    let engine = world.engine(2, JETSTREAM);
    let publisher = world.publisher();
    (0..40).for_each(|session| publisher.publish(&format!("group:{session}"), "system", [session + 1]));
    // Long enough for max_retry (2, 50 ms apart) many times over: each shard has tried again at least four times.
    let tries = |failed: &testkit::engine::Metrics| failed.of("inbox_rows_rejected_total", "") >= 80 + 2 * 2 * 4;
    let metrics = engine.wait_metrics("it was tried again and again", tries);
    assert_eq!((metrics.of("events_in_flight", ""), metrics.recipients("inbox_rejected")), (40, 0));
    assert!(field.letters().is_empty(), "{:?}", field.letters());

    field.sql("DROP TRIGGER no_writer");
    eventually("all rows are there", || field.owners().len() == 80);
    let metrics = engine.wait_ended(40);
    assert_eq!((metrics.recipients("stored"), metrics.events("settled"), field.letters().len()), (80, 40, 0));
    engine.stop_clean();
}
