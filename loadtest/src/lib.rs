//! The load-test harness of task-engine, also used by its tests: throw-away real servers, gRPC gateways that misbehave
//! on request, publishers, and the verdict on what arrived.
//!
//! Its own workspace member, so that nothing it needs ever reaches the engine.

pub mod clock;
pub mod demo;
pub mod error;
pub mod gateways;
pub mod publisher;
pub mod real;
pub mod rng;
pub mod servers;
pub mod verdict;
pub mod world;
