//! The partitioner in a simulated world: an input stream whose consumer delivers again, a partitioned stream that knows ids for a
//! while, is full, or loses what is published while its leader changes; connections that are cut with publishes and answers under
//! way; owners that are killed, or live on beside their successor. A seed decides everything.
//!
//! What must hold in the end: nothing is lost, no event is stored twice (its copies included, as they come within five seconds),
//! and of each session the events are stored in the order of the input stream.

mod world;

use self::world::{Mutant, PEACE_MS, TROUBLE_MS, World};

/// Runs one seed; gives how many events there were.
fn run(seed: u64, mutant: Mutant) -> Result<usize, String> {
    let mut world = World::new(seed, mutant);
    while world.now < TROUBLE_MS {
        world.step(true);
    }
    (world.full_until, world.hole_until) = (0, 0);
    let end = world.now + PEACE_MS;
    while world.now < end && !world.is_settled() {
        world.step(false);
    }
    let counts = world.instances.last().map(|instance| instance.core.counts()).unwrap_or_default();
    if counts.gap > 0 {
        return Err(format!("{counts:?}: nothing was dropped"));
    }
    world.judge().map(|()| world.input.len())
}

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40)
}

#[test]
fn whatever_happens_nothing_is_lost_stored_twice_or_out_of_order() {
    let mut events = 0;
    for seed in 0..seeds() {
        match run(seed, Mutant::default()) {
            Ok(some) => events += some,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(events as u64 > seeds() * 1_000, "{events}");
}

/// How many of these seeds notice it.
fn noticed(mutant: Mutant, seeds: std::ops::Range<u64>) -> usize {
    seeds.filter(|seed| run(*seed, mutant).is_err()).count()
}

#[test]
fn many_unconfirmed_of_a_session_are_noticed() {
    let noticed = noticed(Mutant { many_unconfirmed: true, ..Mutant::default() }, 0..40);
    assert!(noticed >= 30, "{noticed} of 40");
}

#[test]
fn an_outage_longer_than_the_window_without_a_read_back_is_noticed() {
    let noticed = noticed(Mutant { no_read_back: true, ..Mutant::default() }, 0..40);
    assert!(noticed >= 30, "{noticed} of 40");
}

/// It takes a publish that arrives after its owner was replaced, and a link of the successor's that is away for long.
#[test]
fn what_a_predecessor_had_out_taken_for_new_is_noticed() {
    let noticed = noticed(Mutant { trusts_the_dead: true, ..Mutant::default() }, 90..95);
    assert!(noticed >= 1, "{noticed} of 5");
}
