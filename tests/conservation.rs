//! Whatever order the facts come in, and whatever fails, nothing is lost, counted twice, or told out of order.
//!
//! Thousands of seeded schedules of the pure core in a simulated world (`simulation/`), each checked after every step.
//! Seeds that ever failed (`simulation/seeds.txt`, `simulation/seeds_of_notices.txt`) always run first. A failure is shrunk
//! (fewer kinds of faults, fewer steps, fewer events, as long as it fails), and printed with the end of its trace and the command
//! that replays it.
//!
//! Environment: `SIM_SEEDS` (how many), `SIM_FROM` (the first one), `SIM_SEED` (just this one), `SIM_TRACE` (lines kept);
//! for a shrunken schedule `SIM_STEPS`, `SIM_EVENTS`, `SIM_OFF` (kinds of faults, by comma), `SIM_NO_MOVES`; for one with many
//! messages in few sessions with notices `SIM_NOTICES`.

mod simulation;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::panics::caught;
use simulation::plan::{Fault, Mutant, Reduction};
use simulation::trace::Trace;
use simulation::{NoticesSeen, Tally, run};
use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use testkit::seeds::{self, number_of};

const SEEDS: u64 = 2_000;
/// Seeds in which a mutant has to be noticed.
const SEEDS_OF_A_MUTANT: u64 = 200;
/// Seeds with many messages in few sessions whose members get notices.
const SEEDS_OF_NOTICES: u64 = 300;
/// Seeds between two lines of progress.
const PROGRESS: usize = 250;

fn reduction_of_env() -> Reduction {
    let off = std::env::var("SIM_OFF").unwrap_or_default();
    let is_off = |fault: &Fault| off.split(',').any(|word| word == fault.word());
    Reduction {
        steps: number_of("SIM_STEPS").map(|steps| steps as usize),
        events: number_of("SIM_EVENTS").map(|events| events as usize),
        off: Fault::ALL.iter().copied().filter(is_off).collect(),
        no_moves: number_of("SIM_NO_MOVES").is_some(),
        notices: number_of("SIM_NOTICES").is_some(),
        mutant: None,
    }
}

fn try_run(seed: u64, reduction: &Reduction, trace: &Trace) -> Result<Tally, String> {
    caught(|| run(seed, reduction, trace))
}

/// The smallest of the reduced schedules that still fails: each is tried once, and kept when it fails.
fn shrink(seed: u64, from: &Reduction) -> Reduction {
    let fails = |reduction: &Reduction| try_run(seed, reduction, &Trace::off()).is_err();
    let mut best = from.clone();
    let mut keep = |candidate: Reduction| {
        let is_smaller = fails(&candidate);
        if is_smaller {
            best = candidate;
        }
        best.clone()
    };
    let mut now = keep(Reduction { no_moves: true, ..from.clone() });
    for fault in Fault::ALL.iter().filter(|fault| !from.off.contains(fault)) {
        let off = now.off.iter().copied().chain([*fault]).collect();
        now = keep(Reduction { off, ..now });
    }
    for is_steps in [true, false] {
        let known = if is_steps { now.steps } else { now.events };
        let (mut good, mut bad) = (0, known.unwrap_or(256));
        // Failing need not grow with the number, so this finds a small one that fails, not always the smallest.
        while bad - good > 1 {
            let middle = (good + bad) / 2;
            let candidate = match is_steps {
                true => Reduction { steps: Some(middle), ..now.clone() },
                false => Reduction { events: Some(middle), ..now.clone() },
            };
            now = keep(candidate.clone());
            if now == candidate { bad = middle } else { good = middle }
        }
    }
    now
}

fn command(seed: u64, reduction: &Reduction) -> String {
    let mut words = format!("SIM_SEED={seed}");
    let mut add = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| format!(" {name}={value}")));
    };
    add("SIM_STEPS", reduction.steps.map(|steps| steps.to_string()));
    add("SIM_EVENTS", reduction.events.map(|events| events.to_string()));
    let off = reduction.off.iter().map(|fault| fault.word()).collect::<Vec<_>>().join(",");
    add("SIM_OFF", (!off.is_empty()).then_some(off));
    add("SIM_NO_MOVES", reduction.no_moves.then(|| "1".to_owned()));
    add("SIM_NOTICES", reduction.notices.then(|| "1".to_owned()));
    format!("{words} cargo test -p task-engine --test conservation -- --nocapture")
}

fn replay(seed: u64, from: &Reduction) -> String {
    let first = try_run(seed, from, &Trace::off()).err();
    let small = shrink(seed, from);
    let trace = Trace::on();
    let again = try_run(seed, &small, &trace).err();
    let note = match first.is_some() && again.is_some() {
        true => "",
        false => "(it passed when it was run again: the schedule is not the seed's alone!)\n",
    };
    format!(
        "{}\nseed {seed} failed: {}\n{note}replay: {}\nshrunk, it fails with: {}\nreplay: {}\n",
        trace.text(),
        first.unwrap_or_default(),
        command(seed, from),
        again.unwrap_or_default(),
        command(seed, &small)
    )
}

fn report(seeds: usize, sum: &Tally) -> String {
    let events = EventOutcome::ALL.iter().zip(sum.event_ends).map(|(end, count)| format!(" {}={count}", end.label()));
    let recipients =
        RecipientOutcome::ALL.iter().zip(sum.recipient_ends).map(|(end, count)| format!(" {}={count}", end.label()));
    let [breaks, mismatches, resent, rerouted] = sum.troubles;
    let [said, changed, left, unknown] = sum.groups;
    let NoticesSeen { rounds, bursts, conflated_in_bursts, accounts } = sum.notices;
    format!(
        "{seeds} schedules, {} events:{}\nrecipients:{}\nstreams broken {breaks}, answers that did not fit {mismatches}, \
         recipients resent {resent}, rerouted {rerouted}, engines killed or cut off {}, gateways forgotten {}, \
         sessions looked up ahead {}\n\
         pushes to further gateways {}, not taken there {}\n\
         lists said {said}, changed {changed}, forgotten {left}, not known {unknown}\n\
         notices looked at {rounds}, bursts of messages {bursts} with {conflated_in_bursts} notices replaced, accounts {accounts}\n\
         crowds {}, the longest time of an event in one beside its share {} turns",
        sum.events,
        events.collect::<String>(),
        recipients.collect::<String>(),
        sum.restarts,
        sum.forgotten,
        sum.warmed,
        sum.copies[0],
        sum.copies[1],
        sum.crowds,
        sum.longest_wait
    )
}

/// Plays all seeds on two threads; the sum, and the lowest that failed.
fn play(seeds: &[u64], reduction: &Reduction) -> (Tally, Option<u64>) {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None::<u64>);
    let sum = Mutex::new(Tally::default());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            if at >= seeds.len() || failed.lock().is_ok_and(|failed| failed.is_some()) {
                return;
            }
            match try_run(seeds[at], reduction, &Trace::off()) {
                Ok(tally) => sum.lock().expect("no thread panics with it").add(&tally),
                Err(_) => {
                    let mut failed = failed.lock().expect("no thread panics with it");
                    *failed = Some(failed.map_or(seeds[at], |other| other.min(seeds[at])));
                }
            }
            if (at + 1).is_multiple_of(PROGRESS) || at + 1 == seeds.len() {
                let events = sum.lock().expect("no thread panics with it").events;
                eprintln!("{} of {} seeds, {events} events", at + 1, seeds.len());
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let panics = "no thread panics with it";
    (sum.into_inner().expect(panics), failed.into_inner().expect(panics))
}

/// Bounds on waits that nothing passes would prove nothing.
#[test]
fn a_core_that_starves_a_class_or_knows_none_is_found_out() {
    for (mutant, from, words) in [
        (Mutant::NoClasses, 40, "an event of class urgent waits for"),
        (Mutant::SharesOfALargeTurn, 40, "an event of class normal waits for"),
    ] {
        is_found_out(mutant, from, words, Reduction::default());
    }
}

/// Nor would an oracle of notices that none of these passes.
#[test]
fn a_core_that_breaks_what_it_promises_of_notices_is_found_out() {
    for (mutant, from, words) in [
        (Mutant::LastNoticeLost, 1, "a second after the last message"),
        (Mutant::NoRoundTrips, 480, "two notices of session"),
        (Mutant::UnseenContents, 1, "whose content was not seen"),
        (Mutant::ConflatedTwice, 90, "an account of notices"),
    ] {
        is_found_out(mutant, from, words, Reduction { notices: true, ..Reduction::default() });
    }
}

/// The world of some seed says so of a mutant. It is looked for from one that did when this was written: what else a mutant breaks is often
/// noticed first.
fn is_found_out(mutant: Mutant, from: u64, words: &str, reduction: Reduction) {
    let reduction = Reduction { mutant: Some(mutant), ..reduction };
    let mut others = Vec::new();
    let found = (from..from + SEEDS_OF_A_MUTANT).find_map(|seed| {
        let said = try_run(seed, &reduction, &Trace::off()).err()?;
        if said.contains(words) {
            return Some((seed, said));
        }
        others.push((seed, said));
        None
    });
    let (seed, said) = found.unwrap_or_else(|| panic!("{mutant:?} was not noticed; other failures: {others:?}"));
    println!("{mutant:?}: seed {seed}: {said}; other failures before: {}", others.len());
}

#[test]
fn nothing_is_lost_counted_twice_or_out_of_order() {
    let seeds = seeds::to_play(include_str!("simulation/seeds.txt"), SEEDS);
    let sum = play_or_replay(&seeds, &reduction_of_env());
    if !seeds::are_few(SEEDS) {
        check_reach(&sum);
    }
}

/// Few sessions, many messages, and gateways that take notices or do not, refuse, do not implement, or are cut.
#[test]
fn notices_stand_for_what_they_replace() {
    if number_of("SIM_SEED").is_some() {
        // One seed is played above, as SIM_NOTICES says.
        return;
    }
    let seeds = seeds::to_play(include_str!("simulation/seeds_of_notices.txt"), SEEDS_OF_NOTICES);
    let sum = play_or_replay(&seeds, &Reduction { notices: true, ..Reduction::default() });
    if seeds::are_few(SEEDS_OF_NOTICES) {
        return;
    }
    let NoticesSeen { rounds, bursts, conflated_in_bursts, accounts } = sum.notices;
    let is_reached = rounds > 0 && bursts > 0 && conflated_in_bursts > 0 && accounts > 0;
    assert!(is_reached, "what was not looked at proves nothing: {:?}", sum.notices);
    let ended = |end: RecipientOutcome| sum.recipient_ends[end as usize];
    for end in [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated] {
        assert!(ended(end) > 0, "no recipient of any schedule ended as {}", end.label());
    }
}

fn play_or_replay(seeds: &[u64], reduction: &Reduction) -> Tally {
    let (sum, failed) = play(seeds, reduction);
    let failure = failed.map(|seed| replay(seed, reduction));
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    println!("{}", report(seeds.len(), &sum));
    sum
}

/// Schedules that never meet an end or a trouble prove nothing about it.
fn check_reach(sum: &Tally) {
    for (end, count) in RecipientOutcome::ALL.iter().zip(sum.recipient_ends) {
        let is_elsewhere = *end == RecipientOutcome::TooLarge;
        assert!(is_elsewhere || count > 0, "no recipient of any schedule ended as {}", end.label());
    }
    for (end, count) in EventOutcome::ALL.iter().zip(sum.event_ends) {
        assert!(*end == EventOutcome::TooLarge || count > 0, "no event of any schedule ended as {}", end.label());
    }
    assert!(sum.warmed > 0, "no session of any schedule was looked up ahead");
    assert!(sum.forgotten > 0, "no gateway of any schedule was forgotten");
    assert!(sum.crowds > 0, "no crowd was played");
    assert!(sum.copies.iter().all(|count| *count > 0), "nobody was at several gateways: {:?}", sum.copies);
    assert!(sum.restarts > 0 && sum.troubles.iter().all(|count| *count > 0), "{:?}", sum.troubles);
    assert!(sum.groups.iter().all(|count| *count > 0), "lists said, changed, forgotten, not known: {:?}", sum.groups);
}
