//! The slot of a waker, as the crate atomic-waker promises it, under a lock of loom or shuttle: that crate's own atomics are not under test.

use std::task::Waker;

use super::atomics::Mutex;

/// Holds the last waker that was registered, until it is woken.
#[derive(Debug, Default)]
pub struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    /// Replaces the waker.
    pub fn register(&self, waker: &Waker) {
        *self.0.lock().expect("no thread panics with the lock") = Some(waker.clone());
    }

    /// Wakes the one that is registered, once.
    pub fn wake(&self) {
        let waker = self.0.lock().expect("no thread panics with the lock").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
