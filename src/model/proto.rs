//! The wire's messages, generated from `proto/`. The push path reads and writes the same bytes by hand; these are for
//! tests, embedded gateways and whoever uses the engine as a library.
#![allow(missing_docs, clippy::all)]

/// `resonance.mq.v1`: what publishers send.
pub mod event {
    tonic::include_proto!("resonance.mq.v1");
}

/// `resonance.gateway.v1`: what gateways answer.
pub mod gateway {
    tonic::include_proto!("resonance.gateway.v1");
}
