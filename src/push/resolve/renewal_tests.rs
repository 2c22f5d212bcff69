//! Urgent events find their session's list fresh: it was read again before it was old, while nobody waited.

use std::time::Duration;

use crate::model::limits::{RENEWED_FOR, RENEWED_SESSIONS_MAX};
use crate::model::names::{NameList, Route, RouteList};
use crate::model::priority::{Priority, PriorityRules};
use crate::push::Push;
use crate::push::facts::{Input, Output};
use crate::push::retreat::tests::{flush, push as without_classes, take};

/// Events say no class; lists live for a second.
fn push(default: Priority) -> Push {
    without_classes().with_priorities(PriorityRules { default, ..PriorityRules::default() })
}

/// A turn; the sessions that were asked for, each of which has a member of its name, who is offline.
fn turn(push: &mut Push, millis: u64) -> Vec<String> {
    let mut asked = Vec::new();
    for output in flush(push, millis) {
        match output {
            Output::AskMembers { ask, sessions, .. } => {
                let lists = sessions.iter().map(|id| [&**id].into_iter().collect::<NameList>()).collect();
                asked.extend(sessions.iter().map(|id| id.to_string()));
                push.take(Input::Members { ask, answer: Ok(lists) });
            }
            Output::AskRoutes { ask, users } => {
                let mut list = RouteList::new();
                users.iter().for_each(|_| list.push(Route::Offline));
                push.take(Input::Routes { ask, answer: Ok(list) });
            }
            _ => {}
        }
    }
    asked
}

/// What was asked in turns of 20 ms.
fn turns(push: &mut Push, millis: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let times = millis.step_by(20);
    times.flat_map(|millis| turn(push, millis).into_iter().map(move |id| (millis, id))).collect()
}

#[test]
fn a_list_is_read_again_before_it_is_old_and_no_urgent_event_waits_for_it() {
    let mut push = push(Priority::Urgent);
    take(&mut push, "s", 1, 1);
    assert_eq!(turn(&mut push, 1), ["s"], "nothing was known");
    let asked = turns(&mut push, 20..3_000);
    assert_eq!(asked.iter().map(|(_, id)| &**id).collect::<Vec<_>>(), ["s"; 5], "{asked:?}");
    let times: Vec<u64> = std::iter::once(1).chain(asked.iter().map(|(millis, _)| *millis)).collect();
    assert!(times.windows(2).all(|two| (500..=640).contains(&(two[1] - two[0]))), "{times:?}");
    take(&mut push, "s", 2, 2);
    assert_eq!(turn(&mut push, 3_001), [""; 0], "what was read ahead is good for it");
    assert_eq!(push.activity().lists_renewed, 5);
}

#[test]
fn ten_lifetimes_after_its_last_urgent_event_a_session_is_as_any_other() {
    let mut push = push(Priority::Urgent);
    take(&mut push, "s", 1, 1);
    let last = turns(&mut push, 1..30_000).pop().map(|(millis, _)| millis);
    let until = 1_000 * u64::from(RENEWED_FOR);
    assert!(last.is_some_and(|last| (until - 700..=until).contains(&last)), "{last:?}");
    assert!(push.resolve.renewal.is_empty(), "and the shard may rest");
}

#[test]
fn without_urgent_events_or_where_lists_hold_for_one_event_nothing_is_read_ahead() {
    let mut normal = push(Priority::Normal);
    take(&mut normal, "s", 1, 1);
    let mut for_one = push(Priority::Urgent);
    for_one.cx.settings.members_ttl = Duration::ZERO;
    take(&mut for_one, "s", 1, 1);
    for push in [&mut normal, &mut for_one] {
        assert_eq!(turns(push, 1..5_000).len(), 1);
    }
}

#[test]
fn so_many_sessions_are_renewed_and_one_more_asks_as_before() {
    let mut push = push(Priority::Urgent);
    let many = RENEWED_SESSIONS_MAX as u64 + 3;
    for number in 0..many {
        take(&mut push, &format!("s{number}"), number as i64, number);
    }
    assert_eq!(push.activity().lists_not_renewed, 3);
    assert_eq!(turns(&mut push, 1..400).len() as u64, many);
    turns(&mut push, 400..1_000);
    assert_eq!(push.activity().lists_renewed, RENEWED_SESSIONS_MAX as u64, "once each");
}
