//! A store in a table: each user's row is good or not.

use super::*;
use crate::model::limits::STORE_PIECES_MAX;

const RETRIES: (u32, Duration) = (1, Duration::from_millis(50));

fn at(millis: u64) -> Nanos {
    Nanos(millis * 1_000_000)
}

/// Who the failure is remembered with.
fn first_of(asked: &Asked) -> u64 {
    asked.piece.users.as_ref().map_or(0, |users| u64::from(users[0].0))
}

/// Plays a store to which each user is good or not, until nothing is asked any more; who ended, and the asks.
fn play(asks: &mut InboxAsks, events: u32, users: u32, is_good: impl Fn(u32) -> bool) -> (Vec<u32>, usize) {
    let (mut ended, mut count) = (Vec::new(), 0);
    (0..events).for_each(|event| asks.want(EventIx(event), None, false));
    for step in 0..20_000 {
        let now = at(step * 10);
        while let Some((piece, _)) = asks.judged(RETRIES, usize::MAX, now) {
            ended.extend(piece.users.expect("named").iter().map(|user| user.0));
        }
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
            } else {
                let owner = first_of(&asked);
                asks.failed(asked, ("refused", owner), now);
            }
        }
        assert!(asks.pieces <= STORE_PIECES_MAX + 1);
    }
    assert!(
        asks.failed.is_empty() && asks.suspects.is_empty() && asks.later.is_empty() && asks.accused.is_empty(),
        "{asks:?}"
    );
    assert_eq!((asks.pieces, asks.owners.is_empty(), asks.room.rows_asked, asks.room.suspects_asked), (0, true, 0, 0));
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
    (0..50).for_each(|event| asks.want(EventIx(event), None, false));
    for step in 0..6_000 {
        let now = at(step * 10);
        while asks.judged(RETRIES, usize::MAX, now).is_some() {
            ended += 1;
        }
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
            } else {
                let owner = first_of(&asked);
                asks.failed(asked, ("refused", owner), now);
            }
        }
    }
    assert_eq!((ended, stored), (50, 50 * 59));
}

#[test]
fn while_every_ask_fails_nobody_ends_and_one_piece_at_a_time_is_asked() {
    for probes_are_good in [false, true] {
        let mut asks = InboxAsks::default();
        (0..100).for_each(|event| asks.want(EventIx(event), None, false));
        let mut most = Vec::new();
        for step in 0..6_000 {
            let now = at(step * 10);
            assert!(asks.judged(RETRIES, usize::MAX, now).is_none(), "an outage is no refusal");
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
                let owner = first_of(&asked);
                asks.failed(asked, ("refused", owner), now);
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
fn a_full_queue_moves_nothing_but_a_pause() {
    let mut asks = InboxAsks::default();
    (0..100).for_each(|event| asks.want(EventIx(event), None, false));
    let (mut most, mut stored) = (Vec::new(), 0);
    for step in 0..4_000 {
        let now = at(step * 10);
        let mut sent = Vec::new();
        while let Some((piece, is_trial)) = asks.next(now) {
            assert!(!is_trial && piece.users.is_none() && piece.tries == 0 && piece.failed.is_none());
            sent.push(asks.sent(piece, 1, is_trial, now));
        }
        most.push(sent.len());
        for ask in sent {
            if step < 2_000 {
                asks.not_asked(ask, now);
            } else {
                let asked = asks.take(ask).expect("just sent");
                asks.stored(&asked);
                stored += 1;
            }
        }
        assert!(!asks.is_away() && asks.owners.is_empty() && asks.next_probe(now).is_none());
    }
    assert_eq!((most[0], stored), (100, 100), "all are stored in the end");
    let later = &most[1_000..2_000];
    assert_eq!(later.iter().max(), Some(&STORE_ASKS_AT_FULL_QUEUE), "few are made for a queue that is full");
    assert_eq!(later.iter().filter(|sent| **sent > 0).count(), 200, "after a pause of 50 ms");
}

#[test]
fn a_probe_or_a_suspect_that_finds_the_queue_full_is_asked_again() {
    let mut asks = InboxAsks::default();
    asks.want(EventIx(0), None, false);
    let send = |asks: &mut InboxAsks, now| {
        let (mut piece, is_trial) = asks.next(now).expect("it is due");
        piece.users.get_or_insert_with(|| Box::new([UserIx(7)]));
        asks.sent(piece, 1, is_trial, now)
    };
    let ask = send(&mut asks, at(0));
    let asked = asks.take(ask).expect("just sent");
    asks.failed(asked, ("refused", 7), at(1));
    let probe = asks.next_probe(at(2)).expect("the store may be away");
    asks.not_asked(probe, at(2));
    assert!(asks.next_probe(at(40)).is_none() && asks.next(at(40)).is_none());
    let probe = asks.next_probe(at(60)).expect("again");
    assert!(asks.probe_answered(probe, true, at(61)));
    for millis in [100, 200, 300] {
        let ask = send(&mut asks, at(millis));
        asks.not_asked(ask, at(millis));
        assert!(asks.accused.is_empty() && asks.failed.iter().all(|piece| piece.tries == 0));
    }
    assert_eq!((asks.pieces, asks.owners.unproven(), asks.room.rows_asked), (1, 1, 0));
}

#[test]
fn the_pauses_of_one_row_are_over_a_minute_with_the_defaults() {
    let pauses = (1..=3).map(|tries| retry_pause(Duration::from_secs(1), tries)).collect::<Vec<_>>();
    assert_eq!(pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(), [4, 16, 60]);
    assert_eq!(retry_pause(Duration::ZERO, 3), Duration::ZERO);
    assert_eq!(retry_pause(Duration::from_secs(90), 50), Duration::from_secs(90));
}

/// A store in a script: when what is sent and how it is answered.
struct Script {
    asks: InboxAsks,
    sent: Vec<(u32, AskNo)>,
}

impl Script {
    fn of(events: u32) -> Self {
        let mut asks = InboxAsks::default();
        (0..events).for_each(|event| asks.want(EventIx(event), None, false));
        Self { asks, sent: Vec::new() }
    }

    /// Sends what is due: event 0 has users 0 and 1, each later one a user of its own.
    fn send(&mut self, now: Nanos) -> usize {
        let before = self.sent.len();
        while let Some((mut piece, is_trial)) = self.asks.next(now) {
            let event = piece.event.0;
            let all = || if event == 0 { [0, 1].map(UserIx).into() } else { [UserIx(event + 1)].into() };
            let users = piece.users.get_or_insert_with(all);
            let name = users[0].0;
            let ask = self.asks.sent(piece, 1, is_trial, now);
            self.sent.push((name, ask));
        }
        self.sent.len() - before
    }

    /// The oldest ask whose first user is this one is answered.
    fn answer(&mut self, user: u32, is_stored: bool, now: Nanos) {
        let at = self.sent.iter().position(|(of, _)| *of == user).expect("it was sent");
        let asked = self.asks.take(self.sent.remove(at).1).expect("under way");
        match is_stored {
            true => self.asks.stored(&asked),
            false => _ = self.asks.failed(asked, ("refused", u64::from(user)), now),
        }
    }

    fn probe(&mut self, asked: Nanos, is_good: bool, answered: Nanos) {
        let probe = self.asks.next_probe(asked).expect("a probe is due");
        assert!(self.asks.probe_answered(probe, is_good, answered));
    }

    /// Who is given up though nobody may be charged twice.
    fn given_up(&mut self, now: Nanos) -> Vec<u32> {
        let given_up = std::iter::from_fn(|| self.asks.judged((0, Duration::ZERO), usize::MAX, now));
        given_up.flat_map(|(piece, _)| piece.users.unwrap_or_default()).map(|user| user.0).collect()
    }
}

#[test]
fn who_failed_with_a_bad_one_and_then_in_an_outage_is_not_given_up() {
    let mut script = Script::of(1);
    assert_eq!(script.send(at(0)), 1);
    script.answer(0, false, at(10));
    script.probe(at(11), true, at(12));
    assert_eq!(script.send(at(13)), 1);
    script.answer(0, false, at(20));
    script.probe(at(21), true, at(22));
    assert_eq!(script.send(at(23)), 2, "the halves, and now the store goes away");
    script.answer(0, false, at(1_500));
    script.answer(1, false, at(1_500));
    script.probe(at(1_501), true, at(1_502));
    assert_eq!(script.given_up(at(1_503)), Vec::<u32>::new(), "each failed once by itself");
    assert_eq!(script.send(at(1_504)), 2);
    script.answer(0, false, at(1_510));
    script.answer(1, true, at(1_510));
    script.probe(at(1_511), true, at(1_512));
    assert_eq!(script.given_up(at(1_513)), [0], "and who is bad does so again");
}

#[test]
fn who_was_asked_for_in_an_outage_is_not_given_up_for_what_is_known_later() {
    let mut script = Script::of(2);
    assert_eq!(script.send(at(0)), 2);
    script.answer(0, true, at(5));
    script.answer(2, false, at(10));
    let probe = script.asks.next_probe(at(11)).expect("the store may be away");
    assert_eq!(script.send(at(300)), 1, "a trial in the outage");
    assert!(script.asks.probe_answered(probe, true, at(400)), "the outage is over");
    script.answer(2, false, at(401));
    script.probe(at(402), true, at(403));
    assert_eq!(script.given_up(at(404)), Vec::<u32>::new(), "what the trial met is not known");
    assert_eq!(script.send(at(405)), 1);
    script.answer(2, false, at(410));
    script.probe(at(411), true, at(412));
    assert_eq!(script.given_up(at(413)), [2], "it fails while the store works");
}
