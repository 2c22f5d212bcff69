//! The load test of task-engine: a trial drives one engine on the parts of `../harness`, `run`, `compare`, `search` and `faults`
//! make trials, and a report is what they leave.
//!
//! Built apart from the engine, so that nothing it needs ever reaches the engine. The yardsticks and the fault scenarios are
//! features: the demo does without.

pub mod compare;
pub mod cost;
pub mod engine;
#[cfg(feature = "faults")]
pub mod faults;
pub mod live;
pub mod load;
pub mod machine;
pub mod numbers;
pub mod overrides;
pub mod record;
pub mod report;
pub mod result;
pub mod run;
pub mod search;
pub mod trial;
