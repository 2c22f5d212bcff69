//! The wake of a pump, made of loom's atomics.

mod atomics {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};

    pub use super::waker::AtomicWaker;
}
#[path = "../../../src/ports/mailbox/wake.rs"]
pub mod wake;
mod waker;
