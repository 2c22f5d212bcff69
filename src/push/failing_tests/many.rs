//! More members of a store fail than its probe is trusted with.

use super::*;

/// Nine users' routes are refused for ever, the others' are cached and never asked for again; a probe without users is answered.
#[test]
fn many_users_whose_routes_are_refused_stop_nobody_though_all_others_are_cached() {
    let mut core = Core::tracking(3);
    let mut store = |millis: u64, output: &Output| {
        let Output::AskRoutes { ask, users } = output else { return None };
        let is_refused = millis > 2_000 && users.iter().any(|user| user.starts_with("bad"));
        is_refused.then(|| (STEP, Input::Routes { ask: *ask, answer: Err(refused()) }))
    };
    let mut held = 0;
    for step in 0..3_000 {
        if step % 10 == 0 {
            (0..9).for_each(|n| core.publish(&format!("good{n}")));
        }
        if step % 20 == 0 && step > 200 {
            (0..9).for_each(|n| core.publish(&format!("bad{n}")));
        }
        core.turn(&mut store);
        if step > 1_000 {
            held = held.max(core.push.events_in_flight());
        }
    }
    (0..500).for_each(|_| core.turn(&mut store));
    let bad = core.push.counts().unreached_by[crate::model::outcome::RecipientOutcome::BadRoute as usize];
    println!("at most {held} events held; {bad} ended");
    assert!(held < 256 / 4, "{held} held");
    assert_eq!((core.push.events_in_flight(), bad > 1_000), (0, true), "{bad} ended as bad_route");
}

/// The same while the store refuses everybody: only what was known before goes on.
#[test]
fn an_outage_of_routes_is_no_refusal_though_a_probe_without_users_is_answered() {
    let mut core = Core::tracking(0);
    let mut store = |millis: u64, output: &Output| {
        let Output::AskRoutes { ask, users } = output else { return None };
        let is_refused = (2_000..40_000).contains(&millis) && users.iter().next().is_some();
        is_refused.then(|| (STEP, Input::Routes { ask: *ask, answer: Err(refused()) }))
    };
    for step in 0..3_000 {
        if step % 20 == 0 && step < 1_500 {
            let from = if step < 100 { 0 } else { 9 };
            (from..from + 9).for_each(|n| core.publish(&format!("good{n}")));
        }
        core.turn(&mut store);
    }
    let bad = core.push.counts().unreached_by[crate::model::outcome::RecipientOutcome::BadRoute as usize];
    assert_eq!((bad, core.push.events_in_flight()), (0, 0), "an outage is no bad route");
}

/// Six owners' rows are refused for ever, ten events per second; somebody else has a row each five seconds. None of the
/// sessions says more than that.
#[test]
fn many_owners_whose_rows_are_refused_hold_a_part_of_the_window() {
    let mut core = Core::new(3, InboxStore::Offline);
    let mut store = |_: u64, output: &Output| {
        let Output::Store { ask, rows } = output else { return None };
        let is_refused = rows.users.iter().any(|user| user.starts_with("bad"));
        is_refused.then(|| (STEP, Input::Stored { ask: *ask, answer: Err(refused()) }))
    };
    let (mut held, mut good) = (0, 0);
    for step in 0..6_000 {
        if step % 5 == 0 {
            core.publish(&format!("bad{}", step / 5 % 6));
        }
        if step % 250 == 100 {
            core.publish("good0");
            good += 1;
        }
        core.turn(&mut store);
        held = held.max(core.push.events_in_flight());
    }
    let counts = core.push.counts();
    let stored = counts.recipients_ended[crate::model::outcome::RecipientOutcome::Stored as usize];
    println!("at most {held} events held; {stored} of {good} stored, {} letters", core.letters.len());
    assert!(held < 256 * 2 / 3, "{held} held");
    assert!(stored + 1 >= good, "{stored} of {good} rows stored");
    assert!(core.letters_of("inbox_rejected") > 500 && core.letters.iter().all(|(_, detail)| detail.contains("bad")));
}

/// A store that fails every row and answers its probes: nobody else's rows show that it is there.
#[test]
fn an_outage_of_rows_is_no_letter_though_probes_are_answered_and_some_were_refused_before() {
    let mut core = Core::new(3, InboxStore::Offline);
    let mut store = |millis: u64, output: &Output| {
        let Output::Store { ask, rows } = output else { return None };
        let is_bad = rows.users.iter().any(|user| user.starts_with("bad"));
        let is_away = (20_000..80_000).contains(&millis) && rows.users.iter().next().is_some();
        (is_bad || is_away).then(|| (STEP, Input::Stored { ask: *ask, answer: Err(refused()) }))
    };
    for step in 0..6_000 {
        if step % 50 == 0 && step < 3_000 {
            core.publish("bad0");
            (0..8).for_each(|n| core.publish(&format!("good{n}")));
        }
        core.turn(&mut store);
    }
    assert!(core.letters.iter().all(|(_, detail)| detail.contains("bad0")), "{:?}", core.letters);
}
