//! The harness's own parts: gateways, publishers, servers, worlds, and what a run leaves. One promise a module.

mod gateways;
mod publisher_knows_what_a_stream_refused;
mod reports;
mod servers;
mod world;
