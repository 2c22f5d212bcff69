//! Who should own what, as a pure function of who owns it now and who is there.
//!
//! Each gets its share by weight, rounded down or up; who owns more than that gives, and as few partitions move as can be. The same
//! members and owners give the same plan on every instance and for every order in which they are named.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ownership::keys::Instance;

/// The owner of each partition. `owners` says who has it now (or should have it by the plan before), `members` who may own
/// partitions, with the weight of each (0 counts as 1). Without members nobody owns anything.
pub fn make(owners: &[Option<Instance>], members: &BTreeMap<Instance, u32>) -> Vec<Option<Instance>> {
    let names: Vec<&Instance> = members.keys().collect();
    let place: BTreeMap<&Instance, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let now: Vec<Option<usize>> = owners.iter().map(|owner| place.get(owner.as_ref()?).copied()).collect();
    let targets = targets(&now, &members.values().map(|weight| u64::from(*weight).max(1)).collect::<Vec<_>>());
    let mut left = targets;
    let mut plan: Vec<Option<usize>> = Vec::with_capacity(now.len());
    for owner in &now {
        plan.push(owner.filter(|owner| {
            let is_kept = left[*owner] > 0;
            left[*owner] -= u64::from(is_kept);
            is_kept
        }));
    }
    // Those that lack most come first, so that those with few partitions do not wait for all others.
    let mut lacking: BTreeSet<(Reverse<u64>, usize)> =
        left.iter().enumerate().map(|(at, left)| (Reverse(*left), at)).collect();
    for owner in plan.iter_mut().filter(|owner| owner.is_none()) {
        let Some((Reverse(lack), at)) = lacking.pop_first() else { break };
        *owner = Some(at);
        lacking.insert((Reverse(lack.saturating_sub(1)), at));
    }
    plan.into_iter().map(|owner| owner.map(|owner| names[owner].clone())).collect()
}

/// How many partitions each gets: its quota rounded down, and for as many as are left over rounded up. Rounded up are first those that
/// own more than the lower number already, since each of these then moves one less.
fn targets(now: &[Option<usize>], weights: &[u64]) -> Vec<u64> {
    let sum: u64 = weights.iter().sum();
    let partitions = now.len() as u64;
    if sum == 0 {
        return Vec::new();
    }
    let mut owned = vec![0_u64; weights.len()];
    now.iter().flatten().for_each(|owner| owned[*owner] += 1);
    let mut targets: Vec<u64> = weights.iter().map(|weight| partitions * weight / sum).collect();
    let over = partitions - targets.iter().sum::<u64>();
    let rest = |at: usize| partitions * weights[at] % sum;
    let mut order: Vec<usize> = (0..weights.len()).filter(|at| rest(*at) > 0).collect();
    order.sort_by_key(|at| (owned[*at] <= targets[*at], Reverse(rest(*at)), *at));
    order.iter().take(over as usize).for_each(|at| targets[*at] += 1);
    targets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(at: usize) -> Instance {
        format!("i{at:03}").into()
    }

    fn members(weights: &[u32]) -> BTreeMap<Instance, u32> {
        weights.iter().enumerate().map(|(at, weight)| (name(at), *weight)).collect()
    }

    fn moves(from: &[Option<Instance>], to: &[Option<Instance>]) -> usize {
        from.iter().zip(to).filter(|(from, to)| from != to).count()
    }

    fn count(plan: &[Option<Instance>], of: &Instance) -> u64 {
        plan.iter().flatten().filter(|owner| *owner == of).count() as u64
    }

    /// The fewest moves of any plan in which each has its quota, rounded down or up: by trying all roundings.
    fn fewest(owners: &[Option<Instance>], members: &BTreeMap<Instance, u32>) -> usize {
        let sum: u64 = members.values().map(|weight| u64::from(*weight)).sum();
        let partitions = owners.len() as u64;
        let each: Vec<(u64, u64, u64)> = members
            .iter()
            .map(|(name, weight)| {
                let product = partitions * u64::from(*weight);
                (product / sum, product.div_ceil(sum), count(owners, name))
            })
            .collect();
        let mut best = usize::MAX;
        for choice in 0..1_u32 << each.len() {
            let picked = |at: usize| if choice >> at & 1 == 1 { each[at].1 } else { each[at].0 };
            if (0..each.len()).map(picked).sum::<u64>() == partitions {
                let kept: u64 = (0..each.len()).map(|at| picked(at).min(each[at].2)).sum();
                best = best.min(owners.len() - kept as usize);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn each_has_its_share_and_as_few_as_can_be_move(
            weights in prop::collection::vec(1..9_u32, 1..6),
            owners in prop::collection::vec(prop::option::of(0..7_usize), 1..80),
        ) {
            let members = members(&weights);
            let owners: Vec<_> = owners.into_iter().map(|owner| owner.map(name)).collect();
            let plan = make(&owners, &members);
            let (sum, partitions) = (weights.iter().sum::<u32>() as u64, owners.len() as u64);
            for (name, weight) in &members {
                let (has, product) = (count(&plan, name), partitions * u64::from(*weight));
                prop_assert!(has >= product / sum && has <= product.div_ceil(sum), "{name} has {has}");
            }
            prop_assert_eq!(moves(&owners, &plan), fewest(&owners, &members));
            prop_assert_eq!(make(&plan, &members), plan, "a plan is its own next plan");
        }
    }

    #[test]
    fn nobody_owns_anything_when_all_leave() {
        let owners = vec![Some(name(0)), Some(name(1)), None];
        assert_eq!(make(&owners, &BTreeMap::new()), vec![None; 3]);
    }

    #[test]
    fn a_rolling_restart_of_one_of_three_moves_its_own_out_and_as_many_back() {
        let all = members(&[4, 4, 4]);
        let full = make(&vec![None; 64], &all);
        let two = BTreeMap::from([(name(0), 4), (name(1), 4)]);
        let without = make(&full, &two);
        assert_eq!(moves(&full, &without), count(&full, &name(2)) as usize);
        let back = make(&without, &all);
        assert_eq!(moves(&without, &back), 21);
    }

    #[test]
    fn a_joining_member_takes_from_those_with_most_and_the_others_keep() {
        let owners: Vec<_> = (0..8).map(|at| Some(name(at / 4))).collect();
        let plan = make(&owners, &members(&[1, 1, 2]));
        assert_eq!([0, 1, 2].map(|at| count(&plan, &name(at))), [2, 2, 4]);
        assert_eq!(moves(&owners, &plan), 4);
    }
}
