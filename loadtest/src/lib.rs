//! The load-test harness of task-engine, also used by its tests: throw-away real servers, gRPC gateways that misbehave
//! on request, workloads and the world they describe, publishers, the verdict on what arrived, and the reports.
//!
//! Its own workspace member, built apart from the engine, so that nothing it needs ever reaches the engine. The yardsticks
//! and the fault scenarios are features: the demo and the engine's tests do without.

#[cfg(feature = "yardsticks")]
pub mod bare;
pub mod clock;
pub mod compare;
pub mod cost;
pub mod engine;
pub mod error;
#[cfg(feature = "faults")]
pub mod faults;
pub mod gateways;
pub mod live;
pub mod load;
pub mod machine;
pub mod moves;
#[cfg(feature = "yardsticks")]
mod page;
pub mod publisher;
pub mod record;
#[cfg(feature = "yardsticks")]
pub mod reference;
pub mod report;
pub mod result;
pub mod rng;
pub mod run;
pub mod search;
pub mod servers;
pub mod trial;
pub mod verdict;
#[cfg(feature = "yardsticks")]
mod wiring;
pub mod workload;
pub mod world;
