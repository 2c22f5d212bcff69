//! A turn is shared by the classes that wait, 8 to 4 to 1, whatever came first; what one leaves the others have; and bulk has its part
//! while urgent events come without end. What an event's class is, its first rule that fits says.

use task_engine::model::outcome::RecipientOutcome;
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::push::inbox::InboxStore;
use testkit::table::Table;

const URGENT: Said = Said::Class(Priority::Urgent);
const NORMAL: Said = Said::Class(Priority::Normal);
const BULK: Said = Said::Class(Priority::Bulk);
/// 80, 40 and 10 recipients for the classes.
const TURN: usize = 130;

/// Sessions of ten users, all of them offline: whoever is looked at ends.
fn world(rules: PriorityRules) -> Table {
    let mut table = Table::with_priorities(rules, usize::MAX, InboxStore::Off, TURN);
    for session in ["urgent", "normal", "bulk", "mixed"] {
        let members = (0..10).map(|number| format!("{session}-{number}")).collect();
        table.members_of.insert(session.to_owned(), members);
        table.arrive_as(session, 1, NORMAL);
        table.run();
    }
    table
}

fn by_header() -> PriorityRules {
    PriorityRules { header: "Priority".into(), ..PriorityRules::default() }
}

fn offline(table: &Table) -> [u64; 3] {
    let ended = &table.push.by_class().recipients_ended;
    [Priority::Urgent, Priority::Normal, Priority::Bulk]
        .map(|class| ended[class as usize][RecipientOutcome::Offline as usize])
}

/// What one more turn bundles of each class.
fn turn(table: &mut Table) -> [u64; 3] {
    let before = offline(table);
    table.push.flush(&mut Vec::new());
    let after = offline(table);
    [0, 1, 2].map(|class| after[class] - before[class])
}

#[test]
fn eight_to_four_to_one_whoever_came_first() {
    let mut table = world(by_header());
    let before = offline(&table);
    for (session, said) in [("bulk", BULK), ("normal", NORMAL), ("urgent", URGENT)] {
        (0..40).for_each(|number| table.arrive_as(session, 10 + number, said));
    }
    table.push.flush(&mut Vec::new());
    let after = offline(&table);
    assert_eq!([0, 1, 2].map(|class| after[class] - before[class]), [80, 40, 10], "bulk came first");
    assert_eq!(turn(&mut table), [80, 40, 10]);
}

#[test]
fn what_one_class_leaves_the_others_have() {
    let mut table = world(by_header());
    (0..40).for_each(|number| table.arrive_as("bulk", 10 + number, BULK));
    table.arrive_as("urgent", 100, URGENT);
    table.push.flush(&mut Vec::new());
    assert_eq!(offline(&table), [10, 40, 120], "a whole turn, and the four of the beginning");
    assert_eq!(turn(&mut table), [0, 0, 130]);
}

#[test]
fn bulk_has_its_part_while_urgent_events_come_without_end() {
    let mut table = world(by_header());
    (0..200).for_each(|number| table.arrive_as("bulk", 10 + number, BULK));
    let mut bundled = [0; 3];
    for round in 0..100 {
        (0..20).for_each(|number| table.arrive_as("urgent", 1_000 + round * 20 + number, URGENT));
        let before = offline(&table);
        table.push.flush(&mut Vec::new());
        let after = offline(&table);
        // Those that are bundled as they come are the turn's as well.
        (0..3).for_each(|class| bundled[class] += after[class] - before[class]);
    }
    let all = offline(&table);
    assert!(all[2] * 20 >= all.iter().sum(), "{all:?}, {bundled:?} of them at the end of turns");
}

#[test]
fn what_waits_before_an_urgent_event_of_its_session_goes_with_it() {
    let mut table = world(by_header());
    (0..40).for_each(|number| table.arrive_as("bulk", 10 + number, BULK));
    (0..3).for_each(|number| table.arrive_as("mixed", 10 + number, BULK));
    table.arrive_as("mixed", 20, URGENT);
    table.push.flush(&mut Vec::new());
    assert_eq!(offline(&table)[0], 10, "the urgent one, and so those before it, though bulk had come first");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = PriorityRules { members_above: vec![(9, Priority::Bulk)], default: Priority::Urgent, ..by_header() };
    let mut table = Table::with_priorities(rules, usize::MAX, InboxStore::Off, TURN);
    table.members_of.insert("large".into(), (0..10).map(|number| format!("u{number}")).collect());
    table.members_of.insert("small".into(), vec!["u0".into()]);
    table.arrive_as("large", 1, Said::Nothing);
    table.run();
    assert_eq!(offline(&table), [0, 0, 10], "its members were not known when it came");
    table.arrive_as("large", 2, Said::Unknown);
    table.arrive_as("large", 3, NORMAL);
    table.arrive_as("small", 4, Said::Nothing);
    table.run();
    assert_eq!(offline(&table), [1, 10, 20]);
    assert_eq!(table.push.by_class().unknown_said, 1);
    assert_eq!(table.push.warnings(), [("unknown_priority", 1)]);
}

#[test]
fn without_rules_nothing_has_a_class() {
    let mut table = world(PriorityRules::default());
    (0..40).for_each(|number| table.arrive_as("bulk", 10 + number, BULK));
    (0..40).for_each(|number| table.arrive_as("urgent", 10 + number, URGENT));
    table.push.flush(&mut Vec::new());
    assert_eq!(offline(&table), [0, 170, 0], "in the order in which they came");
}
