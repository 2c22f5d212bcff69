//! One outage charges nobody, however late its answers and whoever else is at fault: with no retries, the first charge is the
//! last.

use super::*;
use crate::model::outcome::RecipientOutcome;

/// How late the answer is that the outage makes.
const LATE: u64 = 1_500;

/// Refuses who is bad, and one ask about `good0` without anybody bad: the outage. All else works.
struct Once {
    is_over: bool,
}

impl Once {
    fn refuses(&mut self, names: &[&str], soon: u64) -> Option<u64> {
        if names.iter().any(|name| name.starts_with("bad")) {
            return Some(soon);
        }
        let is_outage = names == ["good0"] && !std::mem::replace(&mut self.is_over, true);
        is_outage.then_some(LATE)
    }
}

fn run(core: &mut Core, steps: usize, store: &mut dyn FnMut(u64, &Output) -> Said) {
    (0..steps).for_each(|_| core.turn(store));
}

#[test]
fn a_session_that_was_asked_for_with_a_bad_one() {
    let mut core = Core::new(0, InboxStore::Off);
    (1..20).for_each(|n| core.publish(&format!("good{n}")));
    ["bad0", "good0"].into_iter().for_each(|session| core.publish(session));
    let mut once = Once { is_over: false };
    run(&mut core, 1_000, &mut |_, output| {
        let Output::AskMembers { ask, sessions, .. } = output else { return None };
        let names = sessions.iter().map(|id| &**id).collect::<Vec<_>>();
        // Dear enough to be asked for one by one: others are answered before `good0` is asked for.
        once.refuses(&names, 120).map(|after| (after, members_refused(*ask)))
    });
    assert!(once.is_over, "it was asked for alone");
    assert_eq!(core.letters.len(), 1, "{:?}", core.letters);
    assert!(core.letters[0].1.contains("bad0"), "{:?}", core.letters);
}

#[test]
fn a_user_whose_route_was_asked_for_with_that_of_a_bad_one() {
    let mut core = Core::new(0, InboxStore::Off);
    let mut once = Once { is_over: false };
    let mut store = |_: u64, output: &Output| {
        let Output::AskRoutes { ask, users } = output else { return None };
        let names = users.iter().collect::<Vec<_>>();
        // Two sets fail at the same time, so halves wait for a probe.
        let soon = if names == ["bad1"] { 2 * STEP } else { STEP };
        once.refuses(&names, soon).map(|after| (after, Input::Routes { ask: *ask, answer: Err(refused()) }))
    };
    core.publish("bad1");
    core.turn(&mut store);
    ["good0", "bad0"].into_iter().for_each(|session| core.publish(session));
    run(&mut core, 20, &mut store);
    core.publish("good1");
    run(&mut core, 1_000, &mut store);
    assert!(once.is_over, "it was asked for alone");
    let bad = core.push.counts().unreached_by[RecipientOutcome::BadRoute as usize];
    assert_eq!((bad, core.push.events_in_flight()), (2, 0), "those of the bad ones");
}

/// The route store names nobody online, and a session has two members: their rows are asked for together.
#[test]
fn a_row_that_was_asked_for_with_that_of_a_bad_one() {
    let mut core = Core::new(0, InboxStore::Offline);
    let mut once = Once { is_over: false };
    let mut store = |_: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } => {
            let both = |id: &str| if id == "both" { vec!["bad0", "good0"] } else { vec![id] }.into_iter().collect();
            let lists: Vec<NameList> = sessions.iter().map(|id| both(id)).collect();
            Some((STEP, Input::Members { ask: *ask, answer: Ok(lists) }))
        }
        Output::Store { ask, rows } => {
            let names = rows.users.iter().collect::<Vec<_>>();
            once.refuses(&names, STEP).map(|after| (after, Input::Stored { ask: *ask, answer: Err(refused()) }))
        }
        _ => None,
    };
    core.publish("both");
    for step in 0..1_000 {
        if step % 50 == 0 {
            core.publish("good1");
        }
        core.turn(&mut store);
    }
    run(&mut core, 100, &mut store);
    assert!(once.is_over, "it was asked for alone");
    let refused = core.push.counts().recipients_ended[RecipientOutcome::InboxRejected as usize];
    assert_eq!((refused, core.push.events_in_flight()), (1, 0), "{:?}", core.letters);
    assert!(core.letters.iter().all(|(_, detail)| detail.contains("both")), "{:?}", core.letters);
}

/// A letter fails in an outage, is sent again in it, and has that answer when another one that was sent later is kept.
#[test]
fn a_letter_whose_answer_comes_after_that_of_another() {
    let mut core = Core::new(0, InboxStore::Off);
    let mut sent = 0;
    let mut store = |_: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } if is_bad(sessions) => Some((STEP, members_refused(*ask))),
        Output::PublishLetter { ask, letter, .. } if letter.detail.contains("bad0") => {
            sent += 1;
            let after = if sent == 2 { LATE } else { STEP };
            (sent <= 2).then(|| (after, Input::LetterPublished { ask: *ask, answer: Err(refused()) }))
        }
        _ => None,
    };
    core.publish("bad0");
    for step in 0..1_000 {
        if step % 50 == 0 {
            core.publish("good1");
        }
        if step > 10 && step % 10 == 0 {
            core.publish("bad1");
        }
        core.turn(&mut store);
    }
    assert!(sent > 2, "it was asked for again");
    assert_eq!(core.push.counts().events_ended[EventOutcome::DeadLetterLost as usize], 0);
}
