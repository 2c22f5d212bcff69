//! The harness's own parts: gateways, publishers, servers and worlds. One promise a module.

mod gateways;
mod publisher_knows_what_a_stream_refused;
mod publisher_says_classes;
mod servers;
mod world;
