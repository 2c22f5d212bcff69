//! Promise: what is fleeting and dropped where it waits lets nobody's messages pass earlier ones, and is not pushed late to who moved.

use std::time::Duration;

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::model::proto::gateway::PushMessageResponse;
use task_engine::ports::Protocols;
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

const TYPING: Said = Said::Class(Priority::Fleeting);
const TTL_MILLIS: u64 = 1_000;

/// Three members at the gateway A, to which one push goes at a time.
fn world() -> Table {
    let rules = PriorityRules {
        header: "Priority".into(),
        stream_target: Duration::from_millis(1),
        fleeting_ttl: Duration::from_millis(TTL_MILLIS),
        ..PriorityRules::default()
    };
    let mut table = Table::with_priorities(rules, usize::MAX, InboxStore::Off, 16 * 1024);
    table.members = ["ann", "bob", "cat"].map(str::to_owned).to_vec();
    table.routes.extend(["ann", "bob", "cat"].map(|user| (user.to_owned(), "A".to_owned())));
    table.list("A", Protocols::STREAM);
    table.list("B", Protocols::STREAM);
    table
}

fn come(table: &mut Table, msg_id: i64, said: Said) {
    table.arrive_as("s", msg_id, said);
    table.run();
}

fn answer(table: &mut Table, msg_id: i64, error: &str) {
    table.answer("A", &PushMessageResponse { msg_id, error: error.to_owned(), ..PushMessageResponse::default() });
    table.run();
}

#[test]
fn who_moved_has_what_the_first_gateway_did_not_take_before_what_came_later() {
    let mut table = world();
    come(&mut table, 1, Said::Nothing);
    table.moves("ann", "B");
    come(&mut table, 2, Said::Nothing);
    come(&mut table, 3, TYPING);
    table.pass(TTL_MILLIS + 100);
    assert_eq!(table.ended(RecipientOutcome::Shed), 2, "bob and cat do not see who typed");
    assert_eq!(table.pushed_ids("B"), [0; 0], "the first message may still come to ann from A");
    answer(&mut table, 1, "user not connected");
    answer(&mut table, 1, "");
    answer(&mut table, 1, "");
    assert_eq!(table.pushed_ids("B").first(), Some(&1));
    table.answer("B", &PushMessageResponse { msg_id: 1, ..PushMessageResponse::default() });
    table.run();
    assert_eq!(table.pushed_ids("B"), [2], "and nobody types any more");
    assert_eq!(table.ended(RecipientOutcome::Shed), 3);
    table.check();
}
