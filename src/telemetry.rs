//! What the engine says about itself: numbers, log lines, and the watchdog that notices a stuck shard.

pub mod log_limiter;
pub mod logging;
pub mod metrics;
pub mod watchdog;
