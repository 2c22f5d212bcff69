//! Whose rows fail, by the first user of each piece: most often one user is what is wrong with all of them.
//!
//! Promises that a user whose row failed alone, was contradicted by a row of somebody else, and failed again is told apart from
//! those who may only have met a store that is away: such a user's failures say nothing of the store. Refuses to take a
//! probe's word for that.

use hashbrown::HashMap;

use crate::model::ids::{Nanos, UserIx};
use crate::model::limits::{REFUSED_OWNERS_MAX, REFUSED_REMEMBERED};

#[derive(Debug, Default)]
struct Failing {
    /// That failed and have no end.
    pieces: u32,
    is_proven: bool,
}

/// Whose rows fail.
#[derive(Debug, Default)]
pub(super) struct Owners {
    failing: HashMap<UserIx, Failing>,
    unproven: usize,
    /// Users, by the hash of their names, whose row was given up lately, and until when that is remembered.
    refused: HashMap<u64, Nanos>,
}

impl Owners {
    /// How many fail that may be the store's fault, as far as others' rows have shown.
    pub(super) fn unproven(&self) -> usize {
        self.unproven
    }

    /// Whether a piece of his failed and has no end.
    pub(super) fn fails(&self, user: UserIx) -> bool {
        self.failing.contains_key(&user)
    }

    /// A piece of his failed for the first time.
    pub(super) fn begin(&mut self, user: UserIx) {
        let failing = self.failing.entry(user).or_default();
        failing.pieces += 1;
        self.unproven += usize::from(failing.pieces == 1);
    }

    /// Somebody else's row was stored between two failures of his.
    pub(super) fn prove(&mut self, user: UserIx) {
        if let Some(failing) = self.failing.get_mut(&user)
            && !std::mem::replace(&mut failing.is_proven, true)
        {
            self.unproven -= 1;
        }
    }

    /// A piece of his that failed is asked for no more.
    pub(super) fn end(&mut self, user: UserIx) {
        let Some(failing) = self.failing.get_mut(&user) else { return };
        failing.pieces -= 1;
        if failing.pieces == 0 {
            self.unproven -= usize::from(!failing.is_proven);
            self.failing.remove(&user);
        }
    }

    /// Whether a row of his was given up lately.
    pub(super) fn is_refused(&self, owner: u64, now: Nanos) -> bool {
        self.refused.get(&owner).is_some_and(|until| *until > now)
    }

    /// What is wrong with one row of a user is most often wrong with his next ones.
    pub(super) fn remember_refused(&mut self, owner: u64, now: Nanos) {
        if self.refused.len() >= REFUSED_OWNERS_MAX {
            self.refused.retain(|_, until| *until > now);
        }
        if self.refused.len() < REFUSED_OWNERS_MAX {
            self.refused.insert(owner, now.after(REFUSED_REMEMBERED));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.failing.is_empty() && self.unproven == 0
    }
}
