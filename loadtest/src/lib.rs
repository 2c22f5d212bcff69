//! The load-test harness of task-engine, also used by its tests: throw-away real servers, gRPC gateways that misbehave
//! on request, workloads and the world they describe, publishers, the verdict on what arrived, and the reports.
//!
//! Its own workspace member, so that nothing it needs ever reaches the engine.

pub mod bare;
pub mod clock;
pub mod compare;
pub mod cost;
pub mod engine;
pub mod error;
pub mod faults;
pub mod gateways;
pub mod live;
pub mod load;
pub mod machine;
pub mod moves;
mod page;
pub mod publisher;
pub mod reference;
pub mod report;
pub mod result;
pub mod rng;
pub mod run;
pub mod search;
pub mod servers;
pub mod trial;
pub mod verdict;
mod wiring;
pub mod workload;
pub mod world;
