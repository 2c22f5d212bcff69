//! The push engine of the Resonance IM system: events from NATS in, pushes to gateways over gRPC out, one thread per core.
//!
//! The trip of one event, and the modules in its order:
//!
//! 1. A [`Source`](ports::Source) (`edge::nats`) reads it; [`ports::intake`] puts it into the lane of its session's shard.
//! 2. The shard's [`shard::pump`] gives it to the core, [`push`]: a pure state machine, facts in, intentions out.
//! 3. [`push::ingest`] reads it. [`Members`](ports::Members) (`edge::mysql`) says who is in the session,
//!    [`Routes`](ports::Routes) (`edge::redis`) where each member is connected.
//! 4. A [`push::bundle`] per gateway goes over [`shard::mesh`] to the shard that owns the gateway. The
//!    [`Registry`](ports::Registry) (`edge::etcd`) lists the gateways.
//! 5. The gateway's [`push::outbox`] writes frames to its stream (`edge::gateway`) and reads the answers.
//! 6. The result returns over the mesh. [`push::ledger`] counts each outcome and settles the event with its source.
//!
//! [`engine`] puts it together. Start with [`Engine::builder`](engine::Engine::builder); `examples/custom_stores.rs`
//! is an engine with its own stores. ARCHITECTURE.md has the layers, the rules and a glossary.

pub mod admin;
pub mod cli;
pub mod config;
pub mod edge;
pub mod engine;
#[cfg(test)]
#[path = "../fuzz/harness.rs"]
mod fuzz;
pub mod model;
pub mod ownership;
pub mod partitioner;
pub mod ports;
pub mod push;
pub mod shard;
pub mod telemetry;

pub use engine::Engine;
