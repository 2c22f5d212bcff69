//! The push engine of the Resonance IM system: events from NATS in, pushes to gateways over gRPC out, a thread a core.
//!
//! The trip of one event, and the modules in its order:
//!
//! 1. A [`Source`](ports::Source) (`edge::nats`) reads it; [`shard::intake`] finds its session's shard and hands it over.
//! 2. The shard's [`shard::pump`] gives it to the push path, [`push`]: a plain state machine, facts in, intentions out.
//! 3. [`push::ingest`] reads it; who is in the session is asked of [`Members`](ports::Members) (`edge::mysql`), where
//!    each is connected of [`Routes`](ports::Routes) (`edge::redis`).
//! 4. A [`push::bundle`] for each gateway goes over [`shard::mesh`] to the shard that owns the gateway; gateways come
//!    from the [`Registry`](ports::Registry) (`edge::etcd`).
//! 5. The gateway's [`push::outbox`] writes frames to its one stream (`edge::gateway`) and reads the answers.
//! 6. The result goes home over the mesh; [`push::ledger`] counts each end; the source is told that it is settled.
//!
//! [`engine`] puts it together. Start with [`Engine::builder`](engine::Engine::builder); `examples/custom_stores.rs`
//! is an engine with stores of its own.

pub mod admin;
pub mod cli;
pub mod config;
pub mod edge;
pub mod engine;
pub mod model;
pub mod ports;
pub mod push;
pub mod shard;
pub mod telemetry;

pub use engine::Engine;
