//! When events are taken, without a store.

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// A gate with members, an inbox, a registry and dead letters, looked at ten times per second.
struct Try {
    gate: Gate,
    now: Instant,
}

impl Try {
    fn new() -> Self {
        let now = Instant::now();
        let needs = vec![Need::Lookups, Need::Inbox, Need::FirstAnswer, Need::Letters];
        Self { gate: Gate::new(needs, LIMIT, now), now }
    }

    /// How it is after so many milliseconds of this.
    fn after(&mut self, millis: u64, is_there: [bool; 4]) -> bool {
        let mut is_open = self.gate.is_open;
        for _ in 0..=millis / 100 {
            is_open = self.gate.look(self.now, &is_there);
            self.now += LOOK;
        }
        is_open
    }
}

const ALL: [bool; 4] = [true; 4];

#[test]
fn nothing_is_taken_before_each_store_has_answered_once() {
    let mut gate = Try::new();
    assert!(!gate.after(60_000, [false, true, false, true]));
    assert!(!gate.after(0, [true, true, false, true]), "the gateways are not known");
    assert!(!gate.after(0, [true, false, false, true]), "it answered and is away since a moment ago");
    assert!(gate.after(0, [true, false, true, false]), "each answered once; letters are not needed");
    assert!(gate.after(60_000, [true, true, false, false]), "what is known of gateways is kept");
}

#[test]
fn a_registry_that_lists_nobody_has_answered_and_letters_that_cannot_be_written_are_away() {
    let degraded = Health::Degraded("no gateway is registered".to_owned());
    let waiting = Health::Waiting("it has not been read yet".to_owned());
    for need in [Need::Lookups, Need::Inbox, Need::FirstAnswer, Need::Letters] {
        assert!(need.is_met_by(&Health::Ready) && !need.is_met_by(&waiting), "{need:?}");
        assert_eq!(need.is_met_by(&degraded), need == Need::FirstAnswer, "{need:?}");
    }
}

#[test]
fn a_store_that_is_away_for_too_long_shuts_and_calm_opens() {
    let mut gate = Try::new();
    assert!(gate.after(0, ALL));
    assert!(gate.after(120_000, ALL));
    assert!(gate.after(9_800, [false, true, true, true]), "not yet");
    assert!(gate.after(0, ALL));
    assert!(gate.after(9_800, [false, true, true, true]), "counted anew");
    assert!(!gate.after(400, [false, true, true, true]));
    assert!(!gate.after(500, ALL), "half a second is no calm");
    assert!(gate.after(600, ALL));
}

#[test]
fn moments_do_not_keep_it_shut() {
    let mut gate = Try::new();
    assert!(gate.after(0, ALL));
    assert!(!gate.after(20_000, [true, false, true, true]));
    // What waits in this process for rows that are slow says so each time it is tried.
    let opened = (0..4).any(|_| {
        gate.after(300, [true, false, true, true]);
        gate.after(900, ALL)
    });
    assert!(opened);
}

#[test]
fn one_that_flaps_is_taken_at_its_word_less_and_less() {
    let mut gate = Try::new();
    assert!(gate.after(0, ALL));
    let mut openings = 0;
    let mut was_open = true;
    for _ in 0..100 {
        // Ten seconds and a half away, five seconds there.
        for (millis, is_there) in [(10_500, [true, false, true, true]), (5_000, ALL)] {
            let is_open = gate.after(millis, is_there);
            openings += u32::from(is_open && !was_open);
            was_open = is_open;
        }
    }
    assert!((1..=3).contains(&openings), "{openings}");
    assert!(gate.after(CALM.longest.as_millis() as u64 + 200, ALL));
    // Flaps that are shorter than the limit are no reason.
    for _ in 0..100 {
        assert!(gate.after(2_000, [false, true, true, true]) && gate.after(2_000, ALL));
    }
}

#[test]
fn a_stop_does_not_wait_for_what_is_away_for_a_second() {
    let mut gate = Try::new();
    gate.after(5_000, ALL);
    gate.after(500, [false, true, false, false]);
    assert_eq!(gate.gate.away(gate.now), Away::default());
    gate.after(700, [false, true, false, false]);
    assert_eq!(gate.gate.away(gate.now), Away { lookups: true, inbox: false, letters: true });
    let bits = gate.gate.away(gate.now).bits();
    assert_eq!(Away::of_bits(bits), Away { lookups: true, inbox: false, letters: true });
}
