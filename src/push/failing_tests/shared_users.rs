//! Sessions that share a user whose route each event has asked for, as where routes are not tracked.

use super::*;

/// One session has an event each turn, and its user is asked for all the time; another one of the same user has one event.
#[test]
fn a_session_goes_on_though_another_has_its_user_asked_for_again_and_again() {
    let mut core = Core::new(3, InboxStore::Off);
    core.push.cx.settings.members_ttl = Duration::from_secs(60);
    let mut settled = Vec::new();
    let mut store = |millis: u64, output: &Output| match output {
        Output::AskMembers { ask, sessions, .. } => {
            let list = ["ann"].into_iter().collect::<NameList>();
            Some((STEP, Input::Members { ask: *ask, answer: Ok(vec![list; sessions.len()]) }))
        }
        Output::Settle(of) => {
            settled.push((of.tag.number, millis));
            None
        }
        _ => None,
    };
    for step in 0..200 {
        core.publish("busy");
        core.publish("busy");
        if step == 100 {
            core.publish("seldom");
        }
        core.turn(&mut store);
    }
    let (number, published) = (2 * 101 + 1, 100 * STEP);
    let ended = settled.iter().find(|(of, _)| *of == number).map(|(_, millis)| millis - published);
    assert!(ended.is_some_and(|took| took <= 10 * STEP), "it took {ended:?} ms");
}
