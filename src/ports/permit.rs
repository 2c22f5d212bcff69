//! The permit of an instance whose partitions have owners: until when it may push, acknowledge and take events.
//!
//! Promises that nothing which asks it goes on after its time, on a clock that goes on while the machine sleeps; and that who
//! waits is woken when it is given again. It ends by time alone: nobody has to live to end it. With `consumer.ownership: none` it
//! never ends, and to ask it is one load. Left over is what was asked for before it ended and is carried out after: one
//! `sendmsg` of a thread that was stopped in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::time::{ClockId, clock_gettime};

use crate::model::ownership::Boottime;

/// The time that means without end.
const ALWAYS: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Permit {
    /// Nanoseconds of [`boottime`].
    until: AtomicU64,
    waits: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Default for Permit {
    /// Without end.
    fn default() -> Self {
        Self { until: AtomicU64::new(ALWAYS), waits: AtomicBool::new(false), waiting: Mutex::default() }
    }
}

impl Permit {
    /// One that was never given: nothing may be done until [`set`](Self::set).
    pub fn not_given() -> Self {
        Self { until: AtomicU64::new(0), ..Self::default() }
    }

    /// Gives it until then (nanoseconds of [`boottime`]), later or earlier than before; 0 takes it away.
    pub fn set(&self, until: u64) {
        // Who registers after this store looks at it once more.
        self.until.store(until, Ordering::SeqCst);
        if self.waits.load(Ordering::SeqCst) && self.holds() {
            self.waits.store(false, Ordering::SeqCst);
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Until when it is given, in nanoseconds of [`boottime`]; `u64::MAX` is without end.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// Whether it holds now.
    #[inline]
    pub fn holds(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == ALWAYS || boottime().0 < until
    }

    /// Ready while it holds; else the task is woken when it is given again.
    #[inline]
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.holds() { Poll::Ready(()) } else { self.wait(cx) }
    }

    #[cold]
    fn wait(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        self.waits.store(true, Ordering::SeqCst);
        drop(waiting);
        // It may have been given before anybody could know that we wait.
        if self.until.load(Ordering::SeqCst) > boottime().0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Now, by `CLOCK_BOOTTIME`: it goes on while the machine sleeps, and nobody can set it.
#[inline]
pub fn boottime() -> Boottime {
    let now = clock_gettime(ClockId::Boottime);
    Boottime(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_ends_by_time_alone_and_who_waits_is_woken_once_when_it_is_given_again() {
        let (permit, woken) = (Permit::not_given(), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        assert!(!permit.holds() && permit.poll(&cx).is_pending() && permit.poll(&cx).is_pending());
        permit.set(boottime().0 - 1);
        assert_eq!((permit.holds(), woken.0.load(Ordering::SeqCst)), (false, 0), "over before it began");
        permit.set(boottime().0 + 3600 * SECOND);
        assert!(permit.holds() && permit.poll(&cx).is_ready());
        permit.set(boottime().0 + 3600 * SECOND);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "nobody waits any more");
        permit.set(boottime().0 + 1);
        while permit.holds() {}
        permit.set(0);
        assert!(!permit.holds());
    }

    #[test]
    fn without_ownership_it_never_ends() {
        let permit = Permit::default();
        assert!(permit.holds() && permit.until() == u64::MAX);
    }
}
