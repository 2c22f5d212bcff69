//! The clock of ownership.

use rustix::time::{ClockId, clock_gettime};

use crate::model::ownership::Boottime;

/// Now, by `CLOCK_BOOTTIME`: it goes on while the machine sleeps, and nobody can set it.
pub fn boottime() -> Boottime {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    Boottime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
