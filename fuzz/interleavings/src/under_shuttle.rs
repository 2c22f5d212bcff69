//! The wake of a pump, made of shuttle's atomics.

mod atomics {
    pub use shuttle::sync::Mutex;
    pub use shuttle::sync::atomic::{AtomicBool, Ordering, fence};

    pub use super::waker::AtomicWaker;
}
#[path = "../../../src/ports/mailbox/wake.rs"]
pub mod wake;
#[path = "under_loom/waker.rs"]
mod waker;
