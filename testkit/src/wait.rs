//! Waits that have a deadline and say what never came true.

use std::time::{Duration, Instant};

/// How long anything may take on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until it holds.
///
/// # Panics
/// With `what`, when it does not within [`PATIENCE`].
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, holds);
}

/// The same with another patience.
pub fn eventually_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true within {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
