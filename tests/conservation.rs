//! Whatever order the facts come in, and whatever fails, nothing is lost, counted twice, or told out of order.
//!
//! Thousands of seeded schedules of the pure core in a simulated world (`simulation/`), each checked after every step.
//! Seeds that ever failed (`simulation/seeds.txt`) always run first. A failure prints the seed, the end of its trace,
//! and the command that replays it. Environment: `SIM_SEEDS` (how many), `SIM_SEED` (the first one).

mod simulation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::trace::Trace;
use simulation::{Tally, run};
use task_engine::outcome::{EventEnd, RecipientEnd};

const SEEDS: u64 = 2_000;

/// A debug build without the simulator's line numbers is not worth a seed's diagnosis: what a panic says is kept here.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

fn seeds_that_failed() -> Vec<u64> {
    let lines = include_str!("simulation/seeds.txt").lines();
    let numbers = lines.filter_map(|line| line.split('#').next().map(str::trim).filter(|number| !number.is_empty()));
    numbers.map(|number| number.parse().expect("a seed a line")).collect()
}

fn try_run(seed: u64, trace: &Trace) -> Option<Tally> {
    catch_unwind(AssertUnwindSafe(|| run(seed, trace))).ok()
}

fn replay(seed: u64) -> String {
    let trace = Trace::on();
    let again = try_run(seed, &trace);
    let why = LAST_PANIC.lock().map(|why| why.clone()).unwrap_or_default();
    let note =
        if again.is_some() { "(it passed when it was run again: the schedule is not the seed's alone!)\n" } else { "" };
    format!(
        "{}\nseed {seed} failed: {why}\n{note}replay: SIM_SEED={seed} SIM_SEEDS=1 cargo test --test conservation -- \
         --nocapture\n",
        trace.text()
    )
}

fn add(sum: &mut Tally, one: &Tally) {
    sum.events += one.events;
    let all = |sum: &mut [u64], one: &[u64]| sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    all(&mut sum.event_ends, &one.event_ends);
    all(&mut sum.recipient_ends, &one.recipient_ends);
    all(&mut sum.troubles, &one.troubles);
}

fn report(seeds: usize, sum: &Tally) -> String {
    let events = EventEnd::ALL.iter().zip(sum.event_ends).map(|(end, count)| format!(" {}={count}", end.label()));
    let recipients =
        RecipientEnd::ALL.iter().zip(sum.recipient_ends).map(|(end, count)| format!(" {}={count}", end.label()));
    let [breaks, mismatches, resent, rerouted] = sum.troubles;
    format!(
        "{seeds} schedules, {} events:{}\nrecipients:{}\nstreams broken {breaks}, answers that did not fit {mismatches}, \
         recipients resent {resent}, rerouted {rerouted}",
        sum.events,
        events.collect::<String>(),
        recipients.collect::<String>()
    )
}

#[test]
fn nothing_is_lost_counted_twice_or_out_of_order() {
    let first = number_of("SIM_SEED").unwrap_or(1);
    let count = number_of("SIM_SEEDS").unwrap_or(SEEDS);
    let is_alone = number_of("SIM_SEED").is_some();
    let known = if is_alone { Vec::new() } else { seeds_that_failed() };
    let seeds = known.into_iter().chain(first..first + count).collect::<Vec<_>>();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = info.to_string();
        }
    }));
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None::<u64>);
    let sum = Mutex::new(Tally::default());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            if at >= seeds.len() || failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            match try_run(seeds[at], &Trace::off()) {
                Some(tally) => add(&mut sum.lock().expect("no thread panics with it"), &tally),
                None => {
                    let mut failed = failed.lock().expect("no thread panics with it");
                    *failed = Some(failed.map_or(seeds[at], |other| other.min(seeds[at])));
                }
            }
            if (at + 1).is_multiple_of(2_000) {
                eprintln!("{} of {} seeds", at + 1, seeds.len());
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failure = failed.into_inner().expect("no thread panics with it").map(replay);
    std::panic::set_hook(previous);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    let sum = sum.into_inner().expect("no thread panics with it");
    println!("{}", report(seeds.len(), &sum));
    if !is_alone && count >= SEEDS {
        check_reach(&sum);
    }
}

/// Schedules that never meet an end or a trouble prove nothing about it.
fn check_reach(sum: &Tally) {
    for (end, count) in RecipientEnd::ALL.iter().zip(sum.recipient_ends) {
        let is_elsewhere = matches!(end, RecipientEnd::OutboxFull | RecipientEnd::TooLarge);
        assert!(is_elsewhere || count > 0, "no recipient of any schedule ended as {}", end.label());
    }
    for (end, count) in EventEnd::ALL.iter().zip(sum.event_ends) {
        assert!(*end == EventEnd::TooLarge || count > 0, "no event of any schedule ended as {}", end.label());
    }
    assert!(sum.troubles.iter().all(|count| *count > 0), "{:?}", sum.troubles);
}
