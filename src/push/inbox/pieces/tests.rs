//! A store in a table: each user's row is good or not.

use super::*;

const RETRIES: (u32, Duration) = (1, Duration::from_millis(50));

fn at(millis: u64) -> Nanos {
    Nanos(millis * 1_000_000)
}

/// Plays a store to which each user is good or not, until nothing is asked any more; who ended, and the asks.
fn play(asks: &mut InboxAsks, events: u32, users: u32, is_good: impl Fn(u32) -> bool) -> (Vec<u32>, usize) {
    let (mut ended, mut count) = (Vec::new(), 0);
    (0..events).for_each(|event| asks.want(EventIx(event)));
    for step in 0..20_000 {
        let now = at(step * 10);
        if let Some(probe) = asks.next_probe(now) {
            assert!(asks.probe_answered(probe, true, now));
        }
        while let Some((mut piece, is_trial)) = asks.next(now) {
            let all = || (0..users).map(UserIx).collect::<Box<[UserIx]>>();
            let named = piece.users.take().unwrap_or_else(all);
            let is_stored = named.iter().all(|user| is_good(user.0));
            let rows = named.len();
            piece.users = Some(named);
            let ask = asks.sent(piece, rows, is_trial, now);
            let asked = asks.take(ask).expect("just sent");
            count += 1;
            if is_stored {
                asks.stored(&asked);
            } else if let Verdict::Ended(piece) = asks.failed(asked, RETRIES, now) {
                ended.extend(piece.users.expect("named").iter().map(|user| user.0));
            }
        }
        assert!(asks.pieces <= STORE_PIECES_MAX + 1);
    }
    assert!(asks.failed.is_empty() && asks.suspects.is_empty() && asks.later.is_empty(), "{asks:?}");
    assert_eq!((asks.pieces, asks.failing.len(), asks.rows_asked, asks.suspects_asked), (0, 0, 0, 0));
    ended.sort_unstable();
    (ended, count)
}

#[test]
fn one_bad_user_of_500_ends_alone() {
    for bad in [0, 250, 499] {
        let (ended, asks) = play(&mut InboxAsks::default(), 1, 500, |user| user != bad);
        assert_eq!(ended, [bad]);
        assert!(asks < 60, "{asks} asks");
    }
}

#[test]
fn several_bad_ones_end_and_the_others_do_not() {
    let (ended, _) =
        play(&mut InboxAsks::default(), 1, 500, |user| !matches!(user, 3 | 4 | 77 | 300 | 301 | 302 | 499));
    assert_eq!(ended, [3, 4, 77, 300, 301, 302, 499]);
}

#[test]
fn one_bad_user_of_many_events_ends_in_each_though_nobody_else_is_asked_for() {
    let (ended, _) = play(&mut InboxAsks::default(), 20, 1, |_| false);
    assert_eq!(ended, [0; 20]);
}

#[test]
fn many_events_with_one_bad_member_each() {
    let (ended, _) = play(&mut InboxAsks::default(), 200, 3, |user| user != 1);
    assert_eq!(ended, vec![1; 200]);
}

#[test]
fn many_events_that_each_hold_a_bad_one_and_begin_with_another_user() {
    // Each event's users begin elsewhere, and user 0 is in all of them.
    let mut asks = InboxAsks::default();
    let (mut ended, mut stored) = (0, 0);
    (0..50).for_each(|event| asks.want(EventIx(event)));
    for step in 0..6_000 {
        let now = at(step * 10);
        if let Some(probe) = asks.next_probe(now) {
            asks.probe_answered(probe, true, now);
        }
        while let Some((mut piece, is_trial)) = asks.next(now) {
            let first = piece.event.0 * 100;
            piece.users.get_or_insert_with(|| (first + 1..first + 60).chain([0]).map(UserIx).collect());
            let is_good = piece.users.iter().flatten().all(|user| user.0 != 0);
            let rows = piece.users.as_ref().map_or(0, |users| users.len());
            let ask = asks.sent(piece, rows, is_trial, now);
            let asked = asks.take(ask).expect("just sent");
            if is_good {
                stored += rows;
                asks.stored(&asked);
            } else if let Verdict::Ended(_) = asks.failed(asked, RETRIES, now) {
                ended += 1;
            }
        }
    }
    assert_eq!((ended, stored), (50, 50 * 59));
}

#[test]
fn while_every_ask_fails_nobody_ends_and_one_piece_at_a_time_is_asked() {
    for probes_are_good in [false, true] {
        let mut asks = InboxAsks::default();
        (0..100).for_each(|event| asks.want(EventIx(event)));
        let mut most = Vec::new();
        for step in 0..6_000 {
            let now = at(step * 10);
            if let Some(probe) = asks.next_probe(now) {
                asks.probe_answered(probe, probes_are_good, now);
            }
            let mut sent = Vec::new();
            while let Some((mut piece, is_trial)) = asks.next(now) {
                let first = piece.event.0 * 1_000;
                piece.users.get_or_insert_with(|| (first..first + 1_000).map(UserIx).collect());
                sent.push(asks.sent(piece, 1, is_trial, now));
            }
            most.push(sent.len());
            for ask in sent {
                let asked = asks.take(ask).expect("just sent");
                let verdict = asks.failed(asked, RETRIES, now);
                assert!(!matches!(verdict, Verdict::Ended(_)), "an outage is no refusal");
            }
        }
        assert_eq!((most[0], most[1..].iter().max()), (100, Some(&1)), "probes good: {probes_are_good}");
        let asked = most[100..].iter().sum::<usize>();
        // A piece is halved when it fails again, so each halving takes two asks.
        let halved = if probes_are_good { HALVED_IN_VAIN_MAX } else { 0 };
        assert!((50..70 + 2 * halved).contains(&asked), "one a second: {asked}");
        assert!(asks.pieces <= 100 + halved, "{} pieces", asks.pieces);
    }
}

#[test]
fn the_pauses_of_one_row_are_over_a_minute_with_the_defaults() {
    let pauses = (1..=3).map(|tries| retry_pause(Duration::from_secs(1), tries)).collect::<Vec<_>>();
    assert_eq!(pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(), [4, 16, 60]);
    assert_eq!(retry_pause(Duration::ZERO, 3), Duration::ZERO);
    assert_eq!(retry_pause(Duration::from_secs(90), 50), Duration::from_secs(90));
}
