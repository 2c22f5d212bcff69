//! Wakes a pump that sleeps, for the price of one load while it does not.
//!
//! Promises that what was put where the pump looks before [`Wake::wake`] is seen: by the pump's last look after
//! [`Wake::falling_asleep`], or because it is woken. The two `SeqCst` fences are what makes it so: of "put, fence, look whether
//! it sleeps" and "say that it sleeps, fence, look whether something was put" at least one sees the other.
//!
//! fuzz/interleavings runs this very file through the orders of its threads, made of other atomics; so it names nothing of the crate
//! but `super::atomics`.

use std::task::Waker;

use super::atomics::{AtomicBool, AtomicWaker, Ordering, fence};

/// Wakes one shard's pump from any thread; costs one load while the pump is awake.
#[derive(Debug, Default)]
pub struct Wake {
    asleep: AtomicBool,
    waker: AtomicWaker,
}

impl Wake {
    /// Called after something was put where the pump looks.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The pump is about to sleep; it must look at its queues once more after this.
    pub fn falling_asleep(&self, waker: &Waker) {
        self.waker.register(waker);
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The pump is awake: senders need not wake it.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
