//! Only fleeting messages may be shed, and only as many as the engine counted; their order holds as that of all.

use task_engine::model::priority::Priority::{self, Bulk, Fleeting, Normal, Urgent};

use super::*;
use crate::verdict::ShedByEngine;

/// Six messages of these classes in turn, to three users each.
fn of_classes(classes: &[Priority]) -> Bench {
    Bench::with(6, |it| it.sessions[0].classes = classes.to_vec())
}

/// All messages but these come to all.
fn all_come_but(bench: &Bench, left_out: &[usize]) {
    for number in (0..bench.events.len()).filter(|number| !left_out.contains(number)) {
        for user in 1..4 {
            bench.comes(number, user, user % 2);
        }
    }
}

fn counted(recipients: u64, whole_events: u64, unreached: u64) -> ShedByEngine {
    ShedByEngine { recipients, whole_events, unreached }
}

#[test]
fn what_was_shed_is_neither_lost_nor_delivered_when_the_engine_counted_it() {
    let bench = of_classes(&[Normal, Fleeting]);
    all_come_but(&bench, &[1, 5]);
    bench.comes(5, 2, 0);
    for (counted, is_clean) in [
        (counted(5, 0, 0), true),
        (counted(2, 1, 0), true),
        (counted(4, 0, 0), false),
        (counted(6, 0, 0), false),
        (counted(5, 1, 0), false),
        (counted(3, 0, 2), true),
        (counted(0, 0, 0), false),
    ] {
        bench.verdict.shed_by_engine(counted);
        let findings = bench.verdict.findings();
        assert_eq!((findings.shed, findings.lost, findings.delivered), (5, 0, 13));
        assert_eq!(findings.is_clean, is_clean, "{counted:?}: {findings:?}");
        assert_eq!(findings.cases.len(), usize::from(!is_clean));
        assert!(
            findings
                .cases
                .iter()
                .all(|case| case.starts_with("shed: 5 recipients of fleeting messages never got them"))
        );
    }
}

#[test]
fn other_classes_are_never_shed() {
    for class in [Urgent, Normal, Bulk] {
        let bench = of_classes(&[class, Fleeting]);
        all_come_but(&bench, &[2, 3]);
        bench.verdict.shed_by_engine(counted(6, 0, 0));
        let findings = bench.verdict.findings();
        assert_eq!((findings.shed, findings.lost, findings.is_clean), (3, 3, false), "{class:?}: {findings:?}");
        assert_eq!(findings.cases[0], "lost: session-0 message 2 to user-1, who is at gateway-1");
    }
}

#[test]
fn what_an_engine_says_that_it_shed_and_did_not_is_wrong() {
    let bench = of_classes(&[Fleeting]);
    bench.all_come();
    assert!(bench.verdict.findings().is_clean);
    bench.verdict.shed_by_engine(counted(1, 0, 0));
    let findings = bench.verdict.findings();
    assert_eq!((findings.shed, findings.is_clean), (0, false), "{findings:?}");
}

#[test]
fn a_fleeting_message_has_no_row_and_none_is_owed() {
    let bench = Bench::with(6, |it| (it.sessions[0].classes, it.offline_percent) = (vec![Fleeting, Bulk], 50));
    for number in 0..6 {
        for user in (1..4).filter(|user| bench.world.is_judged(*user)) {
            bench.comes(number, user, bench.world.place(user).current);
        }
    }
    bench.verdict.expect_rows();
    let away: Vec<u32> = (1..4).filter(|user| !bench.world.is_judged(*user)).collect();
    let row = |number: usize, user| {
        bench.verdict.stored("session-0", &World::user_name(user), bench.events[number].msg_id);
    };
    for number in [1, 3, 5] {
        away.iter().for_each(|user| row(number, *user));
    }
    bench.verdict.shed_by_engine(counted(0, 0, 3 * away.len() as u64));
    let findings = bench.verdict.findings();
    assert_eq!((findings.lost, findings.shed, findings.is_clean), (0, 0, true), "{findings:?}");
    row(0, away[0]);
    let findings = bench.verdict.findings();
    assert_eq!((findings.misdelivered, findings.is_clean), (1, false), "{findings:?}");
}

#[test]
fn whoever_got_it_at_one_of_several_gateways_is_not_shed() {
    let bench = Bench::with(1, |it| (it.sessions[0].classes, it.devices) = (vec![Fleeting], 2.0));
    bench.comes(0, 1, bench.world.place(1).current);
    bench.verdict.shed_by_engine(counted(2, 0, 0));
    let findings = bench.verdict.findings();
    assert_eq!((findings.shed, findings.lost, findings.delivered), (2, 0, 1));
    assert!(findings.is_clean, "{findings:?}");
}

#[test]
fn order_holds_whatever_the_classes_and_latencies_are_kept_by_class() {
    let bench = of_classes(&[Bulk, Urgent]);
    for number in [1, 0, 2, 3, 4, 5] {
        bench.comes(number, 1, 1);
    }
    for user in 2..4 {
        (0..6).for_each(|number| _ = bench.comes(number, user, user % 2));
    }
    let findings = bench.verdict.findings();
    assert_eq!(findings.cases, ["out of order: session-0 message 0 to user-1 at gateway-1, after a later one"]);
    let by_class: Vec<u64> = bench.verdict.take_recent_by_class().iter().map(Histogram::len).collect();
    assert_eq!(by_class, [9, 0, 9, 0], "urgent, normal, bulk, fleeting");
    assert_eq!(Bench::new(1).verdict.take_recent_by_class().len(), 0, "messages say no class");
}

#[test]
fn an_engine_that_ignores_what_messages_say_is_found_out() {
    let bench = of_classes(&[Urgent, Bulk, Bulk]);
    bench.all_come();
    assert!(bench.verdict.findings().is_clean, "an engine that says nothing of classes");
    for (ended, is_clean) in [([2, 0, 4, 0], true), ([0, 6, 0, 0], false), ([2, 0, 3, 0], false), ([0; 4], false)] {
        bench.verdict.classes_by_engine(Some(ended));
        let findings = bench.verdict.findings();
        assert_eq!(findings.is_clean, is_clean, "{ended:?}: {findings:?}");
        let said = "classes: published were 2 urgent, 0 normal, 4 bulk, 0 fleeting; the engine ended ";
        assert!(findings.cases.iter().all(|case| case.starts_with(said)), "{findings:?}");
    }
    bench.verdict.not_taken(0, 1);
    assert_eq!(bench.verdict.published_by_class(), Some([2, 0, 3, 0]));
    assert_eq!(Bench::new(1).verdict.published_by_class(), None);
}
