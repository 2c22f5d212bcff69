//! Each part of the design is needed: without it some seed fails. A mutant lives in the world, not in the product: the wires drop,
//! strip or change what the part would have done.

use crate::plan::{Mutant, Theme};
use crate::{try_play, variables};

const SEEDS: u64 = 400;

/// The first seed that fails as the part's absence must. It is looked for from one that did when this was written.
fn fails(mutant: Mutant, theme: Theme, from: u64, words: &str) {
    let mut others = Vec::new();
    let found = (from..from + SEEDS).find_map(|seed| {
        let (why, _) = try_play(seed, Some(theme), Some(mutant), false).err()?;
        let line = why.lines().find(|line| line.contains(words)).map(str::to_owned);
        others.extend(line.is_none().then_some(why));
        Some((seed, line?))
    });
    let noticed = || format!("{mutant:?}: none of {SEEDS} seeds of {theme:?} noticed; other failures: {others:?}");
    let (seed, line) = found.unwrap_or_else(|| panic!("{}", noticed()));
    let replay = variables(seed, Some(theme), Some(mutant));
    println!("{mutant:?}: {replay}: {}", line.chars().take(160).collect::<String>());
}

#[test]
fn without_the_wait_after_the_deletion() {
    fails(Mutant::NoFenceWait, Theme::Links, 33, "I3");
}

#[test]
fn without_the_margin_of_the_lease() {
    fails(Mutant::NoMargin, Theme::Links, 73, "I3");
}

#[test]
fn without_the_check_of_a_close() {
    fails(Mutant::NoCloseCheck, Theme::Moves, 290, "I5");
}

#[test]
fn with_one_name_for_all_generations() {
    fails(Mutant::SameName, Theme::Crashes, 1, "I4");
}

#[test]
fn with_a_floor_that_does_not_know_the_record() {
    fails(Mutant::FloorWithoutStart, Theme::Mixed, 167, "repeat");
}

#[test]
fn with_a_proof_by_info_alone() {
    fails(Mutant::ProofByInfoOnly, Theme::Split, 3, "I3");
}

#[test]
fn without_nonces() {
    fails(Mutant::NoNonce, Theme::Etcd, 1, "nobody took anything");
}

#[test]
fn with_a_fence_that_does_not_compare_the_record() {
    fails(Mutant::FenceWithoutCompare, Theme::Mixed, 101, "nobody took anything");
}

#[test]
fn with_a_release_that_may_be_late() {
    fails(Mutant::DelayedReleaseUnguarded, Theme::Etcd, 201, "although nobody took anything");
}

#[test]
fn without_what_is_settled_in_the_records() {
    fails(Mutant::SettledNotCarried, Theme::Rolling, 1, "repeat");
}
