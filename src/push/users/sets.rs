//! The sets of gateways that users with several devices are at, each once: such a user is one integer as well.
//!
//! Promises at most [`GATEWAY_SETS_MAX`] of them, and that a set's number is another set's only when nobody knows it any more.
//! Refuses sets of one: whoever is at one gateway is at that.

use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::ids::GatewayIx;
use crate::model::limits::GATEWAY_SETS_MAX;

/// A set's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetIx(pub u32);

/// All sets.
#[derive(Debug, Default)]
pub struct GatewaySets {
    by_gateways: HashMap<Arc<[GatewayIx]>, SetIx>,
    /// By number; one that is free has no gateways.
    all: Vec<Arc<[GatewayIx]>>,
    free: Vec<SetIx>,
}

impl GatewaySets {
    /// The number of a set (ascending, two gateways or more), made when it is new; none when there are too many.
    pub fn number(&mut self, gateways: &[GatewayIx]) -> Option<SetIx> {
        if let Some(known) = self.by_gateways.get(gateways) {
            return Some(*known);
        }
        if self.by_gateways.len() >= GATEWAY_SETS_MAX {
            return None;
        }
        let set: Arc<[GatewayIx]> = gateways.into();
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(Arc::default());
            SetIx((self.all.len() - 1) as u32)
        });
        self.all[at.0 as usize] = set.clone();
        self.by_gateways.insert(set, at);
        Some(at)
    }

    /// The gateways of a set, ascending.
    #[inline]
    pub fn gateways(&self, set: SetIx) -> &[GatewayIx] {
        &self.all[set.0 as usize]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_gateways.is_empty()
    }

    /// Nothing refers to a set with one of these gateways any more.
    pub fn forget_gateways(&mut self, is_one: impl Fn(GatewayIx) -> bool) {
        self.retain(|_, gateways| !gateways.iter().any(|gateway| is_one(*gateway)));
    }

    /// Nothing refers to any other set than these.
    pub fn forget_unused(&mut self, used: &HashSet<SetIx>) {
        self.retain(|set, _| used.contains(&set));
    }

    fn retain(&mut self, is_kept: impl Fn(SetIx, &[GatewayIx]) -> bool) {
        let (all, free) = (&mut self.all, &mut self.free);
        self.by_gateways.retain(|gateways, set| {
            let is_kept = is_kept(*set, gateways);
            if !is_kept {
                all[set.0 as usize] = Arc::default();
                free.push(*set);
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number_until_nothing_refers_to_them() {
        let mut sets = GatewaySets::default();
        let ix = |places: &[u32]| places.iter().map(|place| GatewayIx(*place)).collect::<Vec<_>>();
        let (a, b) = (sets.number(&ix(&[1, 2])), sets.number(&ix(&[2, 3])));
        assert_eq!((sets.number(&ix(&[1, 2])), a == b), (a, false));
        sets.forget_gateways(|gateway| gateway == GatewayIx(1));
        assert_eq!(sets.gateways(b.expect("there is room")), ix(&[2, 3]));
        assert_eq!(sets.number(&ix(&[7, 8])), a, "its number is used again");
        sets.forget_unused(&HashSet::from([a.expect("there is room")]));
        assert_eq!(sets.gateways(a.expect("there is room")), ix(&[7, 8]));
        assert_eq!(sets.number(&ix(&[1, 2])), b);
    }

    #[test]
    fn sets_have_a_bound() {
        let mut sets = GatewaySets::default();
        for number in 0..GATEWAY_SETS_MAX as u32 {
            assert!(sets.number(&[GatewayIx(number), GatewayIx(number + 1)]).is_some());
        }
        assert_eq!(sets.number(&[GatewayIx(0), GatewayIx(9)]), None);
        assert!(sets.number(&[GatewayIx(0), GatewayIx(1)]).is_some(), "a known one has its number");
    }
}
