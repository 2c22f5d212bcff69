//! What users learn by notices, and when the last of them knew the last message.
//!
//! Promises that each message counts once for each recipient: as told by its own notice, or by that of a newer one. Of each notice the
//! latency of its own message counts, and that of the oldest message that only it tells of.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::book::{Book, Came, Known};
use super::{Verdict, lock};

impl Verdict {
    /// From now on gateways announce notices.
    pub fn expect_notices(&self) {
        self.takes_notices.store(true, Ordering::Relaxed);
    }

    /// Recipients who were told by notices, of a message by its own and by that of a newer one; none where there are no notices, or where
    /// the engine may count otherwise: somebody moves, is at several gateways, or at one that misbehaves.
    pub fn told_by_notices(&self) -> Option<[u64; 2]> {
        let workload = self.world.workload();
        let is_plain =
            workload.moves_per_second == 0 && workload.misbehaving.is_empty() && self.world.devices_max() == 1;
        let counts = &self.counts;
        let told = || [&counts.noticed, &counts.conflated].map(|count| count.load(Ordering::Acquire));
        (is_plain && self.takes_notices.load(Ordering::Relaxed)).then(told)
    }

    /// What the engine counts of them, once nothing is under way.
    pub fn notices_by_engine(&self, told: [u64; 2]) {
        *lock(&self.told_by_engine) = Some(told);
    }

    /// How that differs from what gateways saw, in words.
    pub(super) fn notices_fault(&self) -> Option<String> {
        let [noticed, conflated] = (*lock(&self.told_by_engine))?;
        let seen = self.told_by_notices().filter(|seen| *seen != [noticed, conflated])?;
        Some(format!(
            "notices: gateways told {} recipients of a message by its own notice and {} by a newer one's; the engine counts {noticed} and {conflated}",
            seen[0], seen[1]
        ))
    }

    /// The next message of a session is about to be sent; gives its number.
    pub(super) fn enter(&self, session: usize, intended_nanos: u64) -> u32 {
        let instant = self.takes_notices.load(Ordering::Relaxed).then_some(intended_nanos);
        lock(&self.books[session]).enter_at(self.slots(session), instant)
    }

    pub(super) fn count_known(&self, session: usize, known: &Known, at: u64, intended: [Option<u64>; 2]) {
        let counts = &self.counts;
        let is_new = u64::from(known.came != Came::Again);
        counts.noticed.fetch_add(is_new, Ordering::Relaxed);
        counts.conflated.fetch_add(known.conflated.into(), Ordering::Relaxed);
        let group = self.world.group_of(session);
        for intended in intended.into_iter().flatten() {
            lock(&self.recent[group]).saturating_record(at.saturating_sub(intended));
        }
        counts.delivered.fetch_add(is_new + u64::from(known.conflated), Ordering::Release);
    }

    /// How long after the last message of a session was to be sent the last of those who were told of it was.
    pub(super) fn last_known_ms(&self) -> u64 {
        let of_session = |book: &Mutex<Book>| lock(book).last_known_after();
        let longest = self.books.iter().filter_map(of_session).max().unwrap_or(0);
        longest.div_ceil(1_000_000)
    }
}
