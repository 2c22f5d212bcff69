//! N instances together own the partitions: each has one owner at a time, and nothing is lost, repeated or out of order but for what
//! the design says, whatever fails.
//!
//! Thousands of seeded schedules of `Ownership` in a world with a model of etcd and one of JetStream, each checked at every step
//! (`oracle`). A failing seed prints the command that replays it. Each mutant leaves out one part of the design, and must fail.
//!
//! Environment: `SIM_SEEDS` (how many), `SIM_FROM` (the first), `SIM_SEED` (just this one, with the end of its trace; `SIM_TRACE`
//! lines); `SIM_THEME` and `SIM_MUTANT` (their names in `plan`) for a seed of `mutants`.

mod broker;
mod etcd;
mod faults;
mod lane;
mod mutants;
mod oracle;
#[path = "../simulation/panics.rs"]
mod panics;
mod plan;
mod process;
#[path = "../simulation/rng.rs"]
mod rng;
mod scale;
mod told;
mod wires;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use panics::caught;
use plan::{Mutant, Plan, Theme};
use rng::Rng;
use testkit::seeds::{self, number_of};
use world::{SECOND, World};

const SEEDS: u64 = 400;
/// After the faults each partition has an owner within this, and each event is pushed.
const BOUND: u64 = 40 * SECOND;

/// Seeds that once failed.
const KNOWN: &str = include_str!("seeds.txt");
const KNOWN_RESTORED: &str = include_str!("seeds_restored.txt");
const SEEDS_RESTORED: u64 = 100;

/// What a schedule did.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    events: u64,
    repeats: u64,
    moves: [u64; 3],
    fenced: u64,
}

/// Plays a seed.
///
/// # Panics
/// Where a promise is broken.
fn play(world: &mut World) -> Tally {
    world.run_until(world.plan.calm_at);
    world.calm();
    let end = world.now + BOUND;
    while world.now < end && !(world.is_all_owned() && world.oracle.is_all_pushed()) {
        world.run_until(world.now + SECOND / 2);
    }
    assert!(world.is_all_owned(), "I6: not all owned {} s after the faults:\n{}", BOUND / SECOND, world.owners());
    world.oracle.nothing_is_lost();
    let events = world.oracle.events.len() as u64;
    Tally { events, repeats: world.oracle.repeats, moves: world.oracle.moves, fenced: world.fenced }
}

/// Plays a seed; the trace and why it failed.
fn try_play(
    seed: u64,
    theme: Option<Theme>,
    mutant: Option<Mutant>,
    is_traced: bool,
) -> Result<Tally, (String, Vec<String>)> {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng, theme, mutant);
    let mut world = World::new(seed, plan, rng, is_traced);
    let result = caught(|| play(&mut world));
    result.map_err(|why| (why, world.trace.take().unwrap_or_default()))
}

/// The theme and the mutant that are asked for.
fn asked() -> (Option<Theme>, Option<Mutant>) {
    let (theme, mutant) = (std::env::var("SIM_THEME").ok(), std::env::var("SIM_MUTANT").ok());
    let themes = || Theme::ALL.into_iter().chain([Theme::Restored]);
    let theme = theme.map(|word| themes().find(|theme| format!("{theme:?}") == word).expect("a theme"));
    let mutant =
        mutant.map(|word| Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == word).expect("a mutant"));
    (theme, mutant)
}

/// What asks for this schedule alone.
fn variables(seed: u64, theme: Option<Theme>, mutant: Option<Mutant>) -> String {
    let theme = theme.map(|theme| format!(" SIM_THEME={theme:?}")).unwrap_or_default();
    let mutant = mutant.map(|mutant| format!(" SIM_MUTANT={mutant:?}")).unwrap_or_default();
    format!("SIM_SEED={seed}{theme}{mutant}")
}

fn failure(seed: u64, theme: Option<Theme>, mutant: Option<Mutant>) -> String {
    let lines = number_of("SIM_TRACE").unwrap_or(60) as usize;
    match try_play(seed, theme, mutant, true) {
        Err((why, trace)) => {
            let trace = trace.iter().take(1).chain(trace.iter().skip(1.max(trace.len().saturating_sub(lines))));
            let trace: String = trace.map(|line| format!("{line}\n")).collect();
            format!(
                "{trace}seed {seed} failed: {why}\nreplay: {} cargo test --locked -p task-engine --test ownership \
                 each_partition -- --nocapture\n",
                variables(seed, theme, mutant)
            )
        }
        Ok(_) => format!("seed {seed} failed, and passed when it was run again: the schedule is not the seed's alone"),
    }
}

#[test]
fn each_partition_has_one_owner_and_nothing_is_lost_repeated_or_out_of_order() {
    let (theme, mutant) = asked();
    let sum = play_all(&seeds::to_play(KNOWN, SEEDS), theme, mutant);
    if !seeds::are_few(SEEDS) && theme.is_none() {
        assert!(
            sum.moves.iter().all(|moves| *moves > 0) && sum.fenced > 0 && sum.repeats > 0,
            "what is promised is met: {sum:?}"
        );
    }
}

/// With leases, records and plans of up to nine seconds ago.
#[test]
fn an_etcd_that_is_put_back_to_an_earlier_state_breaks_no_promise() {
    if number_of("SIM_SEED").is_some() {
        // One seed is played above, as SIM_THEME says.
        return;
    }
    let sum = play_all(&seeds::to_play(KNOWN_RESTORED, SEEDS_RESTORED), Some(Theme::Restored), None);
    assert!(seeds::are_few(SEEDS_RESTORED) || sum.fenced > 0, "{sum:?}");
}

/// Plays seeds on two threads.
///
/// # Panics
/// With the trace of the first that fails.
fn play_all(seeds: &[u64], theme: Option<Theme>, mutant: Option<Mutant>) -> Tally {
    let (next, failed, sum) = (AtomicU64::new(0), Mutex::new(None::<u64>), Mutex::new(Tally::default()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            if at >= seeds.len() || failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            match try_play(seeds[at], theme, mutant, false) {
                Ok(tally) => add(&mut sum.lock().expect("no thread panics with it"), &tally),
                Err(_) => {
                    failed.lock().expect("no thread panics with it").get_or_insert(seeds[at]);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failure = failed.lock().expect("no thread panics with it").map(|seed| failure(seed, theme, mutant));
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    let sum = *sum.lock().expect("no thread panics with it");
    let [clean, cut, unclean] = sum.moves;
    println!(
        "{} schedules, {} events, {} repeats that the design allows; came clean {clean}, cut {cut}, unclean {unclean}; {} processes fenced",
        seeds.len(),
        sum.events,
        sum.repeats,
        sum.fenced
    );
    sum
}

fn add(sum: &mut Tally, one: &Tally) {
    sum.events += one.events;
    sum.repeats += one.repeats;
    sum.fenced += one.fenced;
    sum.moves.iter_mut().zip(one.moves).for_each(|(sum, one)| *sum += one);
}
