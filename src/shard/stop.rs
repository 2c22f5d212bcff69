//! How far a stop has come, as the engine and all its shards see it.
//!
//! Promises that a phase only goes forward. Each shard counts itself among those that are quiet, stuck, blocked or idle, so that
//! the engine knows without a question when a stop has nothing to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::ports::mailbox::Wake;
use crate::push::retreat::Away;

/// How far a stop has come; shared by the engine and all its shards.
#[derive(Debug, Default)]
pub struct StopState {
    /// Of all shards: one that rests looks seldom.
    wakes: Vec<Arc<Wake>>,
    pub(super) phase: AtomicU8,
    pub(super) quiet: AtomicUsize,
    /// Stores that are away, as [`Away::bits`].
    pub(super) away: AtomicU8,
    /// Shards whose events wait for nothing but those.
    pub(super) stuck: AtomicUsize,
    /// Those of them whose lane is full, so that a reader waits for room.
    pub(super) blocked: AtomicUsize,
    /// Shards that have nothing in flight, and may still get something.
    pub(super) idle: AtomicUsize,
}

pub(super) const LEAVING: u8 = 1;
pub(super) const DRAINING: u8 = 2;
pub(super) const GIVEN_UP: u8 = 3;
pub(super) const CUT_OFF: u8 = 4;

impl StopState {
    /// Of the shards that these wake.
    pub fn of(wakes: Vec<Arc<Wake>>) -> Self {
        Self { wakes, ..Self::default() }
    }

    fn go(&self, phase: u8) {
        self.phase.fetch_max(phase, Ordering::AcqRel);
        self.wakes.iter().for_each(|wake| wake.wake());
    }

    /// The source is being stopped, and still hands in what it has read.
    pub fn leave(&self) {
        self.go(LEAVING);
    }

    /// The source is stopped: once nothing is in flight on any shard, the streams are closed.
    pub fn drain(&self) {
        self.go(DRAINING);
    }

    /// Which stores are away; a stop does not wait for those.
    pub fn set_away(&self, away: Away) {
        self.away.store(away.bits(), Ordering::Release);
    }

    /// Whether all that this many shards have in flight waits for stores that are away.
    pub fn is_stuck(&self, shards: usize) -> bool {
        let stuck = self.stuck.load(Ordering::Acquire);
        stuck > 0 && stuck + self.quiet.load(Ordering::Acquire) >= shards
    }

    /// Whether a reader waits for room that there will not be before a store is back, and no shard does anything else.
    pub fn is_blocked(&self, shards: usize) -> bool {
        let waiting = self.stuck.load(Ordering::Acquire) + self.idle.load(Ordering::Acquire);
        self.blocked.load(Ordering::Acquire) > 0 && waiting >= shards
    }

    /// What is in flight is given back; streams are closed as if it had ended.
    pub fn give_up(&self) {
        self.go(GIVEN_UP);
    }

    /// The deadline passed.
    pub fn cut_off(&self) {
        self.go(CUT_OFF);
    }
}

/// Counts this shard among those that are so, or no longer.
pub(super) fn count(was: &mut bool, is: bool, all: &AtomicUsize) {
    match (std::mem::replace(was, is), is) {
        (false, true) => all.fetch_add(1, Ordering::AcqRel),
        (true, false) => all.fetch_sub(1, Ordering::AcqRel),
        _ => 0,
    };
}
