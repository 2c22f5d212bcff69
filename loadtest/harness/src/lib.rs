//! What task-engine is tested and measured on: throw-away real servers, gRPC gateways that misbehave on request, workloads and
//! the world that they describe, publishers, and the verdict on what arrived.
//!
//! The tests of the engine, the load test (`../bench`) and the yardsticks (`../yardsticks`) use it. It knows none of them.

pub mod background;
pub mod clock;
pub mod contents;
pub mod error;
pub mod gateways;
pub mod guests;
pub mod moves;
pub mod pages;
pub mod publisher;
pub mod rng;
pub mod servers;
pub mod verdict;
pub mod workload;
pub mod world;
